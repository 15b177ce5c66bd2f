//! Everyone in turn: full load, another version, and what the clients saw of it.
//!
//! Half of the clients open a connection for each request, half keep theirs; none ever tries twice.
//! What HTTP lets a server end between two requests is counted apart.

use crate::Form;
use crate::contenders::{self, Contender, address};
use crate::load::tally::{Kind, Tally};
use crate::load::{Load, Mode, Plan, Target};
use crate::numbers::Sample;
use crate::report::Section;
use crate::wait::wait_until;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Clients of each kind.
const CLIENTS: usize = 16;
/// Answered in each round before the change, and again once everyone has moved.
const REQUESTS: u64 = 2_500;
/// A contender that has not moved every client by then never will.
const BOUND: Duration = Duration::from_secs(60);

const KINDS: [Kind; 6] =
    [Kind::Refused, Kind::Reset, Kind::TimedOut, Kind::CutShort, Kind::ServerError, Kind::Garbled];

/// What the clients of one contender saw, over all rounds.
#[derive(Default)]
struct Seen {
    /// How long each answered request took.
    took_ms: Vec<f64>,
    lost: BTreeMap<Kind, u64>,
    idle: u64,
    /// The longest time of each round in which a kind of client got no answer.
    gaps: Vec<Duration>,
    /// From the command to the end of the command; to the first answer of the new version; to the
    /// last of the old.
    command: Vec<Duration>,
    first: Vec<Duration>,
    moved: Vec<Duration>,
    first_losses: Vec<String>,
}

impl Seen {
    fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    fn add(&mut self, tally: &Tally) {
        self.took_ms.extend(tally.answers.iter().map(|answer| f64::from(answer.took) / 1e3));
        for kind in KINDS {
            *self.lost.entry(kind).or_default() += tally.lost_by(kind);
        }
        self.idle += tally.idle.before + tally.idle.crossed + tally.idle.by_half;
        let room = 5_usize.saturating_sub(self.first_losses.len());
        self.first_losses.extend(tally.losses.iter().take(room).map(|loss| {
            format!(
                "{:?} at {}, {} served before: {}",
                loss.kind, loss.phase, loss.served_before, loss.detail
            )
        }));
    }
}

pub(crate) fn run(form: Form, section: &mut Section) {
    let contenders = contenders::all(section);
    let (lost, requests) = in_turns(section, &contenders, form.swaps);
    let what = format!("requests lost by supd in {0} swaps and {1} rollbacks", form.swaps, 2 * form.swaps);
    section.promised(&what, lost, requests);
}

/// Everyone in so many rounds: the table, and how many requests supd lost of how many.
pub(crate) fn in_turns(
    section: &mut Section,
    contenders: &[Box<dyn Contender>],
    rounds: usize,
) -> (u64, u64) {
    let mut seen: Vec<Seen> = contenders.iter().map(|_| Seen::default()).collect();
    for _ in 0..rounds {
        for (contender, seen) in contenders.iter().zip(&mut seen) {
            round(&**contender, seen);
        }
    }
    table(section, contenders, &seen);
    for (contender, seen) in contenders.iter().zip(&seen) {
        for loss in &seen.first_losses {
            section.note(&format!("{}: lost: {loss}", contender.name()));
        }
    }
    let ours = contenders.iter().zip(&seen).filter(|(contender, _)| contender.name().starts_with("supd"));
    ours.fold((0, 0), |(lost, requests), (_, seen)| {
        (lost + seen.lost(), requests + seen.took_ms.len() as u64 + seen.lost())
    })
}

fn round(contender: &dyn Contender, seen: &mut Seen) {
    contender.prepare();
    let plan = |mode| Plan::new(Target::Tcp(address(contender.port())), mode, CLIENTS);
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(plan(mode)));
    let answered = || loads.iter().map(Load::answered).sum::<u64>();
    let run_on = || {
        let goal = answered() + REQUESTS;
        wait_until("the load to run on", BOUND, || answered() >= goal);
    };
    run_on();
    let at = [loads[0].now(), loads[1].now()];
    let began = Instant::now();
    let version = contender.change();
    seen.command.push(began.elapsed());
    wait_until("the new version to answer every client", BOUND, || {
        loads.iter().all(|load| load.all_on(&version))
    });
    run_on();

    let (mut first, mut moved, mut gap) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
    for (load, at) in loads.into_iter().zip(at) {
        let tally = load.stop();
        for answer in &tally.answers {
            let done = Duration::from_micros(answer.begun + u64::from(answer.took)).saturating_sub(at);
            let server = &tally.servers[usize::from(answer.server)];
            if server.split('/').next() == Some(&version) {
                first = first.min(done);
            } else {
                moved = moved.max(done);
            }
        }
        gap = gap.max(tally.speed().longest_gap);
        seen.add(&tally);
    }
    seen.first.push(first);
    seen.moved.push(moved);
    seen.gaps.push(gap);
    contender.settle();
}

fn table(section: &mut Section, contenders: &[Box<dyn Contender>], seen: &[Seen]) {
    println!(
        "{:<28} {:>9} {:>5} {:>5} {:>7} {:>7} {:>7} {:>8} {:>20} {:>20} {:>18} {:>18} {:>7}",
        "milliseconds",
        "requests",
        "lost",
        "idle",
        "p50",
        "p99",
        "p99.9",
        "gap",
        "the command",
        "to first of new",
        "to last of old",
        "gap, each round",
        "RSS KiB"
    );
    for (contender, seen) in contenders.iter().zip(seen) {
        let took = Sample::of(seen.took_ms.iter().copied());
        let [command, first, moved, gaps] =
            [&seen.command, &seen.first, &seen.moved, &seen.gaps].map(Sample::millis);
        let range =
            |sample: &Sample| format!("{:.0} ({:.0} to {:.0})", sample.median(), sample.min(), sample.max());
        println!(
            "{:<28} {:>9} {:>5} {:>5} {:>7.2} {:>7.2} {:>7.2} {:>8.1} {:>20} {:>20} {:>18} {:>18} {:>7}",
            contender.name(),
            took.count(),
            seen.lost(),
            seen.idle,
            took.median(),
            took.at(0.99),
            took.at(0.999),
            gaps.max(),
            if contender.name().ends_with("HUP") { "a signal".into() } else { range(&command) },
            range(&first),
            range(&moved),
            range(&gaps),
            contender.rss_kib()
        );
        let lost: BTreeMap<String, u64> =
            seen.lost.iter().map(|(kind, count)| (format!("{kind:?}"), *count)).collect();
        let spans =
            |sample: &Sample| json!({ "median": sample.median(), "min": sample.min(), "max": sample.max() });
        section.row(json!({
            "who": contender.name(),
            "rounds": seen.first.len(),
            "requests": took.count(),
            "lost": lost,
            "idle_closes": seen.idle,
            "p50_ms": took.median(),
            "p99_ms": took.at(0.99),
            "p99.9_ms": took.at(0.999),
            "longest_gap_ms": spans(&gaps),
            "command_ms": spans(&command),
            "to_first_of_new_ms": spans(&first),
            "to_last_of_old_ms": spans(&moved),
            "rss_kib": contender.rss_kib(),
        }));
    }
    section.note("idle: kept-alive connections that the server ended between two requests: no loss");
    section.note("Server::Starter tells the old worker to stop once the new one has lived for a second");
}
