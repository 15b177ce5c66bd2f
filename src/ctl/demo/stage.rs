//! What the story writes and the picture reads: each in its own thread.

use super::act::{Act, End};
use super::load::Load;
use super::timeline::Timeline;
use super::version::Version;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The demo was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interrupted;

/// The acts so far and the load.
#[derive(Debug, Default)]
pub(super) struct Stage {
    state: Mutex<State>,
    changed: Condvar,
    load: OnceLock<Load>,
}

#[derive(Debug, Default)]
struct State {
    acts: Vec<Act>,
    versions: Vec<Version>,
    interrupted: bool,
}

impl Stage {
    /// Begins the load: time counts from now on.
    pub(super) fn begin(&self, load: Load) {
        let mut load = Some(load);
        self.load.get_or_init(|| load.take().expect("it is taken once"));
    }

    /// The clock of the load; zero before it begins.
    pub(super) fn now(&self) -> Duration {
        self.load.get().map(Load::now).unwrap_or_default()
    }

    /// What the load has seen so far.
    pub(super) fn timeline(&self) -> Timeline {
        self.load.get().map(|load| load.timeline().clone()).unwrap_or_default()
    }

    /// Whether the load has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.load.get().is_some()
    }

    /// Ends the load: from now on its timeline does not change.
    pub(super) fn end(&self) {
        if let Some(load) = self.load.get() {
            load.stop();
        }
    }

    /// An act begins, by which a version comes in.
    pub(super) fn raise(&self, command: &str, version: Version) {
        let now = self.now();
        let mut state = self.state();
        let mark = char::from_digit(u32::try_from(state.acts.len()).unwrap_or(u32::MAX), 36).unwrap_or('*');
        state.acts.push(Act::new(mark, now, command, version.word()));
        if !state.versions.contains(&version) {
            state.versions.push(version);
        }
    }

    /// News of the act under way.
    pub(super) fn tell(&self, news: impl Into<String>) {
        if let Some(act) = self.state().acts.last_mut() {
            act.news = news.into();
        }
    }

    /// The act is over.
    pub(super) fn lower(&self, as_told: bool, news: impl Into<String>) {
        let at = self.now();
        if let Some(act) = self.state().acts.last_mut() {
            act.news = news.into();
            act.end = Some(End { at, as_told });
        }
    }

    /// The acts and the versions so far.
    pub(super) fn scene(&self) -> (Vec<Act>, Vec<Version>) {
        let state = self.state();
        (state.acts.clone(), state.versions.clone())
    }

    /// Whether there was an act that did not go as told, or did not end.
    pub(super) fn failed(&self) -> bool {
        self.state().acts.iter().any(|act| !act.end.is_some_and(|end| end.as_told))
    }

    /// Wakes whoever pauses: nothing goes on.
    pub(super) fn interrupt(&self) {
        self.state().interrupted = true;
        self.changed.notify_all();
    }

    /// Lets the load go on for a while.
    ///
    /// # Errors
    /// [`Interrupted`]
    pub(super) fn pause(&self, span: Duration) -> Result<(), Interrupted> {
        let until = Instant::now() + span;
        let mut state = self.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.interrupted {
                return Err(Interrupted);
            }
            if left.is_zero() {
                return Ok(());
            }
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_acts_that_ended_as_told_make_a_good_story() {
        let stage = Stage::default();
        assert!(!stage.failed());
        stage.raise("x", Version::Old);
        assert!(stage.failed(), "it has not ended");
        stage.lower(true, "fine");
        stage.raise("y", Version::Old);
        stage.tell("news");
        stage.lower(true, "fine");
        assert!(!stage.failed());
        let (acts, versions) = stage.scene();
        assert_eq!((acts.len(), acts[1].mark, versions.as_slice()), (2, '1', &[Version::Old][..]));
        stage.raise("z", Version::New);
        stage.lower(false, "bad");
        assert!(stage.failed());
    }

    #[test]
    fn an_interruption_ends_a_pause() {
        let stage = Stage::default();
        std::thread::scope(|scope| {
            let paused = scope.spawn(|| stage.pause(Duration::from_secs(3600)));
            stage.interrupt();
            assert_eq!(paused.join().unwrap(), Err(Interrupted));
        });
        assert_eq!(stage.pause(Duration::ZERO), Err(Interrupted));
    }
}
