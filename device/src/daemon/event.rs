//! Events of the daemon, broadcast to all interfaces.

use serde::Serialize;
use utoipa::ToSchema;

use super::smoothing::Answer;
use super::source::SourceHealth;
use super::updating::UpdateDto;
use crate::task::TrainedReport;

/// What one frame brought.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Seen {
    /// Place of the frame among all frames since the start.
    pub(crate) frame: u64,
    /// What it and those before it show.
    #[serde(flatten)]
    pub(crate) answer: Answer,
    /// From the frame to the answer.
    pub(crate) milliseconds: f64,
}

/// End of a training.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TaskTrained {
    /// Number of the operation that taught the classes of the task.
    pub(crate) task: u64,
    #[serde(flatten)]
    pub(crate) report: TrainedReport,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A frame was answered.
    Prediction(Seen),
    /// The source changed between well and not.
    Source(SourceHealth),
    /// The state can be written again, or no longer.
    Storage {
        writable: bool,
        /// Why it cannot be written.
        trouble: Option<String>,
    },
    /// The classes are other than before.
    Classes {
        /// What was done.
        operation: &'static str,
        /// Names of all classes.
        classes: Vec<String>,
    },
    /// A picture of the camera was taken as a shot.
    Shot {
        /// The class that is taught.
        class: String,
        /// Pictures taken so far.
        shot: usize,
        /// Pictures that will be taken.
        of: usize,
    },
    /// A step of a training.
    Training {
        /// Steps done.
        step: usize,
        /// Steps of the whole training at most.
        of: usize,
    },
    /// A training has ended.
    Trained(TaskTrained),
    /// Updates stand otherwise than before, or were looked for.
    Update(Box<UpdateDto>),
    /// The listener was too slow, and missed some events.
    Missed {
        /// How many.
        events: u64,
    },
}

impl Event {
    /// Returns the name of the event in the event stream.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Prediction(_) => "prediction",
            Self::Source(_) => "source",
            Self::Storage { .. } => "storage",
            Self::Classes { .. } => "classes",
            Self::Shot { .. } => "shot",
            Self::Training { .. } => "training",
            Self::Trained(_) => "trained",
            Self::Update(_) => "update",
            Self::Missed { .. } => "missed",
        }
    }
}
