//! `supctl history`: a table, a line for each thing that happened.

use super::table::{Align, Cell, Column, draw};
use super::text::{Colour, Paint, clean};
use crate::codec::json::{ByView, HistoryEntry, SideView};
use crate::codec::span::fine;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::unistd::{Uid, User};
use std::collections::BTreeMap;
use std::time::Duration;

const COLUMNS: [Column; 7] = [
    Column { heading: "TIME", align: Align::Left, width_min: 19 },
    Column { heading: "UNIT", align: Align::Left, width_min: 4 },
    Column { heading: "WHAT", align: Align::Left, width_min: 8 },
    Column { heading: "FROM", align: Align::Left, width_min: 4 },
    Column { heading: "TO", align: Align::Left, width_min: 4 },
    Column { heading: "WHO", align: Align::Left, width_min: 4 },
    Column { heading: "NOTE", align: Align::Left, width_min: 0 },
];

/// Names of users, looked up once.
#[derive(Debug, Default)]
pub(in crate::ctl) struct Names(BTreeMap<u32, String>);

impl Names {
    fn of(&mut self, uid: u32) -> String {
        let known = || User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
        self.0.entry(uid).or_insert_with(|| known().unwrap_or_else(|| uid.to_string())).clone()
    }
}

/// One entry for each swap, where its end is there too: the beginning says what kind it was, and who
/// asked.
pub(in crate::ctl) fn collapse(entries: Vec<HistoryEntry>) -> Vec<HistoryEntry> {
    let key = |entry: &HistoryEntry| Some((entry.unit.clone()?, entry.swap_id?));
    let of = |what: &str| {
        let its = entries.iter().filter(|entry| entry.what == what);
        its.filter_map(|entry| Some((key(entry)?, entry.clone()))).collect::<BTreeMap<_, _>>()
    };
    let (began, ended) = (of("began"), of("ended"));
    let mut shown = Vec::new();
    for mut entry in entries {
        let swap = key(&entry);
        let is_over = swap.as_ref().is_some_and(|swap| ended.contains_key(swap));
        if let Some(began) = swap.as_ref().and_then(|swap| began.get(swap)).filter(|_| entry.what == "ended")
        {
            entry.kind = entry.kind.or_else(|| began.kind.clone());
            entry.by = entry.by.or_else(|| began.by.clone());
            entry.from = entry.from.or_else(|| began.from.clone());
            entry.to = entry.to.or_else(|| began.to.clone());
        }
        match entry.what.as_str() {
            "switched" => {}
            "began" if is_over => {}
            _ => shown.push(entry),
        }
    }
    shown
}

/// The table, in this time zone.
pub(in crate::ctl) fn table(
    entries: &[HistoryEntry],
    zone: &TimeZone,
    names: &mut Names,
    paint: Paint,
) -> Vec<String> {
    if entries.is_empty() {
        return vec!["Nothing has happened.".to_owned()];
    }
    let rows: Vec<_> = entries.iter().map(|entry| row(entry, zone, names)).collect();
    draw(&COLUMNS, &rows, paint)
}

fn row(entry: &HistoryEntry, zone: &TimeZone, names: &mut Names) -> [Cell; 7] {
    let text = |text: &str| Cell::from(clean(text).into_owned());
    let (from, to) = match &entry.release {
        Some(release) => (String::new(), release.clone()),
        None => (side(entry.from.as_ref()), side(entry.to.as_ref())),
    };
    let to = match entry.generation {
        Some(generation) if to.is_empty() => format!("g{generation}"),
        Some(_) | None => to,
    };
    [
        time(entry.at_us, zone).into(),
        text(entry.unit.as_deref().unwrap_or("-")),
        what(entry),
        text(&from),
        text(&to),
        text(&entry.by.as_ref().map(|by| who(by, names)).unwrap_or_default()),
        text(&note(entry)),
    ]
}

/// `2026-11-25 03:00:12`
pub(in crate::ctl) fn time(at_us: u64, zone: &TimeZone) -> String {
    let at = i64::try_from(at_us).ok().and_then(|at| Timestamp::from_microsecond(at).ok());
    let text = |at: Timestamp| at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    at.map_or_else(|| "-".to_owned(), text)
}

fn what(entry: &HistoryEntry) -> Cell {
    let kind = entry.kind.as_deref().unwrap_or("swap");
    let words = match (entry.what.as_str(), &entry.result) {
        ("began", _) => format!("{kind} began"),
        ("ended", Some(result)) => format!("{kind} {result}"),
        (other, _) => other.to_owned(),
    };
    let colour = match (entry.what.as_str(), entry.result.as_deref()) {
        ("ended", Some("committed")) => Some(Colour::Good),
        ("ended", Some("failed" | "rolled-back"))
        | ("worker-failed" | "install-failed" | "quarantined" | "gap", _) => Some(Colour::Bad),
        ("supd-started", _) if entry.cause.is_some() => Some(Colour::Bad),
        _ => None,
    };
    Cell { text: clean(&words).into_owned(), colour }
}

