//! What comes of a request: outcomes, steps on the way, ends, faults.

use super::QueueView;
use crate::codec::span::{coarse, fine, millis};
use crate::model::{Ended, Generation, Progress, WorkerExit};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The answer to a method that acts, and each step on the way to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutcomeView {
    /// [`FORMAT`](super::FORMAT)
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
    /// launched, ready, held, canary, switched, committed, rolling-back, draining or note.
    pub event: String,
    /// Which generation: launched, ready, held, canary, committed, draining.
    pub generation: Option<u64>,
    /// How many workers: launched, ready; draining: how many are left.
    pub workers: Option<u32>,
    /// How many of them are ready: ready.
    pub ready: Option<u32>,
    /// Since the launch: ready.
    pub after_ms: Option<u64>,
    /// Percent of the new connections: canary.
    pub share: Option<f64>,
    /// For how long, null without end: canary.
    pub lasts_ms: Option<u64>,
    /// From which generation: switched, rolling-back.
    pub from: Option<u64>,
    /// To which: switched, rolling-back.
    pub to: Option<u64>,
    /// How long probation takes, 0 for none: switched.
    pub probation_ms: Option<u64>,
    /// How many connections are open: draining; null if that is not known.
    pub connections: Option<u32>,
    /// So long at least the oldest of them has been open: draining; null if that is not known.
    pub oldest_ms: Option<u64>,
    /// How many wait to be accepted: draining; null if that is not known.
    pub queue: Option<u32>,
    /// What waits in each of its listeners: draining; empty if that is not known.
    pub queues: Vec<QueueView>,
    /// How long these may still take: draining; null if there is no bound.
    pub left_ms: Option<u64>,
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

impl From<&crate::codec::fault::Fault> for FaultView {
    fn from(fault: &crate::codec::fault::Fault) -> Self {
        Self {
            file: fault.file.display().to_string(),
            line: fault.line,
            column: fault.column,
            key: fault.key.clone(),
            what: fault.what.clone(),
            remedy: fault.remedy.clone(),
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
            Progress::Unbound { generation } => about("unbound", generation),
            Progress::Held { generation } => about("held", generation),
            Progress::Canary { generation, share, lasts } => Self {
                share: Some(share.percent()),
                lasts_ms: lasts.map(millis),
                ..about("canary", generation)
            },
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
            Progress::Draining { generation, workers, connections, oldest, queued, queues, left } => Self {
                workers: Some(*workers),
                connections: *connections,
                oldest_ms: oldest.map(millis),
                queue: *queued,
                queues: queues.iter().map(QueueView::from).collect(),
                left_ms: left.map(millis),
                ..about("draining", generation)
            },
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
        Progress::Unbound { generation } => format!("generation {generation} is started and on no port"),
        Progress::Held { generation } => format!("generation {generation} is ready and held"),
        Progress::Canary { generation, share, lasts } => {
            let lasts = lasts.map_or(String::new(), |span| format!(" for {}", fine(span)));
            format!("generation {generation} receives {share} % of the new connections{lasts}")
        }
        Progress::Switched { from, to, probation } => {
            let before = from.map_or(String::new(), |from| format!(" (before: {from})"));
            let after = match *probation {
                Duration::ZERO => String::new(),
                span => format!("; on probation for {}", fine(span)),
            };
            format!("generation {to} receives the traffic{before}{after}")
        }
        Progress::Committed { generation } => format!("generation {generation} stays"),
        Progress::RollingBack { from, to, cause } => {
            format!("going back from generation {from} to {to}: {cause}")
        }
        Progress::Draining { generation, workers: 0, .. } => format!("generation {generation} has ended"),
        Progress::Draining { generation, workers, connections, oldest, queued, queues, left } => {
            let queues: Vec<QueueView> = queues.iter().map(QueueView::from).collect();
            let clients = clients(*connections, *oldest, *queued, &queues);
            let left = left.map_or(String::new(), |left| format!(", at most {} more", coarse(left)));
            format!("generation {generation}: {} still draining{clients}{left}", count(*workers, "worker"))
        }
        Progress::Note(text) => text.clone(),
    }
}

/// What clients still have of a generation, as far as it is known and there is any.
#[must_use]
pub fn clients(
    connections: Option<u32>,
    oldest: Option<Duration>,
    queued: Option<u32>,
    queues: &[QueueView],
) -> String {
    let oldest = oldest.map_or(String::new(), |age| format!(" (the oldest for {} at least)", coarse(age)));
    let open = connections.map(|open| format!(", {} open{oldest}", count(open, "connection")));
    let waiting = queued.filter(|queued| *queued > 0);
    let waiting = waiting.map(|queued| format!(", {queued} not yet accepted{}", where_they_are(queues)));
    let unread = queues.iter().filter_map(|queue| Some((queue, queue.bytes.filter(|bytes| *bytes > 0)?)));
    let unread: String =
        unread.map(|(queue, bytes)| format!(", {bytes} bytes not yet read at {}", queue.name)).collect();
    open.unwrap_or_default() + &waiting.unwrap_or_default() + &unread
}

/// Which listener has how many of the connections, where there is more than one.
fn where_they_are(queues: &[QueueView]) -> String {
    let each = queues.iter().filter_map(|queue| Some((&queue.name, queue.connections?)));
    let each: Vec<(&String, u32)> = each.collect();
    if each.len() < 2 {
        return String::new();
    }
    let each = each.iter().filter(|(_, count)| *count > 0);
    let each: Vec<String> = each.map(|(name, count)| format!("{name} {count}")).collect();
    format!(" ({})", each.join(", "))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Address, ListenerName, Queue, Queued, Signal};
    use serde_json::{Value, json};

    #[test]
    fn every_step_has_a_name_and_a_sentence() {
        let generation = Generation(8);
        let after = Duration::from_millis(1420);
        let to = generation;
        let queue = |name: &str, queued| Queue {
            name: ListenerName::new(name).unwrap(),
            address: Address::Fifo { path: "/run/x".into() },
            shared: false,
            queued: Some(queued),
        };
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
            (Progress::Unbound { generation }, "unbound", "generation 8 is started and on no port"),
            (Progress::Held { generation }, "held", "generation 8 is ready and held"),
            (
                Progress::Canary {
                    generation,
                    share: crate::model::Share::of_parts(550).unwrap(),
                    lasts: Some(Duration::from_secs(120)),
                },
                "canary",
                "generation 8 receives 5.5 % of the new connections for 2min",
            ),
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
                Progress::Draining {
                    generation,
                    workers: 1,
                    connections: None,
                    oldest: None,
                    queued: None,
                    queues: Vec::new(),
                    left: None,
                },
                "draining",
                "generation 8: 1 worker still draining",
            ),
            (
                Progress::Draining {
                    generation,
                    workers: 2,
                    connections: Some(1),
                    oldest: Some(Duration::from_secs(90)),
                    queued: Some(3),
                    queues: vec![
                        queue("http", Queued::Connections(3)),
                        queue("admin", Queued::Connections(0)),
                        queue("dns", Queued::Bytes(512)),
                        queue("log", Queued::Bytes(0)),
                    ],
                    left: Some(Duration::from_secs(25)),
                },
                "draining",
                "generation 8: 2 workers still draining, 1 connection open (the oldest for 90s at least), \
                 3 not yet accepted (http 3), 512 bytes not yet read at dns, at most 25s more",
            ),
            (
                Progress::Draining {
                    generation,
                    workers: 0,
                    connections: Some(0),
                    oldest: None,
                    queued: Some(0),
                    queues: Vec::new(),
                    left: None,
                },
                "draining",
                "generation 8 has ended",
            ),
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
}
