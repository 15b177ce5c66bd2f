//! `supctl status`: a table of units, and one unit in detail.

use super::size::size;
use super::table::{Align, Cell, Column, draw};
use super::text::{Colour, Paint, clean};
use crate::codec::json::{GenerationView, QueueView, RollbackView, StatusView, SwapView, UnitView};
use crate::codec::span::{coarse, fine};
use std::time::Duration;

const COLUMNS: [Column; 9] = [
    Column { heading: "UNIT", align: Align::Left, width_min: 5 },
    Column { heading: "STATE", align: Align::Left, width_min: 7 },
    Column { heading: "RELEASE", align: Align::Left, width_min: 7 },
    Column { heading: "GEN", align: Align::Right, width_min: 3 },
    Column { heading: "UP", align: Align::Left, width_min: 5 },
    Column { heading: "CONN", align: Align::Right, width_min: 4 },
    Column { heading: "QUEUE", align: Align::Right, width_min: 5 },
    Column { heading: "ROLLBACK", align: Align::Left, width_min: 18 },
    Column { heading: "NOTE", align: Align::Left, width_min: 0 },
];

/// The table, a line for each unit; under a canary one more for each generation with a share.
pub(in crate::ctl) fn table(status: &StatusView, paint: Paint) -> Vec<String> {
    let rows: Vec<_> = status.units.iter().flat_map(rows_of).collect();
    let mut lines = draw(&COLUMNS, &rows, paint);
    lines.extend(status.notes.iter().map(|note| format!("supd: {}", clean(note))));
    lines
}

fn rows_of(unit: &UnitView) -> Vec<[Cell; 9]> {
    let shown = shown(unit);
    let queue = unit.listeners.iter().filter_map(|listener| listener.queue).reduce(|one, two| one + two);
    let state = Cell { text: clean(&unit.state).into_owned(), colour: Some(colour(&unit.state)) };
    let [release, generation, up, connections] = cells_of(shown);
    let first = [
        clean(&unit.unit).as_ref().into(),
        state,
        release,
        generation,
        up,
        connections,
        number(queue),
        rollback(unit.rollback.as_ref()).into(),
        clean(&unit.notes.join("; ")).as_ref().into(),
    ];
    let has_share = |generation: &&GenerationView| generation.share.is_some_and(|share| share > 0.0);
    let others = unit
        .generations
        .iter()
        .filter(has_share)
        .filter(|other| shown.is_some_and(|shown| shown.generation != other.generation));
    let more = others.map(|other| {
        let [release, generation, up, connections] = cells_of(Some(other));
        let state = clean(&other.state).as_ref().into();
        let note = format!("{}% of new connections", other.share.unwrap_or(0.0));
        [
            Cell::default(),
            state,
            release,
            generation,
            up,
            connections,
            Cell::default(),
            Cell::default(),
            note.into(),
        ]
    });
    std::iter::once(first).chain(more).collect()
}

/// The generation that a unit's line is about: the one on its way in a canary, else the one that
/// receives the traffic, else the one that is to.
fn shown(unit: &UnitView) -> Option<&GenerationView> {
    let of_state = |state: &str| unit.generations.iter().find(|generation| generation.state == state);
    let active = || unit.generations.iter().find(|generation| Some(generation.generation) == unit.active);
    of_state("canary").or_else(active).or_else(|| of_state("candidate"))
}

fn cells_of(generation: Option<&GenerationView>) -> [Cell; 4] {
    let Some(generation) = generation else { return ["-".into(), "-".into(), "-".into(), "-".into()] };
    let release = generation.release.as_deref().map_or("-".into(), clean);
    [
        release.as_ref().into(),
        generation.generation.to_string().into(),
        uptime(generation).unwrap_or_else(|| "-".to_owned()).into(),
        number(generation.connections),
    ]
}

/// Since its launch, as long as there is anything of it: between a crash and the next launch nothing is
/// up.
fn uptime(generation: &GenerationView) -> Option<String> {
    let runs = generation.workers.is_empty() || generation.workers.iter().any(|worker| worker.pid.is_some());
    runs.then(|| coarse(Duration::from_millis(generation.uptime_ms)))
}

fn number(number: Option<u64>) -> Cell {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string()).into()
}

fn rollback(target: Option<&RollbackView>) -> String {
    let Some(target) = target else { return "none".into() };
    let label = match target.release.as_deref() {
        Some(release) => clean(release).into_owned(),
        None => format!("gen {}", target.generation),
    };
    match (target.warm, target.warm_ms) {
        (true, Some(left)) => format!("{label} warm, {}", coarse(Duration::from_millis(left))),
        (true, None) => format!("{label} warm"),
        (false, _) if target.pinned => format!("{label} cold"),
        (false, _) => "none (pinned: no)".into(),
    }
}

