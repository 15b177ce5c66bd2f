//! A brain that does what it is told, and a world in which it can be told: for what must be wrong.

use crate::brain::Brain;
use crate::knobs::{Knobs, settings};
use crate::read::parse;
use crate::sim::{Checked, Sim};
use std::sync::Arc;
use std::time::Duration;
use supd::machine::swap_table::StepKind;
use supd::machine::{Action, Effect, Failure, FailureKind, Input, JobKind, JobWork, Launch, Level};
use supd::model::release::{Content, Release, Verdict};
use supd::model::status::{
    GenerationState, GenerationStatus, Health, SwapResult, Traffic, UnitState, UnitStatus, WorkerStatus,
};
use supd::model::{
    ClientId, Durable, Generation, Happening, Intent, JobId, Kept, Label, Record, RecordId, Reply, Settings,
    Signal, SwapId, SwapKind, Tick, UnitName, Want, WorkerId,
};

/// Says what it was told to say next, and remembers nothing.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) next: Vec<Effect>,
    pub(crate) shown: UnitStatus,
    pub(crate) deadline: Option<Tick>,
}

impl Brain for Script {
    fn reborn(&self) -> Self {
        self.clone()
    }

    fn step(&mut self, _now: Tick, _input: Input, out: &mut Vec<Effect>) {
        out.append(&mut self.next);
    }

    fn deadline(&self) -> Option<Tick> {
        self.deadline
    }

    fn status(&self, _unit: &UnitName, _now: Tick) -> Option<UnitStatus> {
        Some(self.shown.clone())
    }

    fn launch(&self, _unit: &UnitName, _generation: Generation) -> Option<Launch> {
        None
    }

    fn outlasts(&self, _unit: &UnitName) -> Vec<supd::model::kept::KeptGeneration> {
        Vec::new()
    }

    fn swap_step(&self, _unit: &UnitName) -> Option<StepKind> {
        None
    }
}

pub(crate) fn web() -> UnitName {
    UnitName::new("web").unwrap()
}

/// A unit whose generation 1 serves, and what happens next.
pub(crate) struct Story {
    pub(crate) sim: Sim<Script>,
    pub(crate) file: Arc<Settings>,
    pub(crate) records: u64,
}

impl Story {
    pub(crate) fn new(knobs: &str) -> Self {
        let set = knobs.split_whitespace().try_fold(Knobs::default(), Knobs::parse).unwrap();
        let generations = [1, 2].map(|number| GenerationStatus {
            generation: Generation(number),
            release: None,
            state: GenerationState::Draining,
            share: None,
            workers: vec![WorkerStatus {
                worker: WorkerId(number),
                phase: "serving",
                status_text: String::new(),
                last_exit: None,
            }],
            uptime: Duration::ZERO,
            pinned: None,
        });
        let shown = UnitStatus {
            state: UnitState::Starting,
            traffic: Traffic::On,
            health: Health::Up,
            active: Some(Generation(1)),
            retained: None,
            retained_release: None,
            retained_pinned: false,
            standby_left: None,
            generations: generations.to_vec(),
            last_swap: None,
            notes: Vec::new(),
        };
        let script = Script { next: Vec::new(), shown, deadline: None };
        let mut story = Self { sim: Sim::new(script), file: settings(&web(), 0, set, 0), records: 0 };
        let bind = Action::Bind { job: JobId(1), settings: story.file.clone() };
        story.happens(&format!("unit web {knobs}"), vec![bind]);
        let began = story.began(1, SwapKind::Start, None, up(1, None, None));
        story.happens("web bound", vec![began]);
        let listen = Action::Listen(vec![story.file.clone()]);
        let spawn = story.spawn(1, 1);
        story.happens("web recorded", vec![listen, spawn]);
        story.happens("web/1.0 spawned", vec![]);
        let committed = story.ended(1, SwapResult::Committed, up(1, None, None));
        story.happens("web/1.0 says ready", vec![committed]);
        story.happens("web recorded", vec![]);
        story
    }

