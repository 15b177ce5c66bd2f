//! What supctl says when it does not end well: what happened, why, and what to type next.

use super::render::faults;
use super::render::text::{Colour, Paint, clean};
use crate::codec::json::EndedView;
use crate::codec::span::fine;
use crate::codec::varlink::{self, error};
use crate::model::ExitStatus;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// An ending that is none of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit status.
    pub status: ExitStatus,
    /// What happened and why, in one sentence.
    pub text: String,
    /// More lines: faults, or what a failed generation wrote.
    pub details: Vec<String>,
    /// The command to type, `supctl` included.
    pub next: Option<String>,
    /// The signal that interrupted supctl: it dies of it.
    pub signal: Option<i32>,
}

impl Failure {
    /// A failure without details.
    pub fn new(status: ExitStatus, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), details: Vec::new(), next: None, signal: None }
    }

    /// The same, with the command to type.
    #[must_use]
    pub fn next(self, command: impl Into<String>) -> Self {
        Self { next: Some(command.into()), ..self }
    }

    /// Whoever may not is told the same command as root, which always may. (A ControlGroup that one
    /// could be a member of is named in the text already.)
    #[must_use]
    pub(super) fn with_root(self, socket: &Path, arguments: impl Iterator<Item = OsString>) -> Self {
        if self.status != ExitStatus::NotAllowed || self.next.is_some() {
            return self;
        }
        let mut words: Vec<String> = arguments.map(|word| shell_word(&word.to_string_lossy())).collect();
        let named = words.iter().any(|word| word == "--runtime" || word.starts_with("--runtime="));
        // sudo takes SUPD_RUNTIME away, and root's own place is another one.
        if let (false, Some(folder)) =
            (named, socket.parent().filter(|folder| *folder != Path::new("/run/supd")))
        {
            words.splice(0..0, ["--runtime".to_owned(), shell_word(&folder.to_string_lossy())]);
        }
        let command = format!("sudo supctl {}", words.join(" "));
        self.next(command)
    }

    /// What supd answered, about `unit` where there is one.
    #[must_use]
    pub fn from_error(error: &varlink::Error, unit: Option<&str>) -> Self {
        let status = error.exit_status();
        let about = |text: &str| about(text, unit);
        let supctl = |next: &Option<String>| next.as_ref().map(|next| format!("supctl {next}"));
        match error {
            varlink::Error::Refused(refusal) => {
                Self { next: supctl(&refusal.next), ..Self::new(status, about(&refusal.reason)) }
            }
            varlink::Error::NotAllowed(refusal) => {
                Self { next: supctl(&refusal.next), ..Self::new(status, about(&refusal.reason)) }
            }
            varlink::Error::Failed(failure)
            | varlink::Error::RolledBack(failure)
            | varlink::Error::Down(failure)
            | varlink::Error::TimedOut(failure) => Self {
                details: details(failure),
                next: supctl(&failure.next),
                ..Self::new(status, about(&failure.reason))
            },
            varlink::Error::NoSuchUnit(missing) => {
                let text = format!("there is no unit {}", missing.unit);
                match &missing.did_you_mean {
                    Some(near) => Self::new(status, format!("{text}; did you mean {near}?")),
                    None => Self::new(status, text),
                }
                .next("supctl status")
            }
            varlink::Error::BadUnitFile(bad) => Self {
                details: faults::lines(&bad.faults),
                ..Self::new(status, about("a unit file is wrong; nothing of what runs was changed by it"))
            },
            varlink::Error::Busy(plain) | varlink::Error::BadMessage(plain) => {
                Self::new(status, plain.reason.clone())
            }
            varlink::Error::InvalidParameter { parameter } => {
                Self::new(status, about(&format!("supd does not accept the parameter {parameter}")))
            }
            varlink::Error::InterfaceNotFound { interface: what }
            | varlink::Error::MethodNotFound { method: what }
            | varlink::Error::MethodNotImplemented { method: what } => {
                Self::new(status, format!("this supd has no {what}: it is older than supctl, or no supd"))
                    .next("supctl --version; supctl status")
            }
        }
    }

    /// The lines for standard error.
    #[must_use]
    pub fn lines(&self, colour: bool) -> Vec<String> {
        let paint = Paint(colour);
        let heading = if self.signal.is_some() { "Interrupted:" } else { "Error:" };
        let mut lines = vec![format!("{} {}", paint.apply(Colour::Bad, heading), clean(&self.text))];
        lines.extend(self.details.iter().map(|line| format!("  {line}")));
        if let Some(next) = &self.next {
            lines.push(format!("  {} {}", paint.apply(Colour::Strong, "Next:"), clean(next)));
        }
        lines
    }
}

/// A sentence of supd's, with the unit's name in front.
pub(super) fn about(text: &str, unit: Option<&str>) -> String {
    match unit {
        Some(unit) if !text.starts_with(&format!("{unit}: ")) => format!("{unit}: {text}"),
        Some(_) | None => text.to_owned(),
    }
}

/// A word as a shell reads it again.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:%@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// How a generation ended and the last lines that it wrote.
fn details(failure: &error::Failure) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(failure.ended.as_ref().filter(|ended| ended.generation > 0).map(ending));
    match failure.log.as_slice() {
        [] if failure.ended.is_some() && failure.log_file.is_some() => lines.push("It wrote nothing.".into()),
        wrote => lines.extend(last_words(wrote)),
    }
    lines.extend(failure.log_file.as_ref().map(|file| format!("All of it: {}", clean(file))));
    lines
}

