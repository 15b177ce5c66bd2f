//! Signals by number and by name.

use std::fmt;

/// A signal number as the kernel counts them on this architecture (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(pub i32);

/// The standard signals of x86-64 and aarch64, which count alike (signal(7)).
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first and the last real-time signal that the C library leaves to programs.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

impl Signal {
    /// SIGKILL.
    pub const KILL: Self = Self(9);
    /// SIGTERM.
    pub const TERM: Self = Self(15);
    /// SIGABRT, which a watchdog sends.
    pub const ABRT: Self = Self(6);
    /// SIGCONT, without which a stopped process does not see SIGTERM.
    pub const CONT: Self = Self(18);
    /// A system call that is forbidden, or unknown.
    pub const SYS: Self = Self(31);

    /// Reads `SIGTERM`, `TERM`, `15` or `RTMIN+3`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<i32>() {
            let known = NAMES.iter().any(|(_, n)| *n == number) || REALTIME.contains(&number);
            return known.then_some(Self(number));
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        let number = match name.split_at_checked(5)? {
            ("RTMIN", "") => *REALTIME.start(),
            ("RTMAX", "") => *REALTIME.end(),
            ("RTMIN", more) => REALTIME.start().checked_add(more.strip_prefix('+')?.parse().ok()?)?,
            ("RTMAX", less) => REALTIME.end().checked_sub(less.strip_prefix('-')?.parse().ok()?)?,
            (_, _) => return None,
        };
        REALTIME.contains(&number).then_some(Self(number))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 == *REALTIME.start() => f.write_str("SIGRTMIN"),
            None => write!(f, "SIGRTMIN+{}", self.0 - REALTIME.start()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Signal;

    #[test]
    fn names_and_numbers_agree() {
        for text in ["SIGTERM", "TERM", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal(15)));
        }
        assert_eq!(Signal::parse("RTMIN+3"), Some(Signal(37)));
        assert_eq!(Signal(37).to_string(), "SIGRTMIN+3");
        assert_eq!(Signal(10).to_string(), "SIGUSR1");
        for bad in ["", "SIG", "TERM ", "0", "-1", "32", "65", "RTMIN+31", "RTMIN+", "sigterm"] {
            assert_eq!(Signal::parse(bad), None, "{bad}");
        }
    }
}
