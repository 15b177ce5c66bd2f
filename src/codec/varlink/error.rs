//! The named errors of both interfaces, and the exit status of supctl that each stands for.

use super::{INTERFACE, SERVICE};
use crate::codec::json::{EndedView, FaultView};
use crate::model::{ExitStatus, Reply};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why something was not begun.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// Always false; every reply says it.
    pub changed: bool,
    /// One sentence.
    pub reason: String,
    /// The command to type, without the leading `supctl`.
    pub next: Option<String>,
    /// The generation that this was about.
    pub generation: Option<u64>,
    /// The swap that this was about.
    pub swap_id: Option<u64>,
}

/// Why something did not come to a good end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// Whether anything is different from before.
    pub changed: bool,
    /// One sentence.
    pub reason: String,
    /// The command to type, without the leading `supctl`.
    pub next: Option<String>,
    /// The generation that this was about.
    pub generation: Option<u64>,
    /// The swap that this was about.
    pub swap_id: Option<u64>,
    /// How the failed generation ended.
    pub ended: Option<EndedView>,
    /// The last lines that it wrote.
    pub log: Vec<String>,
    /// All that it wrote.
    pub log_file: Option<String>,
}

/// The caller may not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NotAllowed {
    /// Always false.
    pub changed: bool,
    /// Who would be allowed.
    pub reason: String,
    /// The command to type, without the leading `supctl`.
    pub next: Option<String>,
}

/// No unit has this name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoSuchUnit {
    /// Always false.
    pub changed: bool,
    /// The name that was asked for.
    pub unit: String,
    /// The nearest name that there is.
    pub did_you_mean: Option<String>,
}

/// A unit file is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BadUnitFile {
    /// Whether other files were taken in.
    pub changed: bool,
    /// All of them.
    pub faults: Vec<FaultView>,
}

/// A sentence is all there is to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plain {
    /// Always false.
    pub changed: bool,
    /// The sentence.
    pub reason: String,
}

/// Every error that supd may answer with. As JSON it is what it carries; [`Error::name`] goes beside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Error {
    /// Not begun, and why not.
    Refused(Refusal),
    /// Failed before the switch.
    Failed(Box<Failure>),
    /// Switched, then rolled back.
    RolledBack(Box<Failure>),
    /// Failed, and nothing is serving.
    Down(Box<Failure>),
    /// The outcome is unknown.
    TimedOut(Box<Failure>),
    /// The caller may not.
    NotAllowed(NotAllowed),
    /// No unit has this name.
    NoSuchUnit(NoSuchUnit),
    /// A unit file is wrong.
    BadUnitFile(BadUnitFile),
    /// Too many connections.
    Busy(Plain),
    /// The bytes were no Varlink call.
    BadMessage(Plain),
    /// org.varlink.service: this interface is not here.
    InterfaceNotFound {
        /// Which.
        interface: String,
    },
    /// org.varlink.service: the interface has no such method.
    MethodNotFound {
        /// Which.
        method: String,
    },
    /// org.varlink.service: known, but not built in.
    MethodNotImplemented {
        /// Which.
        method: String,
    },
    /// org.varlink.service: missing, unknown or wrong.
    InvalidParameter {
        /// Which.
        parameter: String,
    },
}

impl Error {
    /// The error of a reply that is none of success.
    ///
    /// `log` and `log_file` are the last lines and the whole of what a failed generation wrote.
    #[must_use]
    pub fn from_reply(reply: &Reply, log: Vec<String>, log_file: Option<String>) -> Option<Self> {
        let generation = reply.generation.map(|generation| generation.0);
        let swap_id = reply.swap_id.map(|swap| swap.0);
        let (changed, reason, next) = (reply.changed, reply.text.clone(), reply.next.clone());
        let failure = || {
            let ended = reply.ended.as_ref().map(EndedView::from);
            let (reason, next) = (reason.clone(), next.clone());
            Box::new(Failure { changed, reason, next, generation, swap_id, ended, log, log_file })
        };
        Some(match reply.status {
            ExitStatus::Done => return None,
            ExitStatus::Failed => Self::Failed(failure()),
            ExitStatus::RolledBack => Self::RolledBack(failure()),
            ExitStatus::Down => Self::Down(failure()),
            ExitStatus::Timeout => Self::TimedOut(failure()),
            ExitStatus::NotAllowed => Self::NotAllowed(NotAllowed { changed, reason, next }),
            ExitStatus::BadUnitFile => {
                let fault = FaultView { what: reason, ..FaultView::default() };
                Self::BadUnitFile(BadUnitFile { changed, faults: vec![fault] })
            }
            ExitStatus::Refused | ExitStatus::Usage | ExitStatus::NoSupd => {
                Self::Refused(Refusal { changed, reason, next, generation, swap_id })
            }
        })
    }

