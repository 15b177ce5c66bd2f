//! What can happen in the simulated world, one line of text each, so that a failing run is a file.
//!
//! A step that cannot happen where it stands (a worker that is not there dies) is skipped: that
//! lets the shrinker drop any line.

use crate::knobs::{Knobs, parse_span, print_span};
use std::fmt;
use std::time::Duration;
use supd::machine::JobKind;
use supd::model::{Signal, WaitFor, WorkerExit};

/// The units of a simulation, by place.
pub(crate) const UNITS: [&str; 2] = ["web", "api"];

/// A worker by what it is, not by number, so that a line stays true when earlier ones are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRef {
    pub(crate) unit: usize,
    pub(crate) generation: u64,
    pub(crate) index: u32,
    /// How many runs ago: 0 is the newest.
    pub(crate) back: usize,
}

/// A request, without the settings: they are the unit's file as it is then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Start(WaitFor),
    Stop { now: bool, keep_listening: bool },
    Restart(WaitFor),
    Swap { hold: bool, replace: bool, wait: WaitFor },
    SwapTo { label: u8, wait: WaitFor },
    Install { label: u8, deploy: bool, wait: WaitFor },
    Undeploy(u8),
    Rollback { from: Option<u64>, stop: bool, anyway: bool, wait: WaitFor },
    RollbackTo { label: u8, wait: WaitFor },
    Promote(WaitFor),
    Abort,
    Wait(WaitFor),
    Reload,
    Kill(Signal),
    Refresh,
}

/// What a worker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Say {
    Ready,
    Reloading,
    /// With a stamp from before the reload was asked for.
    ReloadingOld,
    /// Without a stamp.
    ReloadingBare,
    Stopping,
    Alive,
    Trigger,
    Period(Duration),
    Extend(Duration),
    Status,
}

/// What happens to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Spawned,
    SpawnFails,
    Says(Say),
    /// The process ends; supd has yet to hear of it.
    Dies(WorkerExit),
    /// supd hears of it.
    Reaped,
    /// Both at once.
    Exits(WorkerExit),
    /// It leaves a child that does not end with it.
    Forks,
    /// What it left behind ends by itself.
    LeftoversEnd,
    Swept,
}

/// What happens to a unit's listeners, records and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Bound,
    BindFails,
    Unlistened,
    Connect,
    Knocked,
    IntentSaved,
    IntentFails,
    Switched,
    SwitchFails,
    /// Nobody is connected to who is being let go, or somebody.
    Counted,
    CountedBusy,
    Recorded,
    RecordFails,
    Pinned,
    NotPinned,
    Orphaned,
    /// What was unpacked is what every source of this label contains, or something else.
    Unpacked,
    UnpackedOther,
    UnpackFails,
    /// A release is placed or sealed.
    Stored,
    StoreFails,
}

