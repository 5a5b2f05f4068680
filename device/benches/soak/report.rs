//! What came of it, as a table for docs/performance.md.

use std::time::{Duration, Instant};

use crate::daemon::Answered;
use crate::load::Load;

/// Prints the table.
#[allow(clippy::print_stdout, reason = "the table is what the program is for")]
pub(crate) fn print(load: &Load, frames: &[Answered]) {
    let learning =
        |at: Instant| load.learned.iter().any(|(begin, end)| (*begin..*end).contains(&at));
    let milliseconds = |during: bool| {
        let of = load.classified.iter().filter(|(at, _)| learning(*at) == during);
        sorted(of.map(|(_, took)| 1e3 * took.as_secs_f64()))
    };
    let of_frames = |during: bool| {
        let of = frames.iter().filter(|frame| learning(frame.at) == during);
        sorted(of.map(|frame| frame.milliseconds))
    };
    let learn_time: Duration = load.learned.iter().map(|(begin, end)| *end - *begin).sum();
    let seconds = [load.seconds - learn_time.as_secs_f64(), learn_time.as_secs_f64()];
    let all = load.classified.len() + frames.len();
    println!("| | while nothing is learned | while learning |\n|---|--:|--:|");
    println!("| seconds | {:.1} | {:.1} |", seconds[0], seconds[1]);
    for (what, times) in [
        ("posted pictures", [milliseconds(false), milliseconds(true)]),
        ("frames", [of_frames(false), of_frames(true)]),
    ] {
        let rate = |i: usize| times[i].len() as f64 / seconds[i];
        println!("| {what} a second | {:.1} | {:.1} |", rate(0), rate(1));
        let row = |p: f64| [percentile(&times[0], p), percentile(&times[1], p)];
        for (name, p) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("longest", 1.0)] {
            let [without, with] = row(p);
            println!("| {what}, {name} in ms | {without:.1} | {with:.1} |");
        }
    }
    let resident = load.resident();
    let settled: Vec<f64> = resident.settled.iter().map(|&kib| kib as f64 / 1024.0).collect();
    let each = sorted(load.learned.iter().map(|(begin, end)| (*end - *begin).as_secs_f64()));
    println!(
        "\n{:.0} s, {all} predictions ({:.1} a second), {} classes learned (median {:.2} s, longest {:.2} s), \
         {} requests failed, {} shots lost",
        load.seconds,
        all as f64 / load.seconds,
        load.learned.len(),
        percentile(&each, 0.5),
        percentile(&each, 1.0),
        load.failures.len(),
        load.lost,
    );
    if let [warm, .., end] = settled[..] {
        let most = resident.most as f64 / 1024.0;
        println!(
            "resident: {warm:.1} MiB when warm, {end:.1} MiB at the end, {:+.1} MiB; {most:.1} MiB at most",
            end - warm
        );
        println!("after each class: {settled:.1?}");
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn percentile(sorted: &[f64], p: f64) -> f64 {
    let place = (p * (sorted.len().saturating_sub(1)) as f64).round();
    sorted.get(place as usize).copied().unwrap_or(f64::NAN)
}
