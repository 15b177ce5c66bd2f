//! What supd says about units, as JSON: the shapes that `supctl --json` prints, that the
//! interface description names, and that supctl reads back for its tables.
//!
//! A number that is not known (yet) is null. Words such as a state are text here and not an enum:
//! a reader must bear one that it does not know, for its supd may be newer.

use super::span::{coarse, fine, millis};
use crate::model::status::{GenerationState, GenerationStatus, SwapStatus, UnitStatus};
use crate::model::{Ended, Generation, Progress, UnitName, WaitFor, WorkerExit, WorkerId};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The number of these shapes; it grows when a reader of the old ones would be wrong.
pub const FORMAT: u32 = 1;

/// One unit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitView {
    /// [`FORMAT`]
    pub format: u32,
    /// The unit's name.
    pub unit: String,
    /// Description of the unit file.
    pub description: String,
    /// A word of [`UnitState`](crate::model::status::UnitState).
    pub state: String,
    /// A word of [`Traffic`](crate::model::status::Traffic).
    pub traffic: String,
    /// A word of [`Health`](crate::model::status::Health).
    pub health: String,
    /// The generation that receives the traffic.
    pub active: Option<u64>,
    /// The generation that a rollback goes to.
    pub retained: Option<u64>,
    /// In the order of the unit file.
    pub listeners: Vec<ListenerView>,
    /// Those that have processes, in the order of their numbers.
    pub generations: Vec<GenerationView>,
    /// The last or the running swap.
    pub last_swap: Option<SwapView>,
    /// What `retained` means for a rollback.
    pub rollback: Option<RollbackView>,
    /// Remarks for people: one line each.
    pub notes: Vec<String>,
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerView {
    /// LISTEN_FDNAMES
    pub name: String,
    /// As the unit file says it.
    pub address: String,
    /// Whether each generation has a slot of its own.
    pub steered: bool,
    /// Connections that wait to be accepted.
    pub queue: Option<u64>,
}

/// One generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationView {
    /// Its number.
    pub generation: u64,
    /// The label of its release.
    pub release: Option<String>,
    /// A word of [`GenerationState`](crate::model::status::GenerationState).
    pub state: String,
    /// Percent of new connections; null where generations share one slot.
    pub share: Option<f64>,
    /// The main processes of its workers.
    pub pids: Vec<i32>,
    /// Open connections.
    pub connections: Option<u64>,
    /// Age of the oldest of them.
    pub oldest_ms: Option<u64>,
    /// Since its launch.
    pub uptime_ms: u64,
    /// What its workers say of themselves (STATUS=).
    pub status_text: String,
    /// Whether a relaunch runs the same program; null: not yet known.
    pub pinned: Option<bool>,
    /// Its workers, in the order of SUPD_WORKER.
    pub workers: Vec<WorkerView>,
}

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerView {
    /// SUPD_WORKER
    pub worker: u32,
    /// Its main process; null while there is none.
    pub pid: Option<i32>,
    /// What it is doing.
    pub phase: String,
    /// Its last STATUS=.
    pub status_text: String,
    /// How the one before it ended.
    pub last_exit: Option<String>,
}

/// A swap, rollback or restart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SwapView {
    /// Its number.
    pub swap_id: u64,
    /// What received the traffic before.
    pub from: Option<u64>,
    /// What it set out to bring.
    pub to: u64,
    /// A word of [`SwapResult`](crate::model::status::SwapResult).
    pub result: String,
    /// From the launch to ready.
    pub ready_ms: Option<u64>,
    /// How long the switch itself took.
    pub switch_us: Option<u64>,
    /// Why, where it did not commit.
    pub cause: Option<String>,
}

/// What `supctl rollback` would do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RollbackView {
    /// Where it goes.
    pub generation: u64,
    /// The label of its release.
    pub release: Option<String>,
    /// Whether it still runs, so that nothing has to be launched.
    pub warm: bool,
    /// How long it stays warm; null: for ever, or it is not warm.
    pub warm_ms: Option<u64>,
    /// Whether a relaunch runs what it ran.
    pub pinned: bool,
}

