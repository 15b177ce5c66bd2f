//! A swap that rests goes over to the next image of supd, and that one decides as the one before would have:
//! both are told the same, and are obliged in the same way, until neither wants anything more.

use crate::read::parse;
use crate::sim::Sim;
use crate::story::web;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use supd::machine::{Action, Counts, Effect, Event, Input, Machine, Request, Restored, Survived};
use supd::model::Settings;
use supd::model::handover::HeldSwap;
use supd::model::{
    ClientId, Generation, Intent, Notice, Share, Signal, Stops, SwapId, SwapKind, Tick, WaitFor, WorkerExit,
    WorkerId,
};

/// No answer to an answer comes later.
const ROUNDS: usize = 40;

/// Where a swap of `web` can rest, how it gets there.
const RESTS: [(&str, &str); 7] = [
    ("held", "unit web steered=yes\nrun 5s\nc1 asks web swap hold\nrun 5s"),
    ("a canary by hand", "unit web steered=yes\nrun 5s\nc1 asks web swap canary=100\nrun 2s"),
    ("the first step", "unit web steered=yes canary=two\nrun 5s\nc1 asks web swap\nrun 2s"),
    ("probation", "unit web steered=yes\nrun 5s\nc1 asks web swap\nrun 2s"),
    ("probation, and warm", "unit web steered=yes retain=warm\nrun 5s\nc1 asks web swap\nrun 2s"),
    (
        "the first step of the warm way",
        "unit web steered=yes retain=warm releases=yes canary=two probation=0s\nc1 asks web deploy 1\nrun 300s\n\
         c2 asks web deploy 2\nrun 300s\nc3 asks web swap-to 1\nrun 2s",
    ),
    ("probation of what shares a slot", "unit web\nrun 5s\nc1 asks web swap\nrun 2s"),
];

/// A machine, and by which numbers it knows whose.
#[derive(Clone)]
struct Mind {
    machine: Machine,
    workers: BTreeMap<WorkerId, (Generation, u32)>,
    now: Tick,
}

impl Mind {
    fn tell(&mut self, input: Input) -> Vec<Action> {
        let mut effects = Vec::new();
        self.machine.step(self.now, input, &mut effects);
        let action = |effect| match effect {
            Effect::Unit(_, action) => action,
            other => panic!("{other:?}"),
        };
        let made: Vec<Action> = effects.into_iter().map(action).collect();
        for action in &made {
            if let Action::Spawn { worker, index, launch } | Action::Adopt { worker, index, launch } = action
            {
                self.workers.insert(*worker, (launch.generation, *index));
            }
        }
        made
    }

    fn hears(&mut self, event: Event) -> Vec<Action> {
        self.tell(Input::Unit(web(), event))
    }

    /// Without the numbers of its own.
    fn plain(&self, text: &str) -> String {
        let mut plain = text.to_owned();
        for (worker, (generation, index)) in self.workers.iter().rev() {
            plain = plain.replace(&format!("{worker:?}"), &format!("{generation}.{index}"));
        }
        for numbered in ["RecordId(", "JobId("] {
            let mut parts = plain.split(numbered);
            let first = parts.next().unwrap_or_default().to_owned();
            plain = parts.fold(first, |all, part| {
                format!("{all}{numbered}{}", part.trim_start_matches(|c: char| c.is_ascii_digit()))
            });
        }
        plain
    }

    /// What becomes of what it wants, where all goes well.
    fn answers(&self, made: &[Action]) -> Vec<Event> {
        made.iter().flat_map(|action| self.answer(action)).collect()
    }

