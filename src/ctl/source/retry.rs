//! How often a download is tried, and how long between two tries.

use nix::poll::{PollTimeout, poll};
use std::time::{Duration, Instant};

/// No pause is longer, whatever a server asks for.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often at all: a server that gives a byte at a time has no end.
const TRIES_MAX: u32 = 100;

/// What may happen how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// The first pause; each one after it is twice as long.
    pub(super) pause: Duration,
    /// How many tries running may bring nothing.
    pub(super) vain: u32,
}

/// The tries of one download.
#[derive(Debug)]
pub(super) struct Tries {
    patience: Patience,
    all: u32,
    vain: u32,
}

impl Tries {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, all: 0, vain: 0 }
    }

    /// One has failed, and has brought something or not. How long to wait before the next; `None`:
    /// there is none.
    pub(super) fn next(&mut self, brought: bool, asked: Option<Duration>) -> Option<Duration> {
        self.all += 1;
        self.vain = if brought { 1 } else { self.vain + 1 };
        if self.vain >= self.patience.vain || self.all >= TRIES_MAX {
            return None;
        }
        let doubled = self.patience.pause.saturating_mul(1 << (self.vain - 1).min(10));
        Some(asked.unwrap_or(doubled).min(PAUSE_MAX))
    }
}

/// Lets a time pass.
pub(super) fn pause(span: Duration) {
    let end = Instant::now() + span;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let millis = left.as_micros().div_ceil(1000);
        let _signals_end_it_too = poll(&mut [], PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_tries_end() {
        let second = Duration::from_secs(1);
        let patience = Patience { pause: second, vain: 4 };
        let mut tries = Tries::new(patience);
        let mut pauses = |brought| tries.next(brought, None).map(|pause| pause.as_secs());
        assert_eq!(
            [pauses(false), pauses(false), pauses(false), pauses(false)],
            [Some(1), Some(2), Some(4), None]
        );
        let mut tries = Tries::new(patience);
        for _ in 0..50 {
            assert_eq!(tries.next(true, None), Some(second), "what goes on begins anew");
        }
        assert_eq!(tries.next(false, Some(Duration::from_secs(3600))), Some(PAUSE_MAX));
        let all = std::iter::repeat_with(|| tries.next(true, None)).take_while(Option::is_some).count();
        assert!(all < 60, "not for ever");
    }
}