/// The answer to `Status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusView {
    /// [`FORMAT`]
    pub format: u32,
    /// The version of supd.
    pub version: String,
    /// What concerns supd as a whole, as what this kernel or a missing privilege takes away.
    pub notes: Vec<String>,
    /// By name.
    pub units: Vec<UnitView>,
}

/// The answer to a method that acts, and each step on the way to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomeView {
    /// [`FORMAT`]
    pub format: u32,
    /// Whether anything is different from before; null on the way.
    pub changed: Option<bool>,
    /// One sentence: what happened and why.
    pub text: String,
    /// The next command to type, without the leading `supctl`.
    pub next: Option<String>,
    /// The generation that this was about.
    pub generation: Option<u64>,
    /// The swap that this was about.
    pub swap_id: Option<u64>,
    /// A step on the way; null in the last reply.
    pub progress: Option<ProgressView>,
}

/// One step on the way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressView {
    /// launched, ready, held, switched, committed, rolling-back, draining or note.
    pub event: String,
    /// Which generation: launched, ready, held, committed, draining.
    pub generation: Option<u64>,
    /// How many workers: launched, ready; draining: how many are left.
    pub workers: Option<u32>,
    /// How many of them are ready: ready.
    pub ready: Option<u32>,
    /// Since the launch: ready.
    pub after_ms: Option<u64>,
    /// From which generation: switched, rolling-back.
    pub from: Option<u64>,
    /// To which: switched, rolling-back.
    pub to: Option<u64>,
    /// How long probation takes, 0 for none: switched.
    pub probation_ms: Option<u64>,
    /// Why: rolling-back.
    pub cause: Option<String>,
}

/// How a generation that failed came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndedView {
    /// The generation.
    pub generation: u64,
    /// How its first worker to die exited, in words; null: supd ended it, or it never began.
    pub exit: Option<String>,
    /// Its exit status, if it had one.
    pub code: Option<i32>,
    /// The signal that killed it, as SIGSEGV, if one did.
    pub signal: Option<String>,
    /// How long that worker lived.
    pub lived_ms: u64,
}

/// One fault of a unit file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultView {
    /// The file.
    pub file: String,
    /// From 1; 0: the fault is of the file as a whole.
    pub line: u32,
    /// In characters, from 1; 0: the fault is of the file as a whole.
    pub column: u32,
    /// The key, or empty.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to write or to do instead, or empty.
    pub remedy: String,
}

impl UnitView {
    /// What the machine knows of a unit, with what only the daemon does: its listeners, and the
    /// process of each worker.
    #[must_use]
    pub fn new(
        unit: &UnitName,
        description: &str,
        status: &UnitStatus,
        listeners: Vec<ListenerView>,
        pid: impl Fn(WorkerId) -> Option<i32>,
    ) -> Self {
        let rollback = status.retained.map(|retained| {
            let alive = status.generations.iter().find(|generation| generation.generation == retained);
            RollbackView {
                generation: retained.0,
                release: alive.and_then(|generation| generation.release.clone()),
                warm: alive.is_some_and(|generation| generation.state != GenerationState::Draining),
                warm_ms: None,
                pinned: status.retained_pinned,
            }
        });
        Self {
            format: FORMAT,
            unit: unit.to_string(),
            description: description.to_owned(),
            state: status.state.word().to_owned(),
            traffic: status.traffic.word().to_owned(),
            health: status.health.word().to_owned(),
            active: status.active.map(|generation| generation.0),
            retained: status.retained.map(|generation| generation.0),
            listeners,
            generations: status.generations.iter().map(|one| GenerationView::new(one, &pid)).collect(),
            last_swap: status.last_swap.as_ref().map(SwapView::from),
            rollback,
            notes: status.notes.clone(),
        }
    }
}

