//! `demo`: runs the daemon on a synthetic camera. With `--headless`, teaches five things, tests
//! them on fresh frames, forgets one of them and undoes that.

use fmlora_learner::{ClassName, OperationKind};
use serde::Serialize;
use tempfile::TempDir;

use super::daemon;
use crate::camera::synthetic::{SyntheticCamera, Thing};
use crate::cli::{DemoArgs, Global};
use crate::daemon::config;
use crate::report;
use crate::store::Access;
use crate::{EdgeError, Session};

/// Number of things that are taught. The sixth thing stays unknown.
const TAUGHT: usize = 5;

/// Fresh test frames of each thing.
const TEST_FRAMES: usize = 20;

#[derive(Debug, Serialize)]
struct Row {
    thing: &'static str,
    /// Share of fresh frames classified correctly right after teaching.
    taught: f64,
    /// The same after one thing was forgotten.
    after_forget: f64,
    /// The same after the undo.
    after_undo: f64,
}

#[derive(Debug, Serialize)]
struct DemoReport {
    seed: u64,
    shots: u32,
    forgot: &'static str,
    rows: Vec<Row>,
    accuracy: f64,
    /// Share of frames of an untaught thing that are classified as unknown.
    stranger_unknown: f64,
    /// True if the head after the undo equals the head before `forget`, bit by bit.
    undo_exact: bool,
    seconds: f64,
}

pub(super) fn run(global: &Global, args: &DemoArgs) -> Result<(), EdgeError> {
    let fail =
        |source| EdgeError::File { path: std::env::temp_dir(), what: "make a folder in", source };
    let directory = tempfile::tempdir().map_err(fail)?;
    if args.headless { headless(global, args, &directory) } else { page(global, args, &directory) }
}

/// Runs the daemon on a camera that shows one thing after the other.
fn page(global: &Global, args: &DemoArgs, directory: &TempDir) -> Result<(), EdgeError> {
    let seed = args.seed;
    let listen = args.listen;
    let text =
        format!("[camera]\nsource = \"synthetic://?seed={seed}\"\n[http]\nlisten = \"{listen}\"\n");
    let config = || config::load("demo", &text, &|_| None).map_err(EdgeError::Config);
    let session = Session::open_at(global, directory.path(), Access::Write)?;
    if !global.json {
        report::line("a synthetic camera shows one thing after the other; Ctrl-C ends the demo")?;
    }
    daemon::watch(global, config()?, session, None, &config)
}

fn headless(global: &Global, args: &DemoArgs, directory: &TempDir) -> Result<(), EdgeError> {
    let started = std::time::Instant::now();
    let mut session = Session::open_at(global, directory.path(), Access::Write)?;
    let mut camera = SyntheticCamera::new(args.seed);
    let taught = &Thing::ALL[..TAUGHT];
    for &thing in taught {
        let frames = features(&mut session, &mut camera, thing, args.shots as usize)?;
        session.teach(OperationKind::Teach, &[(ClassName::new(thing.name())?, frames.into())])?;
        if !global.json {
            report::line(format!("taught {:<5} {} shots", thing.name(), args.shots))?;
        }
    }
    let mut tests = Vec::new();
    for thing in Thing::ALL {
        tests.push((thing, features(&mut session, &mut camera, thing, TEST_FRAMES)?));
    }
    let head = session.predictor()?.clone();
    let after_teach = measure(&mut session, &tests)?;
    let forgotten = taught[1];
    let operation = session.learner().forget(&ClassName::new(forgotten.name())?)?;
    session.apply(&operation)?;
    let after_forget = measure(&mut session, &tests)?;
    session.undo(1)?;
    let undo_exact = *session.predictor()? == head;
    let after_undo = measure(&mut session, &tests)?;
    let rows: Vec<Row> = (0..TAUGHT)
        .map(|i| Row {
            thing: taught[i].name(),
            taught: after_teach[i].0,
            after_forget: after_forget[i].0,
            after_undo: after_undo[i].0,
        })
        .collect();
    let report = DemoReport {
        seed: args.seed,
        shots: args.shots,
        forgot: forgotten.name(),
        accuracy: rows.iter().map(|r| r.taught).sum::<f64>() / rows.len() as f64,
        rows,
        stranger_unknown: after_teach[TAUGHT].1,
        undo_exact,
        seconds: started.elapsed().as_secs_f64(),
    };
    if global.json {
        return report::json(&report);
    }
    print(&report)
}

fn features(
    session: &mut Session,
    camera: &mut SyntheticCamera,
    thing: Thing,
    n: usize,
) -> Result<Vec<Vec<f32>>, EdgeError> {
    let engine = session.engine()?;
    let preprocess = engine.preprocess();
    let frames: Vec<Vec<f32>> = (0..n).map(|_| preprocess.apply(&camera.frame(thing))).collect();
    engine.features(&frames)
}

/// Returns the share classified correctly and the share classified as unknown, for each thing.
fn measure(
    session: &mut Session,
    tests: &[(Thing, Vec<Vec<f32>>)],
) -> Result<Vec<(f64, f64)>, EdgeError> {
    let predictor = session.predictor()?;
    let share = |frames: &[Vec<f32>], test: &dyn Fn(&[f32]) -> bool| {
        frames.iter().filter(|f| test(f)).count() as f64 / frames.len() as f64
    };
    let one = |(thing, frames): &(Thing, Vec<Vec<f32>>)| {
        let right = share(frames, &|f| {
            let top = predictor.predict(f, 1).top;
            top.first().is_some_and(|g| g.class.as_str() == thing.name())
        });
        (right, share(frames, &|f| predictor.predict(f, 1).unknown))
    };
    Ok(tests.iter().map(one).collect())
}

fn print(report: &DemoReport) -> Result<(), EdgeError> {
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    report::line(format!("\naccuracy on {TEST_FRAMES} fresh frames of each thing"))?;
    let forget = format!("{} forgotten", report.forgot);
    report::line(format!("  {:<8}{:>8}{:>16}{:>8}", "thing", "taught", forget, "undone"))?;
    for row in &report.rows {
        let a = percent(row.taught);
        let b = percent(row.after_forget);
        let c = percent(row.after_undo);
        report::line(format!("  {:<8}{a:>8}{b:>16}{c:>8}", row.thing))?;
    }
    let exact = if report.undo_exact { "exact" } else { "NOT exact" };
    report::line(format!(
        "undo is {exact}; a ring, never taught, is called unknown in {} of its frames",
        percent(report.stranger_unknown)
    ))?;
    report::line(format!("{:.1} s in all, nothing was kept", report.seconds))
}
