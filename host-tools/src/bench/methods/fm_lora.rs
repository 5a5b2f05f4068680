//! FM-LoRA in the benchmark: ours, its ablations, and the paper's recipe.

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use fmlora_learner::{
    Adaptation, AdaptationConfig, Adapter, AdapterConfig, Class, ClassName, Estimate, HeadChoice,
    Judgement, Objective, Predictor, Prior, Shots, Step, Task, TaskClass, TaskHead, TokenCache,
    adapt, adapt_first, adapted_features, fit_head, train_bases,
};
use indicatif::ProgressBar;
use rayon::prelude::*;

use super::{Arena, Expected, Learned, Method, World};
use crate::bench::prepared::{Part, features_of};
use crate::bench::settings::Settings;
use crate::bench::stream::{Stream, TaskRows};
use crate::trust::Answer;

/// Ablations of our method, by their names in the report.
pub(crate) const ABLATIONS: [&str; 17] = [
    "rank 0",
    "no views",
    "one covariance",
    "nearest mean",
    "keep all",
    "no DRS",
    "m=0",
    "m=4",
    "m=8",
    "m=16",
    "own classes",
    "own angles",
    "no pull",
    "no L_orth",
    "no drift map",
    "a=1",
    "a=0.3",
];

/// Benchmark method FM-LoRA, with the state of the learner over a run.
pub(super) struct FmLora {
    config: AdaptationConfig,
    layers: AdapterConfig,
    head: HeadChoice,
    /// True for the ablation that never trains.
    rank_zero: bool,
    /// True if all blocks are adapted, from the first one on.
    whole: bool,
    adapter: Option<Adapter>,
    /// True if the adapter changes features.
    changed: bool,
    classes: Vec<Arc<Class>>,
    /// The prior in the present features.
    prior: Option<Prior>,
    predictor: Option<Predictor>,
    /// Expected accuracy, estimated by the last fit of the head.
    estimate: Option<Estimate>,
    /// Features of test pictures with the present adapter, by row.
    seen: HashMap<usize, Vec<f32>>,
}

impl FmLora {
    fn new(config: AdaptationConfig, layers: AdapterConfig) -> Self {
        Self {
            config,
            layers,
            head: HeadChoice::Auto,
            rank_zero: false,
            whole: false,
            adapter: None,
            changed: false,
            classes: Vec::new(),
            prior: None,
            predictor: None,
            estimate: None,
            seen: HashMap::new(),
        }
    }

    /// Creates our method with an ablation. Trains factory bases if the stream holds classes back
    /// for them.
    pub(super) fn ours(ablation: &str, world: &World<'_>, stream: &Stream) -> Result<Self> {
        let settings = world.settings;
        let mut method = Self::new(settings.adaptation(world.seed), settings.layers());
        method.prior = world.prior.cloned();
        method.adapter = world.bases.cloned();
        ablation.split_terminator('+').try_for_each(|part| method.take_away(part, settings))?;
        if !stream.factory.classes.is_empty() && !method.rank_zero {
            method.adapter = Some(factory(world, &stream.factory, &method.layers)?);
            method.changed = true;
            // The bases change the features: the prior does not fit them.
            method.prior = None;
        }
        Ok(method)
    }

    /// Applies one part of an ablation: `"no DRS"` of `"keep all+no DRS"`.
    fn take_away(&mut self, part: &str, settings: &Settings) -> Result<()> {
        let config = &mut self.config;
        match part {
            "rank 0" => self.rank_zero = true,
            // Set in the task: `TaskRows::views`.
            "no views" => {}
            "one covariance" => self.head = HeadChoice::SharedCovariance,
            "nearest mean" => self.head = HeadChoice::NearestMean,
            "keep all" => config.margin = f64::NEG_INFINITY,
            "no DRS" => config.fixed_rank = Some(settings.rank),
            "own classes" => config.task.objective = Objective::OwnClasses,
            "own angles" => config.task.objective = Objective::OwnAngles,
            "no pull" => config.task.feature_pull = 0.0,
            "no L_orth" => config.task.orthogonality = 0.0,
            "no drift map" => config.drift_ridge = None,
            "a=1" => config.merge_weights = vec![1.0],
            "a=0.3" => config.merge_weights = vec![0.3],
            other => match other.strip_prefix("m=").and_then(|m| m.parse().ok()) {
                Some(m) => {
                    self.layers.n_prompt_tokens = m;
                    // The prompt comes with the bases of the first task.
                    self.adapter = None;
                }
                None => bail!("there is no ablation {other:?}; known: {}", ABLATIONS.join(", ")),
            },
        }
        Ok(())
    }

    /// Creates the paper's recipe: all blocks, prompt at the input, every task merged with weight
    /// 1, no drift map.
    pub(super) fn paper(settings: &Settings) -> Self {
        let mut config = settings.adaptation(0);
        config.margin = f64::NEG_INFINITY;
        config.merge_weights = vec![1.0];
        config.drift_ridge = None;
        config.task.objective = Objective::OwnClasses;
        let layers =
            AdapterConfig { n_prompt_tokens: settings.n_prompt_tokens.max(8), ..settings.layers() };
        Self { head: HeadChoice::SharedCovariance, whole: true, ..Self::new(config, layers) }
    }

