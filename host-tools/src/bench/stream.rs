//! The tasks of a run, and the order of their classes or domains.

use anyhow::{Result, ensure};
use clap::ValueEnum;
use rand_mt::Mt;

use crate::dataset::Dataset;

/// What is new in each task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Class-incremental: new classes
    Cil,
    /// Domain-incremental: the same classes in a new domain
    Dil,
    /// All classes at once, few shots of each, asked on other occasions: is the answer right, and is it sure only where it is?
    Occasions,
}

/// One task: rows of the training and test pictures.
#[derive(Debug, Clone, Default)]
pub(crate) struct TaskRows {
    /// Classes of the task, by label.
    pub(crate) classes: Vec<usize>,
    pub(crate) train: Vec<usize>,
    /// True to learn from the views of the training pictures too.
    pub(crate) views: bool,
    pub(crate) test: Vec<usize>,
}

/// All tasks in order, and the classes reserved for factory bases.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) tasks: Vec<TaskRows>,
    pub(crate) factory: TaskRows,
}

impl Scenario {
    /// Returns the short name, as in `results.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cil => "cil",
            Self::Dil => "dil",
            Self::Occasions => "occasions",
        }
    }
}

impl Stream {
    /// Divides the classes, in the order of numpy's legacy permutation of `seed`, into `n_tasks`
    /// equal tasks. The last `n_factory` classes are in no task.
    pub(crate) fn class_incremental(
        data: &Dataset,
        n_tasks: usize,
        seed: u64,
        n_factory: usize,
    ) -> Result<Self> {
        let n_classes = data.names.len();
        let n_learnt = n_classes.saturating_sub(n_factory);
        ensure!(
            n_tasks > 0 && n_learnt >= n_tasks && n_learnt.is_multiple_of(n_tasks),
            "{n_learnt} classes cannot be divided into {n_tasks} equal tasks"
        );
        let order = permutation(n_classes, seed);
        let (learnt, factory) = order.split_at(n_learnt);
        let tasks = learnt.chunks(n_learnt / n_tasks).map(|classes| of_classes(data, classes));
        Ok(Self { tasks: tasks.collect(), factory: of_classes(data, factory) })
    }

    /// Creates one task per domain, in the order of the data set.
    pub(crate) fn domain_incremental(data: &Dataset) -> Result<Self> {
        let n_domains = data.domains.len();
        ensure!(n_domains > 1, "the data have no domains: use domains:DIR, with DIR/domain/class/");
        let of_domain = |domain: usize| TaskRows {
            classes: (0..data.names.len()).collect(),
            train: data.train.rows_of_domain(domain),
            views: false,
            test: data.test.rows_of_domain(domain),
        };
        Ok(Self { tasks: (0..n_domains).map(of_domain).collect(), factory: TaskRows::default() })
    }
}

/// Returns all pictures of some classes.
pub(super) fn of_classes(data: &Dataset, classes: &[usize]) -> TaskRows {
    let rows = |labels: &[usize]| {
        (0..labels.len()).filter(|&row| classes.contains(&labels[row])).collect()
    };
    TaskRows {
        classes: classes.to_vec(),
        train: rows(&data.train.labels),
        views: false,
        test: rows(&data.test.labels),
    }
}

/// Returns `numpy.random.RandomState(seed).permutation(n)`, the order of classes in the
/// literature's tables. Fisher and Yates from the end; each index is drawn by rejection under the
/// next mask of ones.
fn permutation(n: usize, seed: u64) -> Vec<usize> {
    let mut generator = Mt::new(seed as u32);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let mask = (i + 1).next_power_of_two() - 1;
        let index = loop {
            let drawn = generator.next_u32() as usize & mask;
            if drawn <= i {
                break drawn;
            }
        };
        order.swap(i, index);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of CIFAR-100 in iCaRL and in all later work.
    #[test]
    fn seed_1993_gives_the_order_of_the_literature() {
        let order = permutation(100, 1993);
        let first = [68, 56, 78, 8, 23, 84, 90, 65, 74, 76, 40, 89, 3, 92, 55, 9, 26, 80, 43, 38];
        assert_eq!(order[..20], first);
        assert_eq!(order[95..], [67, 29, 49, 57, 33]);
    }
}
