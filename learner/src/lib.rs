//! Continual learning with FM-LoRA: class statistics, classifier heads, task training, adapters and
//! their file formats.
//!
//! Bytes and numbers in, values out: this crate touches no file, clock, socket or environment and
//! owns no thread.
//!
//! 1. A feature vector (from `fmlora-models`) is a *shot* of a class.
//! 2. [`ClassStatistics`] sums up the shots of one class: count, mean, scatter. Nothing else of a
//!    shot is kept.
//! 3. [`Learner`] holds the statistics of all classes and turns teaching, forgetting, renaming and
//!    importing into [`Operation`]s, which a store can write, apply and undo as a whole.
//! 4. [`fit_head`] turns statistics into a [`Predictor`] and an [`Estimate`] of its accuracy.
//! 5. [`mod@format`] encodes and decodes bases, states and adapters. An [`Offer`] describes an
//!    adapter in a repository.

mod adaptation;
mod adapter;
mod byte_rows;
mod class;
mod class_name;
mod complexity;
pub mod format;
mod head;
mod ids;
mod known_answer;
mod learner;
mod matrix;
mod metrics;
mod offer;
mod operation;
mod placement;
mod predictor;
mod prior;
mod rank_selector;
mod shots;
mod statistics;
mod task_summary;
mod trainer;
mod transport;

pub use adaptation::{
    AdaptError, Adaptation, AdaptationConfig, Judgement, Kept, Task, TaskClass, adapt, adapt_first,
    adapted_features, complexity_of, with_task,
};
pub use adapter::{
    Adapter, AdapterConfig, AdapterError, AdapterState, AdapterTask, SharedBases, SharedBasis,
    TaskFactors, TaskUpdate,
};
pub use byte_rows::ByteRows;
pub use class::{Brought, Class, ClassParts, MAX_MODES};
pub use class_name::{ClassName, ClassNameError, MAX_NAME_CHARS};
pub use complexity::Complexity;
pub use head::{
    ClassEstimate, Confusion, Estimate, FittedHead, HeadChoice, HeadError, LeftOut, fit_head,
};
pub use ids::{BaseId, FeatureSpaceId, IdError};
pub use known_answer::{KnownAnswer, test_pattern};
pub use learner::{LearnError, Learner};
pub use matrix::Matrix;
pub use metrics::{AccuracyMatrix, Calibration};
pub use offer::{MAX_REASON, OFFER_FORMAT, Offer, OfferError, ReasonError, Rollout, Withdrawal};
pub use operation::{AdapterChange, Change, Operation, OperationKind};
pub use placement::{
    HALF_TOLERANCE, PARITY_TOLERANCE, Parity, ParityError, Placement, PlacementError, check_parity,
    contained, place,
};
pub use predictor::{Guess, HEAD_VERSION, OwnTerms, Prediction, Predictor, UnknownTest};
pub use prior::{Prior, PriorError};
pub use rank_selector::RankSelector;
pub use shots::Shots;
pub use statistics::{ClassStatistics, Occasion, ScatterFactor, StatisticsError};
pub use task_summary::{ClassSummary, MAX_CLASSES, TaskSummary};
pub use trainer::{
    Built, ClassMeans, CosineHead, Examples, ExamplesError, FeaturePull, FixedHead, Leaves,
    LoraPair, Objective, ParameterId, Parameters, Step, TaskConfig, TaskHead, TokenCache,
    TrainError, TrainedBases, TrainedHead, TrainedTask, TrainingConfig, TrainingHead, Watcher,
    add_head, add_lora, class_means, extend_bases, lora_branches, train, train_bases, train_task,
};
pub use transport::{DriftMap, LowRankDrift, TransportError};
