use super::*;
use crate::codec::json::ListenerView;
use crate::model::{Generation, SwapId, SwapKind, UnitName};

fn generation(number: u64, state: &str, share: Option<f64>) -> GenerationView {
    GenerationView {
        generation: number,
        release: Some(format!("1.{number}")),
        state: state.to_owned(),
        share,
        connections: Some(3),
        oldest_ms: Some(1500),
        counted_ms: Some(250),
        uptime_ms: 61_000,
        memory_bytes: Some(4096),
        cpu_us: Some(1_500_000),
        ..GenerationView::default()
    }
}

fn web() -> UnitView {
    let listener = ListenerView {
        name: "http".into(),
        address: "127.0.0.1:80".into(),
        queue: Some(2),
        ..ListenerView::default()
    };
    UnitView {
        unit: "web".into(),
        state: "canary".into(),
        health: "up".into(),
        listeners: vec![listener],
        generations: vec![generation(1, "active", Some(95.0)), generation(2, "canary", Some(5.0))],
        ..UnitView::default()
    }
}

fn snapshot(units: Vec<UnitView>) -> Snapshot {
    let (resident, began) = (Some(1 << 20), Duration::from_millis(1_700_000_000_500));
    Snapshot { version: "0.1.0", units, clients: 1, resident, began, ..Snapshot::default() }
}

fn tallies() -> Tallies {
    let mut tally = UnitTally::default();
    tally.launched(Generation(1), 0);
    tally.launched(Generation(1), 0);
    tally.failures = 1;
    tally.began(SwapId(1), SwapKind::Swap);
    let times = (Some(Duration::from_millis(300)), Some(Duration::from_micros(80)));
    tally.ended(SwapId(1), SwapResult::RolledBack, times);
    Tallies::from([(UnitName::new("web").unwrap(), tally)])
}

#[test]
fn golden() {
    let text = text(&snapshot(vec![web()]), &tallies());
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
    let expected = include_str!("golden.prom");
    assert_eq!(lines, expected.lines().collect::<Vec<_>>(), "\n{}", lines.join("\n"));
}

#[test]
fn a_family_is_told_once_and_its_lines_stand_together() {
    let text = text(&snapshot(vec![web(), web()]), &tallies());
    let mut seen = std::collections::BTreeSet::new();
    let mut family = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(seen.insert(family), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(family), "{line} is not of {family}");
        }
    }
}

#[test]
fn what_others_wrote_ends_no_label() {
    let mut unit = web();
    unit.generations[0].release = Some("a\"} 1\nevil{x=\"\\".into());
    let text = text(&snapshot(vec![unit]), &Tallies::new());
    assert!(text.contains(r#"release="a\"} 1\nevil{x=\"\\",state="active"} 1"#), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("evil")));
}

#[test]
fn what_is_not_known_has_no_line() {
    let mut unit = web();
    unit.generations = vec![GenerationView { state: "active".into(), ..GenerationView::default() }];
    let text = text(&snapshot(vec![unit]), &Tallies::new());
    assert!(!text.contains("supd_connections") && !text.contains("supd_memory_bytes"), "{text}");
    assert!(text.contains("supd_share_ratio{unit=\"web\",generation=\"0\"} 1\n"), "{text}");
}

#[test]
fn a_thousand_units() {
    let units: Vec<UnitView> =
        (0..1000).map(|number| UnitView { unit: format!("unit-{number}"), ..web() }).collect();
    let text = text(&snapshot(units), &tallies());
    assert!(text.contains("supd_units{state=\"canary\"} 1000\n"));
    assert_eq!(text.matches("\nsupd_share_ratio{").count(), 2000);
    assert!(text.len() < 4 << 20, "{} bytes", text.len());
}