impl Turn {
    pub(crate) const ALL: [(&'static str, Self); 21] = [
        ("bound", Self::Bound),
        ("bind-fails", Self::BindFails),
        ("unlistened", Self::Unlistened),
        ("connect", Self::Connect),
        ("knocked", Self::Knocked),
        ("intent-saved", Self::IntentSaved),
        ("intent-fails", Self::IntentFails),
        ("switched", Self::Switched),
        ("switch-fails", Self::SwitchFails),
        ("counted", Self::Counted),
        ("counted-busy", Self::CountedBusy),
        ("recorded", Self::Recorded),
        ("record-fails", Self::RecordFails),
        ("pinned", Self::Pinned),
        ("not-pinned", Self::NotPinned),
        ("orphaned", Self::Orphaned),
        ("unpacked", Self::Unpacked),
        ("unpacked-other", Self::UnpackedOther),
        ("unpack-fails", Self::UnpackFails),
        ("stored", Self::Stored),
        ("store-fails", Self::StoreFails),
    ];
}

pub(crate) const JOBS: [(&str, JobKind); 9] = [
    ("start-pre", JobKind::StartPre),
    ("start-post", JobKind::StartPost),
    ("reload", JobKind::Reload),
    ("stop", JobKind::Stop),
    ("stop-post", JobKind::StopPost),
    ("on-failure", JobKind::OnFailure),
    ("ready-check", JobKind::ReadyCheck),
    ("check", JobKind::Check),
    ("install", JobKind::Install),
];

const WAITS: [(&str, WaitFor); 4] = [
    ("ready", WaitFor::Ready),
    ("active", WaitFor::Active),
    ("committed", WaitFor::Committed),
    ("drained", WaitFor::Drained),
];

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A unit becomes known: at supd's boot, or later by daemon-reload.
    Unit {
        unit: usize,
        knobs: Knobs,
        later: bool,
    },
    /// Its file changes on disk.
    Edit {
        unit: usize,
        knobs: Knobs,
    },
    Asks {
        client: u64,
        unit: usize,
        ask: Ask,
    },
    HangsUp {
        client: u64,
    },
    Shutdown {
        client: Option<u64>,
    },
    At {
        unit: usize,
        turn: Turn,
    },
    Worker(WorkerRef, Act),
    /// The oldest running command of this kind ends.
    Job {
        unit: usize,
        kind: JobKind,
        passes: bool,
    },
    /// A message from a worker that never was.
    Forged {
        unit: usize,
        say: Say,
    },
    /// Time passes; supd is not woken.
    Advance(Duration),
    /// supd looks at the clock.
    Clock,
    /// Time passes until supd's deadline, and supd looks at the clock.
    Deadline,
    /// The same, but the machine was suspended meanwhile.
    Late(Duration),
    /// supd dies after so many more effects; so many of the records under way reach the disk.
    Crash {
        after: u32,
        saved: u32,
    },
    /// The machine is switched off and on.
    Reboot {
        saved: u32,
    },
    /// supd is started again after it has quit.
    Boot,
    /// Everything goes well for so long.
    Run(Duration),
    /// Everything goes well until nothing is left to do; then all must be as it should.
    Settle,
    /// What a hand-written scenario wants to be true; words, checked when reached.
    Expect(String),
}

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
}

fn name<T: PartialEq>(table: &[(&'static str, T)], value: &T) -> &'static str {
    table.iter().find(|(_, known)| known == value).map_or("?", |(name, _)| name)
}

impl fmt::Display for WorkerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", UNITS[self.unit], self.generation, self.index)?;
        if self.back > 0 { write!(f, "~{}", self.back) } else { Ok(()) }
    }
}

fn flag(f: &mut fmt::Formatter<'_>, set: bool, word: &str) -> fmt::Result {
    if set { write!(f, " {word}") } else { Ok(()) }
}

fn waits(f: &mut fmt::Formatter<'_>, wait: WaitFor) -> fmt::Result {
    if wait == WaitFor::Committed { Ok(()) } else { write!(f, " wait={}", name(&WAITS, &wait)) }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Start(wait) => f.write_str("start").and_then(|()| waits(f, wait)),
            Self::Stop { now, keep_listening } => {
                f.write_str("stop")?;
                flag(f, now, "now")?;
                flag(f, keep_listening, "keep-listening")
            }
            Self::Restart(wait) => f.write_str("restart").and_then(|()| waits(f, wait)),
            Self::Swap { hold, replace, wait } => {
                f.write_str("swap")?;
                flag(f, hold, "hold")?;
                flag(f, replace, "replace")?;
                waits(f, wait)
            }
            Self::Rollback { from, stop, anyway, wait } => {
                f.write_str("rollback")?;
                if let Some(from) = from {
                    write!(f, " from={from}")?;
                }
                flag(f, stop, "stop")?;
                flag(f, anyway, "anyway")?;
                waits(f, wait)
            }
            Self::SwapTo { label, wait } => {
                write!(f, "swap-to {label}")?;
                waits(f, wait)
            }
            Self::Install { label, deploy, wait } => {
                write!(f, "{} {label}", if deploy { "deploy" } else { "install" })?;
                waits(f, wait)
            }
            Self::Undeploy(label) => write!(f, "undeploy {label}"),
            Self::RollbackTo { label, wait } => {
                write!(f, "rollback-to {label}")?;
                waits(f, wait)
            }
            Self::Promote(wait) => f.write_str("promote").and_then(|()| waits(f, wait)),
            Self::Abort => f.write_str("abort"),
            Self::Wait(wait) => f.write_str("wait").and_then(|()| waits(f, wait)),
            Self::Reload => f.write_str("reload"),
            Self::Kill(signal) => write!(f, "kill {}", signal.0),
            Self::Refresh => f.write_str("refresh"),
        }
    }
}

