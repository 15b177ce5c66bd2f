//! What a person reads on standard output, and what a program reads in target/bench.

use crate::numbers::{Sample, short};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One benchmark's report, under way.
pub(crate) struct Section {
    name: &'static str,
    began: Instant,
    figures: Vec<Value>,
    notes: Vec<String>,
    /// Promises that did not hold.
    broken: Vec<String>,
    load_before: String,
}

/// What a figure may be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget(pub(crate) f64);

impl Section {
    pub(crate) fn begin(name: &'static str, what: &str) -> Self {
        let load_before = load_average();
        println!("\n== {name}: {what} ==");
        println!("   ({} processors; load average before: {load_before})", processors());
        let (figures, notes, broken) = Default::default();
        Self { name, began: Instant::now(), figures, notes, broken, load_before }
    }

    /// A figure, its median and its range.
    pub(crate) fn figure(&mut self, what: &str, sample: &Sample, unit: &str) {
        self.line(what, &format!("{sample} {unit}"), "");
        let mut value = described(what, sample, unit);
        value.insert("p99".into(), json!(sample.at(0.99)));
        self.figures.push(value.into());
    }

    /// A figure whose median has a budget.
    pub(crate) fn judged(&mut self, what: &str, sample: &Sample, unit: &str, budget: Budget) {
        self.judge(what, sample, unit, sample.median(), budget);
    }

    /// A figure whose 99th percentile has a budget.
    pub(crate) fn judged_p99(&mut self, what: &str, sample: &Sample, unit: &str, budget: Budget) {
        let p99 = sample.at(0.99);
        self.judge(&format!("{what}; p99 {}", short(p99)), sample, unit, p99, budget);
    }

    fn judge(&mut self, what: &str, sample: &Sample, unit: &str, value: f64, Budget(most): Budget) {
        let verdict = if value <= most { "within" } else { "OVER" };
        self.verdict(what, sample, unit, most, verdict);
    }

    /// A difference in per cent: where the noise is wider than the budget, that is the verdict.
    pub(crate) fn judged_difference(&mut self, what: &str, sample: &Sample, Budget(most): Budget) {
        let (low, high) = sample.interval();
        let verdict = match (low > most, high <= most) {
            (true, _) => "OVER".into(),
            (_, true) => "within".into(),
            _ => format!("cannot be told here: the median lies in {} to {} %", short(low), short(high)),
        };
        self.verdict(what, sample, "%", most, &verdict);
    }

    fn verdict(&mut self, what: &str, sample: &Sample, unit: &str, most: f64, verdict: &str) {
        self.line(what, &format!("{sample} {unit}"), &format!("budget {} {unit}: {verdict}", short(most)));
        let mut value = described(what, sample, unit);
        value.insert("p99".into(), json!(sample.at(0.99)));
        value.insert("budget".into(), json!(most));
        value.insert("verdict".into(), json!(verdict));
        self.figures.push(value.into());
    }

    /// What must be none, whatever the machine.
    pub(crate) fn promised(&mut self, what: &str, count: u64, of: u64) {
        let verdict = if count == 0 { "kept" } else { "BROKEN" };
        self.line(what, &format!("{count} of {of}"), &format!("promise 0: {verdict}"));
        self.figures
            .push(json!({ "what": what, "count": count, "of": of, "promise": 0, "verdict": verdict }));
        if count > 0 {
            self.broken.push(format!("{what}: {count} of {of}"));
        }
    }

    /// A row of a table that the benchmark prints itself.
    pub(crate) fn row(&mut self, value: Value) {
        self.figures.push(value);
    }

    pub(crate) fn note(&mut self, text: &str) {
        println!("   {text}");
        self.notes.push(text.to_owned());
    }

    /// Something to compare with is missing here: said so that nobody overlooks it.
    pub(crate) fn skipped(&mut self, what: &str, remedy: &str) {
        println!("!! SKIPPED: {what}: {remedy}");
        self.notes.push(format!("skipped: {what}: {remedy}"));
    }

    #[allow(clippy::unused_self, reason = "a line belongs to a section that has begun")]
    fn line(&self, what: &str, value: &str, verdict: &str) {
        println!("{}", format!("{what:<60} {value:<32} {verdict}").trim_end());
    }

    /// Writes the file; the promises that did not hold.
    pub(crate) fn end(self) -> Vec<String> {
        let value = json!({
            "format": 1,
            "benchmark": self.name,
            "unix_time": SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            "took_seconds": self.began.elapsed().as_secs_f64(),
            "machine": {
                "processors": processors(),
                "kernel": read("/proc/sys/kernel/osrelease"),
                "load_average": [self.load_before, load_average()],
            },
            "figures": self.figures,
            "notes": self.notes,
        });
        let folder = folder();
        let path = folder.join(format!("{}.json", self.name));
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, format!("{value:#}\n")));
        match written {
            Ok(()) => println!("   ({:.1?}; {})", self.began.elapsed(), path.display()),
            Err(error) => eprintln!("cannot write {}: {error}", path.display()),
        }
        self.broken
    }
}

fn described(what: &str, sample: &Sample, unit: &str) -> Map<String, Value> {
    let value = json!({
        "what": what,
        "unit": unit,
        "measured": sample.count(),
        "median": sample.median(),
        "min": sample.min(),
        "max": sample.max(),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// target/bench, wherever cargo's target folder is.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench")
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn load_average() -> String {
    read("/proc/loadavg").split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