    fn answer(&self, action: &Action) -> Vec<Event> {
        let calm = Counts { connections: Some(0), oldest: None, queued: 0, half_open: 0 };
        match action {
            Action::Bind { job, .. } => vec![Event::Bound { job: *job, steered: Ok(()) }],
            Action::Spawn { worker, .. } => vec![
                Event::Spawned { worker: *worker },
                Event::Noticed { worker: *worker, notice: Notice::Ready },
            ],
            Action::Record { id, .. } => vec![Event::Recorded { record: *id }],
            Action::SaveIntent(intent) => vec![Event::IntentSaved { swap_id: intent.swap_id }],
            Action::Switch { swap_id, .. } => {
                vec![Event::Switched { swap_id: *swap_id, took: Duration::from_millis(1) }]
            }
            Action::Signal { worker, signal, .. } if *signal == Signal::TERM => {
                vec![Event::Exited { worker: *worker, exit: WorkerExit::Code(0) }]
            }
            Action::Sweep { worker, .. } => vec![Event::Swept { worker: *worker }],
            Action::Count(generation) => {
                vec![Event::Counted { generation: *generation, counts: calm, queues: Vec::new() }]
            }
            Action::Retire(generation) => vec![Event::Retired { generation: *generation, queued: 0 }],
            Action::Pin(launch) => vec![Event::Pinned { generation: launch.generation, pinned: true }],
            Action::Run { job, .. } => vec![Event::Finished { job: *job, result: Ok(()) }],
            _what_nobody_answers => Vec::new(),
        }
    }

    fn looks(&self) -> String {
        let status = self.machine.status(&web(), self.now);
        self.plain(&format!("{status:?}"))
    }
}

/// The image that was there, and what the next one is to begin with.
fn handed_over(lines: &str) -> (Mind, Restored) {
    let mut sim = Sim::new(Machine::default());
    for step in parse(lines).unwrap() {
        assert!(matches!(sim.apply(&step), Ok(true)), "{step}");
    }
    let unit = sim.world.unit(0).unwrap();
    let now = sim.world.now;
    let procs = unit.procs.iter().map(|proc| (proc.id, (proc.generation(), proc.index)));
    let before = Mind { machine: sim.brain.clone(), workers: procs.collect(), now };
    assert_eq!(before.machine.unsettled().map(|(_, unsettled)| unsettled.what), None, "{lines}");
    let swap = before.machine.resting().next();
    assert!(swap.is_some(), "no swap rests: {lines}");
    let steered = unit.knobs(unit.file().1).steered();
    let survived = Survived { generations: before.machine.outlasts(&web()), steered, swap };
    let restored = Restored {
        settings: unit.file().1.clone(),
        durable: unit.ledger.clone(),
        launches: unit.store.iter().map(|(number, settings)| (*number, settings.clone())).collect(),
        trees: unit.trees.clone(),
        intent: unit.intent,
        machine_booted: false,
        supd_booting: true,
        bound: unit.kept_bound(),
        survived: Some(survived),
        holding: None,
    };
    (before, restored)
}

/// Both images.
fn both(lines: &str) -> (Mind, Mind) {
    let (before, restored) = handed_over(lines);
    let mut after = Mind { machine: Machine::default(), workers: BTreeMap::new(), now: before.now };
    let made = after.tell(Input::Add(Box::new(restored)));
    let ends = |action: &&Action| {
        matches!(action, Action::Record { .. } | Action::Signal { .. } | Action::Retire(_))
    };
    assert_eq!(made.iter().find(ends), None, "{lines}: {made:?}");
    for client in (1..9).map(ClientId).filter(|client| before.machine.goes_on_waiting(*client)) {
        let wait = Request::Wait { wait: WaitFor::Committed };
        assert_eq!(after.hears(Event::Asked { client, request: wait }), [], "{lines}");
    }
    (before, after)
}

