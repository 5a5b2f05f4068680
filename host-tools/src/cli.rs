//! The command line: every argument, its default and its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fmlora_learner::format::{AdapterName, DaemonVersion};
use fmlora_models::{DeviceSpec, Site};

use crate::bench::{NAMES, Scenario};
use crate::dataset::DataSpec;
use crate::publish::PublishArgs;

/// Prepares and measures bases on a workstation.
#[derive(Debug, Parser)]
#[command(name = "host-tools", version, propagate_version = true, after_help = EXAMPLE)]
pub(crate) struct Cli {
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Where networks compute: auto (a graphics adapter that passes the check, else the processor), cpu, gpu, gpu:N, a
    /// part of an adapter's name, or cuda in a build with it
    #[arg(long, global = true, default_value_t = DeviceSpec::Auto, env = "FMLORA_DEVICE")]
    pub(crate) device: DeviceSpec,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLE: &str = "Example:
  host-tools import-weights vit_small.safetensors --out vit.fmlb
  host-tools export-bases --from vit.fmlb --out base.fmlb
  host-tools inspect base.fmlb

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what is published expires soon (publish status).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read a ViT of timm or DINOv2 and write it as a base
    #[command(
        after_help = "Example:\n  host-tools import-weights vit_small.safetensors --out vit.fmlb --image-size 224"
    )]
    ImportWeights(ImportArgs),
    /// Write the base that devices use: feature, split and provenance fixed
    #[command(
        after_help = "Example:\n  host-tools export-bases --from vit.fmlb --out base.fmlb --name garden --licence Apache-2.0"
    )]
    ExportBases(ExportArgs),
    /// Say what one of our files holds
    #[command(after_help = "Example:\n  host-tools inspect base.fmlb --json")]
    Inspect(InspectArgs),
    /// Measure the heads on frozen features of a data set
    #[command(
        after_help = "Example:\n  host-tools probe --base base.fmlb --data 'cifar100:cifar-100-binary?train=200&test=50' --shots 5,20,200"
    )]
    Probe(ProbeArgs),
    /// Train the shared bases on a broad task 1
    #[command(
        after_help = "Example:\n  host-tools pretrain --base vit.fmlb --data folder:pictures --out bases.fmlb --epochs 5"
    )]
    Pretrain(PretrainArgs),
    /// Estimate what generic pictures tell of features, for a base to carry
    #[command(
        after_help = "Example:\n  host-tools estimate-prior --base bases.fmlb --data folder:pictures --out base.fmlb\n\nThe last step of a base: the prior is about the features that the bases leave."
    )]
    EstimatePrior(EstimatePriorArgs),
    /// Train a task for devices, as an adapter to publish
    #[command(
        after_help = "Example:\n  host-tools train-adapter --base base.fmlb --data folder:birds --out birds-1.fmla --release 1\n  host-tools train-adapter --base base.fmlb --after birds-1.fmla --data folder:insects --out insects-2.fmla --release 2"
    )]
    TrainAdapter(TrainAdapterArgs),
    /// Keep the repository that devices update from
    #[command(
        after_help = "Example:\n  host-tools publish init --repo site --keys keys --passphrase-file pass\n  host-tools publish add birds-1.fmla --repo site --keys keys --passphrase-file pass --percent 5\n  host-tools publish refresh --repo site --keys keys --passphrase-file pass"
    )]
    Publish(PublishArgs),
    /// Measure continual learning against rivals
    #[command(
        after_help = "Example:\n  host-tools bench --base base.fmlb --data 'cifar100:cifar-100-binary?train=200&test=50' --tasks 10 --orders 1993,1994,1995 --out results\n\nA killed benchmark goes on where it stopped when it is started again with the same --out."
    )]
    Bench(BenchArgs),
}

/// A number that is neither infinite nor NaN.
fn finite(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "no number".to_owned())?;
    if number.is_finite() { Ok(number) } else { Err("not finite".to_owned()) }
}

