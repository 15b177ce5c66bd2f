//! A small shell for tests: real processes, no machine.

use super::chores::{Chore, Chores};
use super::launch::{self, Ground};
use super::sources::{Source, Sources};
use super::sweeper::Sweeper;
use super::workers::{Around, Workers};
use crate::codec::unitfile::{self, Sources as Files};
use crate::machine::{Event, Input, Launch};
use crate::model::{Generation, Settings, UnitName, WorkerId};
use crate::os::clock::{self, BootId};
use crate::os::original::Original;
use crate::os::spawn::Roots;
use crate::store::runtime::Runtime;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take.
const BOUND: Duration = Duration::from_secs(20);

pub(super) struct Bed {
    pub(super) folder: tempfile::TempDir,
    pub(super) sources: Sources,
    pub(super) inbox: VecDeque<Input>,
    pub(super) runtime: Runtime,
    pub(super) boot: BootId,
    pub(super) ground: Ground,
    pub(super) workers: Workers,
    pub(super) sweeper: Sweeper,
    pub(super) chores: Chores,
}

/// A unit from the text of its `[Service]`.
pub(super) fn settings(service: &str) -> Settings {
    let text = format!("[Service]\nReleases = false\n{service}\n");
    let unit = UnitName::new("web").unwrap();
    let main = unitfile::Source::new("web.unit", text);
    let files = Files { unit, defaults: None, main, drop_ins: Vec::new() };
    unitfile::parse(&files).unwrap().settings
}

pub(super) fn recipe(generation: u64, service: &str) -> Arc<Launch> {
    let generation = Generation(generation);
    let settings = Arc::new(settings(service));
    Arc::new(Launch { generation, settings, release: None, origin: generation, pinned: false })
}

impl Bed {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = Runtime::make(&folder.path().join("run")).unwrap();
        let ground = Ground {
            original: Original::read().unwrap(),
            roots: Roots::system(),
            lang: "C.UTF-8".into(),
            environment: Vec::new(),
            logs: folder.path().join("logs"),
            journal: false,
            releases: crate::store::releases::Releases::new(folder.path()),
            launcher: Default::default(),
        };
        Self {
            folder,
            sources: Sources::new().unwrap(),
            inbox: VecDeque::new(),
            runtime,
            boot: BootId::read().unwrap(),
            ground,
            workers: Workers::default(),
            sweeper: Sweeper::default(),
            chores: Chores::default(),
        }
    }

    pub(super) fn spawn(&mut self, id: u64, launch: &Arc<Launch>) -> Result<(), String> {
        let invocation = launch::new_invocation().unwrap();
        let notify = self.folder.path().join("notify");
        std::fs::write(&notify, "").unwrap();
        let worker = launch::Worker {
            index: 0,
            invocation: &invocation,
            notify_socket: &notify,
            listeners: Vec::new(),
            stored: Vec::new(),
            pinned: None,
            group: None,
        };
        let Self { sources, inbox, runtime, boot, workers, ground, .. } = self;
        let mut around = Around { sources, inbox, runtime, boot };
        workers.spawn(WorkerId(id), launch, ground, &worker, &mut around)
    }

    /// One turn, as the reactor has it.
    pub(super) fn turn(&mut self) {
        let now = clock::now();
        let Self { sources, inbox, runtime, boot, workers, sweeper, chores, .. } = self;
        sweeper.pump(now, workers, chores, &mut Around { sources, inbox, runtime, boot });
        for source in sources.wait(Some(Duration::from_millis(20))).unwrap().sources {
            let mut around = Around { sources, inbox, runtime, boot };
            match source {
                Source::WorkerOutcome(id) => drop(workers.launched(id, &mut around)),
                Source::Child(id) => workers.child_ended(id, false, &mut around),
                Source::Main(id) => workers.main_ended(id, false, &mut around),
                Source::Left(id) => sweeper.left(id, around.sources),
                Source::Chore(number) => match chores.poll(number, around.sources) {
                    Some((Chore::Sweep(ids), result)) => {
                        sweeper.searched(ids, result, now, workers, &mut around);
                    }
                    Some((Chore::Signal(signal), result)) => {
                        sweeper.found(signal, result, now, workers, boot);
                    }
                    Some((chore, _)) => panic!("{chore:?}"),
                    None => {}
                },
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event, in a bound.
    pub(super) fn event(&mut self) -> Event {
        let end = clock::now().after(BOUND);
        loop {
            if let Some(Input::Unit(_, event)) = self.inbox.pop_front() {
                return event;
            }
            assert!(clock::now() < end, "nothing happened");
            self.turn();
        }
    }

    /// Turns until a file holds so many lines.
    pub(super) fn lines(&mut self, path: &std::path::Path, count: usize) -> Vec<String> {
        let end = clock::now().after(BOUND);
        loop {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.ends_with('\n') && text.lines().count() >= count {
                return text.lines().map(str::to_owned).collect();
            }
            assert!(clock::now() < end, "only {text:?}");
            self.turn();
        }
    }
}