fn colour(state: &str) -> Colour {
    match state {
        "active" => Colour::Good,
        "stopped" => Colour::Faint,
        "waiting" | "starting" | "canary" | "probation" | "stopping" => Colour::Moving,
        _ => Colour::Bad,
    }
}

/// What the table has no room for.
pub(in crate::ctl) fn detail(unit: &UnitView, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |what: &str, text: &str| {
        let what = format!("{what:<13}");
        lines.push(format!("  {} {text}", paint.apply(Colour::Faint, &what)));
    };
    if !unit.description.is_empty() {
        say("what", &clean(&unit.description));
    }
    say("health", &format!("{} (traffic {})", clean(&unit.health), clean(&unit.traffic)));
    for listener in &unit.listeners {
        let kind = match listener.mechanism.as_deref().map(clean) {
            Some(how) if listener.steered => format!("a slot for each generation, {how}"),
            Some(how) => how.into_owned(),
            None => "shared".to_owned(),
        };
        let queue = match (listener.queue, listener.queue_bytes) {
            (Some(count), _) => format!(", {count} waiting"),
            (None, Some(bytes)) => format!(", {bytes} bytes waiting"),
            (None, None) => String::new(),
        };
        let how = match (clean(&listener.note), &listener.mechanism) {
            (note, _) if note.is_empty() => format!("{kind}{queue}"),
            (note, Some(_)) => format!("{note}, {kind}{queue}"),
            // It is not bound yet.
            (note, None) => format!("{note}{queue}"),
        };
        say("listener", &format!("{} {} ({how})", clean(&listener.name), clean(&listener.address)));
    }
    for generation in &unit.generations {
        say(&format!("generation {}", generation.generation), &generation_line(generation));
        for worker in &generation.workers {
            let pid = worker.pid.map_or("-".into(), |pid| pid.to_string());
            let said = match clean(&worker.status_text) {
                nothing if nothing.is_empty() => String::new(),
                text => format!(": {text}"),
            };
            let before = match worker.last_exit.as_deref() {
                Some(exit) => format!(" (the one before it: {})", clean(exit)),
                None => String::new(),
            };
            say("", &format!("worker {} pid {pid} {}{said}{before}", worker.worker, clean(&worker.phase)));
        }
    }
    if let Some(why) = &unit.cgroup_missing {
        say("cgroup", &format!("none: {}", clean(why)));
    }
    if let Some(swap) = &unit.last_swap {
        // Why a unit is down is told once, in its note.
        let noted = |cause: &&String| unit.notes.iter().any(|note| note.contains(cause.as_str()));
        let cause = swap.cause.as_ref().filter(|cause| !noted(cause));
        say("last swap", &swap_line(swap, cause));
    }
    for note in &unit.notes {
        say("note", &clean(note));
    }
    lines
}

fn generation_line(generation: &GenerationView) -> String {
    let mut parts = vec![clean(&generation.state).into_owned()];
    parts.extend(generation.release.as_deref().map(|release| format!("release {}", clean(release))));
    parts.extend(uptime(generation).map(|up| format!("up {up}")));
    parts.extend(generation.share.map(|share| format!("{share}% of new connections")));
    if let Some(open) = generation.connections {
        let oldest = generation.oldest_ms.map(|age| coarse(Duration::from_millis(age)));
        let oldest = oldest.map_or(String::new(), |age| format!(" (the oldest for at least {age})"));
        parts.push(format!("{open} open{oldest}"));
    }
    parts.extend(generation.queues.iter().filter_map(waiting));
    parts.extend(generation.pinned.map(|pinned| if pinned { "pinned" } else { "pinned: no" }.to_owned()));
    parts.extend(generation.stored.map(|stored| format!("{stored} stored")));
    parts.extend(generation.memory_bytes.map(|bytes| format!("{} of memory", size(bytes))));
    parts.extend(generation.cpu_us.map(|used| format!("{} of CPU", fine(Duration::from_micros(used)))));
    parts.extend(generation.tasks.map(|tasks| format!("{tasks} task{}", if tasks == 1 { "" } else { "s" })));
    parts.join(", ")
}

/// What waits for a generation in one listener, if anything does.
fn waiting(queue: &QueueView) -> Option<String> {
    let (name, anyone) = (clean(&queue.name), if queue.shared { " for any generation" } else { "" });
    match (queue.connections, queue.bytes) {
        (Some(count @ 1..), _) => Some(format!("{count} waiting at {name}{anyone}")),
        (None, Some(bytes @ 1..)) => Some(format!("{bytes} bytes waiting at {name}{anyone}")),
        _ => None,
    }
}