    fn arena<'a>(&self, world: &'a World<'_>) -> Result<&'a Arena> {
        if self.whole {
            world.whole.context("the whole network was not prepared")
        } else {
            Ok(world.arena)
        }
    }

    /// Returns the features of rows of training pictures and views with the present adapter.
    fn train_features(&self, arena: &Arena, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let part = &arena.prepared.train;
        Ok(match &self.adapter {
            Some(adapter) if self.changed => {
                adapted_features(&arena.backbone, adapter, &part.tokens.subset(rows))?
            }
            _ => rows.iter().map(|&row| part.features[row].clone()).collect(),
        })
    }

    /// Teaches the classes of a task, occasion by occasion, and fits the head. `features` holds the
    /// features of the task's pictures, then those of their views.
    fn teach(&mut self, world: &World<'_>, task: &TaskRows, features: &[Vec<f32>]) -> Result<()> {
        let arena = self.arena(world)?;
        let shots = shots_of(&arena.prepared.train, task, features);
        let mut at_hand: BTreeMap<usize, Vec<Vec<f32>>> = BTreeMap::new();
        for ((_, label), shots) in shots {
            let name = ClassName::new(&world.names[label])?;
            let known = self.classes.iter().position(|class| class.name.key() == name.key());
            let place = known.unwrap_or(self.classes.len());
            match known {
                Some(place) => {
                    self.classes[place] = Arc::new(self.classes[place].with_viewed(&shots)?);
                }
                None => self.classes.push(Arc::new(Class::from_viewed(name, &shots)?)),
            }
            at_hand.entry(place).or_default().extend(shots.features);
        }
        let at_hand: Vec<(usize, &[Vec<f32>])> =
            at_hand.iter().map(|(&place, shots)| (place, shots.as_slice())).collect();
        let d = arena.backbone.d_feature();
        let fitted = fit_head(&self.classes, d, self.prior.as_ref(), self.head, &at_hand)?;
        self.predictor = Some(fitted.predictor);
        self.estimate = fitted.estimate;
        Ok(())
    }

    /// Computes the features of test pictures that `seen` lacks.
    fn test_features(&mut self, world: &World<'_>, rows: &[usize]) -> Result<()> {
        let arena = self.arena(world)?;
        let missing: Vec<usize> =
            rows.iter().copied().filter(|row| !self.seen.contains_key(row)).collect();
        let found = match &self.adapter {
            Some(adapter) if self.changed => {
                let branches = adapter.side_branches(arena.backbone.device());
                let backbone = arena.backbone.folded(&branches);
                let tokens = &arena.prepared.test.tokens;
                features_of(&backbone, tokens, &missing, &ProgressBar::hidden())?
            }
            _ => missing.iter().map(|&row| arena.prepared.test.features[row].clone()).collect(),
        };
        self.seen.extend(missing.into_iter().zip(found));
        Ok(())
    }
}

/// Trains factory bases on classes that the run does not use: a broad task 1, as a workstation
/// would train it.
fn factory(world: &World<'_>, rows: &TaskRows, layers: &AdapterConfig) -> Result<Adapter> {
    let part = &world.arena.prepared.train;
    let place = |row: &usize| rows.classes.iter().position(|&c| c == part.labels[*row]);
    let labels: Option<Vec<usize>> = rows.train.iter().map(place).collect();
    let labels = labels.context("a factory picture of a class that is not there")?;
    let examples = fmlora_learner::Examples::new(&part.tokens, &rows.train, &labels)?;
    let training = world.settings.training(world.seed);
    let mut watch = |_: Step| {
        (world.on_step)();
        ControlFlow::Continue(())
    };
    let n = rows.classes.len();
    let backbone = &world.arena.backbone;
    let head = TaskHead::Own(n);
    Ok(train_bases(backbone, &examples, head, layers, &training, &mut watch)?.adapter)
}

impl Method for FmLora {
    fn learn(&mut self, world: &World<'_>, task: &TaskRows) -> Result<Learned> {
        let arena = self.arena(world)?;
        let part = &arena.prepared.train;
        let rows = part.rows(&task.train, task.views);
        let mut features = self.train_features(arena, &rows)?;
        let classes = task_classes(world.names, task, &part.labels)?;
        let before: usize = self.n_bytes();
        let mut learned = Learned::default();
        let mut watch = |_: Step| {
            (world.on_step)();
            ControlFlow::Continue(())
        };
        if !self.rank_zero {
            let tokens: TokenCache = part.tokens.subset(&rows);
            let views = views_of(part, task);
            let shots = Task {
                classes: &classes,
                views: &views,
                tokens: &tokens,
                features: &features,
                prior: self.prior.as_ref(),
            };
            let config = &self.config;
            let known = self.classes.as_slice();
            let outcome = match self.adapter.take() {
                None => {
                    let (blank, outcome) =
                        adapt_first(&arena.backbone, shots, &self.layers, config, &mut watch)?;
                    self.adapter = Some(blank);
                    outcome
                }
                Some(adapter) => {
                    let outcome =
                        adapt(&arena.backbone, &adapter, known, shots, config, &mut watch)?;
                    self.adapter = Some(adapter);
                    outcome
                }
            };
            (world.say)(&decision(&outcome));
            learned.rank = outcome.rank;
            learned.complexity = Some(outcome.complexity.h());
            learned.kept = (outcome.rank > 0).then_some(outcome.kept.is_some());
            learned.n_trained = outcome.n_trained;
            if let Some(kept) = outcome.kept {
                self.adapter = Some(kept.adapter);
                self.classes = kept.classes;
                self.prior = kept.prior;
                features = kept.features;
                self.changed = true;
                self.seen.clear();
            } else {
                learned.rank = 0;
            }
        }
        self.teach(world, task, &features)?;
        learned.n_bytes = self.n_bytes().saturating_sub(before);
        Ok(learned)
    }

