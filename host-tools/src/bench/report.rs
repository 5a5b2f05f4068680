//! The tables of a benchmark as Markdown: methods by accuracy, and ablations against the full
//! method.

use std::collections::{BTreeMap, BTreeSet};

use super::occasions::Trust;
use super::results::RunResult;

/// Head of the table of methods.
const METHODS: [&str; 2] = [
    "| method | acc | AAA | forgetting | BWT | rank | kept | KiB a task | KiB in all \
     | trained numbers a task | seconds |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
];

/// Head of the table of ablations.
const ABLATIONS: [&str; 2] = [
    "| ablation | acc | against the full method, points | forgetting | rank | trained numbers a task \
     | seconds |",
    "|---|--:|--:|--:|--:|--:|--:|",
];

/// Head of the table of methods in the scenario of occasions.
const TRUST: [&str; 2] = [
    "| method | accuracy | expected: like the shots | expected: another day | mean confidence | calibration error \
     | false alarms | strangers found | found at 5 % false alarms | AUROC | KiB in all | seconds |",
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
];

/// Text of a cell without a value.
const NONE: &str = "–";

/// Data specification, scenario and number of tasks: runs are compared only within one setting.
type Setting<'a> = (&'a str, &'a str, usize);

/// Mean and standard deviation of a number over orders of tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    /// Arithmetic mean.
    pub(super) mean: f64,
    /// Sample standard deviation; a single order has none.
    pub(super) deviation: Option<f64>,
}

impl Spread {
    /// Computes the spread of one number for each order; `None` without orders.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mean = mean(values.iter().copied())?;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt());
        Some(Self { mean, deviation })
    }

    /// Returns the bounds one deviation below and above the mean.
    pub(super) fn bounds(self) -> (f64, f64) {
        let deviation = self.deviation.unwrap_or(0.0);
        (self.mean - deviation, self.mean + deviation)
    }

    /// Formats the mean, as in `81.2 ± 0.4`.
    fn text(self) -> String {
        format!("{:.1}{}", tenths(self.mean), self.plus_minus())
    }

    /// Formats a difference with its sign, as in `+1.3 ± 0.4`.
    fn signed(self) -> String {
        format!("{:+.1}{}", tenths(self.mean), self.plus_minus())
    }

    /// Formats the deviation, as in ` ± 0.4`; empty for a single order.
    fn plus_minus(self) -> String {
        self.deviation.map_or_else(String::new, |d| format!(" ± {d:.1}"))
    }
}

/// The runs of one method, or of one of its ablations, in one setting.
struct Entry<'a> {
    /// Method and ablation.
    label: String,
    /// Sorted by order.
    runs: Vec<&'a RunResult>,
}

impl<'a> Entry<'a> {
    /// Groups runs by label, the most accurate first.
    fn all(runs: impl Iterator<Item = &'a RunResult>) -> Vec<Self> {
        let mut by_label: BTreeMap<String, Vec<&RunResult>> = BTreeMap::new();
        runs.for_each(|run| by_label.entry(run.label()).or_default().push(run));
        let sorted = |(label, mut runs): (String, Vec<&'a RunResult>)| {
            runs.sort_by_key(|run| run.order);
            Self { label, runs }
        };
        let mut entries: Vec<Self> = by_label.into_iter().map(sorted).collect();
        entries.sort_by(|a, b| b.acc().total_cmp(&a.acc()));
        entries
    }

    /// Returns the mean accuracy after the last task.
    fn acc(&self) -> f64 {
        self.mean(|run| run.acc).unwrap_or(0.0)
    }

    /// Returns the mean of a number over orders.
    fn mean(&self, value: impl Fn(&RunResult) -> f64) -> Option<f64> {
        mean(self.runs.iter().map(|run| value(run)))
    }

    /// Formats a share as a cell, in percent.
    fn percent(&self, share: impl Fn(&RunResult) -> f64) -> String {
        let values: Vec<f64> = self.runs.iter().map(|run| 100.0 * share(run)).collect();
        Spread::of(&values).map_or_else(|| NONE.to_owned(), Spread::text)
    }

