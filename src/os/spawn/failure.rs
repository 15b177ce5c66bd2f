//! Why a child never became the program: made in the child, told over its pipe, read by supd.

use nix::errno::Errno;
use std::fmt;

/// Which step of the launch failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Moving the descriptors into their places.
    Descriptors,
    /// StandardOutput, StandardError, the log file.
    Output,
    /// User: looking it up and becoming it.
    User,
    /// Group and SupplementaryGroups.
    Group,
    /// RuntimeDirectory and its sisters.
    Directory,
    /// Giving such a directory to User.
    Owner,
    /// Handing the notify socket's file to User.
    NotifySocket,
    /// Environment files and the like: its text is a sentence of its own.
    Prepare,
    /// ProtectSystem, ProtectHome, PrivateTmp, ReadWritePaths, SystemCallFilter.
    Sandbox,
    /// The filter that has supd asked about bind(2).
    Intercept,
    /// Nice, OOMScoreAdjust, Limit*.
    Setting,
    /// AmbientCapabilities, CapabilityBoundingSet, NoNewPrivileges.
    Capability,
    /// WorkingDirectory.
    WorkingDirectory,
    /// Finding the program in PATH.
    Find,
    /// execve(2).
    Execute,
    /// The child ended before it said anything.
    Vanish,
}

impl Step {
    /// Every step, in the order of the launch.
    pub const ALL: [Self; 16] = [
        Self::Descriptors,
        Self::Output,
        Self::User,
        Self::Group,
        Self::Directory,
        Self::Owner,
        Self::NotifySocket,
        Self::Prepare,
        Self::Sandbox,
        Self::Intercept,
        Self::Setting,
        Self::Capability,
        Self::WorkingDirectory,
        Self::Find,
        Self::Execute,
        Self::Vanish,
    ];

    /// What follows "cannot".
    fn doing(self) -> &'static str {
        match self {
            Self::Descriptors => "pass the listeners to",
            Self::Output => "open",
            Self::User => "become user",
            Self::Group => "join group",
            Self::Directory => "make directory",
            Self::Owner => "give to the unit's user the directory",
            Self::NotifySocket => "hand over the notify socket",
            Self::Prepare => "prepare",
            Self::Sandbox => "apply",
            Self::Intercept => "be asked about",
            Self::Setting => "set",
            Self::Capability => "set capabilities:",
            Self::WorkingDirectory => "change to working directory",
            Self::Find => "find",
            Self::Execute => "execute",
            Self::Vanish => "start",
        }
    }
}

/// Why a launch failed before the program ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnFailure {
    /// Which step.
    pub step: Step,
    /// Of what: a path, a user, a setting.
    pub what: String,
    /// What the kernel answered; `None` where it was not asked.
    pub errno: Option<Errno>,
    /// The reason where there is no errno; else what else is known, or what to do. May be empty.
    pub text: String,
}

/// No part of a failure is longer, so that a record stays far below a pipe's size.
const PART_MAX: usize = 1024;

/// The byte before a failure's record.
pub(super) const FAILED: u8 = b'F';
/// The byte before a sentence of what could not be done although the launch goes on.
pub(super) const NOTED: u8 = b'N';
/// The byte that the child says right before execve(2): without it, an end of the pipe means that
/// the child was killed half-way, not that the program runs.
pub(super) const EXECUTING: u8 = b'X';

/// One sentence for the report, before anything else of it.
pub(super) fn note(text: String) -> Vec<u8> {
    let text = cut(text);
    let mut record = vec![NOTED];
    record.extend(u16::try_from(text.len()).expect("cut").to_le_bytes());
    record.extend(text.as_bytes());
    record
}

/// The sentences at the beginning of a report, and the rest of it.
pub(super) fn notes(mut report: &[u8]) -> (Vec<String>, &[u8]) {
    let mut notes = Vec::new();
    while let [NOTED, low, high, rest @ ..] = report {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        let Some((text, rest)) = rest.split_at_checked(length) else { break };
        notes.push(String::from_utf8_lossy(text).into_owned());
        report = rest;
    }
    (notes, report)
}

impl SpawnFailure {
    /// The kernel refused.
    pub(super) fn errno(step: Step, what: impl fmt::Display, errno: Errno) -> Self {
        Self { step, what: cut(what.to_string()), errno: Some(errno), text: String::new() }
    }

    /// The kernel was not asked, or its answer says nothing.
    pub(super) fn reason(step: Step, what: impl fmt::Display, text: impl fmt::Display) -> Self {
        Self { step, what: cut(what.to_string()), errno: None, text: cut(text.to_string()) }
    }

    /// The same, with what else is known.
    pub(super) fn hint(mut self, text: impl fmt::Display) -> Self {
        self.text = cut(text.to_string());
        self
    }

