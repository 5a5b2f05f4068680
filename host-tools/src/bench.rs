//! `bench`: measures continual learning task by task, with every method on the same tokens and
//! orders.

mod methods;
mod occasions;
mod plot;
pub(crate) mod prepared;
mod report;
mod results;
mod settings;
mod stream;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fmlora_learner::Adapter;
use fmlora_learner::format::{Base, decode_base};
use fmlora_learner::{AccuracyMatrix, BaseId};
use fmlora_models::{BackboneConfig, DeviceSpec};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::BenchArgs;
use crate::dataset::Dataset;
use crate::files;
use crate::network::adapted_network;
use methods::{Arena, Learned, World};
use prepared::Prepared;
use results::{Results, RunResult};
use settings::Settings;
use stream::{Stream, TaskRows};

pub(crate) use methods::NAMES;
pub(crate) use stream::Scenario;

/// A planned run.
#[derive(Debug, Clone)]
struct Plan {
    method: String,
    ablation: String,
    tasks: usize,
    order: u64,
}

/// Runs the missing plans, and writes the report and the plots of all results.
pub(crate) fn run(args: &BenchArgs, device: &DeviceSpec, as_json: bool) -> Result<()> {
    let mut results = Results::open(&args.out)?;
    let plans = plans(args)?;
    let spec = args.data.to_string();
    let missing: Vec<Plan> = plans
        .into_iter()
        .filter(|plan| !results.runs.iter().any(|run| run.same_run(&blank(args, &spec, plan))))
        .collect();
    if !missing.is_empty() {
        run_all(args, device, &spec, &missing, &mut results)?;
    }
    files::write_whole(&args.out.join("report.md"), report::markdown(&results.runs).as_bytes())?;
    let plots = plot::write_all(&results.runs, &args.out)?;
    if as_json {
        return files::line(serde_json::to_string(&results.runs)?);
    }
    files::line(report::markdown(&results.runs))?;
    plots.iter().try_for_each(|path| files::line(path.display()))
}

fn plans(args: &BenchArgs) -> Result<Vec<Plan>> {
    let known = |name: &&String| !NAMES.contains(&name.as_str());
    if let Some(odd) = args.methods.iter().find(known) {
        bail!("there is no method \"{odd}\"; known: {}", NAMES.join(", "));
    }
    let known = |part: &str| methods::ABLATIONS.contains(&part);
    let named = |name: &String| name == "all" || name.split('+').all(known);
    if let Some(odd) = args.ablate.iter().find(|&name| !named(name)) {
        bail!("there is no ablation \"{odd}\"; known: {}", methods::ABLATIONS.join(", "));
    }
    let ablations = args.ablate.iter().flat_map(|name| match name.as_str() {
        "all" => methods::ABLATIONS.map(str::to_owned).to_vec(),
        _ => vec![name.clone()],
    });
    let ablations: Vec<String> = std::iter::once(String::new()).chain(ablations).collect();
    let mut plans = Vec::new();
    let tasks: &[usize] = match args.scenario {
        Scenario::Cil => &args.tasks,
        Scenario::Dil => &[0],
        Scenario::Occasions => &[1],
    };
    for &tasks in tasks {
        for method in &NAMES {
            let is_wanted = args.methods.iter().any(|name| name == method);
            for &order in &args.orders {
                let applies = |ablation: &&String| match ablation.as_str() {
                    "" => is_wanted,
                    "no views" => is_wanted && args.scenario == Scenario::Occasions,
                    // Ablations are parts of fm-lora, and may run without the full method.
                    _ => *method == "fm-lora",
                };
                for ablation in ablations.iter().filter(applies) {
                    let method = (*method).to_owned();
                    let ablation = ablation.clone();
                    plans.push(Plan { method, ablation, tasks, order });
                }
            }
        }
    }
    Ok(plans)
}

