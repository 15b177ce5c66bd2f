//! Units, their listeners and generations.

use super::FORMAT;
use crate::codec::span::{micros, millis};
use crate::model::status::{
    GenerationState, GenerationStatus, Health, SwapStatus, Traffic, UnitState, UnitStatus,
};
use crate::model::{Label, Queue, Queued, UnitName, WorkerId};
use serde::{Deserialize, Serialize};

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
    /// Why no generation has a cgroup of its own; null: they have.
    pub cgroup_missing: Option<String>,
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
    /// How new connections reach their generation: ebpf, classic, path or shared, and after a colon why
    /// nothing better; null: it is not bound.
    pub mechanism: Option<String>,
    /// Connections that wait to be accepted; null where bytes wait, or it is not known.
    pub queue: Option<u64>,
    /// UDP, UNIX datagrams and FIFOs: bytes that wait to be read; null where connections wait, or it is not
    /// known.
    pub queue_bytes: Option<u64>,
    /// Empty where what serves has it; else whose it is, or when it applies.
    pub note: String,
}

/// One generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationView {
    /// Its number.
    pub generation: u64,
    /// The label of its release.
    pub release: Option<String>,
    /// A word of [`GenerationState`].
    pub state: String,
    /// Percent of new connections; null where generations share one slot.
    pub share: Option<f64>,
    /// The main processes of its workers.
    pub pids: Vec<i32>,
    /// Open connections.
    pub connections: Option<u64>,
    /// Age of the oldest of them.
    pub oldest_ms: Option<u64>,
    /// What waits for it, a row for each of its listeners; empty: that was not counted.
    pub queues: Vec<QueueView>,
    /// So long ago all of this was counted.
    pub counted_ms: Option<u64>,
    /// Since its launch.
    pub uptime_ms: u64,
    /// What its workers say of themselves (STATUS=).
    pub status_text: String,
    /// Whether a relaunch runs the same program; null: not yet known.
    pub pinned: Option<bool>,
    /// How many descriptors its workers have stored; null: the unit stores none.
    pub stored: Option<u64>,
    /// Its cgroup, as /proc/PID/cgroup has it; null: it has none, or many units were asked about at once.
    pub cgroup: Option<String>,
    /// Memory of all its processes, where the memory controller is on there.
    pub memory_bytes: Option<u64>,
    /// Time of all processors, of processes that have ended too.
    pub cpu_us: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Its workers, in the order of SUPD_WORKER.
    pub workers: Vec<WorkerView>,
}

/// What waits in one listener for one generation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueView {
    /// LISTEN_FDNAMES
    pub name: String,
    /// As the unit file says it.
    pub address: String,
    /// Other generations have the same slot, and may take what waits there.
    pub shared: bool,
    /// Connections that wait to be accepted; null where bytes wait, or it is not known.
    pub connections: Option<u32>,
    /// Bytes that wait to be read; null where connections wait, or it is not known.
    pub bytes: Option<u32>,
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
    /// From the intent saved until new connections reached `to`; a started microsecond counts.
    pub switch_us: Option<u64>,
    /// For how long nobody accepted new connections, which waited (Exclusive).
    pub gap_ms: Option<u64>,
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
                release: status.retained_release.as_ref().map(Label::to_string),
                warm: alive.is_some_and(|generation| generation.state != GenerationState::Draining),
                warm_ms: status.standby_left.map(millis),
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
            cgroup_missing: None,
            notes: status.notes.clone(),
        }
    }
}

impl UnitView {
    /// A unit that supd cannot begin with: its files are wrong, and nothing of it runs.
    #[must_use]
    pub fn unreadable(unit: &UnitName, note: &str) -> Self {
        Self {
            format: FORMAT,
            unit: unit.to_string(),
            state: UnitState::Down.word().to_owned(),
            traffic: Traffic::Off.word().to_owned(),
            health: Health::Down.word().to_owned(),
            notes: vec![note.to_owned()],
            ..Self::default()
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
            release: status.release.as_ref().map(Label::to_string),
            state: status.state.word().to_owned(),
            share: status.share.map(|hundredths| f64::from(hundredths) / 100.0),
            pids: workers.iter().filter_map(|worker| worker.pid).collect(),
            connections: None,
            oldest_ms: None,
            queues: Vec::new(),
            counted_ms: None,
            uptime_ms: millis(status.uptime),
            status_text: said.join(" | "),
            pinned: status.pinned,
            stored: None,
            cgroup: None,
            memory_bytes: None,
            cpu_us: None,
            tasks: None,
            workers,
        }
    }
}

impl From<&Queue> for QueueView {
    fn from(queue: &Queue) -> Self {
        Self {
            name: queue.name.to_string(),
            address: queue.address.to_string(),
            shared: queue.shared,
            connections: queue.queued.and_then(Queued::connections),
            bytes: queue.queued.and_then(Queued::bytes),
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
            switch_us: status.switch.map(micros),
            gap_ms: status.gap.map(millis),
            cause: status.cause.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::*;
    use crate::model::{Generation, SwapId};
    use serde_json::json;
    use std::time::Duration;

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
            retained_release: Label::new("1.4.2").ok(),
            retained_pinned: true,
            standby_left: None,
            generations: vec![GenerationStatus {
                generation: Generation(8),
                release: Label::new("1.5.0").ok(),
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
                switch: Some(Duration::from_nanos(89_001)),
                gap: None,
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
            mechanism: Some("shared: a FIFO".into()),
            queue: Some(2),
            queue_bytes: None,
            note: String::new(),
        };
        let pid = |worker: WorkerId| (worker.0 != 5).then_some(100 + worker.0 as i32);
        let view = UnitView::new(&UnitName::new("web").unwrap(), "Web", &status(), vec![listener], pid);
        let text = serde_json::to_string(&view).unwrap();
        let expected = concat!(
            r#"{"format":1,"unit":"web","description":"Web","state":"probation","traffic":"on","health":"up","#,
            r#""active":8,"retained":7,"#,
            r#""listeners":[{"name":"http","address":"0.0.0.0:80","steered":false,"mechanism":"shared: a FIFO","queue":2,"queue_bytes":null,"note":""}],"#,
            r#""generations":[{"generation":8,"release":"1.5.0","state":"active","share":99.5,"#,
            r#""pids":[103,104],"connections":null,"oldest_ms":null,"queues":[],"counted_ms":null,"#,
            r#""uptime_ms":1500,"status_text":"idle","pinned":null,"stored":null,"#,
            r#""cgroup":null,"memory_bytes":null,"cpu_us":null,"tasks":null,"workers":["#,
            r#"{"worker":0,"pid":103,"phase":"serving","status_text":"idle","last_exit":null},"#,
            r#"{"worker":1,"pid":104,"phase":"serving","status_text":"idle","last_exit":null},"#,
            r#"{"worker":2,"pid":null,"phase":"serving","status_text":"","last_exit":null}]}],"#,
            r#""last_swap":{"swap_id":3,"from":7,"to":8,"result":"running","ready_ms":900,"switch_us":90,"#,
            r#""gap_ms":null,"cause":null},"#,
            r#""rollback":{"generation":7,"release":"1.4.2","warm":false,"warm_ms":null,"pinned":true},"#,
            r#""cgroup_missing":null,"notes":["probation: 8s left"]}"#,
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
}