/// A release, else a generation.
fn side(side: Option<&SideView>) -> String {
    side.map(|side| side.release.clone().unwrap_or_else(|| format!("g{}", side.generation)))
        .unwrap_or_default()
}

/// `root (alice)`: who asked, and who had logged in.
fn who(by: &ByView, names: &mut Names) -> String {
    let user = names.of(by.uid);
    match by.login_uid {
        Some(login) if login != by.uid => format!("{user} ({})", names.of(login)),
        Some(_) | None => user,
    }
}

fn note(entry: &HistoryEntry) -> String {
    let by = entry.by.as_ref();
    // What was typed, where the kind does not say it.
    let verb = by.map(|by| by.verb.as_str()).filter(|verb| !said(entry, verb)).map(str::to_owned);
    let reason = by.and_then(|by| by.reason.as_ref()).map(|reason| format!("\"{reason}\""));
    let times = entry.times.filter(|times| *times > 1).map(|times| format!("{times} times"));
    let ready = entry.ready_ms.map(|ms| format!("ready {}", fine(Duration::from_millis(ms))));
    let switch = entry.switch_us.map(|us| format!("switch {}", fine(Duration::from_micros(us))));
    let parts = [verb, reason, times, entry.cause.clone(), ready, switch];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn said(entry: &HistoryEntry, verb: &str) -> bool {
    entry.kind.as_deref() == Some(verb)
        || matches!(
            (entry.what.as_str(), verb),
            ("installed" | "install-failed", "install")
                | ("undeployed", "undeploy")
                | ("waiting", "start")
                | ("stopped", "stop")
                | ("reloaded", "reload")
                | ("signalled", "kill")
                | ("daemon-reload", "daemon-reload")
                | ("reexec" | "reexec-failed", "reexec")
                | ("supd-ended", "shutdown")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: u64, what: &str) -> HistoryEntry {
        HistoryEntry {
            seq,
            at_us: 1_764_039_600_000_000 + seq * 1_000_000,
            what: what.into(),
            unit: Some("web".into()),
            ..HistoryEntry::default()
        }
    }

    fn swap() -> Vec<HistoryEntry> {
        let side = |generation, release: &str| Some(SideView { generation, release: Some(release.into()) });
        let by = ByView {
            uid: 4_000_000,
            login_uid: Some(4_000_001),
            verb: "deploy".into(),
            reason: Some("CI\x1b".into()),
        };
        let began =
            HistoryEntry { kind: Some("swap".into()), by: Some(by), swap_id: Some(4), ..entry(1, "began") };
        let switched = HistoryEntry { swap_id: Some(4), ..entry(2, "switched") };
        let ended = HistoryEntry {
            swap_id: Some(4),
            from: side(7, "1.4.2"),
            to: side(8, "1.5.0"),
            result: Some("rolled-back".into()),
            cause: Some("worker 0 ended: exit status 3".into()),
            ready_ms: Some(140),
            switch_us: Some(77),
            ..entry(3, "ended")
        };
        vec![began, switched, ended]
    }

    #[test]
    fn a_swap_is_one_line_with_who_why_and_what_came_of_it() {
        let shown = collapse(swap());
        assert_eq!(shown.len(), 1);
        let lines = table(&shown, &TimeZone::UTC, &mut Names::default(), Paint(false));
        assert_eq!(
            lines[1],
            "2025-11-25 03:00:03  web   swap rolled-back  1.4.2  1.5.0  4000000 (4000001)  deploy; \
             \"CI\u{fffd}\"; worker 0 ended: exit status 3; ready 140ms; switch 77us"
        );
    }

    #[test]
    fn a_swap_without_an_end_is_shown_as_begun() {
        let mut entries = swap();
        entries.pop();
        let shown = collapse(entries);
        assert_eq!(shown.iter().map(|entry| entry.what.as_str()).collect::<Vec<_>>(), ["began"]);
        let line = &table(&shown, &TimeZone::UTC, &mut Names::default(), Paint(false))[1];
        assert!(line.contains("swap began"), "{line}");
    }

    #[test]
    fn other_things_have_their_words() {
        let failed = HistoryEntry {
            generation: Some(8),
            times: Some(37),
            cause: Some("worker 0 ended: killed by SIGSEGV".into()),
            ..entry(1, "worker-failed")
        };
        let about_supd = HistoryEntry { unit: None, ..entry(2, "supd-ended") };
        let lines = table(&[failed, about_supd], &TimeZone::UTC, &mut Names::default(), Paint(false));
        assert!(
            lines[1].ends_with("g8          37 times; worker 0 ended: killed by SIGSEGV"),
            "{}",
            lines[1]
        );
        assert_eq!(lines[2], "2025-11-25 03:00:02  -     supd-ended");
        assert_eq!(table(&[], &TimeZone::UTC, &mut Names::default(), Paint(false)).len(), 1);
    }
}
