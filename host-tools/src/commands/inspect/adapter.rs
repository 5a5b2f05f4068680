//! Content of an adapter.

use anyhow::Result;
use fmlora_learner::LowRankDrift;
use fmlora_learner::format::AdapterFile;
use serde_json::json;

use crate::files;
use crate::hex::hex;

/// Prints an adapter. `sha256` is the hash of its content.
pub(super) fn show(
    adapter: &AdapterFile,
    sha256: [u8; 32],
    n_bytes: usize,
    as_json: bool,
) -> Result<()> {
    let facts = &adapter.facts;
    let drift = adapter.drift.as_ref();
    let digest = hex(&sha256);
    let (means, scatter) = adapter.summary.n_bytes();
    let classes = &adapter.summary.classes;
    let layers = adapter.task.as_ref().map_or(0, |task| task.update.factors.len());
    let prompt = adapter.task.as_ref().and_then(|task| task.update.prompt_step.as_ref());
    let tokens = prompt.map_or(0, |step| step.shape()[0]);
    if as_json {
        let class = |c: &fmlora_learner::ClassSummary| json!({ "name": c.name.as_str(), "shots": c.count, "energy": c.energy });
        let accuracy = adapter.accuracy.map(
            |a| json!({ "with": a.with, "without": a.without, "test_pictures": a.n_pictures }),
        );
        return files::line(json!({
            "kind": "adapter", "bytes": n_bytes, "content_sha256": digest,
            "name": facts.name, "release": facts.release,
            "min_daemon": facts.min_daemon.to_string(), "base_id": facts.base_id.to_string(),
            "feature_space_before": facts.space_before.to_string(),
            "feature_space_after": facts.space_after.to_string(),
            "complexity": adapter.complexity.h(), "rank": adapter.rank,
            "kept": adapter.task.is_some(), "layers": layers, "prompt_tokens": tokens,
            "merge_weight": adapter.task.as_ref().map(|task| task.weight),
            "drift_columns": drift.map(LowRankDrift::rank), "features": adapter.d_feature(),
            "scatter_rows": adapter.summary.scatter.len(),
            "means_bytes": means, "scatter_bytes": scatter,
            "drift_bytes": drift.map(LowRankDrift::n_bytes), "accuracy": accuracy,
            "classes": classes.iter().map(class).collect::<Vec<_>>(),
        }));
    }
    files::line(format!("adapter   {} release {} ({n_bytes} bytes)", facts.name, facts.release))?;
    files::line(format!("needs     daemon {} or later", facts.min_daemon))?;
    files::line(format!("base_id   {}", facts.base_id))?;
    files::line(format!("before    features {}", facts.space_before))?;
    files::line(format!("after     features {}", facts.space_after))?;
    files::line(format!("task      H {:.2}, rank {}", adapter.complexity.h(), adapter.rank))?;
    match &adapter.task {
        None => files::line("network   unchanged: statistics alone")?,
        Some(task) => files::line(format!(
            "network   {layers} layers, {tokens} prompt tokens, merged with weight {}, drift map of {} columns",
            task.weight,
            drift.map_or(0, LowRankDrift::rank)
        ))?,
    }
    if let Some(a) = adapter.accuracy {
        files::line(format!(
            "accuracy  {:.3} on {} test pictures, {:.3} without the change of the network",
            a.with, a.n_pictures, a.without
        ))?;
    }
    files::line(format!(
        "classes   {} (means {means} bytes, {} rows of scatter {scatter} bytes)",
        classes.len(),
        adapter.summary.scatter.len()
    ))?;
    classes.iter().try_for_each(|c| files::line(format!("  {}: {} shots", c.name, c.count)))
}