impl fmt::Display for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Ready => f.write_str("ready"),
            Self::Reloading => f.write_str("reloading"),
            Self::ReloadingOld => f.write_str("reloading-old"),
            Self::ReloadingBare => f.write_str("reloading-bare"),
            Self::Stopping => f.write_str("stopping"),
            Self::Alive => f.write_str("alive"),
            Self::Trigger => f.write_str("trigger"),
            Self::Period(span) => write!(f, "period={}", print_span(span)),
            Self::Extend(span) => write!(f, "extend={}", print_span(span)),
            Self::Status => f.write_str("status"),
        }
    }
}

fn print_exit(exit: WorkerExit) -> String {
    match exit {
        WorkerExit::Code(code) => code.to_string(),
        WorkerExit::Killed { signal, core } => format!("SIG{}{}", signal.0, if core { "core" } else { "" }),
        WorkerExit::Unknown => "unknown".to_owned(),
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawned => f.write_str("spawned"),
            Self::SpawnFails => f.write_str("spawn-fails"),
            Self::Says(say) => write!(f, "says {say}"),
            Self::Dies(exit) => write!(f, "dies {}", print_exit(*exit)),
            Self::Reaped => f.write_str("reaped"),
            Self::Exits(exit) => write!(f, "exits {}", print_exit(*exit)),
            Self::Forks => f.write_str("forks"),
            Self::LeftoversEnd => f.write_str("leftovers-end"),
            Self::Swept => f.write_str("swept"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { unit, knobs, later: false } => write!(f, "unit {}{knobs}", UNITS[*unit]),
            Self::Unit { unit, knobs, later: true } => write!(f, "new {}{knobs}", UNITS[*unit]),
            Self::Edit { unit, knobs } => write!(f, "edit {}{knobs}", UNITS[*unit]),
            Self::Asks { client, unit, ask } => write!(f, "c{client} asks {} {ask}", UNITS[*unit]),
            Self::HangsUp { client } => write!(f, "c{client} hangs-up"),
            Self::Shutdown { client: Some(client) } => write!(f, "c{client} shutdown"),
            Self::Shutdown { client: None } => f.write_str("shutdown"),
            Self::At { unit, turn } => write!(f, "{} {}", UNITS[*unit], name(&Turn::ALL, turn)),
            Self::Worker(worker, act) => write!(f, "{worker} {act}"),
            Self::Job { unit, kind, passes } => {
                let outcome = if *passes { "passes" } else { "fails" };
                write!(f, "{}/{} {outcome}", UNITS[*unit], name(&JOBS, kind))
            }
            Self::Forged { unit, say } => write!(f, "{} forged {say}", UNITS[*unit]),
            Self::Advance(span) => write!(f, "advance {}", print_span(*span)),
            Self::Clock => f.write_str("clock"),
            Self::Deadline => f.write_str("deadline"),
            Self::Late(span) => write!(f, "late {}", print_span(*span)),
            Self::Crash { after, saved } => write!(f, "crash after={after} saved={saved}"),
            Self::Reboot { saved } => write!(f, "reboot saved={saved}"),
            Self::Boot => f.write_str("boot"),
            Self::Run(span) => write!(f, "run {}", print_span(*span)),
            Self::Settle => f.write_str("settle"),
            Self::Expect(words) => write!(f, "expect {words}"),
        }
    }
}

/// Reads a whole scenario: one step a line, `#` begins a remark.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.is_empty() {
            steps.push(parse_step(&words).map_err(|fault| format!("line {}: {fault}", number + 1))?);
        }
    }
    Ok(steps)
}