/// What can become of a swap that rests.
fn inputs(mind: &Mind, settings: &Arc<Settings>) -> Vec<(String, Input)> {
    let asked = |request| Input::Unit(web(), Event::Asked { client: ClientId(9), request });
    let wait = WaitFor::Committed;
    let part = Share::of_parts(2500).unwrap();
    let (settings, no) = (settings.clone(), Stops::default());
    let swap = |replace| Request::Swap {
        settings: settings.clone(),
        label: None,
        force: false,
        stops: no,
        replace,
        wait,
    };
    let rollback = Request::Rollback { label: None, from: None, stop: false, anyway: true, wait };
    let mut all = vec![
        asked(Request::Promote { wait }),
        asked(Request::Abort),
        asked(rollback),
        asked(Request::Share { share: part, wait }),
        asked(Request::Share { share: Share::ZERO, wait }),
        asked(Request::Share { share: Share::FULL, wait }),
        asked(swap(false)),
        asked(swap(true)),
        asked(Request::Stop { now: false, keep_listening: false }),
        asked(Request::Restart { settings: settings.clone(), wait }),
        asked(Request::Wait { wait }),
        asked(Request::Drain { generation: Generation(1) }),
        asked(Request::Refresh { settings: settings.clone() }),
        Input::Unit(web(), Event::HungUp { client: ClientId(1) }),
        Input::Unit(web(), Event::Stalled { generation: Generation(2), reason: "it hangs".into() }),
        Input::Clock,
    ];
    let exits = |worker: &WorkerId| Event::Exited { worker: *worker, exit: WorkerExit::Code(1) };
    let mut whose: Vec<_> = mind.workers.iter().collect();
    whose.sort_by_key(|(_, whose)| **whose);
    all.extend(whose.into_iter().map(|(worker, _)| Input::Unit(web(), exits(worker))));
    all.into_iter().map(|input| (mind.plain(&format!("{input:?}")), input)).collect()
}

#[test]
fn the_next_image_decides_as_the_one_before() {
    for (rest, lines) in RESTS {
        let (before, after) = both(lines);
        assert_eq!(before.looks(), after.looks(), "{rest}");
        // Later on the next image may give a handshake more time: it knows of none that began before.
        assert_eq!(before.machine.deadline(), after.machine.deadline(), "{rest}");
        let settings = before.machine.launch(&web(), Generation(1)).unwrap().settings.clone();
        let theirs = inputs(&before, &settings).into_iter().zip(inputs(&after, &settings));
        for ((what, first), (same, second)) in theirs {
            assert_eq!(what, same, "{rest}");
            let (mut before, mut after) = (before.clone(), after.clone());
            if let Input::Clock = first {
                let due = before
                    .machine
                    .deadline()
                    .filter(|_| before.machine.deadline() == after.machine.deadline());
                (before.now, after.now) = (due.unwrap_or(before.now), due.unwrap_or(after.now));
            }
            let (mut made, mut also) = (before.tell(first), after.tell(second));
            for _ in 0..ROUNDS {
                let texts = [before.plain(&format!("{made:?}")), after.plain(&format!("{also:?}"))];
                assert_eq!(texts[0], texts[1], "{rest}: {what}");
                assert_eq!(before.looks(), after.looks(), "{rest}: {what}");
                let events = before.answers(&made).into_iter().zip(after.answers(&also));
                let (one, other): (Vec<_>, Vec<_>) =
                    events.map(|(one, other)| (before.hears(one), after.hears(other))).unzip();
                (made, also) = (one.concat(), other.concat());
                if made.is_empty() && also.is_empty() {
                    break;
                }
            }
        }
    }
}

/// What does not fit together is given up, as after a crash: nothing is made up.
#[test]
fn a_swap_that_is_not_as_it_was_left_is_given_up() {
    fn held(it: &mut Restored) -> &mut HeldSwap {
        &mut it.survived.as_mut().unwrap().swap.as_mut().unwrap().held
    }
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Restored));
    let changes: [Change<'_>; 5] = [
        ("another swap", &|it| it.durable.swap_last += 1),
        ("its generation is gone", &|it| {
            it.survived.as_mut().unwrap().generations.retain(|one| one.generation != Generation(2));
        }),
        ("an intent is under way", &|it| {
            let (from, to) = (Some(Generation(1)), Generation(2));
            it.intent = Some(Intent { swap_id: SwapId(2), from, to, kind: SwapKind::Swap });
        }),
        ("to another", &|it| held(it).to = Generation(9)),
        ("from nothing", &|it| held(it).from = None),
    ];
    for (rest, lines) in RESTS {
        let step = |change: &dyn Fn(&mut Restored)| {
            let (before, mut restored) = handed_over(lines);
            change(&mut restored);
            let mut after = Mind { machine: Machine::default(), workers: BTreeMap::new(), now: before.now };
            let _made = after.tell(Input::Add(Box::new(restored)));
            after.machine.swap_step(&web())
        };
        assert!(step(&|_| ()).is_some(), "{rest}");
        for (what, change) in changes {
            assert_eq!(step(change), None, "{rest}: {what}");
        }
    }
}