impl GenerationView {
    fn new(status: &GenerationStatus, pid: &impl Fn(WorkerId) -> Option<i32>) -> Self {
        let workers: Vec<WorkerView> = (0u32..)
            .zip(&status.workers)
            .map(|(index, worker)| WorkerView {
                worker: index,
                pid: pid(worker.worker),
                phase: worker.phase.to_owned(),
                status_text: worker.status_text.clone(),
                last_exit: worker.last_exit.map(|exit| exit.to_string()),
            })
            .collect();
        let mut said: Vec<&str> = workers.iter().map(|worker| worker.status_text.as_str()).collect();
        said.retain(|text| !text.is_empty());
        said.dedup();
        Self {
            generation: status.generation.0,
            release: status.release.clone(),
            state: status.state.word().to_owned(),
            share: status.share.map(|hundredths| f64::from(hundredths) / 100.0),
            pids: workers.iter().filter_map(|worker| worker.pid).collect(),
            connections: None,
            oldest_ms: None,
            uptime_ms: millis(status.uptime),
            status_text: said.join(" | "),
            pinned: status.pinned,
            workers,
        }
    }
}

impl From<&SwapStatus> for SwapView {
    fn from(status: &SwapStatus) -> Self {
        Self {
            swap_id: status.swap_id.0,
            from: status.from.map(|generation| generation.0),
            to: status.to.0,
            result: status.result.word().to_owned(),
            ready_ms: status.ready.map(millis),
            switch_us: status.switch.map(|span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
            cause: status.cause.clone(),
        }
    }
}

impl From<&Progress> for ProgressView {
    fn from(progress: &Progress) -> Self {
        let about = |event: &str, generation: &Generation| Self {
            event: event.to_owned(),
            generation: Some(generation.0),
            ..Self::default()
        };
        match progress {
            Progress::Launched { generation, workers } => {
                Self { workers: Some(*workers), ..about("launched", generation) }
            }
            Progress::Ready { generation, ready, workers, after } => Self {
                ready: Some(*ready),
                workers: Some(*workers),
                after_ms: Some(millis(*after)),
                ..about("ready", generation)
            },
            Progress::Held { generation } => about("held", generation),
            Progress::Switched { from, to, probation } => Self {
                event: "switched".into(),
                from: from.map(|generation| generation.0),
                to: Some(to.0),
                probation_ms: Some(millis(*probation)),
                ..Self::default()
            },
            Progress::Committed { generation } => about("committed", generation),
            Progress::RollingBack { from, to, cause } => Self {
                event: "rolling-back".into(),
                from: Some(from.0),
                to: Some(to.0),
                cause: Some(cause.clone()),
                ..Self::default()
            },
            Progress::Draining { generation, workers } => {
                Self { workers: Some(*workers), ..about("draining", generation) }
            }
            Progress::Note(_) => Self { event: "note".into(), ..Self::default() },
        }
    }
}

/// A step on the way as one sentence, for readers that do not want to tell the steps apart.
#[must_use]
pub fn progress_text(progress: &Progress) -> String {
    match progress {
        Progress::Launched { generation, workers } => {
            format!("generation {generation} launched ({})", count(*workers, "worker"))
        }
        Progress::Ready { generation, ready, workers: 1, after } if *ready == 1 => {
            format!("generation {generation} ready after {}", fine(*after))
        }
        Progress::Ready { generation, ready, workers, after } => {
            format!("generation {generation}: {ready} of {workers} workers ready after {}", fine(*after))
        }
        Progress::Held { generation } => format!("generation {generation} is ready and held"),
        Progress::Switched { from, to, probation } => {
            let before = from.map_or(String::new(), |from| format!(" (before: {from})"));
            let after = match *probation {
                Duration::ZERO => String::new(),
                span => format!("; on probation for {}", coarse(span)),
            };
            format!("generation {to} receives the traffic{before}{after}")
        }
        Progress::Committed { generation } => format!("generation {generation} stays"),
        Progress::RollingBack { from, to, cause } => {
            format!("going back from generation {from} to {to}: {cause}")
        }
        Progress::Draining { generation, workers: 0 } => format!("generation {generation} has ended"),
        Progress::Draining { generation, workers } => {
            format!("generation {generation}: {} still draining", count(*workers, "worker"))
        }
        Progress::Note(text) => text.clone(),
    }
}

/// `1 worker`, `2 workers`.
fn count(number: u32, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

impl From<&Ended> for EndedView {
    fn from(ended: &Ended) -> Self {
        let (code, signal) = match ended.exit {
            Some(WorkerExit::Code(code)) => (Some(code), None),
            Some(WorkerExit::Killed { signal, .. }) => (None, Some(signal.to_string())),
            Some(WorkerExit::Unknown) | None => (None, None),
        };
        Self {
            generation: ended.generation.0,
            exit: ended.exit.map(|exit| exit.to_string()),
            code,
            signal,
            lived_ms: millis(ended.lived),
        }
    }
}

/// The word of `--wait=` and of the interface.
#[must_use]
pub fn wait_word(wait: WaitFor) -> &'static str {
    match wait {
        WaitFor::Ready => "ready",
        WaitFor::Active => "active",
        WaitFor::Committed => "committed",
        WaitFor::Drained => "drained",
    }
}

/// The other way round.
#[must_use]
pub fn wait_for(word: &str) -> Option<WaitFor> {
    [WaitFor::Ready, WaitFor::Active, WaitFor::Committed, WaitFor::Drained]
        .into_iter()
        .find(|wait| wait_word(*wait) == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::*;
    use crate::model::{Signal, SwapId};
    use serde_json::{Value, json};

    fn status() -> UnitStatus {
        let worker = |id, text: &str| WorkerStatus {
            worker: WorkerId(id),
            phase: "serving",
            status_text: text.to_owned(),
            last_exit: None,
        };
        UnitStatus {
            state: UnitState::Probation,
            traffic: Traffic::On,
            health: Health::Up,
            active: Some(Generation(8)),
            retained: Some(Generation(7)),
            retained_pinned: true,
            generations: vec![GenerationStatus {
                generation: Generation(8),
                release: Some("1.5.0".into()),
                state: GenerationState::Active,
                share: Some(9_950),
                workers: vec![worker(3, "idle"), worker(4, "idle"), worker(5, "")],
                uptime: Duration::from_millis(1500),
                pinned: None,
            }],
            last_swap: Some(SwapStatus {
                swap_id: SwapId(3),
                from: Some(Generation(7)),
                to: Generation(8),
                result: SwapResult::Running,
                ready: Some(Duration::from_millis(900)),
                switch: Some(Duration::from_micros(90)),
                cause: None,
            }),
            notes: vec!["probation: 8s left".into()],
        }
    }

    #[test]
    fn a_unit_has_the_names_of_the_design_in_their_order() {
        let listener = ListenerView {
            name: "http".into(),
            address: "0.0.0.0:80".into(),
            steered: false,
            queue: Some(2),
        };
        let pid = |worker: WorkerId| (worker.0 != 5).then_some(100 + worker.0 as i32);
        let view = UnitView::new(&UnitName::new("web").unwrap(), "Web", &status(), vec![listener], pid);
        let text = serde_json::to_string(&view).unwrap();
        let expected = concat!(
            r#"{"format":1,"unit":"web","description":"Web","state":"probation","traffic":"on","health":"up","#,
            r#""active":8,"retained":7,"#,
            r#""listeners":[{"name":"http","address":"0.0.0.0:80","steered":false,"queue":2}],"#,
            r#""generations":[{"generation":8,"release":"1.5.0","state":"active","share":99.5,"#,
            r#""pids":[103,104],"connections":null,"oldest_ms":null,"uptime_ms":1500,"status_text":"idle","#,
            r#""pinned":null,"workers":["#,
            r#"{"worker":0,"pid":103,"phase":"serving","status_text":"idle","last_exit":null},"#,
            r#"{"worker":1,"pid":104,"phase":"serving","status_text":"idle","last_exit":null},"#,
            r#"{"worker":2,"pid":null,"phase":"serving","status_text":"","last_exit":null}]}],"#,
            r#""last_swap":{"swap_id":3,"from":7,"to":8,"result":"running","ready_ms":900,"switch_us":90,"#,
            r#""cause":null},"#,
            r#""rollback":{"generation":7,"release":null,"warm":false,"warm_ms":null,"pinned":true},"#,
            r#""notes":["probation: 8s left"]}"#,
        );
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<UnitView>(&text).unwrap(), view);
    }

    #[test]
    fn a_reader_bears_what_it_does_not_know_and_what_is_missing() {
        let newer =
            json!({"unit": "web", "state": "levitating", "generations": [{"generation": 1, "x": {}}]});
        let view: UnitView = serde_json::from_value(newer).unwrap();
        assert_eq!((view.state.as_str(), view.active, view.generations.len()), ("levitating", None, 1));
    }

    #[test]
    fn every_step_has_a_name_and_a_sentence() {
        let generation = Generation(8);
        let after = Duration::from_millis(1420);
        let to = generation;
        let steps = [
            (Progress::Launched { generation, workers: 2 }, "launched", "generation 8 launched (2 workers)"),
            (
                Progress::Ready { generation, ready: 1, workers: 2, after },
                "ready",
                "generation 8: 1 of 2 workers ready after 1.42s",
            ),
            (
                Progress::Ready { generation, ready: 1, workers: 1, after },
                "ready",
                "generation 8 ready after 1.42s",
            ),
            (Progress::Held { generation }, "held", "generation 8 is ready and held"),
            (
                Progress::Switched { from: Some(Generation(7)), to, probation: Duration::from_secs(10) },
                "switched",
                "generation 8 receives the traffic (before: 7); on probation for 10s",
            ),
            (
                Progress::Switched { from: None, to, probation: Duration::ZERO },
                "switched",
                "generation 8 receives the traffic",
            ),
            (Progress::Committed { generation }, "committed", "generation 8 stays"),
            (
                Progress::RollingBack { from: generation, to: Generation(7), cause: "it exited".into() },
                "rolling-back",
                "going back from generation 8 to 7: it exited",
            ),
            (
                Progress::Draining { generation, workers: 1 },
                "draining",
                "generation 8: 1 worker still draining",
            ),
            (Progress::Draining { generation, workers: 0 }, "draining", "generation 8 has ended"),
            (Progress::Note("so it is".into()), "note", "so it is"),
        ];
        for (step, event, text) in steps {
            assert_eq!(ProgressView::from(&step).event, event);
            assert_eq!(progress_text(&step), text);
        }
    }

    #[test]
    fn an_end_is_told_in_words_and_in_numbers() {
        let ended = |exit| {
            let ended = Ended { generation: Generation(8), exit, lived: Duration::from_millis(140) };
            serde_json::to_value(EndedView::from(&ended)).unwrap()
        };
        let common = |exit: Value, code: Value, signal: Value| json!({"generation": 8, "exit": exit, "code": code, "signal": signal, "lived_ms": 140});
        assert_eq!(ended(Some(WorkerExit::Code(3))), common("exit status 3".into(), 3.into(), Value::Null));
        assert_eq!(
            ended(Some(WorkerExit::Killed { signal: Signal(11), core: true })),
            common("killed by SIGSEGV (core dumped)".into(), Value::Null, "SIGSEGV".into())
        );
        assert_eq!(ended(None), common(Value::Null, Value::Null, Value::Null));
    }

    #[test]
    fn the_words_of_wait_go_both_ways() {
        for wait in [WaitFor::Ready, WaitFor::Active, WaitFor::Committed, WaitFor::Drained] {
            assert_eq!(wait_for(wait_word(wait)), Some(wait));
        }
        assert_eq!(wait_for("soon"), None);
    }
}
