//! A slot for each generation: a thousand switches under full load, shares, the way back beside that of
//! others, and what it costs to look at a drain.

use crate::Form;
use crate::contenders::{self, address};
use crate::fixture;
use crate::harness::{Supd, free_port};
use crate::load::tally::Tally;
use crate::load::{Load, Mode, Plan, Target};
use crate::numbers::{Sample, short};
use crate::reload;
use crate::report::{Budget, Section};
use crate::watched;
use serde_json::Value;
use std::fs;
use std::time::Duration;

const CLIENTS: usize = 16;
/// New connections from one switch to the next.
const BETWEEN: u64 = 300;
/// A machine on which this takes longer is no measure of anything.
const BOUND: Duration = Duration::from_secs(300);

pub(crate) fn run(form: Form, section: &mut Section) {
    let stage = Stage::start();
    stage.switches(section, 10 * form.swaps);
    stage.shares(section, 1000 * form.swaps as u64);
    drop(stage);
    watched::measure(section);
    let ways = contenders::ways_back(section);
    let rounds = form.swaps.clamp(5, 20);
    let (lost, requests) = reload::in_turns(section, &ways, rounds);
    section.promised(&format!("requests lost by supd in {} rollbacks", 2 * rounds), lost, requests);
    section.note("what is rolled back from is let go (--stop): until then its kept-alive clients stay");
}

/// A unit whose releases 1 and 2 live: one of them serves, the other stands by.
struct Stage {
    supd: Supd,
    port: u16,
}

impl Stage {
    fn start() -> Self {
        let (supd, port) = (Supd::start(), free_port());
        supd.write_unit(
            "web",
            &format!(
                "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\nBacklog = 4096\n\n[Service]\n\
                 ExecStart = [\"bin/server\"]\nEnvironment = {{ DAEMON_TEST_ROLE = \"worker\" }}\n\
                 ReadySettleSec = \"0\"\n\n[Swap]\nRetain = \"warm\"\nProbationSec = \"0\"\n"
            ),
        );
        supd.ctl(&["daemon-reload"]).expect(0);
        let stage = Self { supd, port };
        stage.bring("1", &[]);
        stage.bring("2", &[]);
        stage
    }

    fn bring(&self, label: &str, more: &[&str]) {
        let dist = self.supd.app().join(format!("dist-{label}"));
        fs::create_dir_all(dist.join("bin")).expect("a folder");
        fixture::mark(&dist.join("bin/server"), label);
        let deploy = ["deploy", "web", label, dist.to_str().expect("a plain path")];
        self.supd.ctl(&[&deploy, more].concat()).expect(0);
    }

    /// Each request has a connection of its own: that is what is steered.
    fn load(&self) -> Load {
        Load::start(Plan::new(Target::Tcp(address(self.port)), Mode::Close, CLIENTS))
    }

    /// Back and forth between the two that live, at full load.
    fn switches(&self, section: &mut Section, count: usize) {
        let load = self.load();
        load.wait_for_more(BETWEEN, BOUND);
        let (mut turns, mut took) = (Vec::new(), Vec::new());
        for number in 0..count {
            let back = number % 2 == 0;
            let asked = load.now();
            let command: &[&str] = if back { &["rollback", "web"] } else { &["swap", "web", "2"] };
            took.push(self.supd.ctl(command).expect(0).took);
            let from = load.now();
            load.wait_for_more(BETWEEN, BOUND);
            turns.push((asked, from, load.now(), if back { "1" } else { "2" }));
        }
        let tally = load.stop();
        let all = tally.answered() + tally.lost();
        section.promised(&format!("connections lost in {count} switches at full load"), tally.lost(), all);
        tell_losses(section, &tally);
        let (mut wrong, mut judged, mut moved) = (0, 0, Vec::new());
        for (asked, from, to, wanted) in turns {
            for (version, answered) in tally.versions_within(from, to) {
                judged += answered;
                wrong += if version == wanted { 0 } else { answered };
            }
            moved.push(tally.last_begun(asked, to, |version| version != wanted).saturating_sub(asked));
        }
        section.promised("begun after a switch, and on the wrong generation", wrong, judged);
        let switch = Sample::of(self.switched().into_iter().rev().take(count));
        section.judged_p99("the switch at full load, by supd's own clock", &switch, "us", Budget(100.0));
        section.figure("the whole command at full load, its flush included", &Sample::millis(&took), "ms");
        let what = "from the command to the last connection that the other got";
        section.figure(what, &Sample::millis(&moved), "ms");
        let rate = tally.answered() as f64 / tally.ran.as_secs_f64();
        section.figure("connections meanwhile", &Sample::of([rate]), "per second");
    }

    /// How long each switch took, in microseconds, from the first to the last.
    fn switched(&self) -> Vec<f64> {
        let history = self.supd.ctl(&["--json", "history", "web", "-n", "all"]).expect(0).stdout;
        let pages = serde_json::Deserializer::from_str(&history).into_iter::<Value>();
        let entries = pages.flat_map(|page| {
            let page = page.expect("the history as JSON");
            page["entries"].as_array().cloned().unwrap_or_default()
        });
        entries.filter_map(|entry| entry["switch_us"].as_f64()).collect()
    }

    /// How far from what was asked for the kernel's draws are.
    fn shares(&self, section: &mut Section, count: u64) {
        self.bring("3", &["--canary", "1%"]);
        let load = self.load();
        let mut spans = Vec::new();
        for percent in [1_u8, 5, 50] {
            self.supd.ctl(&["share", "web", &percent.to_string()]).expect(0);
            let from = load.now();
            load.wait_for_more(count + CLIENTS as u64, BOUND);
            spans.push((percent, from, load.now()));
        }
        let tally = load.stop();
        self.supd.ctl(&["abort", "web"]).expect(0);
        for (percent, from, to) in spans {
            let versions = tally.versions_within(from, to);
            let of = |version: &str| versions.get(version).copied().unwrap_or_default();
            let (candidate, all) = (of("3"), versions.values().sum::<u64>());
            let share = f64::from(percent) / 100.0;
            let deviation = (all as f64 * share * (1.0 - share)).sqrt();
            let off = (candidate as f64 - all as f64 * share).abs() / deviation;
            let what = format!(
                "a share of {percent} %: {candidate} of {all}, {} %",
                short(100.0 * candidate as f64 / all as f64)
            );
            section.judged(&what, &Sample::of([off]), "deviations off", Budget(3.0));
        }
        let all = tally.answered() + tally.lost();
        section.promised("connections lost while shares change", tally.lost(), all);
        tell_losses(section, &tally);
    }
}

fn tell_losses(section: &mut Section, tally: &Tally) {
    for loss in tally.losses.iter().take(5) {
        section.note(&format!("lost at {:.3?}: {:?} at {}: {}", loss.at, loss.kind, loss.phase, loss.detail));
    }
}