fn parse_step(words: &[&str]) -> Result<Step, String> {
    match *words {
        ["unit" | "new" | "edit", unit, ref knobs @ ..] => {
            let unit = parse_unit(unit)?;
            let knobs = knobs.iter().try_fold(Knobs::default(), |set, word| set.parse(word))?;
            Ok(match words[0] {
                "edit" => Step::Edit { unit, knobs },
                word => Step::Unit { unit, knobs, later: word == "new" },
            })
        }
        [client, "asks", unit, ref ask @ ..] => {
            let (client, unit) = (parse_client(client)?, parse_unit(unit)?);
            Ok(Step::Asks { client, unit, ask: parse_ask(ask)? })
        }
        [client, "hangs-up"] => Ok(Step::HangsUp { client: parse_client(client)? }),
        [client, "shutdown"] => Ok(Step::Shutdown { client: Some(parse_client(client)?) }),
        ["shutdown"] => Ok(Step::Shutdown { client: None }),
        ["advance", span] => Ok(Step::Advance(parse_span(span)?)),
        ["clock"] => Ok(Step::Clock),
        ["deadline"] => Ok(Step::Deadline),
        ["late", span] => Ok(Step::Late(parse_span(span)?)),
        ["crash", after, saved] => {
            Ok(Step::Crash { after: parse_count("after=", after)?, saved: parse_count("saved=", saved)? })
        }
        ["reboot", saved] => Ok(Step::Reboot { saved: parse_count("saved=", saved)? }),
        ["boot"] => Ok(Step::Boot),
        ["run", span] => Ok(Step::Run(parse_span(span)?)),
        ["settle"] => Ok(Step::Settle),
        ["expect", ..] => Ok(Step::Expect(words[1..].join(" "))),
        [unit, "forged", say] => Ok(Step::Forged { unit: parse_unit(unit)?, say: parse_say(say)? }),
        [subject, ref act @ ..] => match subject.split_once('/') {
            Some((unit, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Step::Worker(parse_worker(unit, rest)?, parse_act(act)?))
            }
            Some((unit, job)) => {
                let kind = find(&JOBS, job).ok_or_else(|| format!("no job {job:?}"))?;
                let passes = match *act {
                    ["passes"] => true,
                    ["fails"] => false,
                    _ => return Err("a job passes or fails".to_owned()),
                };
                Ok(Step::Job { unit: parse_unit(unit)?, kind, passes })
            }
            None => {
                let turn = find(&Turn::ALL, act.join(" ").as_str());
                let turn = turn.ok_or_else(|| format!("{:?} is no step", words.join(" ")))?;
                Ok(Step::At { unit: parse_unit(subject)?, turn })
            }
        },
        [] => Err("an empty step".to_owned()),
    }
}

fn parse_unit(word: &str) -> Result<usize, String> {
    UNITS.iter().position(|unit| *unit == word).ok_or_else(|| format!("no unit {word:?}"))
}

fn parse_client(word: &str) -> Result<u64, String> {
    let number = word.strip_prefix('c').and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("{word:?} is no client: say c1"))
}

fn parse_count<T: std::str::FromStr>(prefix: &str, word: &str) -> Result<T, String> {
    let number = word.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("{word:?} is not {prefix}NUMBER"))
}

fn parse_worker(unit: &str, rest: &str) -> Result<WorkerRef, String> {
    let fault = || format!("{rest:?} is no worker: say web/2.0 or web/2.0~1");
    let (rest, back) = rest.split_once('~').unwrap_or((rest, "0"));
    let (generation, index) = rest.split_once('.').ok_or_else(fault)?;
    Ok(WorkerRef {
        unit: parse_unit(unit)?,
        generation: generation.parse().map_err(|_| fault())?,
        index: index.parse().map_err(|_| fault())?,
        back: back.parse().map_err(|_| fault())?,
    })
}

fn parse_act(words: &[&str]) -> Result<Act, String> {
    Ok(match *words {
        ["spawned"] => Act::Spawned,
        ["spawn-fails"] => Act::SpawnFails,
        ["says", say] => Act::Says(parse_say(say)?),
        ["dies", exit] => Act::Dies(parse_exit(exit)?),
        ["reaped"] => Act::Reaped,
        ["exits", exit] => Act::Exits(parse_exit(exit)?),
        ["forks"] => Act::Forks,
        ["leftovers-end"] => Act::LeftoversEnd,
        ["swept"] => Act::Swept,
        _ => return Err(format!("{:?} is nothing that a worker does", words.join(" "))),
    })
}