/// Returns a result that identifies a run and has no measurements.
fn blank(args: &BenchArgs, spec: &str, plan: &Plan) -> RunResult {
    let factory = match args.factory_classes {
        0 => String::new(),
        n => format!("+factory{n}"),
    };
    RunResult {
        dataset: spec.to_owned(),
        scenario: format!("{}{factory}", args.scenario.name()),
        tasks: plan.tasks,
        order: plan.order,
        method: plan.method.clone(),
        ablation: plan.ablation.clone(),
        ..RunResult::default()
    }
}

fn run_all(
    args: &BenchArgs,
    device: &DeviceSpec,
    spec: &str,
    missing: &[Plan],
    results: &mut Results,
) -> Result<()> {
    let bytes = files::read(&args.base)?;
    let (base, base_id) = decode_base(&bytes).with_context(|| args.base.display().to_string())?;
    let data = args.data.load()?;
    ensure!(!data.test.items.is_empty(), "the data have no test pictures");
    let settings = Settings {
        epochs: args.epochs,
        joint_epochs: args.joint_epochs,
        batch_size: args.batch_size,
        learning_rate: args.learning_rate,
        rank: args.layers.rank,
        sites: args.layers.sites(),
        n_prompt_tokens: args.prompt_tokens,
    };
    let arena = |config: &BackboneConfig| arena(&base, config, base_id, &data, args, device);
    let own = arena(&base.backbone)?;
    let bases = base.adapter.as_ref().map(|adapter| Adapter::new(adapter.bases().clone(), None));
    let whole = missing
        .iter()
        .any(|plan| methods::needs_whole(&plan.method))
        .then(|| arena(&BackboneConfig { first_adapted_block: 0, ..base.backbone.clone() }))
        .transpose()?;
    let bar = run_bar(missing.len())?;
    for plan in missing {
        let stream = stream_of(args, &data, plan)?;
        let label = format!(
            "{} {} N={} order {}",
            plan.method,
            plan.ablation,
            stream.tasks.len(),
            plan.order
        );
        bar.set_message(label);
        let on_step = || bar.tick();
        let say = |text: &str| {
            if args.verbose {
                bar.suspend(|| eprintln!("{text}"));
            }
        };
        let world = World {
            names: &data.names,
            arena: &own,
            prior: base.prior.as_ref(),
            bases: bases.as_ref(),
            whole: whole.as_ref(),
            settings: &settings,
            seed: plan.order,
            on_step: &on_step,
            say: &say,
        };
        let mut result = run_one(&world, &stream, plan, &data, args.scenario)?;
        let named = blank(args, spec, plan);
        result.dataset = named.dataset;
        result.scenario = named.scenario;
        result.tasks = stream.tasks.len();
        result.order = named.order;
        bar.suspend(|| {
            eprintln!(
                "{:<28} N={:<3} order {:<5} acc {:.3} aaa {:.3} forgetting {:.3} in {:.0} s",
                result.label(),
                stream.tasks.len(),
                plan.order,
                result.acc,
                result.aaa,
                result.forgetting,
                result.train_seconds
            );
        });
        results.push(result)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn arena(
    base: &Base<'_>,
    config: &BackboneConfig,
    base_id: BaseId,
    data: &Dataset,
    args: &BenchArgs,
    device: &DeviceSpec,
) -> Result<Arena> {
    let backbone = adapted_network(base, config, device)?;
    let spec = args.data.to_string();
    let views = args.scenario == Scenario::Occasions;
    let prepared = Prepared::new(&backbone, base_id, data, &spec, views, &args.out)?;
    Ok(Arena { backbone, prepared })
}

fn stream_of(args: &BenchArgs, data: &Dataset, plan: &Plan) -> Result<Stream> {
    match args.scenario {
        Scenario::Cil => {
            Stream::class_incremental(data, plan.tasks, plan.order, args.factory_classes)
        }
        Scenario::Dil => Stream::domain_incremental(data),
        Scenario::Occasions => Stream::class_incremental(data, 1, plan.order, args.factory_classes),
    }
}

fn run_one(
    world: &World<'_>,
    stream: &Stream,
    plan: &Plan,
    data: &Dataset,
    scenario: Scenario,
) -> Result<RunResult> {
    match scenario {
        Scenario::Cil | Scenario::Dil => run_tasks(world, stream, plan, data),
        Scenario::Occasions => run_occasions(world, stream, plan),
    }
}

/// Learns all classes at once, and measures the trust metrics of the answers.
fn run_occasions(world: &World<'_>, stream: &Stream, plan: &Plan) -> Result<RunResult> {
    let outcome = occasions::measure(world, stream, plan)?;
    Ok(RunResult {
        method: plan.method.clone(),
        ablation: plan.ablation.clone(),
        acc: outcome.accuracy,
        aaa: outcome.accuracy,
        matrix: vec![vec![outcome.accuracy]],
        test_images: vec![stream.tasks[0].test.len()],
        ranks: vec![outcome.learned.rank],
        complexities: outcome.learned.complexity.into_iter().collect(),
        kept: outcome.learned.kept.into_iter().collect(),
        train_seconds: outcome.time.as_secs_f64(),
        bytes_per_task: outcome.learned.n_bytes,
        bytes_total: outcome.n_bytes,
        trained_params_per_task: outcome.learned.n_trained,
        trust: Some(outcome.trust),
        ..RunResult::default()
    })
}

/// Learns all tasks in order, and measures after each.
fn run_tasks(world: &World<'_>, stream: &Stream, plan: &Plan, data: &Dataset) -> Result<RunResult> {
    let mut time = Duration::ZERO;
    let started = Instant::now();
    let mut method = methods::method(&plan.method, &plan.ablation, world, stream)?;
    time += started.elapsed();
    let sizes: Vec<usize> = stream.tasks.iter().map(|task| task.test.len()).collect();
    let mut matrix = AccuracyMatrix::new(sizes.clone());
    let mut learned: Vec<Learned> = Vec::new();
    let steps: Vec<TaskRows> =
        if method.at_once() { vec![together(&stream.tasks)] } else { stream.tasks.clone() };
    for (t, task) in steps.iter().enumerate() {
        let started = Instant::now();
        learned.push(method.learn(world, task)?);
        time += started.elapsed();
        let seen = if method.at_once() { stream.tasks.len() } else { t + 1 };
        let mut row = Vec::with_capacity(seen);
        for task in &stream.tasks[..seen] {
            let found = method.predict(world, &task.test)?;
            let right = task.test.iter().zip(found).filter(|&(&i, l)| data.test.labels[i] == l);
            row.push(right.count() as f64 / task.test.len().max(1) as f64);
        }
        matrix.push(row);
    }
    let mean =
        |of: fn(&Learned) -> usize| learned.iter().map(of).sum::<usize>() / learned.len().max(1);
    Ok(RunResult {
        method: plan.method.clone(),
        ablation: plan.ablation.clone(),
        acc: matrix.acc(),
        aaa: matrix.aaa(),
        forgetting: matrix.forgetting(),
        bwt: matrix.bwt(),
        matrix: matrix.rows().to_vec(),
        test_images: sizes,
        ranks: learned.iter().map(|l| l.rank).collect(),
        complexities: learned.iter().filter_map(|l| l.complexity).collect(),
        kept: learned.iter().filter_map(|l| l.kept).collect(),
        train_seconds: time.as_secs_f64(),
        bytes_per_task: mean(|l| l.n_bytes),
        bytes_total: method.n_bytes(),
        trained_params_per_task: mean(|l| l.n_trained),
        ..RunResult::default()
    })
}

/// Merges all tasks into one.
fn together(tasks: &[TaskRows]) -> TaskRows {
    let mut all = TaskRows::default();
    for task in tasks {
        let new: Vec<usize> =
            task.classes.iter().filter(|c| !all.classes.contains(c)).copied().collect();
        all.classes.extend(new);
        all.train.extend(&task.train);
        all.test.extend(&task.test);
    }
    all
}

fn run_bar(n: usize) -> Result<ProgressBar> {
    let bar = ProgressBar::new(n as u64);
    let style = "{bar:30} {pos}/{len} runs, {eta} left: {msg}";
    bar.set_style(ProgressStyle::with_template(style).context("the template of the bar")?);
    bar.enable_steady_tick(Duration::from_millis(500));
    Ok(bar)
}