/// Normalisations that networks were trained with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Normalisation {
    /// Mean .485 .456 .406, deviation .229 .224 .225
    Imagenet,
    /// Mean and deviation .5 (timm's `AugReg` weights)
    Inception,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Checkpoint with timm's or DINOv2's names
    #[arg(value_name = "FILE.safetensors")]
    pub(crate) file: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Attention heads, where no published network has the widths of this one [default: those of that network]
    #[arg(long)]
    pub(crate) heads: Option<usize>,
    /// Side of the input in pixels; positions are resampled [default: as trained]
    #[arg(long)]
    pub(crate) image_size: Option<usize>,
    /// Exponent E of the attention temperature at another size than the trained one: scores of attention times
    /// (ln n / ln `n_trained`)^E, n tokens of a picture; 0 for networks that were trained at several sizes [default: 1.75 for smaller pictures and networks without `LayerScale`, otherwise 0]
    #[arg(long, value_name = "E", requires = "image_size", allow_negative_numbers = true, value_parser = finite)]
    pub(crate) attention_temperature: Option<f64>,
    /// Normalisation of the input
    #[arg(long, value_enum, default_value_t = Normalisation::Imagenet)]
    pub(crate) preprocess: Normalisation,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Imported base
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Blocks, from the end, whose class and mean token make the feature
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) feature_blocks: usize,
    /// Blocks, from the end, that tasks may adapt [default: as imported, half of them]
    #[arg(long, value_name = "K")]
    pub(crate) adapted_blocks: Option<usize>,
    /// Name of the base [default: as imported]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Who trained the network on what
    #[arg(long)]
    pub(crate) source: Option<String>,
    /// Licence, and what restricts the use
    #[arg(long)]
    pub(crate) licence: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A base (.fmlb), an exported state (.fmls) or an adapter (.fmla)
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Base to measure
    #[arg(long, value_name = "FILE")]
    pub(crate) base: PathBuf,
    /// Data: cifar100:DIR or folder:DIR, with ?train=N&test=N to limit pictures a class and classes=A..B to take some classes
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: DataSpec,
    /// Shots a class, the first of each class
    #[arg(long, value_delimiter = ',', default_value = "5,20")]
    pub(crate) shots: Vec<usize>,
    /// Classes that are taught to measure how strangers are told; the others are strangers [default: half]
    #[arg(long, value_name = "N")]
    pub(crate) taught: Option<usize>,
}

/// Layers of a block that can be adapted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SiteName {
    Query,
    Key,
    Value,
    Proj,
    Fc1,
    Fc2,
}

impl From<SiteName> for Site {
    fn from(name: SiteName) -> Self {
        match name {
            SiteName::Query => Self::Query,
            SiteName::Key => Self::Key,
            SiteName::Value => Self::Value,
            SiteName::Proj => Self::Proj,
            SiteName::Fc1 => Self::Fc1,
            SiteName::Fc2 => Self::Fc2,
        }
    }
}

/// Which layers are adapted, and how far; in `bench` for every method that trains.
#[derive(Debug, Args)]
pub(crate) struct LayerArgs {
    /// Rank of LoRA and of the shared bases
    #[arg(long, default_value_t = 16)]
    pub(crate) rank: usize,
    /// Layers of each adapted block that are adapted
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "query,value"
    )]
    sites: Vec<SiteName>,
}

impl LayerArgs {
    /// The layers as the network names them.
    pub(crate) fn sites(&self) -> Vec<Site> {
        self.sites.iter().map(|&site| site.into()).collect()
    }
}

/// Head of a training of bases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HeadName {
    /// Logits of any size
    Linear,
    /// Scaled cosines, with smoothed labels
    Cosine,
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if value > 0.0 && value <= 1.0 {
        return Ok(value);
    }
    Err(format!("{value} is not above 0 and at most 1"))
}