    /// A swap to generation 2 is as far as ready.
    pub(crate) fn swapping(knobs: &str) -> Self {
        let mut story = Self::new(knobs);
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says status", vec![began]);
        let spawn = story.spawn(2, 2);
        story.happens("web recorded", vec![spawn]);
        story.happens("web/2.0 spawned", vec![]);
        story.happens("web/2.0 says ready", vec![intent()]);
        story
    }

    /// Generation 2 has ended before it could take over, and gives its slot back.
    pub(crate) fn gone() -> Self {
        let mut story = Self::swapping("steered=yes");
        (story.sim.brain.shown.state, story.sim.brain.shown.generations[1].share) =
            (UnitState::Active, Some(0));
        let workers = &mut story.sim.brain.shown.generations[1].workers;
        let later = WorkerStatus { worker: WorkerId(3), ..workers[0].clone() };
        workers.push(later);
        let sweep = Action::Sweep { worker: WorkerId(2), signal: Some(Signal::TERM) };
        story.happens("web/2.0 exits 1", vec![sweep]);
        story.happens("web/2.0 swept", vec![Action::Retire(Generation(2))]);
        story
    }

    /// Generation 2 has the traffic, by the ledger too, and has yet to commit.
    pub(crate) fn switched(knobs: &str) -> Self {
        let mut story = Self::swapping(knobs);
        story.happens("web intent-saved", vec![switch()]);
        let happening = Happening::Switched { swap_id: SwapId(2), to: Generation(2) };
        let durable = Durable { previous: kept(1), ..up(2, Some(2), None) };
        let record = story.record(happening, durable, None);
        story.happens("web switched", vec![record]);
        story.happens("web recorded", vec![]);
        story
    }

    /// What the line says happens, and this is what the brain makes of it.
    pub(crate) fn tries(&mut self, line: &str, actions: Vec<Action>) -> Checked<()> {
        self.sim.brain.next = actions.into_iter().map(|action| Effect::Unit(web(), action)).collect();
        for step in parse(line).unwrap() {
            assert!(self.sim.apply(&step)?, "{line}: cannot happen");
        }
        Ok(())
    }

    pub(crate) fn happens(&mut self, line: &str, actions: Vec<Action>) {
        self.tries(line, actions).unwrap_or_else(|violation| panic!("{line}: {violation}"));
    }

    /// Nothing more happens.
    pub(crate) fn rests(&self) -> Checked<()> {
        self.sim.oracle.all_ended(&self.sim.world, |_| false)
    }

    pub(crate) fn record(&mut self, happening: Happening, durable: Durable, client: Option<u64>) -> Action {
        self.records += 1;
        let (id, client) = (RecordId(self.records), client.map(ClientId));
        Action::Record { id, record: Record { unit: web(), durable, happening }, client }
    }

    pub(crate) fn began(
        &mut self,
        number: u64,
        kind: SwapKind,
        from: Option<u64>,
        durable: Durable,
    ) -> Action {
        let client = from.map(|_| 1);
        let (swap_id, from, to) = (SwapId(number), from.map(Generation), Generation(number));
        self.record(Happening::Began { swap_id, kind, from, to }, durable, client)
    }

    pub(crate) fn ended(&mut self, number: u64, result: SwapResult, durable: Durable) -> Action {
        self.record(Happening::Ended { swap_id: SwapId(number), result, cause: None }, durable, None)
    }

    pub(crate) fn launch(&self, generation: u64) -> Launch {
        let (generation, settings) = (Generation(generation), self.file.clone());
        Launch { generation, settings, release: None, origin: generation, pinned: false }
    }

    pub(crate) fn spawn(&self, worker: u64, generation: u64) -> Action {
        Action::Spawn { worker: WorkerId(worker), index: 0, launch: Arc::new(self.launch(generation)) }
    }

