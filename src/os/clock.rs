//! Clocks: the one that the machine counts by, the one on the wall, and which boot this is.

use super::Error;
use crate::model::Tick;
use nix::errno::Errno;
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use std::fmt;
use std::time::{Duration, SystemTime};

/// CLOCK_MONOTONIC, in microseconds. Workers stamp MONOTONIC_USEC by the same clock.
#[must_use]
pub fn now() -> Tick {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has CLOCK_MONOTONIC");
    Tick(u64::try_from(time.num_microseconds()).expect("it counts up from 0"))
}

/// The wall clock, since 1970; for people and files, never for deadlines. Zero before 1970.
#[must_use]
pub fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The same in microseconds, as files have it.
#[must_use]
pub fn wall_micros() -> u64 {
    u64::try_from(wall().as_micros()).unwrap_or(u64::MAX)
}

/// Which boot of the machine this is: start times and process numbers mean nothing beyond it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootId(Box<str>);

impl BootId {
    /// The running kernel's (random(4)).
    ///
    /// # Errors
    /// Where /proc is not mounted.
    pub fn read() -> Result<Self, Error> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let text = std::fs::read_to_string(PATH).map_err(|e| Error::from_io("read", PATH, &e))?;
        Self::parse(text.trim()).ok_or_else(|| Error::new("read", PATH, Errno::EINVAL))
    }

    /// Takes back what [`fmt::Display`] wrote: 36 of `0-9 a-f -`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        fits.then(|| Self(text.into()))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{BootId, now, wall};
    use std::time::Duration;

    #[test]
    fn clocks_go_forward() {
        let first = now();
        assert!(now() >= first && first.0 > 0);
        assert!(wall() > Duration::from_secs(1_700_000_000));
    }

    #[test]
    fn a_boot_has_one_id() {
        let id = BootId::read().unwrap();
        assert_eq!(BootId::parse(&id.to_string()), Some(id));
        assert_eq!(BootId::parse("../../etc/passwd"), None);
    }
}
