//! A checker that has never failed has never been tested: a brain that does what it is told, and
//! for each rule of the oracle at least one thing that it is wrong to be told.

use crate::knobs::{Knobs, REST, settings};
use crate::oracle::Rule;
use crate::read::parse;
use crate::sim::Checked;
use crate::story::{Story, done, intent, kept, note, release, reply, signal, switch, up, web};
use std::collections::BTreeSet;
use std::sync::Arc;
use supd::machine::{Action, Effect, JobKind, JobWork, Launch, Level};
use supd::model::settings::Command;
use supd::model::status::{GenerationState, SwapResult, UnitState};
use supd::model::{
    ClientId, Durable, ExitStatus, Generation, Happening, JobId, Reply, Signal, SwapId, SwapKind, UnitName,
    Want, WorkerId,
};

/// Generation `from` serves, and `to` is on its way.
fn challenged(to: u64, from: u64) -> Durable {
    let (swap, candidate) = (Some(SwapKind::Swap), kept(to));
    Durable { swap, candidate, ..up(to, Some(from), None) }
}

type Wrong = (Rule, &'static str, fn() -> Checked<()>);

/// Everything that is wrong, by the rule that must say so.
const WRONGS: &[Wrong] = &[
    (Rule::Listeners, "listening ends while somebody serves", || {
        Story::new("").tries("web/1.0 says alive", vec![Action::Unlisten])
    }),
    (Rule::Listeners, "connections are refused while somebody serves", || {
        Story::new("").tries("web/1.0 says alive", vec![Action::Listen(vec![])])
    }),
    (Rule::Listeners, "an address is closed while somebody serves", || {
        Story::new("").tries("web/1.0 says alive", vec![Action::CloseExcept(vec![])])
    }),
    (Rule::Listeners, "listens on what is not bound", || {
        let other = settings(&web(), 0, Knobs::default().parse("sockets=other").unwrap(), 0);
        Story::new("").tries("web/1.0 says alive", vec![Action::Listen(vec![other])])
    }),
    (Rule::MakeBeforeBreak, "the only one that serves is told to stop", || {
        Story::new("").tries("web/1.0 says alive", vec![signal(1, Signal::TERM)])
    }),
    (Rule::MakeBeforeBreak, "a deadline kills the only one that serves", || {
        Story::new("").tries("clock", vec![signal(1, Signal::KILL)])
    }),
    (Rule::MakeBeforeBreak, "ExecStop is run for the only one that serves", || {
        let mut story = Story::new("stop=one");
        let command = Command { ignore_failure: false, program: "/stop".to_owned(), arguments: vec![] };
        let (launch, work) = (Arc::new(story.launch(1)), JobWork::Command(command));
        let (job, kind, worker) = (JobId(2), JobKind::Stop, Some(WorkerId(1)));
        story.tries("web/1.0 says alive", vec![Action::Run { job, kind, work, launch, worker, fault: None }])
    }),
    (Rule::MakeBeforeBreak, "the old is told to stop before the new one has settled", || {
        let mut story = Story::new("settle=1s");
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says alive", vec![began]);
        let spawn = story.spawn(2, 2);
        story.happens("web recorded", vec![spawn]);
        story.happens("web/2.0 spawned", vec![]);
        story.tries("web/2.0 says ready", vec![intent()])
    }),
    (Rule::Exclusive, "the next is launched beside the only one that may run", || {
        let mut story = Story::new("exclusive=process");
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says alive", vec![began]);
        let spawn = story.spawn(2, 2);
        story.tries("web recorded", vec![spawn])
    }),
    (Rule::Listeners, "new connections are held off while somebody would take them", || {
        let mut story = Story::new("");
        let held = Action::HoldOff(vec![story.file.clone()]);
        story.tries("web/1.0 says alive", vec![held])
    }),
    (Rule::Exclusive, "the next binds while connections are led to the only one that may", || {
        let mut story = Story::new("exclusive=port steered=yes");
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says alive", vec![began]);
        let (held, spawn) = (Action::HoldBinds(Generation(2)), story.spawn(2, 2));
        story.happens("web recorded", vec![held, spawn]);
        story.happens("web/2.0 spawned", vec![]);
        story.tries("web/2.0 says waits", vec![Action::AnswerBinds(Generation(2))])
    }),
    (Rule::MakeBeforeBreak, "the only one that may run is told to stop for nothing", || {
        Story::new("exclusive=process").tries("web/1.0 says alive", vec![signal(1, Signal::TERM)])
    }),
    (Rule::OneOfEach, "two generations are active", || {
        let mut story = Story::new("");
        for generation in &mut story.sim.brain.shown.generations {
            generation.state = GenerationState::Active;
        }
        story.tries("web/1.0 says alive", vec![])
    }),
    (Rule::OneOfEach, "two generations are candidates", || {
        let mut story = Story::new("");
        for generation in &mut story.sim.brain.shown.generations {
            generation.state = GenerationState::Candidate;
        }
        story.tries("web/1.0 says alive", vec![])
    }),
    (Rule::OneOfEach, "status hides a worker", || {
        let mut story = Story::new("");
        story.sim.brain.shown.generations.clear();
        story.tries("web/1.0 says alive", vec![])
    }),
    (Rule::OneOfEach, "status names another one active than the one that has the traffic", || {
        let mut story = Story::new("");
        (story.sim.brain.shown.state, story.sim.brain.shown.active) =
            (UnitState::Active, Some(Generation(2)));
        story.tries("web/1.0 says alive", vec![])
    }),
    (Rule::OneOfEach, "a swap begins beside another", || {
        let mut story = Story::swapping("");
        let began = story.began(3, SwapKind::Swap, Some(1), up(3, Some(1), None));
        story.tries("c2 asks web swap", vec![began])
    }),
    (Rule::FailedSwap, "a failed swap changes who is active", || {
        let mut story = Story::swapping("");
        let ended = story.ended(2, SwapResult::Failed, up(2, Some(2), None));
        story.tries("web intent-fails", vec![ended])
    }),
    (Rule::FailedSwap, "a beginning changes who is active", || {
        let mut story = Story::new("");
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(2), None));
        story.tries("c1 asks web swap", vec![began])
    }),
    (Rule::FailedSwap, "a candidate is launched again", || {
        let mut story = Story::swapping("restart=always restart-sec=0s");
        story.happens("web/2.0 exits 1", vec![]);
        let spawn = story.relaunch(3, 2);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Drained, "who was switched from is told to stop at once", || {
        let mut story = Story::switched("steered=yes");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.happens("clock", vec![ended]);
        story.tries("web recorded", vec![Action::ClearIntent, done(1), signal(1, Signal::TERM)])
    }),
    (Rule::Shares, "a share for who has everything", || {
        let share = Action::Share {
            swap_id: SwapId(2),
            candidate: Generation(2),
            share: supd::model::Share::of_parts(100).unwrap(),
            sticky: false,
        };
        Story::switched("steered=yes").tries("web/1.0 says alive", vec![share])
    }),
    (Rule::Shares, "shares that are not the whole", || {
        let mut story = Story::new("steered=yes");
        for generation in &mut story.sim.brain.shown.generations {
            (generation.state, generation.share) = (GenerationState::Candidate, Some(100));
        }
        story.sim.brain.shown.generations[0].state = GenerationState::Active;
        story.sim.brain.shown.generations.truncate(2);
        story.tries("web/1.0 says alive", vec![])
    }),
    (Rule::Standby, "who stands by is let go at once", || {
        let mut story = Story::switched("steered=yes retain=warm");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.happens("clock", vec![ended]);
        story.tries("web recorded", vec![Action::ClearIntent, done(1), Action::Count(Generation(1))])
    }),
    (Rule::Standby, "who stands by is told to rest while somebody waits there", || {
        let mut story = Story::switched("steered=yes retain=warm rests=yes");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.happens("clock", vec![ended]);
        story.happens("web recorded", vec![Action::ClearIntent, done(1), Action::Count(Generation(1))]);
        story.tries("web counted-busy", vec![signal(1, REST)])
    }),
    (Rule::Queues, "a share for a candidate that has died", || {
        let mut story = Story::swapping("steered=yes canary=one");
        story.sim.brain.shown.generations[1].share = Some(0);
        let share = supd::model::Share::of_parts(100).unwrap();
        let (swap_id, candidate) = (SwapId(2), Generation(2));
        let share = Action::Share { swap_id, candidate, share, sticky: false };
        story.happens("web intent-saved", vec![share]);
        story.happens("web/2.0 exits 1", vec![]);
        story.tries("web connect", vec![])
    }),
    (Rule::Queues, "a listener is closed while somebody waits there", || {
        let mut story = Story::new("steered=yes restart=always");
        story.happens("web/1.0 exits 1", vec![]);
        story.happens("web connect", vec![]);
        story.tries("clock", vec![Action::CloseExcept(Vec::new())])
    }),
    (Rule::Rescue, "somebody waits for who has ended, and for ever", || {
        let mut story = Story::gone();
        story.sim.brain.shown.generations.truncate(1);
        story.tries("web retired-queued", vec![])
    }),
    (Rule::Rescue, "who has ended is launched for nobody", || {
        let mut story = Story::gone();
        let spawn = story.relaunch(3, 2);
        story.tries("web retired", vec![spawn])
    }),
    (Rule::Rescue, "who has ended twice is launched again", || {
        let mut story = Story::gone();
        let spawn = story.relaunch(3, 2);
        story.happens("web retired-queued", vec![spawn]);
        story.happens("web/2.0 spawn-fails", vec![Action::Retire(Generation(2))]);
        let spawn = story.relaunch(4, 2);
        story.tries("web retired-queued", vec![spawn])
    }),
    (Rule::Rescue, "who lives for those that wait gets a share", || {
        let mut story = Story::gone();
        let spawn = story.relaunch(3, 2);
        let share = Action::Share {
            swap_id: SwapId(2),
            candidate: Generation(2),
            share: supd::model::Share::of_parts(100).unwrap(),
            sticky: false,
        };
        story.tries("web retired-queued", vec![spawn, share])
    }),
    (Rule::Rescue, "who lives for those that wait is shown as a standby", || {
        let mut story = Story::gone();
        story.sim.brain.shown.generations[1].state = GenerationState::Standby;
        let spawn = story.relaunch(3, 2);
        story.tries("web retired-queued", vec![spawn])
    }),
    (Rule::MakeBeforeBreak, "what waits is moved away from who has the traffic", || {
        let mut story = Story::switched("steered=yes");
        story.tries("web stalls", vec![Action::PassOn(Generation(2))])
    }),
    (Rule::Standby, "a switch to who was never there", || {
        let mut story = Story::new("steered=yes retain=warm");
        story.tries("c1 asks web rollback", vec![intent()])
    }),
    (Rule::Replies, "two answers", || {
        let refused = || reply(1, Reply::refused("no", None));
        Story::new("").tries("c1 asks web abort", vec![refused(), refused()])
    }),
    (Rule::Replies, "an answer to nobody", || {
        Story::new("").tries("web/1.0 says alive", vec![reply(7, Reply::refused("no", None))])
    }),
    (Rule::Replies, "an answer to who hung up", || {
        let mut story = Story::new("");
        story.happens("c1 asks web wait", vec![]);
        story.happens("c1 hangs-up", vec![]);
        story.tries("web/1.0 says alive", vec![reply(1, Reply::done(false, "nothing is under way"))])
    }),
    (Rule::Replies, "refused, and changed", || {
        let refused = Reply { changed: true, ..Reply::refused("no", None) };
        Story::new("").tries("c1 asks web abort", vec![reply(1, refused)])
    }),
    (Rule::Replies, "swapped, and nothing changed", || {
        Story::new("").tries("c1 asks web swap", vec![reply(1, Reply::done(false, "is active"))])
    }),
    (Rule::Replies, "nothing serves, and somebody does", || {
        let down = Reply::new(ExitStatus::Down, true, "nothing serves");
        Story::new("").tries("c1 asks web swap", vec![reply(1, down)])
    }),
    (Rule::Replies, "a way back takes too long, and none is under way", || {
        let late = Reply::new(ExitStatus::Timeout, true, "is not ready in time");
        Story::swapping("").tries("web/1.0 says alive", vec![reply(1, late)])
    }),
    (Rule::Replies, "progress for who does not wait", || {
        let progress = supd::model::Progress::Note("soon".to_owned());
        Story::new("").tries("web/1.0 says alive", vec![Action::Progress(ClientId(7), progress)])
    }),
    (Rule::Replies, "stopped, and a worker is left", || {
        let mut story = Story::new("");
        let durable = Durable { want: Want::Down, ..up(1, None, None) };
        let record = story.record(Happening::Stopped, durable, Some(1));
        story.happens("c1 asks web stop", vec![Action::Unlisten, record]);
        story.tries("web recorded", vec![reply(1, Reply::done(true, "is stopped"))])
    }),
    (Rule::Accounts, "a signal to who has ended", || {
        let mut story = Story::new("");
        story.happens("web/1.0 exits 0", vec![]);
        story.tries("clock", vec![signal(1, Signal::TERM)])
    }),
    (Rule::Accounts, "a signal to who never was", || {
        Story::new("").tries("clock", vec![signal(9, Signal::TERM)])
    }),
    (Rule::Accounts, "one number for two workers", || {
        let mut story = Story::new("restart=always restart-sec=0s");
        story.happens("web/1.0 exits 0", vec![]);
        let spawn = story.relaunch(1, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Accounts, "two workers in one place", || {
        let mut story = Story::new("");
        let spawn = story.relaunch(2, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Accounts, "sweeping after who lives", || {
        Story::new("").tries("clock", vec![Action::Sweep { worker: WorkerId(1), signal: None }])
    }),
    (Rule::Accounts, "a generation is retired while it lives", || {
        Story::new("").tries("clock", vec![Action::Retire(Generation(1))])
    }),
    (Rule::Accounts, "a job is ended that never began", || {
        Story::new("").tries("clock", vec![Action::EndJob { job: JobId(5) }])
    }),
    (Rule::KillMode, "what is left is asked to end where systemd.kill(5) kills it", || {
        let mut story = Story::new("kill-mode=mixed");
        let sweep = Action::Sweep { worker: WorkerId(1), signal: Some(Signal::TERM) };
        story.tries("web/1.0 exits 0", vec![sweep])
    }),
    (Rule::KillMode, "a child is killed that KillMode=process lets be", || {
        let kill = Action::Signal { worker: WorkerId(1), signal: Signal::KILL, everyone: true };
        Story::new("kill-mode=process").tries("web/1.0 says trigger", vec![kill])
    }),
    (Rule::Spin, "the deadline has passed when the clock was looked at", || {
        let mut story = Story::new("");
        story.sim.brain.deadline = Some(story.sim.world.now);
        story.tries("clock", vec![])
    }),
    (Rule::Numbers, "a number is used again", || {
        let mut story = Story::new("");
        let began = story.began(1, SwapKind::Swap, Some(1), up(1, None, None));
        story.tries("c1 asks web swap", vec![began])
    }),
    (Rule::Numbers, "a number is used again after a crash", || {
        let mut story = Story::new("");
        story.happens("crash after=0 saved=0", vec![]);
        story.records = 0;
        let began = story.began(1, SwapKind::Start, None, up(1, None, None));
        story.tries("clock", vec![began])
    }),
    (Rule::Numbers, "a generation is launched before its number is saved", || {
        let mut story = Story::new("");
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        let spawn = story.spawn(2, 2);
        story.tries("c1 asks web swap", vec![began, spawn])
    }),
    (Rule::Restarts, "launched again at once", || {
        let mut story = Story::new("restart=always restart-sec=2s");
        story.happens("web/1.0 exits 0", vec![]);
        let spawn = story.relaunch(2, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Restarts, "Restart=no, and launched again", || {
        let mut story = Story::new("restart=no");
        story.happens("web/1.0 exits 0", vec![]);
        let spawn = story.relaunch(2, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Durable, "an answer before the record", || {
        let mut story = Story::switched("");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.tries("clock", vec![ended, done(1)])
    }),
    (Rule::Durable, "cut short by a stop, and told before the ledger has its end", || {
        let mut story = Story::switched("");
        story.happens("c2 asks web stop", vec![Action::Unlisten]);
        let down = Reply::new(ExitStatus::Down, true, "the unit was stopped meanwhile");
        story.tries("web unlistened", vec![reply(1, down.about(Some(SwapId(2)), Some(Generation(2))))])
    }),
    (Rule::Durable, "a switch before the intent is saved", || {
        Story::swapping("").tries("web/1.0 says alive", vec![switch()])
    }),
    (Rule::Durable, "the intent is forgotten before the ledger says it", || {
        let mut story = Story::swapping("");
        story.happens("web intent-saved", vec![switch()]);
        story.tries("web switched", vec![Action::ClearIntent])
    }),
    (Rule::Described, "the ledger says another one is active", || {
        let mut story = Story::switched("");
        story.sim.brain.shown.state = UnitState::Probation;
        story.sim.brain.shown.active = Some(Generation(2));
        let unit = story.sim.world.unit_mut(0).unwrap();
        unit.ledger.active = kept(1);
        story.tries("c2 asks web abort", vec![reply(2, Reply::refused("no", None))])
    }),
    (Rule::Pinned, "a relaunch with other settings", || {
        let mut story = Story::new("restart=always restart-sec=0s");
        story.happens("edit web workers=2", vec![]);
        story.file = story.sim.world.unit(0).unwrap().file().1.clone();
        story.happens("web/1.0 exits 0", vec![]);
        let spawn = story.relaunch(2, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Pinned, "a relaunch of what is on disk", || {
        let mut story = Story::new("restart=always restart-sec=0s");
        story.happens("web/1.0 exits 0", vec![]);
        let spawn = story.spawn(2, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Pinned, "a rollback is refused for want of a copy that is being made", || {
        let mut story = Story::switched("");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.happens("clock", vec![ended, Action::Pin(Arc::new(story.launch(1)))]);
        story.happens("web recorded", vec![]);
        story.tries(
            "c2 asks web rollback",
            vec![reply(2, Reply::refused("is not pinned", "swap web".to_owned()))],
        )
    }),
    (Rule::Pinned, "a swap to the file as it was", || {
        let mut story = Story::new("");
        story.happens("edit web workers=2", vec![]);
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says alive", vec![began]);
        let spawn = story.spawn(2, 2);
        story.tries("web recorded", vec![spawn])
    }),
    (Rule::Retained, "a commit that retains nothing", || {
        let mut story = Story::switched("");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), None));
        story.tries("clock", vec![ended])
    }),
    (Rule::Retained, "a switch that forgets the previous one", || {
        let mut story = Story::swapping("");
        story.happens("web intent-saved", vec![switch()]);
        let happening = Happening::Switched { swap_id: SwapId(2), to: Generation(2) };
        let record = story.record(happening, up(2, Some(2), None), None);
        story.tries("web switched", vec![record])
    }),
    (Rule::Retained, "what a rollback would need is let go", || {
        Story::switched("").tries("clock", vec![Action::Prune { keep: vec![Generation(2)] }])
    }),
    (Rule::Stopped, "launched after a stop", || {
        let mut story = Story::new("restart=always restart-sec=0s");
        story.happens("c1 asks web stop", vec![Action::Unlisten]);
        story.happens("web/1.0 exits 0", vec![]);
        let spawn = story.relaunch(2, 1);
        story.tries("clock", vec![spawn])
    }),
    (Rule::Stopped, "nobody stopped it, and it shall be down", || {
        let mut story = Story::new("");
        let durable = Durable { want: Want::Down, ..up(1, None, None) };
        let record = story.record(Happening::Stopped, durable, None);
        story.tries("clock", vec![record])
    }),
    (Rule::Stopped, "launched although a person had stopped it before the restart of supd", || {
        let mut story = Story::new("");
        let durable = Durable { want: Want::Down, ..up(1, None, None) };
        let record = story.record(Happening::Stopped, durable, Some(1));
        story.happens("c1 asks web stop", vec![Action::Unlisten, record]);
        story.happens("web recorded", vec![]);
        story.happens("crash after=0 saved=0", vec![]);
        story.records = 0;
        let began = story.began(2, SwapKind::Start, None, up(2, Some(2), None));
        story.happens("clock", vec![began]);
        let spawn = story.spawn(1, 2);
        story.tries("web recorded", vec![spawn])
    }),
    (Rule::Releases, "a release is listed that is not on the disk", || {
        let mut story = Story::new("");
        let durable = Durable { releases: vec![release()], ..up(1, Some(1), None) };
        let record = story.record(Happening::Installed { label: release().label }, durable, None);
        story.tries("web/1.0 says status", vec![record])
    }),
    (Rule::Releases, "a release is launched that is not on the disk", || {
        let mut story = Story::new("");
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says status", vec![began]);
        let launch = Launch { release: Some(release().label), ..story.launch(2) };
        let spawn = Action::Spawn { worker: WorkerId(2), index: 0, launch: Arc::new(launch) };
        story.tries("web recorded", vec![spawn])
    }),
    (Rule::Releases, "the files of a listed release are removed", || {
        let mut story = Story::new("");
        let unit = story.sim.world.unit_mut(0).unwrap();
        unit.ledger.releases.push(release());
        unit.trees.insert(release().label);
        story.tries("web/1.0 says status", vec![Action::Remove { label: release().label }])
    }),
    (Rule::Stored, "who takes over does not get what was stored", || {
        let mut story = Story::new("store=yes");
        story.happens("c1 asks web swap", vec![]);
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("web/1.0 says status", vec![began]);
        let spawn = story.spawn(2, 2);
        story.tries("web recorded", vec![spawn])
    }),
    (Rule::Stored, "what who serves has stored is closed", || {
        Story::new("store=yes").tries("clock", vec![Action::CloseStored { keep: vec![] }])
    }),
    (Rule::Stored, "given once more to who runs already", || {
        let from_itself = Action::Bequeath { from: Generation(1), to: Generation(1) };
        Story::new("store=yes").tries("clock", vec![from_itself])
    }),
    (Rule::Ends, "supd comes up, and the end of what it did not outlive is not said", || {
        let mut story = Story::new("");
        let began = story.began(2, SwapKind::Swap, Some(1), challenged(2, 1));
        story.happens("c1 asks web swap", vec![began]);
        story.happens("web recorded", vec![]);
        story.tries("crash after=0 saved=0", vec![])
    }),
    (Rule::Ends, "an end that is on the disk is said once more", || {
        let mut story = Story::switched("");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.happens("clock", vec![ended]);
        story.happens("web recorded", vec![]);
        let began = story.began(3, SwapKind::Swap, Some(2), up(3, Some(2), Some(1)));
        story.happens("c2 asks web swap", vec![began]);
        let ended = story.ended(2, SwapResult::Committed, up(3, Some(2), Some(1)));
        story.tries("web recorded", vec![ended])
    }),
    (Rule::Ends, "an end that failed is never said again", || {
        let mut story = Story::switched("");
        let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
        story.happens("clock", vec![ended]);
        story.happens("web record-fails", vec![]);
        let began = story.began(3, SwapKind::Swap, Some(2), up(3, Some(2), Some(1)));
        story.happens("c2 asks web swap", vec![began]);
        story.happens("web recorded", vec![]);
        story.rests()
    }),
    (Rule::Sound, "quarantine", || {
        Story::new("").tries("clock", vec![Action::Dump("two and two are five".to_owned())])
    }),
    (Rule::Sound, "one unit's event, another unit's effect", || {
        let mut story = Story::new("");
        story.happens("new api", vec![]);
        let effect = Effect::Unit(UnitName::new("api").unwrap(), note());
        story.sim.brain.next = vec![effect];
        story.sim.apply(&parse("web/1.0 says alive").unwrap()[0]).map(|_| ())
    }),
    (Rule::Stale, "READY=1 of who never was counts", || {
        let mut story = Story::new("");
        let ended = story.ended(1, SwapResult::Committed, up(1, None, None));
        story.tries("web forged ready", vec![ended])
    }),
    (Rule::Stale, "READY=1 of who has ended counts", || {
        let mut story = Story::swapping("");
        story.happens("web/2.0 exits 1", vec![]);
        story.tries("web/2.0 says ready", vec![intent()])
    }),
    (Rule::Bounded, "endless effects", || {
        Story::new("").tries("clock", std::iter::repeat_with(note).take(1000).collect())
    }),
    (Rule::Liveness, "a client that is never answered", || {
        let mut story = Story::new("");
        story.sim.brain.shown.state = UnitState::Active;
        story.sim.brain.shown.generations.truncate(1);
        story.sim.brain.shown.generations[0].state = GenerationState::Active;
        story.happens("c1 asks web reload", vec![]);
        story.tries("settle", vec![])
    }),
    (Rule::Told, "the disk is stuck, and status does not say so", || {
        let mut story = Story::new("");
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("c1 asks web swap", vec![began]);
        story.happens("advance 6s", vec![]);
        story.tries("clock", vec![])
    }),
    (Rule::Told, "the disk is stuck, and the log says so twice", || {
        let mut story = Story::new("");
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.happens("c1 asks web swap", vec![began]);
        story.happens("advance 6s", vec![]);
        let text = "the disk has not taken a record for 6s".to_owned();
        story.sim.brain.shown.notes.push(text.clone());
        let said = || Action::Note { level: Level::Error, generation: None, text: text.clone() };
        story.happens("clock", vec![said()]);
        story.tries("clock", vec![said()])
    }),
    (Rule::Alarm, "a person is told of what went well", || Story::told_for_nothing()),
    (Rule::Alarm, "a person is told twice", || Story::sent_back(&[9, 10])),
    (Rule::Alarm, "nobody is told", || Story::sent_back(&[])),
    (Rule::Holding, "a swap begins while supd holds", || {
        let mut story = Story::held();
        let began = story.began(2, SwapKind::Swap, Some(1), up(2, Some(1), None));
        story.tries("c1 asks web swap", vec![began])
    }),
    (Rule::Holding, "a swap is not refused while supd holds", || {
        Story::held().tries("c1 asks web swap", vec![reply(1, Reply::refused("no", None))])
    }),
    (Rule::Expected, "an expectation that is not met", || {
        Story::new("").tries("expect web active=2", vec![])
    }),
];

#[test]
fn every_rule_says_so_when_it_is_broken() {
    let mut fired = BTreeSet::new();
    for (rule, what, wrong) in WRONGS {
        match wrong() {
            Err(violation) if violation.rule == *rule => drop(fired.insert(*rule)),
            Err(violation) => panic!("{what}: broke another rule: {violation}"),
            Ok(()) => panic!("{what}: nobody said so"),
        }
    }
    let silent: Vec<_> = Rule::ALL.iter().filter(|rule| !fired.contains(rule)).collect();
    assert!(silent.is_empty(), "rules that were never seen to fire: {silent:?}");
}

#[test]
fn a_script_that_does_right_is_left_alone() {
    let mut story = Story::switched("");
    let ended = story.ended(2, SwapResult::Committed, up(2, Some(2), Some(1)));
    story.happens("clock", vec![ended]);
    story.happens("web recorded", vec![Action::ClearIntent, done(1), signal(1, Signal::TERM)]);
    let sweep = Action::Sweep { worker: WorkerId(1), signal: Some(Signal::TERM) };
    story.happens("web/1.0 exits 0", vec![sweep]);
    story.happens("web/1.0 swept", vec![Action::Retire(Generation(1))]);
}