fn parse_exit(word: &str) -> Result<WorkerExit, String> {
    let fault = || format!("{word:?} is no exit: say 0, SIG9, SIG6core or unknown");
    if word == "unknown" {
        return Ok(WorkerExit::Unknown);
    }
    let Some(signal) = word.strip_prefix("SIG") else {
        return Ok(WorkerExit::Code(word.parse().map_err(|_| fault())?));
    };
    let (number, core) = signal.strip_suffix("core").map_or((signal, false), |number| (number, true));
    let signal = Signal::parse(number).ok_or_else(fault)?;
    Ok(WorkerExit::Killed { signal, core })
}

fn parse_say(word: &str) -> Result<Say, String> {
    let plain = [
        ("ready", Say::Ready),
        ("reloading", Say::Reloading),
        ("reloading-old", Say::ReloadingOld),
        ("reloading-bare", Say::ReloadingBare),
        ("stopping", Say::Stopping),
        ("alive", Say::Alive),
        ("trigger", Say::Trigger),
        ("status", Say::Status),
    ];
    if let Some(span) = word.strip_prefix("period=") {
        return Ok(Say::Period(parse_span(span)?));
    }
    if let Some(span) = word.strip_prefix("extend=") {
        return Ok(Say::Extend(parse_span(span)?));
    }
    find(&plain, word).ok_or_else(|| format!("{word:?} is nothing that a worker says"))
}

fn parse_ask(words: &[&str]) -> Result<Ask, String> {
    let [verb, ref options @ ..] = *words else { return Err("asks what?".to_owned()) };
    let mut wait = WaitFor::Committed;
    let mut from = None;
    let mut set = Vec::new();
    for option in options {
        if let Some(word) = option.strip_prefix("wait=") {
            wait = find(&WAITS, word).ok_or_else(|| format!("cannot wait for {word:?}"))?;
        } else if option.starts_with("from=") {
            from = Some(parse_count("from=", option)?);
        } else {
            set.push(*option);
        }
    }
    let has = |word: &str| set.contains(&word);
    let label = || set.first().and_then(|word| word.parse().ok()).ok_or("which release? say 1");
    Ok(match verb {
        "start" => Ask::Start(wait),
        "stop" => Ask::Stop { now: has("now"), keep_listening: has("keep-listening") },
        "restart" => Ask::Restart(wait),
        "swap" => Ask::Swap { hold: has("hold"), replace: has("replace"), wait },
        "rollback" => Ask::Rollback { from, stop: has("stop"), anyway: has("anyway"), wait },
        "swap-to" => Ask::SwapTo { label: label()?, wait },
        "install" | "deploy" => Ask::Install { label: label()?, deploy: verb == "deploy", wait },
        "undeploy" => Ask::Undeploy(label()?),
        "rollback-to" => Ask::RollbackTo { label: label()?, wait },
        "promote" => Ask::Promote(wait),
        "abort" => Ask::Abort,
        "wait" => Ask::Wait(wait),
        "reload" => Ask::Reload,
        "kill" => Ask::Kill(set.first().and_then(|word| Signal::parse(word)).ok_or("kill by which signal?")?),
        "refresh" => Ask::Refresh,
        _ => return Err(format!("no verb {verb:?}")),
    })
}

#[test]
fn what_is_printed_is_read_again() {
    let text = "unit web workers=2 settle=1s
new api start=manual
edit web probation=0s
c1 asks web start wait=ready
c1 asks web stop now keep-listening
c2 asks api swap hold replace wait=drained
c3 asks web rollback from=3 stop anyway
c4 asks web kill 1
c5 asks web wait wait=active
c6 asks web deploy 1 wait=ready
c7 asks web install 2
c8 asks web undeploy 2
c8 asks web swap-to 1 wait=drained
c8 asks web rollback-to 3
c3 hangs-up
c9 shutdown
shutdown
web bound
web orphaned
web unpacked-other
web/install fails
web/2.0 spawned
web/12.1~2 says extend=1500ms
web/2.0 dies SIG9
web/2.0 exits SIG6core
web/2.0 exits 255
web/2.0 dies unknown
api/ready-check fails
web/check passes
web forged reloading-old
advance 1ms
clock
deadline
late 3600s
crash after=3 saved=1
reboot saved=0
boot
run 10s
settle
expect web active=2";
    let steps = parse(text).unwrap();
    let printed: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(printed.join("\n"), text);
    for bad in
        ["web", "web jumps", "web/x.1 spawned", "c1 asks web", "unit web workers=4", "web/2.0 exits SIG99"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
