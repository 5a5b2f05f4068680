//! `devices`: lists the processor and the graphics adapters of this machine.

use fmlora_models::{AdapterKind, adapters};

use crate::EdgeError;
use crate::cli::Global;
use crate::report;

pub(super) fn run(global: &Global) -> Result<(), EdgeError> {
    let found = adapters();
    if global.json {
        return report::json(&found);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    report::line(format!("cpu    the processor, {threads} threads"))?;
    for adapter in &found {
        let kind = match adapter.kind {
            AdapterKind::Discrete => "a card of its own",
            AdapterKind::Integrated => "shares the processor's memory",
            AdapterKind::Virtual => "part of a card",
            AdapterKind::Software => "software, used only where it is named",
            AdapterKind::Other => "of unknown kind",
        };
        report::line(format!("gpu:{}  {}, {kind}", adapter.index, adapter.name))?;
        let f16 = if adapter.f16 { "with f16" } else { "without f16" };
        let api = &adapter.api;
        let driver = &adapter.driver;
        let mebibytes = adapter.max_buffer_bytes >> 20;
        report::line(format!(
            "       {api}, driver {driver}, blocks of up to {mebibytes} MiB, {f16}"
        ))?;
    }
    if !found.is_empty() {
        return Ok(());
    }
    report::line(if cfg!(feature = "wgpu") {
        "no graphics adapter was found: is its Vulkan driver installed?"
    } else {
        "this program was built without graphics adapters (feature `wgpu`)"
    })
}
