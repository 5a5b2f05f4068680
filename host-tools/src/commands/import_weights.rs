//! `import-weights`: converts a checkpoint of timm or DINOv2 into a base.

use anyhow::{Context, Result};
use fmlora_learner::BaseId;
use fmlora_learner::format::{Base, Provenance, decode_base, encode_base};
use fmlora_models::{BackboneConfig, ImportOptions, Preprocess, import_timm, variant_of};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cli::{ImportArgs, Normalisation};
use crate::files;

pub(super) fn run(args: &ImportArgs, as_json: bool) -> Result<()> {
    let bytes = files::read(&args.file)?;
    let options = ImportOptions {
        n_heads: args.heads,
        image_size: args.image_size,
        attention_temperature: args.attention_temperature,
    };
    let imported = import_timm(&bytes, options).with_context(|| args.file.display().to_string())?;
    let vit = imported.weights.config().clone();
    let mut backbone = BackboneConfig::of(&vit);
    backbone.preprocess = match args.preprocess {
        Normalisation::Imagenet => Preprocess::imagenet(vit.image_size),
        Normalisation::Inception => Preprocess::inception(vit.image_size),
    };
    let stem = args.file.file_stem().map(|s| s.to_string_lossy().into_owned());
    // `BaseId` is a SHA-256 too, and formats it as text.
    let sha256 = BaseId::new(Sha256::digest(&bytes).into()).to_string();
    let provenance = Provenance {
        name: stem.unwrap_or_default(),
        checkpoint_sha256: sha256,
        resampling: imported.resampling,
        ..Provenance::default()
    };
    let base = Base { provenance, backbone, adapter: None, prior: None, weights: imported.weights };
    let file = encode_base(&base).with_context(|| args.file.display().to_string())?;
    let (_, base_id) = decode_base(&file).context("the base just made cannot be read back")?;
    files::write_whole(&args.out, &file)?;
    let name = variant_of(&vit).unwrap_or("unnamed");
    if as_json {
        return files::line(json!({
            "out": args.out.display().to_string(), "base_id": base_id.to_string(),
            "network": name, "config": vit, "parameters": vit.n_parameters(),
            "bytes": file.len(), "dropped": imported.dropped, "resampling": imported.resampling,
        }));
    }
    files::line(format!(
        "{name}: {} px, patch {}, width {}, depth {}, {} heads, {:.1} M parameters",
        vit.image_size,
        vit.patch_size,
        vit.d_model,
        vit.depth,
        vit.n_heads,
        vit.n_parameters() as f64 / 1e6
    ))?;
    if let Some(resampling) = imported.resampling {
        files::line(super::resampled(resampling))?;
    }
    if !imported.dropped.is_empty() {
        files::line(format!("not needed for features: {}", imported.dropped.join(", ")))?;
    }
    let size = file.len() as f64 / 1e6;
    files::line(format!("wrote {} ({size:.1} MB, base_id {base_id})", args.out.display()))
}