    /// Returns the differences of accuracy to another entry in points, one for each order that both
    /// have.
    fn lead_over(&self, other: &[&RunResult]) -> Vec<f64> {
        let twin = |run: &RunResult| other.iter().find(|r| r.order == run.order).map(|r| r.acc);
        self.runs.iter().filter_map(|run| twin(run).map(|acc| 100.0 * (run.acc - acc))).collect()
    }

    /// Formats a row of the table of methods; `orders` is the number of orders of the setting.
    fn row(&self, orders: usize) -> String {
        let whole = self.runs.iter().all(|run| run.matrix.len() > 1);
        let of_old_tasks = |cell: String| if whole { cell } else { NONE.to_owned() };
        let kept = self.runs.iter().flat_map(|run| &run.kept).map(|&k| f64::from(u8::from(k)));
        let cells = [
            self.name(orders),
            self.percent(|run| run.acc),
            self.percent(|run| run.aaa),
            of_old_tasks(self.percent(|run| run.forgetting)),
            of_old_tasks(self.percent(|run| run.bwt)),
            self.rank(),
            mean(kept).map_or(NONE.to_owned(), |share| format!("{:.0} %", 100.0 * share)),
            number(self.mean(|run| run.bytes_per_task as f64 / 1024.0)),
            number(self.mean(|run| run.bytes_total as f64 / 1024.0)),
            self.trained(),
            self.seconds(),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// Formats a row of the table of trust metrics.
    fn trust_row(&self, orders: usize) -> String {
        let share = |value: fn(&Trust) -> Option<f64>| {
            let values: Option<Vec<f64>> =
                self.runs.iter().map(|run| run.trust.as_ref().and_then(value)).collect();
            let mean = values.and_then(|values| mean(values.into_iter()));
            mean.map_or_else(|| NONE.to_owned(), |mean| format!("{mean:.3}"))
        };
        let cells = [
            self.name(orders),
            format!("{:.3}", self.acc()),
            share(|trust| trust.expected),
            share(|trust| trust.another_day),
            share(|trust| trust.confidence),
            share(|trust| trust.calibration_error),
            // A threshold needs a calibration.
            share(|trust| trust.confidence.map(|_| trust.strangers.false_alarms)),
            share(|trust| trust.confidence.map(|_| trust.strangers.detected)),
            share(|trust| Some(trust.strangers.detected_at_5_percent)),
            share(|trust| Some(trust.strangers.auroc)),
            number(self.mean(|run| run.bytes_total as f64 / 1024.0)),
            self.seconds(),
        ];
        format!("| {} |", cells.join(" | "))
    }

    /// Formats the mean rank over tasks.
    fn rank(&self) -> String {
        number(mean(self.runs.iter().flat_map(|run| run.ranks.iter().map(|&r| r as f64))))
    }

    /// Formats the mean of the numbers that a task trains.
    fn trained(&self) -> String {
        format!("{:.0}", self.mean(|run| run.trained_params_per_task as f64).unwrap_or(0.0))
    }

    /// Formats the mean seconds of learning.
    fn seconds(&self) -> String {
        number(self.mean(|run| run.train_seconds))
    }

    /// Returns the label, with the number of measured orders if some are missing.
    fn name(&self, orders: usize) -> String {
        match self.runs.len() {
            n if n < orders => format!("{} ({n} of {orders} orders)", self.label),
            _ => self.label.clone(),
        }
    }
}

/// Formats all runs as tables, with a section for each data set, scenario and number of tasks.
pub(crate) fn markdown(runs: &[RunResult]) -> String {
    if runs.is_empty() {
        return "# Benchmark\n\nThere are no results.\n".to_owned();
    }
    let mut settings: BTreeMap<Setting<'_>, Vec<&RunResult>> = BTreeMap::new();
    for run in runs {
        settings.entry((&run.dataset, &run.scenario, run.tasks)).or_default().push(run);
    }
    let mut blocks = vec![
        "# Benchmark".to_owned(),
        "Accuracy on all classes seen, forgetting and BWT in percent: mean ± sample standard \
         deviation over orders of tasks. Other columns are means."
            .to_owned(),
    ];
    blocks.extend(settings.iter().flat_map(|(setting, runs)| section(*setting, runs)));
    blocks.join("\n\n") + "\n"
}

/// Returns the last folder of a data specification with its limits, and the scenario, as in
/// `cifar-100-binary (train=20), cil`.
pub(super) fn short_name(dataset: &str, scenario: &str) -> String {
    let path = dataset.split_once(':').map_or(dataset, |(_, rest)| rest);
    let (path, limits) = path.split_once('?').unwrap_or((path, ""));
    let limits = match limits {
        "" => String::new(),
        limits => format!(" ({})", limits.replace('&', ", ")),
    };
    let name = path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or(dataset);
    format!("{name}{limits}, {scenario}")
}

/// Returns true if a run learned all tasks at once: a bound for the others, not a rival.
pub(super) fn learns_at_once(run: &RunResult) -> bool {
    run.method == "joint-lora" || (run.tasks > 1 && run.matrix.len() == 1)
}

/// Formats the heading, the tables and the lead of one setting.
fn section(setting: Setting<'_>, runs: &[&RunResult]) -> Vec<String> {
    let (dataset, scenario, tasks) = setting;
    let is_full = |run: &&&RunResult| run.ablation.is_empty();
    let full = Entry::all(runs.iter().filter(is_full).copied());
    let ablated = Entry::all(runs.iter().filter(|run| !is_full(run)).copied());
    let seeds: BTreeSet<u64> = runs.iter().map(|run| run.order).collect();
    let mut blocks = vec![
        format!("## {}, {}", short_name(dataset, scenario), counted(tasks, "task")),
        format!("Data `{dataset}`; {}.", orders(&seeds)),
    ];
    if runs.iter().any(|run| run.trust.is_some()) {
        let all = Entry::all(runs.iter().copied());
        blocks.push(table(TRUST, all.iter().map(|entry| entry.trust_row(seeds.len()))));
        return blocks;
    }
    if !full.is_empty() {
        blocks.push(table(METHODS, full.iter().map(|entry| entry.row(seeds.len()))));
    }
    blocks.extend(lead(&full));
    if !ablated.is_empty() {
        let row = |entry: &Entry<'_>| ablation_row(entry, runs, seeds.len());
        blocks.push(table(ABLATIONS, ablated.iter().map(row)));
    }
    blocks
}

/// Formats a row of the table of ablations, with the difference to the same method on the same
/// orders.
fn ablation_row(entry: &Entry<'_>, runs: &[&RunResult], orders: usize) -> String {
    let is_full = |run: &RunResult| {
        run.ablation.is_empty() && entry.runs.iter().any(|ablated| ablated.method == run.method)
    };
    let full: Vec<&RunResult> = runs.iter().copied().filter(|run| is_full(run)).collect();
    let lead = Spread::of(&entry.lead_over(&full)).map_or(NONE.to_owned(), Spread::signed);
    let cells = [
        entry.name(orders),
        entry.percent(|run| run.acc),
        lead,
        entry.percent(|run| run.forgetting),
        entry.rank(),
        entry.trained(),
        entry.seconds(),
    ];
    format!("| {} |", cells.join(" | "))
}

/// Returns a sentence that names the first method and its lead over the second.
fn lead(entries: &[Entry<'_>]) -> Option<String> {
    let mut rivals = entries.iter().filter(|e| !e.runs.iter().any(|run| learns_at_once(run)));
    let first = rivals.next()?;
    let Some(second) = rivals.next() else {
        return Some(format!("{} has no rival here.", first.label));
    };
    let leads = first.lead_over(&second.runs);
    let Some(lead) = Spread::of(&leads) else {
        return Some(format!("{} is first; {} shares no order.", first.label, second.label));
    };
    Some(format!(
        "{} is first; its paired lead over {} is {} points on {}.",
        first.label,
        second.label,
        lead.signed(),
        counted(leads.len(), "shared order"),
    ))
}

/// Joins head and rows; a Markdown table has no blank lines.
fn table(head: [&str; 2], rows: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = head.iter().map(|&line| line.to_owned()).chain(rows).collect();
    lines.join("\n")
}

/// Formats orders, as in `3 orders of tasks (seeds 0, 1, 2)`.
fn orders(seeds: &BTreeSet<u64>) -> String {
    let texts: Vec<String> = seeds.iter().map(u64::to_string).collect();
    match texts.as_slice() {
        [seed] => format!("1 order of tasks (seed {seed})"),
        _ => format!("{} orders of tasks (seeds {})", texts.len(), texts.join(", ")),
    }
}

/// Formats a number with its noun, as in `1 task` and `5 tasks`.
pub(super) fn counted(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// Rounds to one decimal, and never to a negative zero.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}

/// Formats one decimal, or a dash.
fn number(value: Option<f64>) -> String {
    value.map_or(NONE.to_owned(), |v| format!("{v:.1}"))
}

/// Returns the mean; `None` without numbers.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a run of two tasks, with accuracy `acc` at the end.
    fn run(method: &str, ablation: &str, order: u64, acc: f64) -> RunResult {
        RunResult {
            dataset: "cifar100:/data/cifar-100-binary/?train=20".to_owned(),
            scenario: "cil".to_owned(),
            tasks: 2,
            order,
            method: method.to_owned(),
            ablation: ablation.to_owned(),
            acc,
            aaa: acc,
            forgetting: 0.0,
            bwt: -0.0,
            matrix: vec![vec![acc], vec![acc, acc]],
            test_images: vec![10, 10],
            ranks: vec![4, 8],
            complexities: Vec::new(),
            kept: vec![true, false],
            train_seconds: 2.0,
            bytes_per_task: 1536,
            bytes_total: 3072,
            trained_params_per_task: 384,
            trust: None,
        }
    }

    #[test]
    fn three_orders_have_their_mean_and_sample_deviation() {
        // Deviations of -2, 0 and 2 from 82: the variance is (4 + 0 + 4) / 2, the deviation 2.
        let mut runs = [(0, 0.80), (1, 0.82), (2, 0.84)].map(|(o, acc)| run("fm-lora", "", o, acc));
        let text = markdown(&runs);
        assert!(text.contains("## cifar-100-binary (train=20), cil, 2 tasks"), "{text}");
        assert!(text.contains("3 orders of tasks (seeds 0, 1, 2)"), "{text}");
        let row = "| fm-lora | 82.0 ± 2.0 | 82.0 ± 2.0 | 0.0 ± 0.0 | 0.0 ± 0.0 | 6.0 | 50 % | 1.5 \
                   | 3.0 | 384 | 2.0 |";
        assert!(text.contains(row), "{text}");
        runs.reverse();
        assert_eq!(text, markdown(&runs), "the order of runs shows");
    }

    #[test]
    fn leads_are_paired_by_order_and_leave_the_joint_method_out() {
        let mut joint = run("joint-lora", "", 0, 0.95);
        joint.matrix.truncate(1);
        let pairs = [(0, 0.80, 0.79), (1, 0.90, 0.87), (2, 0.70, 0.65)];
        let full = pairs.map(|(order, acc, _)| run("fm-lora", "", order, acc));
        let other = pairs.map(|(order, _, acc)| run("ranpac", "", order, acc));
        let ablated = [run("fm-lora", "m=0", 0, 0.79), run("fm-lora", "m=0", 1, 0.87)];
        let text = markdown(&[&[joint], &full[..], &other, &ablated].concat());
        // Leads of 1, 3 and 5 points: mean 3, variance (4 + 0 + 4) / 2. The accuracies vary by 10.
        let lead = "fm-lora is first; its paired lead over ranpac is +3.0 ± 2.0 points on 3 shared";
        assert!(text.contains(lead), "{text}");
        // -1 and -3 points: mean -2, variance (1 + 1) / 1.
        let row = "| fm-lora, m=0 (2 of 3 orders) | 83.0 ± 5.7 | -2.0 ± 1.4 | 0.0 ± 0.0 | 6.0 | 384 | 2.0 |";
        assert!(text.contains(row), "{text}");
        assert!(text.contains("| joint-lora (1 of 3 orders) | 95.0 | 95.0 | – | – |"), "{text}");
        assert!(markdown(&[]).contains("no results"));
    }
}