    fn labels(&self, world: &World<'_>) -> Result<Vec<usize>> {
        let label = |(label, name): (usize, &String)| Ok((ClassName::new(name)?.key(), label));
        let labels: BTreeMap<String, usize> =
            world.names.iter().enumerate().map(label).collect::<Result<_>>()?;
        Ok(self.classes.iter().map(|class| labels[&class.name.key()]).collect())
    }

    fn scores(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        self.test_features(world, rows)?;
        let predictor = self.predictor.as_ref().context("nothing was learned yet")?;
        Ok(rows.par_iter().map(|row| predictor.scores(&self.seen[row])).collect())
    }

    fn answers(&mut self, world: &World<'_>, rows: &[usize]) -> Result<Option<Vec<Answer>>> {
        self.test_features(world, rows)?;
        let labels = self.labels(world)?;
        let answer = |predictor: &Predictor| {
            let answer = |row: &usize| Answer::of(predictor, &labels, &self.seen[row]);
            rows.par_iter().map(answer).collect()
        };
        Ok(self.predictor.as_ref().map(answer))
    }

    fn expected(&self) -> Option<Expected> {
        let expected = |estimate: &Estimate| Expected {
            alike: estimate.accuracy,
            another_day: estimate.another_day,
        };
        self.estimate.as_ref().map(expected)
    }

    fn n_bytes(&self) -> usize {
        let statistics = self.classes.iter().map(|class| {
            let (mean, scatter) = class.n_bytes();
            mean + scatter
        });
        let adapter = self.adapter.as_ref().map_or(0, |adapter| {
            let (bases, learnt) = adapter.n_bytes();
            bases + learnt
        });
        statistics.sum::<usize>() + adapter
    }
}

/// Returns the names of a task's classes, with the indices of their pictures in the task.
fn task_classes(names: &[String], task: &TaskRows, labels: &[usize]) -> Result<Vec<TaskClass>> {
    let class = |&label: &usize| {
        let rows = (0..task.train.len()).filter(|&i| labels[task.train[i]] == label);
        Ok(TaskClass { name: ClassName::new(&names[label])?, rows: rows.collect() })
    };
    let classes: Result<Vec<TaskClass>> = task.classes.iter().map(class).collect();
    Ok(classes?.into_iter().filter(|class| !class.rows.is_empty()).collect())
}

/// Returns the rows of the views of each of a task's pictures. The rows of the pictures come first.
fn views_of(part: &Part, task: &TaskRows) -> Vec<Range<usize>> {
    let mut end = task.train.len();
    let views = |&row: &usize| {
        let start = end;
        end += if task.views { part.views[row].len() } else { 0 };
        start..end
    };
    task.train.iter().map(views).collect()
}

/// Groups the shots of a task by occasion and label. `features` holds the features of the task's
/// pictures, then those of their views.
fn shots_of(
    part: &Part,
    task: &TaskRows,
    features: &[Vec<f32>],
) -> BTreeMap<(usize, usize), Shots> {
    let mut shots: BTreeMap<(usize, usize), Shots> = BTreeMap::new();
    for ((&row, feature), views) in task.train.iter().zip(features).zip(views_of(part, task)) {
        let key = (part.occasions[row], part.labels[row]);
        shots.entry(key).or_default().push(feature.clone(), &features[views]);
    }
    shots
}

/// Formats the outcome of a task: complexity, rank, losses, judgements, and the kept merge weight.
fn decision(outcome: &Adaptation) -> String {
    let judged = |(weight, j): &(f32, Judgement)| {
        format!(
            "; a {weight}: gain {:.4} ± {:.4} (new {:.4}, old {:.4}), held out {:.3} -> {:.3}",
            j.gain, j.standard_error, j.gain_new, j.gain_old, j.accuracy_before, j.accuracy_after
        )
    };
    let judged: String = outcome.judgements.iter().map(judged).collect();
    let kept = outcome.kept.as_ref().map_or(0.0, |kept| kept.task.weight);
    let h = outcome.complexity.h();
    let rank = outcome.rank;
    format!("  H {h:.2} rank {rank} losses {:.3?} kept a = {kept}{judged}", outcome.losses)
}