/// What a generation wrote last.
pub(super) fn last_words(wrote: &[String]) -> Vec<String> {
    match wrote {
        [] => Vec::new(),
        [one] => vec![format!("It wrote: {}", clean(one))],
        many => {
            let heading = format!("The last {} lines that it wrote:", many.len());
            std::iter::once(heading).chain(many.iter().map(|line| format!("| {}", clean(line)))).collect()
        }
    }
}

fn ending(ended: &EndedView) -> String {
    let lived = fine(Duration::from_millis(ended.lived_ms));
    let generation = ended.generation;
    match &ended.exit {
        Some(exit) => format!("Generation {generation} lived {lived}: {}.", clean(exit)),
        None => format!("Generation {generation} was over after {lived}: it never ran, or supd ended it."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::FaultView;
    use crate::model::{Ended, Generation, Reply, Signal, WorkerExit};

    fn told(error: &varlink::Error) -> String {
        Failure::from_error(error, Some("web")).lines(false).join("\n")
    }

    #[test]
    fn a_failed_swap_shows_the_end_and_the_last_words() {
        let ended = |exit| Ended { generation: Generation(8), exit, lived: Duration::from_millis(140) };
        let reply = Reply {
            ended: Some(ended(Some(WorkerExit::Code(3)))),
            next: Some("logs web".into()),
            ..Reply::new(ExitStatus::Failed, false, "generation 8 exited before it was ready")
        };
        let log = vec!["Traceback:".to_owned(), "\tno module\x1b[31m".into()];
        let error = varlink::Error::from_reply(&reply, log, Some("/var/log/supd/web/8.log".into())).unwrap();
        let expected = "\
Error: web: generation 8 exited before it was ready
  Generation 8 lived 140ms: exit status 3.
  The last 2 lines that it wrote:
  | Traceback:
  |  no module\u{fffd}[31m
  All of it: /var/log/supd/web/8.log
  Next: supctl logs web";
        assert_eq!(told(&error), expected);

        let killed = WorkerExit::Killed { signal: Signal(11), core: true };
        let file = || Some("/l/8.log".to_owned());
        for (exit, log, log_file, lines) in [
            (
                Some(killed),
                vec!["x".to_owned()],
                None,
                "lived 140ms: killed by SIGSEGV (core dumped).\n  It wrote: x",
            ),
            (
                None,
                vec![],
                file(),
                "was over after 140ms: it never ran, or supd ended it.\n  It wrote nothing.\n  All of it: /l/8.log",
            ),
            // It may have written a lot, to a place of its own.
            (None, vec![], None, "was over after 140ms: it never ran, or supd ended it."),
        ] {
            let reply = Reply {
                ended: Some(ended(exit)),
                ..Reply::new(ExitStatus::Down, true, "web: nobody serves")
            };
            let error = varlink::Error::from_reply(&reply, log, log_file).unwrap();
            assert_eq!(told(&error), format!("Error: web: nobody serves\n  Generation 8 {lines}"));
        }
    }

    #[test]
    fn whoever_may_not_is_told_who_may_and_what_to_type() {
        let refused = || Failure::from_error(&varlink::Error::not_allowed("this is for root"), None);
        let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>().into_iter();
        let next =
            |socket: &str, line: &[&str]| refused().with_root(Path::new(socket), words(line)).next.unwrap();
        assert_eq!(next("/run/supd/control", &["abort", "web"]), "sudo supctl abort web");
        assert_eq!(
            next("/home/a b/run/control", &["abort", "web", "--reason", "it's bad"]),
            "sudo supctl --runtime '/home/a b/run' abort web --reason 'it'\\''s bad'"
        );
        assert_eq!(next("/x/control", &["--runtime=/x", "shutdown"]), "sudo supctl --runtime=/x shutdown");
        let other = Failure::new(ExitStatus::Refused, "no");
        assert_eq!(other.clone().with_root(Path::new("/x/control"), words(&[])), other);
    }

    #[test]
    fn each_refusal_says_what_to_type_next() {
        let refused = Reply::refused("a swap to generation 8 is under way", Some("wait web".to_owned()));
        let cases = [
            (
                varlink::Error::from_reply(&refused, Vec::new(), None).unwrap(),
                "Error: web: a swap to generation 8 is under way\n  Next: supctl wait web",
            ),
            (
                varlink::Error::no_such_unit("wbe", ["web"]),
                "Error: there is no unit wbe; did you mean web?\n  Next: supctl status",
            ),
            (
                varlink::Error::no_such_unit("xyz", ["web"]),
                "Error: there is no unit xyz\n  Next: supctl status",
            ),
            (varlink::Error::not_allowed("web: this is for root"), "Error: web: this is for root"),
            (
                varlink::Error::BadUnitFile(error::BadUnitFile {
                    changed: false,
                    faults: vec![FaultView {
                        file: "web.unit".into(),
                        line: 1,
                        column: 2,
                        key: String::new(),
                        what: "no TOML".into(),
                        remedy: String::new(),
                    }],
                }),
                "Error: web: a unit file is wrong; nothing of what runs was changed by it\n  web.unit:1:2: no TOML",
            ),
            (
                varlink::Error::MethodNotFound { method: "dev.supd.Manager.Fly".into() },
                "Error: this supd has no dev.supd.Manager.Fly: it is older than supctl, or no supd\n  Next: \
                 supctl --version; supctl status",
            ),
            (
                varlink::Error::InvalidParameter { parameter: "label".into() },
                "Error: web: supd does not accept the parameter label",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(told(&error), expected);
        }
    }
}
