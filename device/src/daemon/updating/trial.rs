//! Trial of an adapter: how long it was in use with an open source, and whether frames were
//! answered with it.

use std::time::{Duration, Instant};

use crate::daemon::answering::Progress;

/// Longest time for an answer, apart from the silence of a camera.
const ANSWER: Duration = Duration::from_secs(5);

/// An adapter on trial, as far as this run of the program has observed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    /// Session revision that includes the adapter. Answers with this revision or a later one were
    /// made with it.
    revision: u64,
    /// Time that the source was open since then.
    ran: Duration,
    /// Time of the last observation.
    looked: Instant,
    /// Number of frames answered by then, with or without the adapter.
    frames: u64,
    /// Value of `ran` when a frame was last seen to be answered with the adapter.
    answered: Option<Duration>,
    /// True while the trial waits for the source.
    waits: bool,
}

/// Outcome of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is too soon to decide.
    Open,
    Stays,
    /// The adapter is rolled back, for this reason.
    Goes(String),
}

impl Trial {
    /// Starts the trial of an adapter that has just come into use, or was in use at the start of
    /// the program.
    pub(super) fn new(revision: u64, frames: u64, now: Instant) -> Self {
        Self { revision, ran: Duration::ZERO, looked: now, frames, answered: None, waits: false }
    }

    /// Records the current state; to be called about once per second.
    pub(super) fn look(&mut self, open: bool, progress: Progress, now: Instant) {
        if open {
            self.ran += now.saturating_duration_since(self.looked);
        }
        (self.looked, self.waits) = (now, !open);
        if progress.frames > self.frames && progress.revision >= self.revision {
            self.answered = Some(self.ran);
        }
        self.frames = progress.frames;
    }

    /// Returns the outcome. The trial is over when its time has passed, and successful if frames
    /// were answered to the end. `silence` is the longest silence of an open source.
    pub(super) fn verdict(&self, time: Duration, silence: Duration) -> Verdict {
        if time.is_zero() {
            return Verdict::Stays;
        }
        if self.ran < time {
            return Verdict::Open;
        }
        let lately = silence + ANSWER;
        match self.answered {
            Some(answered) if self.ran.saturating_sub(answered) <= lately => Verdict::Stays,
            Some(_) => {
                let seconds = lately.as_secs();
                Verdict::Goes(format!("no frame was answered in the last {seconds} s of its trial"))
            }
            None => Verdict::Goes(format!("no frame was answered in {} s", self.ran.as_secs())),
        }
    }

    /// Seconds until the trial is over, if the source stays open.
    pub(super) fn left(&self, time: Duration) -> u64 {
        let since = if self.waits { Duration::ZERO } else { self.looked.elapsed() };
        time.saturating_sub(self.ran + since).as_secs()
    }

    /// Returns true while the trial waits for the source.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;

    const TIME: Duration = Duration::from_mins(1);
    const SILENCE: Duration = Duration::from_secs(5);

    /// A trial of the second operation, observed once per second: whether the source was open, and
    /// the revision that answered a frame.
    fn watched(seconds: impl IntoIterator<Item = (bool, Option<u64>)>) -> Trial {
        let start = Instant::now();
        let (mut trial, mut progress) =
            (Trial::new(2, 7, start), Progress { revision: 1, frames: 7 });
        for ((open, answered), second) in seconds.into_iter().zip(1..) {
            if let Some(revision) = answered {
                progress = Progress { revision, frames: progress.frames + 1 };
            }
            trial.look(open, progress, start + Duration::from_secs(second));
        }
        trial
    }

    fn verdict(trial: &Trial) -> Verdict {
        trial.verdict(TIME, SILENCE)
    }

    #[test]
    fn it_stays_when_frames_were_answered_with_it_to_the_end() {
        assert_eq!(verdict(&watched([(true, Some(2)); 59])), Verdict::Open);
        assert_eq!(verdict(&watched([(true, Some(2)); 60])), Verdict::Stays);
        assert_eq!(verdict(&watched([(true, Some(3)); 60])), Verdict::Stays, "taught since");
        assert_eq!(watched([]).verdict(Duration::ZERO, SILENCE), Verdict::Stays);
    }

    #[test]
    fn time_stands_still_while_the_source_is_closed() {
        let day = || repeat_n((true, Some(2)), 59);
        let night = || repeat_n((false, None), 1000);
        assert_eq!(verdict(&watched(day().chain(night()))), Verdict::Open);
        assert!(watched(night()).waits());
        let morning = night().chain(day()).chain([(true, None)]);
        assert_eq!(verdict(&watched(morning)), Verdict::Stays);
        // The first frame after a night may take a moment.
        let next_day = day().chain(night()).chain([(true, None)]);
        assert_eq!(verdict(&watched(next_day)), Verdict::Stays);
    }

    #[test]
    fn it_goes_when_no_frame_was_answered_with_it() {
        let goes = |trial: &Trial| matches!(verdict(trial), Verdict::Goes(_));
        assert!(goes(&watched([(true, None); 60])));
        assert!(goes(&watched([(true, Some(1)); 60])), "by what was in use before");
        let first_alone = [(true, Some(2))].into_iter().chain([(true, None); 59]);
        assert!(goes(&watched(first_alone)));
        let closed = repeat_n((false, Some(1)), 1000);
        assert_eq!(verdict(&watched(closed)), Verdict::Open, "never committed");
    }
}