    /// A unit that is not there; `known` are the names that are.
    #[must_use]
    pub fn no_such_unit<'a>(unit: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let near = known
            .into_iter()
            // Nobody meant what is not there.
            .filter(|name| *name != unit)
            .map(|name| (strsim::osa_distance(unit, name), name))
            .filter(|(distance, name)| *distance <= 1 + name.len().min(unit.len()) / 4)
            .min();
        let did_you_mean = near.map(|(_, name)| name.to_owned());
        Self::NoSuchUnit(NoSuchUnit { changed: false, unit: unit.to_owned(), did_you_mean })
    }

    /// Not allowed, in the words of the verb's scope.
    #[must_use]
    pub fn not_allowed(reason: impl Into<String>) -> Self {
        Self::NotAllowed(NotAllowed { changed: false, reason: reason.into(), next: None })
    }

    /// How supctl exits when this is the answer.
    #[must_use]
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Failed(_) => ExitStatus::Failed,
            Self::RolledBack(_) => ExitStatus::RolledBack,
            Self::Down(_) => ExitStatus::Down,
            Self::TimedOut(_) | Self::Busy(_) => ExitStatus::Timeout,
            Self::NotAllowed(_) => ExitStatus::NotAllowed,
            Self::BadUnitFile(_) => ExitStatus::BadUnitFile,
            Self::BadMessage(_) | Self::InvalidParameter { .. } => ExitStatus::Usage,
            Self::Refused(_)
            | Self::NoSuchUnit(_)
            | Self::InterfaceNotFound { .. }
            | Self::MethodNotFound { .. }
            | Self::MethodNotImplemented { .. } => ExitStatus::Refused,
        }
    }

    /// The interface that names it, and its name there.
    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Refused(_) => (INTERFACE, "Refused"),
            Self::Failed(_) => (INTERFACE, "Failed"),
            Self::RolledBack(_) => (INTERFACE, "RolledBack"),
            Self::Down(_) => (INTERFACE, "Down"),
            Self::TimedOut(_) => (INTERFACE, "TimedOut"),
            Self::NotAllowed(_) => (INTERFACE, "NotAllowed"),
            Self::NoSuchUnit(_) => (INTERFACE, "NoSuchUnit"),
            Self::BadUnitFile(_) => (INTERFACE, "BadUnitFile"),
            Self::Busy(_) => (INTERFACE, "Busy"),
            Self::BadMessage(_) => (INTERFACE, "BadMessage"),
            Self::InterfaceNotFound { .. } => (SERVICE, "InterfaceNotFound"),
            Self::MethodNotFound { .. } => (SERVICE, "MethodNotFound"),
            Self::MethodNotImplemented { .. } => (SERVICE, "MethodNotImplemented"),
            Self::InvalidParameter { .. } => (SERVICE, "InvalidParameter"),
        }
    }

    /// Its full name, as `dev.supd.Manager.Refused`.
    #[must_use]
    pub fn name(&self) -> String {
        let (interface, name) = self.names();
        format!("{interface}.{name}")
    }

    /// Reads an error that came over the socket; `None`: an unknown name or other parameters.
    #[must_use]
    pub fn parse(name: &str, parameters: &str) -> Option<Self> {
        let (interface, name) = name.rsplit_once('.')?;
        let map = || serde_json::from_str::<Map<String, Value>>(parameters).ok();
        let text = |key: &str| map()?.get(key)?.as_str().map(str::to_owned);
        Some(match (interface, name) {
            (INTERFACE, "Refused") => Self::Refused(read(parameters)?),
            (INTERFACE, "Failed") => Self::Failed(read(parameters)?),
            (INTERFACE, "RolledBack") => Self::RolledBack(read(parameters)?),
            (INTERFACE, "Down") => Self::Down(read(parameters)?),
            (INTERFACE, "TimedOut") => Self::TimedOut(read(parameters)?),
            (INTERFACE, "NotAllowed") => Self::NotAllowed(read(parameters)?),
            (INTERFACE, "NoSuchUnit") => Self::NoSuchUnit(read(parameters)?),
            (INTERFACE, "BadUnitFile") => Self::BadUnitFile(read(parameters)?),
            (INTERFACE, "Busy") => Self::Busy(read(parameters)?),
            (INTERFACE, "BadMessage") => Self::BadMessage(read(parameters)?),
            (SERVICE, "InterfaceNotFound") => Self::InterfaceNotFound { interface: text("interface")? },
            (SERVICE, "MethodNotFound") => Self::MethodNotFound { method: text("method")? },
            (SERVICE, "MethodNotImplemented") => Self::MethodNotImplemented { method: text("method")? },
            (SERVICE, "InvalidParameter") => Self::InvalidParameter { parameter: text("parameter")? },
            _ => return None,
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(parameters: &str) -> Option<T> {
    serde_json::from_str(parameters).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{Ended, Generation, SwapId, WorkerExit};
    use std::time::Duration;

    /// Every error with every parameter set.
    pub(in crate::codec::varlink) fn every_error() -> Vec<Error> {
        let reply = |status| Reply {
            status,
            changed: false,
            text: "because".into(),
            next: Some("wait web".into()),
            generation: Some(Generation(8)),
            swap_id: Some(SwapId(3)),
            ended: Some(Ended {
                generation: Generation(8),
                exit: Some(WorkerExit::Code(3)),
                lived: Duration::from_millis(140),
            }),
        };
        let log = || vec!["one".to_owned(), "two".to_owned()];
        let mut all: Vec<Error> = ExitStatus::ALL
            .into_iter()
            .filter_map(|status| Error::from_reply(&reply(status), log(), Some("/x.log".into())))
            .collect();
        let plain = Plain { changed: false, reason: "because".into() };
        all.extend([
            Error::no_such_unit("wbe", ["web"]),
            Error::Busy(plain.clone()),
            Error::BadMessage(plain),
            Error::InterfaceNotFound { interface: "a.b".into() },
            Error::MethodNotFound { method: "a.b.C".into() },
            Error::MethodNotImplemented { method: "a.b.C".into() },
            Error::InvalidParameter { parameter: "x".into() },
        ]);
        all
    }

    #[test]
    fn errors_survive_the_way() {
        for error in every_error() {
            let text = serde_json::to_string(&error).unwrap();
            assert_eq!(Error::parse(&error.name(), &text).as_ref(), Some(&error), "{text}");
        }
        assert_eq!(Error::parse("dev.supd.Manager.Cursed", "{}"), None);
        assert_eq!(Error::parse("nonsense", "{}"), None);
        assert_eq!(Error::parse("dev.supd.Manager.Refused", "7"), None);
    }

    #[test]
    fn each_exit_status_that_supd_can_cause_has_an_error_of_its_own() {
        for status in ExitStatus::ALL {
            let error = Error::from_reply(&Reply::new(status, false, ""), Vec::new(), None);
            match status {
                ExitStatus::Done => assert_eq!(error, None),
                // These two are found out by supctl alone.
                ExitStatus::Usage | ExitStatus::NoSupd => {
                    assert_eq!(error.unwrap().exit_status(), ExitStatus::Refused);
                }
                _ => assert_eq!(error.unwrap().exit_status(), status),
            }
        }
    }

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        let meant = |unit: &str| match Error::no_such_unit(unit, ["web", "worker", "api-internal"]) {
            Error::NoSuchUnit(carried) => carried.did_you_mean,
            _ => None,
        };
        for (unit, near) in
            [("wbe", "web"), ("wep", "web"), ("workr", "worker"), ("api-intrenl", "api-internal")]
        {
            assert_eq!(meant(unit).as_deref(), Some(near), "{unit}");
        }
        for unit in ["db", "production", "x"] {
            assert_eq!(meant(unit), None, "{unit}");
        }
        assert_eq!(meant("web"), None, "the name itself is no other one");
    }
}
