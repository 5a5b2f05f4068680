//! The commands, one file each.

mod estimate_prior;
mod export_bases;
mod import_weights;
mod inspect;
mod pretrain;
mod probe;
mod train_adapter;

use std::process::ExitCode;

use fmlora_models::Resampling;

use crate::cli::{Cli, Command};

/// Runs the command that the command line names.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.command {
        Command::Publish(args) => return crate::publish::run(args, cli.json),
        Command::ImportWeights(args) => import_weights::run(args, cli.json),
        Command::ExportBases(args) => export_bases::run(args, cli.json),
        Command::Inspect(args) => inspect::run(args, cli.json),
        Command::Probe(args) => probe::run(args, &cli.device, cli.json),
        Command::Pretrain(args) => pretrain::run(args, &cli.device, cli.json),
        Command::EstimatePrior(args) => estimate_prior::run(args, &cli.device, cli.json),
        Command::TrainAdapter(args) => train_adapter::run(args, &cli.device, cli.json),
        Command::Bench(args) => crate::bench::run(args, &cli.device, cli.json),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Describes the resampling of a network to another picture size.
fn resampled(resampling: Resampling) -> String {
    let Resampling { trained_image_size, attention_temperature } = resampling;
    format!("resampled from {trained_image_size} px, attention temperature {attention_temperature}")
}
