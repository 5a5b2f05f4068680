//! Progress bar of a training.

use std::time::Duration;

use anyhow::{Context, Result};
use fmlora_learner::Step;
use indicatif::{ProgressBar, ProgressStyle};

/// Creates a progress bar. [`show_step`] sets its length.
pub(crate) fn training_bar() -> Result<ProgressBar> {
    let bar = ProgressBar::new(0);
    let style = "training {bar:30} {pos}/{len} steps, loss {msg}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).context("the template of the bar")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    Ok(bar)
}

/// Shows a completed step.
pub(crate) fn show_step(bar: &ProgressBar, step: &Step) {
    bar.set_length(step.of as u64);
    bar.set_position(step.step as u64);
    bar.set_message(format!("{:.3}", step.loss));
}
