//! A unit that contradicts itself: dumped, told of, and left alone.

use crate::knobs::{Knobs, settings};
use crate::story::{up, web};
use std::collections::{BTreeMap, BTreeSet};
use supd::machine::{
    Action, Effect, Event, FailureKind, Input, JobKind, JobWork, Machine, Restored, Survived,
};
use supd::model::kept::KeptGeneration;
use supd::model::status::UnitState;
use supd::model::{ClientId, Generation, JobId, Tick};

/// What outlived its supd has a number that the ledger never gave.
fn contradicting() -> Restored {
    let knobs = Knobs::default().parse("on-failure=one").unwrap();
    let settings = settings(&web(), 0, knobs, 0);
    let generation = Generation(5);
    let alive =
        KeptGeneration { generation, origin: generation, steered: false, launched: None, workers: vec![0] };
    Restored {
        durable: up(3, Some(5), None),
        launches: BTreeMap::from([(generation, settings.clone())]),
        trees: BTreeSet::new(),
        intent: None,
        machine_booted: false,
        supd_booting: true,
        bound: settings.sockets.clone(),
        survived: Some(Survived { generations: vec![alive], steered: false, swap: None }),
        holding: None,
        settings,
    }
}

fn actions(machine: &mut Machine, now: Tick, input: Input) -> Vec<Action> {
    let mut effects = Vec::new();
    machine.step(now, input, &mut effects);
    let action = |effect| if let Effect::Unit(_, action) = effect { action } else { panic!("{effect:?}") };
    effects.into_iter().map(action).collect()
}

#[test]
fn a_unit_in_quarantine_is_told_of_once_and_left_alone() {
    let (mut machine, now) = (Machine::default(), Tick(1_000_000));
    let _adopted = actions(&mut machine, now, Input::Add(Box::new(contradicting())));
    let gone = |client| Input::Unit(web(), Event::HungUp { client: ClientId(client) });
    let made = actions(&mut machine, now, gone(1));
    let [Action::Dump(dump), Action::Note { .. }, Action::Run { job, kind, work, .. }] = &made[..] else {
        panic!("{made:?}")
    };
    assert!(dump.contains("generation 5 was never numbered"), "{dump}");
    let JobWork::Tell(_, failure) = work else { panic!("{work:?}") };
    assert_eq!((*kind, failure.what), (JobKind::OnFailure, FailureKind::Quarantine));
    assert!(failure.reason.contains("generation 5 was never numbered"), "{failure:?}");
    assert_eq!(machine.status(&web(), now).unwrap().state, UnitState::Quarantine);
    assert!(actions(&mut machine, now, gone(2)).is_empty());
    // It has its time, and its end changes nothing.
    let due = machine.deadline().unwrap();
    let ended = actions(&mut machine, due, Input::Clock);
    assert!(matches!(&ended[..], [Action::EndJob { job: ended }] if ended == job), "{ended:?}");
    let over = |job| Input::Unit(web(), Event::Finished { job, result: Err("SIGKILL".to_owned()) });
    assert!(actions(&mut machine, due, over(JobId(job.0 + 1))).is_empty());
    let noted = actions(&mut machine, due, over(*job));
    assert!(matches!(&noted[..], [Action::Note { text, .. }] if text.contains("ExecOnFailure")), "{noted:?}");
    assert_eq!(machine.deadline(), None);
}
