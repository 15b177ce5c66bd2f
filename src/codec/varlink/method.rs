//! The methods of `dev.supd.Manager`, typed.

use super::params::{Invalid, Parameters};
use crate::codec::json::wait_word;
use crate::model::{Generation, Label, ListenerName, Share, Signal, Stops, UnitName, WaitFor};
use serde_json::{Map, Value};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// One unit, or all of them.
    Status {
        /// `None`: all.
        unit: Option<UnitName>,
        /// Count what clients have open first.
        count: bool,
    },
    /// The effective settings, with where each comes from.
    Cat {
        /// Which unit.
        unit: UnitName,
        /// What was pinned for this one; `None`: what the files say now.
        generation: Option<Generation>,
    },
    /// The releases of one unit, or of all of them.
    Releases {
        /// `None`: all.
        unit: Option<UnitName>,
    },
    /// What happened, the newest last.
    History {
        /// `None`: all units, and supd itself.
        unit: Option<UnitName>,
        /// Then or later, in microseconds since 1970.
        since_us: Option<u64>,
        /// Only what is numbered below this.
        before: Option<u64>,
        /// At most so many, the newest.
        limit: Option<u64>,
    },
    /// What happens from now on, or after a number.
    Watch {
        /// `None`: all units, and supd itself.
        unit: Option<UnitName>,
        /// `None`: from now on.
        after: Option<u64>,
    },
    /// Make a release of the source that comes with the call, as a descriptor.
    Install {
        /// Which unit.
        unit: UnitName,
        /// The release's name.
        label: Label,
    },
    /// Install, and swap to it.
    Deploy {
        /// Which unit.
        unit: UnitName,
        /// The release's name.
        label: Label,
        /// Where to stop on the way.
        stops: Stops,
        /// Abort a running swap first.
        replace: bool,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Take a release away.
    Undeploy {
        /// Which unit.
        unit: UnitName,
        /// Which release.
        label: Label,
    },
    /// Begin to serve.
    Start {
        /// Which unit.
        unit: UnitName,
        /// Go on with the listening sockets of this process and its kin.
        take_from: Option<i32>,
        /// How far to wait.
        wait: WaitFor,
    },
    /// End every generation.
    Stop {
        /// Which unit.
        unit: UnitName,
        /// Skip the waits.
        now: bool,
        /// Leave the listeners as they are.
        keep_listening: bool,
    },
    /// A swap to the same release.
    Restart {
        /// Which unit.
        unit: UnitName,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Tell the workers to read their configuration again.
    Reload {
        /// Which unit.
        unit: UnitName,
    },
    /// Send a signal to the active generation's workers.
    Kill {
        /// Which unit.
        unit: UnitName,
        /// Which signal.
        signal: Signal,
    },
    /// Read the unit files.
    DaemonReload,
    /// Bring a new generation.
    Swap {
        /// Which unit.
        unit: UnitName,
        /// Its release; `None`: the newest.
        label: Option<Label>,
        /// Where to stop on the way.
        stops: Stops,
        /// Abort a running swap first.
        replace: bool,
        /// Even a release that failed before.
        force: bool,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Back to what was before.
    Rollback {
        /// Which unit.
        unit: UnitName,
        /// To which release; `None`: the retained one.
        label: Option<Label>,
        /// Only if this generation is active.
        from: Option<Generation>,
        /// End what it leaves at once, rather than keep it as standby.
        stop: bool,
        /// Even if the program to go back to is not pinned.
        anyway: bool,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Set the candidate's share of the new connections.
    Share {
        /// Which unit.
        unit: UnitName,
        /// How much.
        share: Share,
        /// How far to wait, where it gets all of them.
        wait: WaitFor,
    },
    /// Let a generation go that receives no new connection.
    Drain {
        /// Which unit.
        unit: UnitName,
        /// Which generation.
        generation: Generation,
    },
    /// The next step of a held swap, or commit in probation.
    Promote {
        /// Which unit.
        unit: UnitName,
        /// How far to wait.
        wait: WaitFor,
    },
    /// Undo a swap that is not committed.
    Abort {
        /// Which unit.
        unit: UnitName,
    },
    /// Join what is under way.
    Wait {
        /// Which unit.
        unit: UnitName,
        /// How far to wait.
        wait: WaitFor,
    },
    /// The log of a generation, as a descriptor.
    Logs {
        /// Which unit.
        unit: UnitName,
        /// `None`: the active one.
        generation: Option<Generation>,
    },
    /// A way to one generation, as a descriptor.
    Connect {
        /// Which unit.
        unit: UnitName,
        /// Which generation.
        generation: Generation,
        /// `None`: the only one.
        listener: Option<ListenerName>,
        /// Only say whether there is one.
        dry_run: bool,
    },
    /// Go on as the program that is on the disk now.
    Reexec,
    /// Stop every unit, then end supd.
    Shutdown,
}

/// What every method that acts may carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// Why, for the record.
    pub reason: Option<String>,
    /// A repetition with the same one is answered with the first outcome.
    pub request_id: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Meta {
    fn put(&self, mut put: impl FnMut(&str, Value)) {
        put("dry_run", self.dry_run.into());
        put("reason", self.reason.as_deref().into());
        put("request_id", self.request_id.as_deref().into());
    }
}

/// Who may call a method, as a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Reads what is for anyone.
    Read,
    /// Acts on one unit.
    Unit,
    /// Acts on supd as a whole.
    Manager,
}

/// The most bytes of a reason.
pub const REASON_MAX: usize = 1024;
/// The most characters of a request's id.
pub const REQUEST_ID_MAX: usize = 128;

/// Why a call names no method or has wrong parameters; `None` inside: there is no such method.
pub(super) type Rejected = Option<Invalid>;

impl Method {
    /// The name without its interface, as `Swap`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Status { .. } => "Status",
            Self::Cat { .. } => "Cat",
            Self::Releases { .. } => "Releases",
            Self::History { .. } => "History",
            Self::Watch { .. } => "Watch",
            Self::Install { .. } => "Install",
            Self::Deploy { .. } => "Deploy",
            Self::Undeploy { .. } => "Undeploy",
            Self::Start { .. } => "Start",
            Self::Stop { .. } => "Stop",
            Self::Restart { .. } => "Restart",
            Self::Reload { .. } => "Reload",
            Self::Kill { .. } => "Kill",
            Self::DaemonReload => "DaemonReload",
            Self::Swap { .. } => "Swap",
            Self::Rollback { .. } => "Rollback",
            Self::Share { .. } => "Share",
            Self::Drain { .. } => "Drain",
            Self::Promote { .. } => "Promote",
            Self::Abort { .. } => "Abort",
            Self::Wait { .. } => "Wait",
            Self::Logs { .. } => "Logs",
            Self::Connect { .. } => "Connect",
            Self::Reexec => "Reexec",
            Self::Shutdown => "Shutdown",
        }
    }

    /// The same as supctl's verb, as `daemon-reload`.
    #[must_use]
    pub fn verb(&self) -> String {
        match self {
            Self::DaemonReload => "daemon-reload".to_owned(),
            _ => self.name().to_lowercase(),
        }
    }

    /// The unit that is meant.
    #[must_use]
    pub fn unit(&self) -> Option<&UnitName> {
        match self {
            Self::Status { unit, .. }
            | Self::Releases { unit }
            | Self::History { unit, .. }
            | Self::Watch { unit, .. } => unit.as_ref(),
            Self::Cat { unit, .. }
            | Self::Install { unit, .. }
            | Self::Deploy { unit, .. }
            | Self::Undeploy { unit, .. }
            | Self::Start { unit, .. }
            | Self::Stop { unit, .. }
            | Self::Restart { unit, .. }
            | Self::Reload { unit }
            | Self::Kill { unit, .. }
            | Self::Swap { unit, .. }
            | Self::Rollback { unit, .. }
            | Self::Share { unit, .. }
            | Self::Drain { unit, .. }
            | Self::Promote { unit, .. }
            | Self::Abort { unit }
            | Self::Wait { unit, .. }
            | Self::Logs { unit, .. }
            | Self::Connect { unit, .. } => Some(unit),
            Self::DaemonReload | Self::Reexec | Self::Shutdown => None,
        }
    }

    /// Who may call it. Wait changes nothing; the places that it holds are bounded for each user. Cat
    /// and Logs count as acting: what the environment holds, and what a server writes, may be nobody
    /// else's business; and so does Connect, for a candidate is not public yet.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Status { .. }
            | Self::Releases { .. }
            | Self::History { .. }
            | Self::Watch { .. }
            | Self::Wait { .. } => Scope::Read,
            Self::DaemonReload | Self::Reexec | Self::Shutdown => Scope::Manager,
            Self::Cat { .. }
            | Self::Install { .. }
            | Self::Deploy { .. }
            | Self::Undeploy { .. }
            | Self::Start { .. }
            | Self::Stop { .. }
            | Self::Restart { .. }
            | Self::Reload { .. }
            | Self::Kill { .. }
            | Self::Swap { .. }
            | Self::Rollback { .. }
            | Self::Share { .. }
            | Self::Drain { .. }
            | Self::Promote { .. }
            | Self::Abort { .. }
            | Self::Logs { .. }
            | Self::Connect { .. } => Scope::Unit,
        }
    }

    /// Whether it takes what [`Meta`] has: a request that only reads is not repeated, nor recorded.
    fn may_carry_meta(&self) -> bool {
        match self {
            Self::Cat { .. } | Self::Logs { .. } | Self::Connect { .. } => false,
            _ => self.scope() != Scope::Read,
        }
    }

    /// Whether a descriptor may come with a call of it.
    #[must_use]
    pub fn takes_descriptor(&self) -> bool {
        match self {
            Self::Install { .. } | Self::Deploy { .. } => true,
            Self::Status { .. }
            | Self::Releases { .. }
            | Self::History { .. }
            | Self::Watch { .. }
            | Self::Undeploy { .. }
            | Self::Start { .. }
            | Self::Stop { .. }
            | Self::Restart { .. }
            | Self::Reload { .. }
            | Self::Kill { .. }
            | Self::DaemonReload
            | Self::Swap { .. }
            | Self::Rollback { .. }
            | Self::Share { .. }
            | Self::Drain { .. }
            | Self::Promote { .. }
            | Self::Abort { .. }
            | Self::Wait { .. }
            | Self::Cat { .. }
            | Self::Logs { .. }
            | Self::Connect { .. }
            | Self::Reexec
            | Self::Shutdown => false,
        }
    }

    /// Reads the method `name` of the interface, with its parameters.
    pub(super) fn read(name: &str, parameters: Map<String, Value>) -> Result<(Self, Meta), Rejected> {
        let mut p = Parameters(parameters);
        let method = Self::take(name, &mut p)?;
        let meta = if method.may_carry_meta() {
            Meta {
                dry_run: p.flag("dry_run")?,
                reason: p.text("reason", REASON_MAX)?,
                request_id: request_id(&mut p)?,
            }
        } else {
            Meta::default()
        };
        p.end()?;
        Ok((method, meta))
    }

    /// Takes back what [`Method::name`] and [`Method::parameters`] gave, from a file; `None`: another
    /// supd knew more methods, or parameters.
    #[must_use]
    pub fn recall(name: &str, parameters: Map<String, Value>) -> Option<Self> {
        Self::read(name, parameters).ok().map(|(method, _)| method)
    }

    /// The parameters that are the method's own.
    fn take(name: &str, p: &mut Parameters) -> Result<Self, Rejected> {
        Ok(match name {
            "Status" => Self::Status { unit: p.unit_if_any()?, count: p.flag("count")? },
            "Releases" => Self::Releases { unit: p.unit_if_any()? },
            "History" => Self::History {
                unit: p.unit_if_any()?,
                since_us: p.number("since_us")?,
                before: p.number("before")?,
                limit: p.number("limit")?,
            },
            "Watch" => Self::Watch { unit: p.unit_if_any()?, after: p.number("after")? },
            "Install" => {
                p.source()?;
                Self::Install { unit: p.unit()?, label: p.given_label()? }
            }
            "Deploy" => {
                p.source()?;
                Self::Deploy {
                    unit: p.unit()?,
                    label: p.given_label()?,
                    stops: p.stops()?,
                    replace: p.flag("replace")?,
                    wait: p.wait()?,
                }
            }
            "Undeploy" => Self::Undeploy { unit: p.unit()?, label: p.given_label()? },
            "Cat" => Self::Cat { unit: p.unit()?, generation: p.generation("generation")? },
            "Start" => Self::Start { unit: p.unit()?, take_from: p.pid("take_from")?, wait: p.wait()? },
            "Stop" => {
                Self::Stop { unit: p.unit()?, now: p.flag("now")?, keep_listening: p.flag("keep_listening")? }
            }
            "Restart" => Self::Restart { unit: p.unit()?, wait: p.wait()? },
            "Reload" => Self::Reload { unit: p.unit()? },
            "Kill" => Self::Kill { unit: p.unit()?, signal: p.signal()? },
            "DaemonReload" => Self::DaemonReload,
            "Swap" => Self::take_swap(p)?,
            "Rollback" => Self::take_rollback(p)?,
            "Share" => Self::Share {
                unit: p.unit()?,
                share: p.share("share")?.ok_or_else(|| Invalid("share".into()))?,
                wait: p.wait()?,
            },
            "Drain" => Self::Drain {
                unit: p.unit()?,
                generation: p.generation("generation")?.ok_or_else(|| Invalid("generation".into()))?,
            },
            "Promote" => Self::Promote { unit: p.unit()?, wait: p.wait()? },
            "Abort" => Self::Abort { unit: p.unit()? },
            "Wait" => Self::Wait { unit: p.unit()?, wait: p.wait()? },
            "Logs" => Self::Logs { unit: p.unit()?, generation: p.generation("generation")? },
            "Connect" => Self::Connect {
                unit: p.unit()?,
                generation: p.generation("generation")?.ok_or_else(|| Invalid("generation".into()))?,
                listener: p.listener()?,
                dry_run: p.flag("dry_run")?,
            },
            "Reexec" => Self::Reexec,
            "Shutdown" => Self::Shutdown,
            _ => return Err(None),
        })
    }

    fn take_swap(p: &mut Parameters) -> Result<Self, Rejected> {
        Ok(Self::Swap {
            unit: p.unit()?,
            label: p.label()?,
            stops: p.stops()?,
            replace: p.flag("replace")?,
            force: p.flag("force")?,
            wait: p.wait()?,
        })
    }

    fn take_rollback(p: &mut Parameters) -> Result<Self, Rejected> {
        Ok(Self::Rollback {
            unit: p.unit()?,
            label: p.label()?,
            from: p.generation("from")?,
            stop: p.flag("stop")?,
            anyway: p.flag("anyway")?,
            wait: p.wait()?,
        })
    }

    /// The parameters as a client sends them; what is at its default is left out.
    #[must_use]
    pub fn parameters(&self, meta: &Meta) -> Map<String, Value> {
        let mut to = Map::new();
        let mut put = |name: &str, value: Value| {
            if !matches!(value, Value::Null | Value::Bool(false)) {
                to.insert(name.to_owned(), value);
            }
        };
        put("unit", self.unit().map(UnitName::as_str).into());
        match self {
            Self::Status { count, unit: _ } => put("count", (*count).into()),
            Self::Releases { .. }
            | Self::Reload { .. }
            | Self::DaemonReload
            | Self::Abort { .. }
            | Self::Reexec
            | Self::Shutdown => {}
            Self::History { since_us, before, limit, unit: _ } => {
                let bounds = [("since_us", since_us), ("before", before), ("limit", limit)];
                bounds.into_iter().for_each(|(name, bound)| put(name, (*bound).into()));
            }
            Self::Watch { after, unit: _ } => put("after", (*after).into()),
            Self::Install { label, .. } => {
                put("label", label.as_str().into());
                put("source", 0.into());
            }
            Self::Deploy { label, stops, replace, wait, .. } => {
                put("label", label.as_str().into());
                put("source", 0.into());
                put_stops(*stops, &mut put);
                put("replace", (*replace).into());
                put("wait", wait_word(*wait).into());
            }
            Self::Undeploy { label, .. } => put("label", label.as_str().into()),
            Self::Cat { generation, .. } => put("generation", generation.map(|one| one.0).into()),
            Self::Start { take_from, wait, .. } => {
                put("take_from", (*take_from).into());
                put("wait", wait_word(*wait).into());
            }
            Self::Restart { wait, .. } | Self::Promote { wait, .. } | Self::Wait { wait, .. } => {
                put("wait", wait_word(*wait).into());
            }
            Self::Stop { now, keep_listening, .. } => {
                put("now", (*now).into());
                put("keep_listening", (*keep_listening).into());
            }
            Self::Kill { signal, .. } => put("signal", signal.to_string().into()),
            Self::Share { share, wait, .. } => {
                put("share", share.percent().into());
                put("wait", wait_word(*wait).into());
            }
            Self::Drain { generation, .. } => put("generation", generation.0.into()),
            Self::Logs { generation, .. } => {
                put("generation", generation.map(|generation| generation.0).into());
            }
            Self::Connect { generation, listener, dry_run, .. } => {
                put("generation", generation.0.into());
                put("listener", listener.as_ref().map(ListenerName::as_str).into());
                put("dry_run", (*dry_run).into());
            }
            Self::Swap { .. } | Self::Rollback { .. } => self.put_change(&mut put),
        }
        if self.may_carry_meta() {
            meta.put(put);
        }
        to
    }

    /// Those of a swap and of a rollback.
    fn put_change(&self, put: &mut impl FnMut(&str, Value)) {
        match self {
            Self::Swap { label, stops, replace, force, wait, .. } => {
                put("label", label.as_ref().map(Label::as_str).into());
                put_stops(*stops, put);
                put("replace", (*replace).into());
                put("force", (*force).into());
                put("wait", wait_word(*wait).into());
            }
            Self::Rollback { label, from, stop, anyway, wait, .. } => {
                put("label", label.as_ref().map(Label::as_str).into());
                put("from", from.map(|generation| generation.0).into());
                put("stop", (*stop).into());
                put("anyway", (*anyway).into());
                put("wait", wait_word(*wait).into());
            }
            _ => {}
        }
    }
}

/// `request_id`, counted in characters.
fn request_id(p: &mut Parameters) -> Result<Option<String>, Invalid> {
    let id = p.text("request_id", 4 * REQUEST_ID_MAX)?;
    match id.as_deref() {
        Some(long) if long.chars().count() > REQUEST_ID_MAX => Err(Invalid("request_id".into())),
        _ => Ok(id),
    }
}

#[cfg(test)]
pub(super) mod tests;

fn put_stops(stops: Stops, put: &mut impl FnMut(&str, Value)) {
    put("unbound", stops.unbound.into());
    put("hold", stops.hold.into());
    put("canary", stops.canary.map(Share::percent).into());
}