fn swap_line(swap: &SwapView, cause: Option<&String>) -> String {
    let from = swap.from.map_or("nothing".into(), |from| from.to_string());
    let mut line = format!("{}: {from} to {}, {}", swap.swap_id, swap.to, clean(&swap.result));
    if let Some(ready) = swap.ready_ms {
        line += &format!(", ready after {}", fine(Duration::from_millis(ready)));
    }
    if let Some(switch) = swap.switch_us {
        line += &format!(", switched in {}", fine(Duration::from_micros(switch)));
    }
    if let Some(gap) = swap.gap_ms {
        line += &format!(", new connections waited for {}", fine(Duration::from_millis(gap)));
    }
    if let Some(cause) = cause {
        line += &format!(": {}", clean(cause));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::{ListenerView, QueueView, WorkerView};

    fn generation(number: u64, release: &str, state: &str, up: u64, open: u64) -> GenerationView {
        GenerationView {
            generation: number,
            release: (!release.is_empty()).then(|| release.to_owned()),
            state: state.into(),
            uptime_ms: up * 1000,
            connections: Some(open),
            ..GenerationView::default()
        }
    }

    fn unit(name: &str, state: &str, generations: Vec<GenerationView>) -> UnitView {
        UnitView {
            unit: name.into(),
            state: state.into(),
            active: generations.last().map(|generation| generation.generation),
            generations,
            listeners: vec![ListenerView { queue: Some(0), ..ListenerView::default() }],
            ..UnitView::default()
        }
    }

    fn back(release: &str, warm: bool, warm_ms: Option<u64>) -> Option<RollbackView> {
        let release = (!release.is_empty()).then(|| release.to_owned());
        Some(RollbackView { generation: 2, release, warm, warm_ms, pinned: false })
    }

    #[test]
    fn the_table_is_that_of_the_design() {
        let web = UnitView {
            rollback: back("1.4.2", true, Some(58 * 60_000)),
            ..unit("web", "active", vec![generation(8, "1.5.0", "active", 120, 1204)])
        };
        let api = UnitView {
            rollback: back("2.0.9", true, None),
            notes: vec!["5% of new connections, 80s to 25%".into()],
            ..unit("api", "canary", vec![generation(12, "2.1.0", "canary", 40, 61)])
        };
        let db = UnitView {
            rollback: back("", false, None),
            notes: vec!["changed on disk: supctl restart db".into()],
            ..unit("db", "active", vec![generation(3, "", "active", 12 * 86_400, 87)])
        };
        let status = StatusView { units: vec![web, api, db], ..StatusView::default() };
        let design = "\
UNIT   STATE    RELEASE  GEN  UP     CONN  QUEUE  ROLLBACK            NOTE
web    active   1.5.0      8  2min   1204      0  1.4.2 warm, 58min
api    canary   2.1.0     12  40s      61      0  2.0.9 warm          5% of new connections, 80s to 25%
db     active   -          3  12d      87      0  none (pinned: no)   changed on disk: supctl restart db";
        assert_eq!(table(&status, Paint(false)).join("\n"), design);
    }

    #[test]
    fn a_canary_has_a_line_for_each_generation_with_a_share() {
        let share = |mut generation: GenerationView, share| {
            generation.share = Some(share);
            generation
        };
        let api = UnitView {
            active: Some(11),
            ..unit(
                "api",
                "canary",
                vec![
                    share(generation(10, "2.0.8", "standby", 9_000, 3), 0.0),
                    share(generation(11, "2.0.9", "active", 9_000, 900), 97.5),
                    share(generation(12, "2.1.0", "canary", 40, 61), 2.5),
                ],
            )
        };
        let status =
            StatusView { units: vec![api], notes: vec!["no bpf(2): EPERM".into()], ..Default::default() };
        let expected = "\
UNIT   STATE    RELEASE  GEN  UP     CONN  QUEUE  ROLLBACK            NOTE
api    canary   2.1.0     12  40s      61      0  none
       active   2.0.9     11  2h      900                             97.5% of new connections
supd: no bpf(2): EPERM";
        assert_eq!(table(&status, Paint(false)).join("\n"), expected);
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_what_is_new_is_shown() {
        let mut stopped = unit("web", "stopped", Vec::new());
        stopped.listeners.clear();
        let mut newer = unit("x\x1b[31m", "levitating", vec![generation(1, "", "active", 1, 0)]);
        newer.generations[0].connections = None;
        newer.rollback = Some(RollbackView { generation: 7, pinned: true, ..RollbackView::default() });
        let status = StatusView { units: vec![stopped, newer], ..StatusView::default() };
        let lines = table(&status, Paint(false));
        let expected = [
            "web     stopped     -          -  -         -      -  none",
            "x\u{fffd}[31m  levitating  -          1  1s        -      0  gen 7 cold",
        ];
        assert_eq!(lines[1..], expected);
        let painted = table(&status, Paint(true));
        assert!(painted[1].contains("\x1b[2mstopped\x1b[0m     -"), "{}", painted[1]);
        assert!(painted[2].contains("\x1b[31mlevitating\x1b[0m"));
    }

    #[test]
    fn what_a_generation_uses_or_why_that_is_not_known() {
        let mut web = unit("web", "active", vec![generation(8, "", "active", 5, 61)]);
        let generation = &mut web.generations[0];
        (generation.memory_bytes, generation.cpu_us, generation.tasks) =
            (Some(12_300_000), Some(250_000), Some(1));
        let line = "  generation 8  active, up 5s, 61 open, 12.3 MB of memory, 250ms of CPU, 1 task";
        assert!(detail(&web, Paint(false)).iter().any(|it| it == line), "{:?}", detail(&web, Paint(false)));
        web.cgroup_missing = Some("no cgroup2 file system is mounted".into());
        let line = "  cgroup        none: no cgroup2 file system is mounted";
        assert!(detail(&web, Paint(false)).iter().any(|it| it == line));
    }

    #[test]
    fn the_detail_of_a_unit() {
        let mut web = unit("web", "probation", vec![generation(8, "1.5.0", "active", 5, 61)]);
        web.description = "Public web API".into();
        web.health = "up".into();
        web.traffic = "on".into();
        web.listeners = vec![ListenerView {
            name: "http".into(),
            address: "0.0.0.0:8080".into(),
            steered: true,
            mechanism: Some("classic: bpf(2): EPERM".into()),
            queue: Some(2),
            queue_bytes: None,
            note: String::new(),
        }];
        let next = "applies at the next swap".to_owned();
        let at = |address: &str| ListenerView {
            name: "http".into(),
            address: address.into(),
            ..Default::default()
        };
        web.listeners.push(ListenerView { note: next, ..at("0.0.0.0:8081") });
        let (note, mechanism) = ("of generation 9".to_owned(), Some("ebpf".to_owned()));
        web.listeners.push(ListenerView { note, steered: true, mechanism, ..at("0.0.0.0:8082") });
        web.listeners.push(ListenerView {
            name: "dns".into(),
            mechanism: Some("shared".into()),
            queue_bytes: Some(768),
            ..at("0.0.0.0:53")
        });
        web.generations[0].oldest_ms = Some(180_000);
        web.generations[0].pinned = Some(false);
        web.generations[0].stored = Some(3);
        let queue = |name: &str, connections, bytes, shared| QueueView {
            name: name.into(),
            shared,
            connections,
            bytes,
            ..QueueView::default()
        };
        web.generations[0].queues = vec![
            queue("http", Some(2), None, false),
            queue("admin\x1b", Some(0), None, false),
            queue("log", None, Some(512), true),
        ];
        web.generations[0].workers = vec![WorkerView {
            worker: 0,
            pid: Some(42),
            phase: "serving".into(),
            status_text: "idle\x07".into(),
            last_exit: Some("exit status 3".into()),
        }];
        web.last_swap = Some(SwapView {
            swap_id: 3,
            from: Some(7),
            to: 8,
            result: "running".into(),
            ready_ms: Some(1420),
            switch_us: Some(90),
            gap_ms: None,
            cause: None,
        });
        web.notes = vec!["probation: 8s left".into()];
        let expected = "
  what          Public web API
  health        up (traffic on)
  listener      http 0.0.0.0:8080 (a slot for each generation, classic: bpf(2): EPERM, 2 waiting)
  listener      http 0.0.0.0:8081 (applies at the next swap)
  listener      http 0.0.0.0:8082 (of generation 9, a slot for each generation, ebpf)
  listener      dns 0.0.0.0:53 (shared, 768 bytes waiting)
  generation 8  active, release 1.5.0, up 5s, 61 open (the oldest for at least 3min), \
                2 waiting at http, 512 bytes waiting at log for any generation, pinned: no, 3 stored
                worker 0 pid 42 serving: idle\u{fffd} (the one before it: exit status 3)
  last swap     3: 7 to 8, running, ready after 1.42s, switched in 90us
  note          probation: 8s left";
        assert_eq!(format!("\n{}", detail(&web, Paint(false)).join("\n")), expected);
    }
}
