//! `export-bases`: writes the base that devices use.

use anyhow::{Context, Result, ensure};
use fmlora_learner::format::{decode_base, encode_base};
use fmlora_models::FeatureConfig;
use serde_json::json;

use crate::cli::ExportArgs;
use crate::files;

pub(super) fn run(args: &ExportArgs, as_json: bool) -> Result<()> {
    let bytes = files::read(&args.from)?;
    let (mut base, _) = decode_base(&bytes).with_context(|| args.from.display().to_string())?;
    let vit = base.weights.config().clone();
    let as_imported = vit.depth - base.backbone.first_adapted_block;
    let adapted = args.adapted_blocks.unwrap_or(as_imported);
    for (what, blocks) in [("--feature-blocks", args.feature_blocks), ("--adapted-blocks", adapted)]
    {
        ensure!(
            (1..=vit.depth).contains(&blocks),
            "{what} is {blocks}, expected 1 to {}, the number of blocks",
            vit.depth
        );
    }
    // The shared bases belong to one split and one feature.
    ensure!(
        base.adapter.is_none()
            || (adapted == as_imported
                && FeatureConfig::last_blocks(&vit, args.feature_blocks) == base.backbone.feature),
        "{}: its shared bases were trained for blocks {} to {} and the feature that it has; leave \
         --adapted-blocks and --feature-blocks as they are",
        args.from.display(),
        base.backbone.first_adapted_block,
        vit.depth - 1
    );
    base.backbone.feature = FeatureConfig::last_blocks(&vit, args.feature_blocks);
    base.backbone.first_adapted_block = vit.depth - adapted;
    let provenance = &mut base.provenance;
    for (field, value) in [
        (&mut provenance.name, &args.name),
        (&mut provenance.source, &args.source),
        (&mut provenance.licence, &args.licence),
    ] {
        if let Some(value) = value {
            field.clone_from(value);
        }
    }
    let file = encode_base(&base).with_context(|| args.from.display().to_string())?;
    let (_, base_id) = decode_base(&file).context("the base just made cannot be read back")?;
    files::write_whole(&args.out, &file)?;
    let d_feature = base.backbone.feature.d_feature(&vit);
    if as_json {
        return files::line(json!({
            "out": args.out.display().to_string(), "base_id": base_id.to_string(),
            "bytes": file.len(), "weight_bytes": 2 * vit.n_parameters(), "features": d_feature,
        }));
    }
    files::line(format!(
        "wrote {}: {:.1} MB ({:.1} MB of it weights), {d_feature} numbers a feature",
        args.out.display(),
        file.len() as f64 / 1e6,
        2.0 * vit.n_parameters() as f64 / 1e6
    ))?;
    files::line(format!("base_id {base_id}"))
}