#[derive(Debug, Args)]
pub(crate) struct PretrainArgs {
    /// Base whose network is to be adapted
    #[arg(long, value_name = "FILE")]
    pub(crate) base: PathBuf,
    /// Data: cifar100:DIR, folder:DIR or domains:DIR, with ?train=N to limit pictures a class and classes=A..B to take some classes
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: DataSpec,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Passes over all pictures and views
    #[arg(long, default_value_t = 3)]
    pub(crate) epochs: usize,
    #[command(flatten)]
    pub(crate) layers: LayerArgs,
    /// Tokens of the shared prompt, m
    #[arg(long, default_value_t = 0)]
    pub(crate) prompt_tokens: usize,
    /// Add directions to the bases that the base has, up to the rank, and leave its features as they are
    #[arg(long, conflicts_with_all = ["prompt_tokens", "sites"])]
    pub(crate) extend: bool,
    /// Classifier that is trained with the bases and then dropped
    #[arg(long, value_enum, default_value_t = HeadName::Linear)]
    pub(crate) head: HeadName,
    /// Random views of each picture beside the picture as it is
    #[arg(long, default_value_t = 0)]
    pub(crate) views: usize,
    /// Share of the patches of a picture that a step sees
    #[arg(long, default_value_t = 1.0, value_parser = share)]
    pub(crate) patch_share: f64,
    /// Pictures of a step
    #[arg(long, default_value_t = 32)]
    pub(crate) batch_size: usize,
    /// Learning rate at the start
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) learning_rate: f64,
    /// Seed of everything drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct EstimatePriorArgs {
    /// Base whose features are described
    #[arg(long, value_name = "FILE")]
    pub(crate) base: PathBuf,
    /// Generic pictures, some hundred classes of twenty or more: cifar100:DIR, folder:DIR or domains:DIR, with ?train=N to limit pictures a class and classes=A..B to take some classes
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: DataSpec,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TrainAdapterArgs {
    /// Base of the devices
    #[arg(long, value_name = "FILE")]
    pub(crate) base: PathBuf,
    /// The task: cifar100:DIR, folder:DIR or domains:DIR, with ?train=N&test=N to limit pictures a class and classes=A..B to take some classes
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: DataSpec,
    /// File to write
    #[arg(long, value_name = "FILE.fmla")]
    pub(crate) out: PathBuf,
    /// State that the devices have (fmlora-edge export) [default: nothing learnt yet]
    #[arg(long, value_name = "FILE.fmls")]
    pub(crate) from: Option<PathBuf>,
    /// Adapter that the devices have before this one; several in their order
    #[arg(long, value_name = "FILE.fmla")]
    pub(crate) after: Vec<PathBuf>,
    /// Name of the adapter, the same for all its releases: on devices the next release takes the place of the last [default: that
    /// of the file without its release, birds for birds-2.fmla of release 2]
    #[arg(long)]
    pub(crate) name: Option<AdapterName>,
    /// Counter of releases: devices never go back to a smaller one
    #[arg(long, default_value_t = 1)]
    pub(crate) release: u64,
    /// Oldest daemon that can use it
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"), value_name = "X.Y.Z")]
    pub(crate) min_daemon: DaemonVersion,
    /// More test pictures, of classes that the devices know already
    #[arg(long, value_name = "SPEC")]
    pub(crate) measure: Option<DataSpec>,
    /// Rank of the task [default: DRS chooses]
    #[arg(long)]
    pub(crate) rank: Option<usize>,
    /// Passes over the pictures [default: as a device trains]
    #[arg(long)]
    pub(crate) epochs: Option<usize>,
    /// Standard errors by which held-out shots and known classes must be explained better for the training to be kept
    #[arg(long, default_value_t = 1.64, allow_negative_numbers = true)]
    pub(crate) margin: f64,
    /// Rows of the shared scatter in the file beside those that tell the classes apart; 1.5 KiB each where a feature has 1536
    /// numbers [default: 24, and 12 if the network changes]
    #[arg(long, value_name = "N")]
    pub(crate) scatter_rows: Option<usize>,
    /// Columns of the drift map in the file; 3 KiB each where a feature has 1536 numbers
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) drift_columns: usize,
    /// Seed of everything drawn
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Base whose network all methods use
    #[arg(long, value_name = "FILE")]
    pub(crate) base: PathBuf,
    /// Data: cifar100:DIR, folder:DIR or domains:DIR, with ?train=N&test=N to limit pictures a class, classes=A..B to take some classes
    /// and occasion=N to make every N pictures in file order an occasion (otherwise a folder within a class is one)
    #[arg(long, value_name = "SPEC")]
    pub(crate) data: DataSpec,
    /// What is new in each task, and what is measured
    #[arg(long, value_enum, default_value_t = Scenario::Cil)]
    pub(crate) scenario: Scenario,
    /// Numbers of tasks that the classes are divided into; domains divide themselves
    #[arg(long, value_delimiter = ',', default_value = "10")]
    pub(crate) tasks: Vec<usize>,
    /// Seeds of the class orders (numpy's permutation) and of everything drawn
    #[arg(long, value_delimiter = ',', default_value = "1993,1994,1995")]
    pub(crate) orders: Vec<u64>,
    /// Methods to run
    #[arg(long, value_delimiter = ',', value_name = "LIST", default_values_t = NAMES.map(str::to_owned))]
    pub(crate) methods: Vec<String>,
    /// Directory for results.json, report.md, the plots and cached tokens
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Also run fm-lora with parts of it taken away: all ablations, or those named; several at once as "keep all+no DRS".
    /// They run without fm-lora itself where --methods leaves it out.
    /// With occasions "no views" applies to every method
    #[arg(long, value_delimiter = ',', value_name = "LIST", num_args = 0.., default_missing_value = "all")]
    pub(crate) ablate: Vec<String>,
    /// Classes kept out of the tasks, on which fm-lora trains its bases beforehand
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) factory_classes: usize,
    /// Say of every task what was decided and why
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Passes over a task's pictures, for every method that trains
    #[arg(long, default_value_t = 3)]
    pub(crate) epochs: usize,
    /// Passes over all pictures for joint-lora
    #[arg(long, default_value_t = 3)]
    pub(crate) joint_epochs: usize,
    /// Pictures of a training step
    #[arg(long, default_value_t = 32)]
    pub(crate) batch_size: usize,
    /// Learning rate at the start
    #[arg(long, default_value_t = 1e-3)]
    pub(crate) learning_rate: f64,
    #[command(flatten)]
    pub(crate) layers: LayerArgs,
    /// Prompt tokens of fm-lora, m
    #[arg(long, default_value_t = 8)]
    pub(crate) prompt_tokens: usize,
}