    /// Somebody is told, of generation 2, that it was sent back.
    fn tell(&self, job: u64) -> Action {
        let command = self.file.service.exec_on_failure[0].clone();
        let (what, reason, exit) = (FailureKind::RolledBack, "it is back".to_owned(), None);
        let work = JobWork::Tell(command, Arc::new(Failure { what, reason, exit }));
        let (job, kind, launch) = (JobId(job), JobKind::OnFailure, Arc::new(self.launch(2)));
        Action::Run { job, kind, work, launch, worker: None, fault: None }
    }

    /// All is well, and somebody is told.
    pub(crate) fn told_for_nothing() -> Checked<()> {
        let mut story = Self::new("on-failure=one");
        let told = story.tell(9);
        story.tries("web/1.0 says alive", vec![told])
    }

    /// Generation 2 was sent back, by the ledger too; so often somebody is told.
    pub(crate) fn sent_back(jobs: &[u64]) -> Checked<()> {
        let mut story = Self::switched("on-failure=one");
        let back = Durable { forward: kept(2), ..up(2, Some(1), None) };
        let ended = story.ended(2, SwapResult::RolledBack, back);
        story.happens("web/2.0 says status", vec![ended]);
        let told = jobs.iter().map(|job| story.tell(*job)).collect();
        story.tries("web recorded", told)
    }

    /// Generation 1 has outlived a supd that crashed twice.
    pub(crate) fn held() -> Self {
        let mut story = Self::new("");
        story.sim.world.unit_mut(0).unwrap().store.insert(Generation(1), story.file.clone());
        story.happens("marked", vec![]);
        story.sim.brain.shown.state = UnitState::Holding;
        story.sim.brain.shown.notes.push("holding: supctl daemon-reload".to_owned());
        story.sim.brain.shown.generations.clear();
        story.happens("crash after=0 saved=0", vec![]);
        story.records = 0;
        story
    }

    pub(crate) fn relaunch(&self, worker: u64, generation: u64) -> Action {
        let launch = Launch { pinned: true, ..self.launch(generation) };
        Action::Spawn { worker: WorkerId(worker), index: 0, launch: Arc::new(launch) }
    }
}

pub(crate) fn kept(generation: u64) -> Option<Kept> {
    Some(Kept { generation: Generation(generation), release: None, pinned: true })
}

/// Up, with this highest number, this active generation (the first, if none) and this retained one.
pub(crate) fn up(last: u64, active: Option<u64>, retained: Option<u64>) -> Durable {
    Durable {
        want: Want::Up,
        generation_last: last,
        swap_last: last,
        active: kept(active.unwrap_or(1)),
        retained: retained.and_then(kept),
        ..Durable::fresh()
    }
}

pub(crate) fn release() -> Release {
    let content = Content { digest: "sha256:0".into(), files: 1, bytes: 1, at: 0 };
    Release { label: Label::new("r9").unwrap(), content, verdict: Verdict::New }
}

pub(crate) fn intent() -> Action {
    Action::SaveIntent(Intent {
        swap_id: SwapId(2),
        from: Some(Generation(1)),
        to: Generation(2),
        kind: SwapKind::Swap,
    })
}

pub(crate) fn switch() -> Action {
    Action::Switch { swap_id: SwapId(2), to: Generation(2) }
}

pub(crate) fn signal(worker: u64, signal: Signal) -> Action {
    Action::Signal { worker: WorkerId(worker), signal, everyone: false }
}

pub(crate) fn note() -> Action {
    Action::Note { level: Level::Info, generation: None, text: "all is well".to_owned() }
}

pub(crate) fn reply(client: u64, reply: Reply) -> Action {
    Action::Reply(ClientId(client), reply)
}

pub(crate) fn done(client: u64) -> Action {
    reply(client, Reply::done(true, "done").about(Some(SwapId(2)), Some(Generation(2))))
}
