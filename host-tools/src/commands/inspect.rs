//! `inspect`: prints the content of a base, a state or an adapter.

mod adapter;

use anyhow::{Context, Result, bail};
use fmlora_learner::format::{
    Base, FileKind, StateFile, decode_adapter, decode_base, decode_state, identify,
};
use fmlora_learner::{Adapter, BaseId, Prior};
use fmlora_models::variant_of;
use serde_json::json;

use crate::cli::InspectArgs;
use crate::files;

pub(super) fn run(args: &InspectArgs, as_json: bool) -> Result<()> {
    let bytes = files::read(&args.file)?;
    let path = || args.file.display().to_string();
    match identify(&bytes) {
        Some(FileKind::Base) => {
            let (base, id) = decode_base(&bytes).with_context(path)?;
            show_base(&base, id, bytes.len(), as_json)
        }
        Some(FileKind::State) => {
            let state = decode_state(&bytes).with_context(path)?;
            show_state(&state, bytes.len(), as_json)
        }
        Some(FileKind::Adapter) => {
            let (file, sha256) = decode_adapter(&bytes).with_context(path)?;
            adapter::show(&file, sha256, bytes.len(), as_json)
        }
        None => bail!(
            "{}: none of our files, expected a base (FMLB), a state (FMLS) or an adapter (FMLA)",
            path()
        ),
    }
}

fn show_base(base: &Base<'_>, id: BaseId, n_bytes: usize, as_json: bool) -> Result<()> {
    let vit = base.weights.config();
    let name = variant_of(vit).unwrap_or("unnamed");
    let d_feature = base.backbone.feature.d_feature(vit);
    if as_json {
        return files::line(json!({
            "kind": "base", "base_id": id.to_string(),
            "feature_space_id": id.feature_space().to_string(), "bytes": n_bytes,
            "network": name, "config": vit, "parameters": vit.n_parameters(),
            "bases": base.adapter.as_ref().map(bases_json), "prior": base.prior.as_ref().map(prior_json), "backbone": base.backbone, "features": d_feature, "provenance": base.provenance,
        }));
    }
    let backbone = &base.backbone;
    let from = &base.provenance;
    files::line(format!("base      {} ({n_bytes} bytes)", from.name))?;
    files::line(format!("base_id   {id}"))?;
    files::line(format!(
        "network   {name}: {} px, patch {}, width {}, depth {}, {} heads, {} registers, {} parameters",
        vit.image_size,
        vit.patch_size,
        vit.d_model,
        vit.depth,
        vit.n_heads,
        vit.n_registers,
        vit.n_parameters()
    ))?;
    let mean = backbone.preprocess.mean;
    let std = backbone.preprocess.std;
    files::line(format!(
        "input     short side to {} px, centre, mean {mean:?}, deviation {std:?}",
        backbone.preprocess.size
    ))?;
    files::line(format!("adapted   blocks {} to {}", backbone.first_adapted_block, vit.depth - 1))?;
    files::line(format!(
        "feature   {d_feature} numbers: {} token of blocks {}",
        joined(&backbone.feature.tokens),
        joined(&backbone.feature.blocks)
    ))?;
    match &base.adapter {
        None => files::line("bases     none: only the head learns")?,
        Some(adapter) => {
            let (bases, tasks) = adapter.n_bytes();
            files::line(format!(
                "bases     rank {} in {} layers ({bases} bytes), {} prompt tokens, state of {tasks} bytes",
                adapter.bases().rank(),
                adapter.bases().by_place().len(),
                adapter.prompt().map_or(0, |p| p.shape()[0])
            ))?;
        }
    }
    match &base.prior {
        None => files::line("prior     none: what was not taught is told by distance alone")?,
        Some(prior) => files::line(format!(
            "prior     {} generic classes, {} directions ({} bytes)",
            prior.means().len(),
            prior.directions().shape()[0],
            prior.n_bytes()
        ))?,
    }
    files::line(format!("source    {}", from.source))?;
    files::line(format!("licence   {}", from.licence))?;
    files::line(format!("imported  from a checkpoint with SHA-256 {}", from.checkpoint_sha256))?;
    match from.resampling {
        Some(resampling) => files::line(format!("          {}", super::resampled(resampling))),
        None => Ok(()),
    }
}

fn bases_json(adapter: &Adapter) -> serde_json::Value {
    let places = adapter.bases().by_place().keys().map(ToString::to_string);
    json!({
        "rank": adapter.bases().rank(), "layers": places.collect::<Vec<_>>(),
        "prompt_tokens": adapter.prompt().map_or(0, |p| p.shape()[0]), "bytes": adapter.n_bytes().0,
    })
}

fn prior_json(prior: &Prior) -> serde_json::Value {
    json!({
        "classes": prior.means().len(), "directions": prior.directions().shape()[0],
        "bytes": prior.n_bytes(),
    })
}

fn show_state(state: &StateFile, n_bytes: usize, as_json: bool) -> Result<()> {
    if as_json {
        let classes = state.classes.iter().map(|class| {
            let (mean, scatter) = class.n_bytes();
            let name = class.name.as_str();
            let shots = class.count();
            let modes = class.modes.len();
            json!({
                "name": name, "shots": shots, "modes": modes, "bytes": mean, "forget_bytes": scatter
            })
        });
        return files::line(json!({
            "kind": "state", "bytes": n_bytes, "base_id": state.base_id.to_string(),
            "feature_space_id": state.feature_space_id.to_string(),
            "classes": classes.collect::<Vec<_>>(),
        }));
    }
    files::line(format!("state     {} classes ({n_bytes} bytes)", state.classes.len()))?;
    files::line(format!("base_id   {}", state.base_id))?;
    for class in &state.classes {
        let (mean, scatter) = class.n_bytes();
        let shots = class.count();
        files::line(format!(
            "  {}: {shots} shots in {} modes, means {mean} bytes, scatter {scatter} bytes",
            class.name,
            class.modes.len()
        ))?;
    }
    Ok(())
}

fn joined(items: &[impl ToString]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    texts.join(" and ")
}