    /// The record: step, errno, length of `what`, `what`, `text`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let step = Step::ALL.iter().position(|step| *step == self.step).expect("ALL names every step");
        let mut record = vec![FAILED, u8::try_from(step).expect("there are few steps")];
        record.extend(self.errno.map_or(0, |errno| errno as i32).to_le_bytes());
        record.extend(u16::try_from(self.what.len()).expect("cut").to_le_bytes());
        record.extend(self.what.as_bytes());
        record.extend(self.text.as_bytes());
        record
    }

    /// What the whole report of a child means, once its pipe is at its end.
    pub(super) fn read(report: &[u8]) -> Result<(), Self> {
        match report {
            [EXECUTING] => Ok(()),
            [EXECUTING, FAILED, record @ ..] | [FAILED, record @ ..] => Err(Self::decode(record)
                .unwrap_or_else(|| Self::reason(Step::Vanish, "the program", "its report is garbled"))),
            _ => Err(Self::reason(Step::Vanish, "the program", "its process ended before it was executed")),
        }
    }

    fn decode(record: &[u8]) -> Option<Self> {
        let (step, record) = record.split_first()?;
        let (errno, record) = record.split_first_chunk()?;
        let (length, record) = record.split_first_chunk()?;
        let (what, text) = record.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        let errno = i32::from_le_bytes(*errno);
        Some(Self {
            step: *Step::ALL.get(usize::from(*step))?,
            what: String::from_utf8_lossy(what).into_owned(),
            errno: (errno != 0).then(|| Errno::from_raw(errno)),
            text: String::from_utf8_lossy(text).into_owned(),
        })
    }
}

/// Bounds a text, at a character.
fn cut(mut text: String) -> String {
    let mut end = text.len().min(PART_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

impl fmt::Display for SpawnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, what, errno, text } = self;
        match (step, errno) {
            (Step::Prepare, _) => f.write_str(text),
            (_, None) => write!(f, "cannot {} {what}: {text}", step.doing()),
            (_, Some(errno)) if text.is_empty() => {
                write!(f, "cannot {} {what}: {}", step.doing(), errno.desc())
            }
            (_, Some(errno)) => write!(f, "cannot {} {what}: {} ({text})", step.doing(), errno.desc()),
        }
    }
}

impl std::error::Error for SpawnFailure {}

#[cfg(test)]
mod tests {
    use super::{EXECUTING, FAILED, PART_MAX, SpawnFailure, Step, note, notes};
    use nix::errno::Errno;

    #[test]
    fn it_reads_aloud() {
        let failure = SpawnFailure::errno(Step::Execute, "/srv/x/bin/server", Errno::ENOENT);
        assert_eq!(failure.to_string(), "cannot execute /srv/x/bin/server: No such file or directory");
        let failure = SpawnFailure::reason(Step::User, "web", "no such user");
        assert_eq!(failure.to_string(), "cannot become user web: no such user");
        let failure = SpawnFailure::errno(Step::Execute, "/a", Errno::ENOEXEC).hint("no #! line");
        assert_eq!(failure.to_string(), "cannot execute /a: Exec format error (no #! line)");
        let failure = SpawnFailure::reason(Step::Prepare, "", "cannot read /etc/default/web: gone");
        assert_eq!(failure.to_string(), "cannot read /etc/default/web: gone");
    }

    #[test]
    fn it_survives_the_pipe() {
        let long = "ä".repeat(3000);
        for step in Step::ALL {
            for failure in [
                SpawnFailure::errno(step, "what", Errno::EPERM).hint("a hint"),
                SpawnFailure::errno(step, &long, Errno::EMFILE),
                SpawnFailure::reason(step, "", &long),
            ] {
                assert!(failure.encode().len() < 4096);
                assert_eq!(SpawnFailure::read(&failure.encode()), Err(failure.clone()));
                let late = [&[EXECUTING], failure.encode().as_slice()].concat();
                assert_eq!(SpawnFailure::read(&late), Err(failure));
            }
        }
    }

    #[test]
    fn notes_come_before_the_end_whatever_that_is() {
        let said = [note("one".into()), note("ä".repeat(3000)), note(String::new())].concat();
        let failure = SpawnFailure::errno(Step::Find, "x", Errno::ENOENT);
        for end in [vec![EXECUTING], failure.encode(), Vec::new()] {
            let report = [said.as_slice(), end.as_slice()].concat();
            let (texts, rest) = notes(&report);
            assert_eq!((texts[0].as_str(), texts[1].len(), texts[2].as_str()), ("one", PART_MAX, ""));
            assert_eq!(rest, end);
        }
        // Cut short: the launch counts as one that failed.
        let (texts, rest) = notes(&said[..5]);
        assert!(texts.is_empty() && SpawnFailure::read(rest).is_err());
    }

    #[test]
    fn only_the_mark_alone_is_success() {
        assert_eq!(SpawnFailure::read(&[EXECUTING]), Ok(()));
        for report in
            [&b""[..], b"FX", b"XX", &[FAILED], &[EXECUTING, FAILED, 200], &[FAILED, 0, 0, 0, 0, 0, 9, 0]]
        {
            assert_eq!(SpawnFailure::read(report).unwrap_err().step, Step::Vanish, "{report:?}");
        }
    }
}
