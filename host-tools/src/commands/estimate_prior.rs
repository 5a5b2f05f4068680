//! `estimate-prior`: adds statistics of generic pictures to a base.

use anyhow::{Context, Result};
use fmlora_learner::Prior;
use fmlora_learner::format::{decode_base, encode_base};
use fmlora_models::DeviceSpec;
use serde_json::json;

use crate::cli::EstimatePriorArgs;
use crate::network::adapted_network;
use crate::{features, files};

pub(super) fn run(args: &EstimatePriorArgs, device: &DeviceSpec, as_json: bool) -> Result<()> {
    let bytes = files::read(&args.base)?;
    let (mut base, _) = decode_base(&bytes).with_context(|| args.base.display().to_string())?;
    let backbone = adapted_network(&base, &base.backbone, device)?;
    let data = args.data.load()?;
    let found = features::compute(&backbone, &data.train, "pictures")?;
    let mut classes = vec![Vec::new(); data.names.len()];
    for (&label, feature) in data.train.labels.iter().zip(found) {
        classes[label].push(feature);
    }
    let prior = Prior::estimate(&classes).with_context(|| args.data.to_string())?;
    let n_classes = prior.means().len();
    let n_directions = prior.directions().shape()[0];
    let prior_bytes = prior.n_bytes();
    base.prior = Some(prior);
    let file = encode_base(&base).with_context(|| args.base.display().to_string())?;
    let (_, base_id) = decode_base(&file).context("the base just made cannot be read back")?;
    files::write_whole(&args.out, &file)?;
    if as_json {
        return files::line(json!({
            "out": args.out.display().to_string(), "base_id": base_id.to_string(),
            "classes": n_classes, "pictures": data.train.items.len(), "directions": n_directions,
            "prior_bytes": prior_bytes,
        }));
    }
    files::line(format!(
        "wrote {}: prior of {n_classes} classes and {} pictures, {n_directions} directions ({prior_bytes} bytes)",
        args.out.display(),
        data.train.items.len()
    ))?;
    files::line(format!("base_id {base_id}"))
}
