//! What the journal has of a generation, as journalctl(1) gives it: line by line, each with who wrote it.
//!
//! A line is a generation's by the cgroup that the journal saw its writer in. Where there are no cgroups, or the
//! writer was gone before the journal looked, it is that of the process that supd said it had launched; and what
//! is still nobody's counts as written by the generation that was launched last before it.

use super::Lines;
use crate::codec::journal::{LAUNCHED, message_id};
use crate::codec::json::JournalView;
use crate::ctl::client::Client;
use crate::ctl::failure::Failure;
use crate::model::{ExitStatus, Generation, UnitName};
use nix::poll::PollFlags;
use serde::Deserialize;
use serde_json::Value;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// An entry of journalctl's that is longer is none: journald cuts lines at 48 KiB, and writes each byte of them
/// as up to four characters.
const ENTRY_MAX: usize = 8 << 20;

/// What is asked of each entry.
const FIELDS: &str =
    "--output-fields=MESSAGE,_BOOT_ID,_PID,_SYSTEMD_CGROUP,_LINE_BREAK,SUPD_GENERATION,SUPD_PID";

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// So many launches of a generation are looked at, the last ones: a worker that ends all the time may have had many.
const LAUNCHES_MAX: usize = 10_000;

/// supd's word of a launch is sent before the process may write, but the journal may look at it later, in microseconds.
const SLACK_US: u64 = 1_000_000;

/// How long it may take journalctl to say nothing before that is all there is of one that writes no more.
pub(super) const QUIET: Duration = Duration::from_millis(300);

/// No longer is anybody's output taken without a look at anything else.
const LONGEST: Duration = Duration::from_secs(1);

/// An entry, as far as it is needed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: String,
    #[serde(rename = "MESSAGE")]
    message: Value,
    #[serde(rename = "_BOOT_ID")]
    boot: Value,
    #[serde(rename = "_PID")]
    pid: Value,
    #[serde(rename = "_SYSTEMD_CGROUP")]
    cgroup: Value,
    #[serde(rename = "_LINE_BREAK")]
    line_break: Value,
    #[serde(rename = "SUPD_GENERATION")]
    generation: Value,
    #[serde(rename = "SUPD_PID")]
    launched: Value,
}

impl Entry {
    fn at_us(&self) -> u64 {
        self.at_us.parse().unwrap_or(0)
    }

    /// The line, with its end unless the journal has cut it there.
    fn line(&self) -> Vec<u8> {
        let mut line = match &self.message {
            Value::String(text) => text.clone().into_bytes(),
            // What is no UTF-8, or holds control characters.
            Value::Array(bytes) => {
                let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
                bytes.iter().filter_map(byte).collect()
            }
            _ => Vec::new(),
        };
        if self.line_break.as_str() != Some("line-max") {
            line.push(b'\n');
        }
        line
    }
}

/// Where the journal saw a writer.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// In the group of a generation of the unit's.
    Generation(u64),
    /// In none of supd's, or in another unit's.
    Foreign,
    Unknown,
}

/// A process that supd launched.
#[derive(Debug)]
struct Launched {
    boot: String,
    pid: String,
    generation: u64,
    at_us: u64,
}

/// Which lines are wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    identifier: String,
    unit: UnitName,
    generation: Generation,
    cgroup: Option<String>,
    /// What finds supd's words of launches.
    records: [String; 3],
    /// Oldest first.
    launched: Vec<Launched>,
}

impl Wanted {
    /// Those of a generation.
    pub(super) fn new(
        client: &Client,
        unit: &UnitName,
        generation: Generation,
        view: &JournalView,
    ) -> Result<Self, Failure> {
        may_read(view)?;
        let (identifier, cgroup) = (view.identifier.clone(), view.cgroup.clone());
        let records = [
            format!("MESSAGE_ID={}", message_id(LAUNCHED).unwrap_or_default()),
            format!("SUPD_UNIT={unit}"),
            format!("_UID={}", view.uid),
        ];
        let launched = Vec::new();
        let mut wanted = Self { identifier, unit: unit.clone(), generation, cgroup, records, launched };
        let records: Vec<&str> = wanted.records.iter().map(String::as_str).collect();
        let most = LAUNCHES_MAX.to_string();
        let mut told = Reading::start(&[&["-n", &most, FIELDS][..], &records].concat())?;
        while let Some(entry) = told.next(client, None)? {
            wanted.note(&entry);
        }
        Ok(wanted)
    }

    /// Whether it is supd's word of a launch, which is remembered.
    fn note(&mut self, entry: &Entry) -> bool {
        let Some(pid) = entry.launched.as_str() else { return false };
        let generation = entry.generation.as_str().and_then(|number| number.parse().ok());
        let is_new = self.launched.last().is_none_or(|last| last.at_us < entry.at_us());
        if let (Some(generation), Some(boot), true) = (generation, entry.boot.as_str(), is_new) {
            let (boot, pid) = (boot.to_owned(), pid.to_owned());
            self.launched.push(Launched { boot, pid, generation, at_us: entry.at_us() });
            if self.launched.len() > 2 * LAUNCHES_MAX {
                self.launched.drain(..LAUNCHES_MAX);
            }
        }
        true
    }

    /// Lines, and launches among them.
    fn reading(&self, arguments: &[&str]) -> Result<Reading, Failure> {
        let identifier = format!("SYSLOG_IDENTIFIER={}", self.identifier);
        let mut all = [arguments, &[FIELDS, "_TRANSPORT=stdout", &identifier, "+"]].concat();
        all.extend(self.records.iter().map(String::as_str));
        Reading::start(&all)
    }

    /// Begins with the last of its lines.
    pub(super) fn last(&self, client: &Client, lines: Lines, follow: bool) -> Result<Reading, Failure> {
        let forward: &[&str] = if follow { &["--follow", "--no-tail"] } else { &[] };
        let Lines::Last(count) = lines else { return self.reading(forward) };
        let mut back = self.reading(&["--reverse"])?;
        let (mut newest, mut oldest, mut left) = (None, None, count);
        while let Some(entry) = back.next(client, None)? {
            if newest.is_none() {
                newest = Some(entry.cursor.clone());
            }
            let is_older = self.began().is_some_and(|began| entry.at_us() < began);
            if left == 0 || is_older {
                break;
            }
            if entry.launched.is_null() && self.is(&entry) {
                oldest = Some(entry.cursor);
                left -= 1;
            }
        }
        let from = match (oldest, newest) {
            (Some(oldest), _) => format!("--cursor={oldest}"),
            (None, Some(newest)) => format!("--after-cursor={newest}"),
            (None, None) => return self.reading(forward),
        };
        self.reading(&[forward, &[&from]].concat())
    }

    /// When its first process was launched.
    fn began(&self) -> Option<u64> {
        let its = self.launched.iter().find(|one| one.generation == self.generation.0);
        its.map(|one| one.at_us.saturating_sub(SLACK_US))
    }

    /// The line of an entry, if it is one of those.
    fn take(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        (!self.note(entry) && self.is(entry)).then(|| entry.line())
    }

    /// Whether a line is one of those.
    fn is(&self, entry: &Entry) -> bool {
        let number = match self.place(entry.cgroup.as_str()) {
            Place::Foreign => return false,
            Place::Generation(number) => Some(number),
            Place::Unknown => self.by_process(entry).or_else(|| self.by_time(entry)),
        };
        // Where nothing tells, better too much than nothing.
        number.map_or(self.launched.is_empty(), |generation| generation == self.generation.0)
    }

    /// Whose a cgroup is. The journal counts from where the service manager is, so its path may begin somewhere in
    /// supd's; and anybody may have a group of such a name elsewhere.
    fn place(&self, group: Option<&str>) -> Place {
        let base = self.cgroup.as_deref().and_then(|group| group.rsplit_once('/'));
        let (Some((base, _)), Some(group)) = (base, group) else { return Place::Unknown };
        let mut ends =
            base.match_indices('/').map(|(at, _)| &base[at..]).chain(base.is_empty().then_some(""));
        let below =
            ends.find_map(|end| group.strip_prefix(end).filter(|it| it.is_empty() || it.starts_with('/')));
        let Some(below) = below else { return Place::Foreign };
        let name = below.split('/').nth(1).unwrap_or_default();
        match name.rsplit_once(".g").map(|(unit, number)| (unit, number.parse())) {
            Some((unit, Ok(number))) if unit == self.unit.as_str() => Place::Generation(number),
            Some((_, Ok(_))) => Place::Foreign,
            // A command that supd runs beside the workers.
            Some((_, Err(_))) | None => Place::Unknown,
        }
    }

    fn by_process(&self, entry: &Entry) -> Option<u64> {
        let (boot, pid, at) = (entry.boot.as_str()?, entry.pid.as_str()?, entry.at_us());
        let was = |one: &&Launched| one.pid == pid && one.boot == boot && one.at_us <= at + SLACK_US;
        self.launched.iter().rev().find(was).map(|one| one.generation)
    }

    fn by_time(&self, entry: &Entry) -> Option<u64> {
        self.launched.iter().rev().find(|one| one.at_us <= entry.at_us()).map(|one| one.generation)
    }

    /// Which generation wrote a line is anybody's guess.
    pub(super) fn guesses(&self) -> bool {
        self.cgroup.is_none() && self.launched.is_empty()
    }
}

/// A journalctl at work.
#[derive(Debug)]
pub(super) struct Reading {
    child: Child,
    out: ChildStdout,
    bytes: Vec<u8>,
    /// So much of it was taken.
    taken: usize,
    ended: bool,
}

impl Reading {
    fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new("journalctl");
        command.args(["--quiet", "--no-pager", "--all", "--output=json"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is for supctl, which ends it.
        let mut child = command.process_group(0).spawn().map_err(|error| {
            let text = match error.kind() {
                ErrorKind::NotFound => {
                    "its log is in the journal, and there is no journalctl here".to_owned()
                }
                _ => format!("cannot run journalctl: {error}"),
            };
            Failure::new(ExitStatus::Failed, text)
        })?;
        let out = child.stdout.take().expect("it was asked for");
        Ok(Self { child, out, bytes: Vec::new(), taken: 0, ended: false })
    }

    /// The next line of a generation, however long it takes; `None`: there is no more.
    pub(super) fn line(&mut self, client: &Client, wanted: &mut Wanted) -> Result<Option<Vec<u8>>, Failure> {
        while let Some(entry) = self.next(client, None)? {
            if let Some(line) = wanted.take(&entry) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Gives `show` all that there is by now, and what comes until nothing comes for a moment of `quiet`; but not longer
    /// than a second or so, for others, and even this one, may write without a pause.
    pub(super) fn drain<E: From<Failure>>(
        &mut self,
        client: &Client,
        wanted: &mut Wanted,
        quiet: Duration,
        mut show: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let until = Instant::now() + LONGEST;
        while Instant::now() < until {
            let Some(entry) = self.next(client, Some(quiet))? else { break };
            if let Some(line) = wanted.take(&entry) {
                show(&line)?;
            }
        }
        Ok(())
    }

    /// The next entry. Without a span it is waited for.
    fn next(&mut self, client: &Client, span: Option<Duration>) -> Result<Option<Entry>, Failure> {
        loop {
            if let Some(end) = self.bytes[self.taken..].iter().position(|byte| *byte == b'\n') {
                let line = &self.bytes[self.taken..self.taken + end];
                let entry = serde_json::from_slice(line).unwrap_or_default();
                self.taken += end + 1;
                return Ok(Some(entry));
            }
            self.bytes.drain(..std::mem::take(&mut self.taken));
            if self.bytes.len() > ENTRY_MAX {
                return Err(Failure::new(ExitStatus::Failed, "journalctl gives a line that has no end"));
            }
            if self.ended || !self.fill(client, span)? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self, client: &Client, span: Option<Duration>) -> Result<bool, Failure> {
        let watched = [(self.out.as_fd(), PollFlags::POLLIN)];
        while !client.wait_for(&watched, span.unwrap_or(Duration::from_secs(1)))? {
            if span.is_some() {
                return Ok(false);
            }
        }
        let before = self.bytes.len();
        self.bytes.resize(before + CHUNK, 0);
        let read = self.out.read(&mut self.bytes[before..]);
        let count = read.map_err(|error| failed(&format!("cannot read what it gives: {error}")))?;
        self.bytes.truncate(before + count);
        if count == 0 {
            self.ended = true;
            let status = self.child.wait().map_err(|error| failed(&error.to_string()))?;
            if !status.success() {
                return Err(failed(&self.said(&status.to_string())));
            }
        }
        Ok(count > 0)
    }

    /// Its own words of what went wrong.
    fn said(&mut self, status: &str) -> String {
        let mut text = String::new();
        if let Some(errors) = self.child.stderr.take() {
            let _ = errors.take(4096).read_to_string(&mut text);
        }
        text.lines().next().unwrap_or(status).to_owned()
    }

    /// It gives no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What becomes readable when there is more; nothing where some is at hand.
    pub(super) fn waits(&self) -> Option<&ChildStdout> {
        (!self.ended && !self.bytes[self.taken..].contains(&b'\n')).then_some(&self.out)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(why: &str) -> Failure {
    Failure::new(ExitStatus::Failed, format!("journalctl cannot show the journal: {why}"))
}

/// To one who may not, journalctl shows what the journal has of theirs, as if there were no more. That is enough for a
/// person's own supd.
fn may_read(view: &JournalView) -> Result<(), Failure> {
    let own = format!("/user@{}.service/", nix::unistd::geteuid());
    if view.cgroup.as_ref().is_some_and(|group| group.contains(&own)) {
        return Ok(());
    }
    let mut closed = None;
    for folder in ["/run/log/journal", "/var/log/journal"] {
        let machines = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for file in machines.map(|machine| machine.path().join("system.journal")) {
            match std::fs::File::open(&file) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => closed = Some(file),
                Err(_) => {}
            }
        }
    }
    let Some(file) = closed else { return Ok(()) };
    let text = format!(
        "its log is in the journal, which only root and members of the groups systemd-journal and adm may read ({})",
        file.display()
    );
    Err(Failure::new(ExitStatus::NotAllowed, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn wanted(cgroup: Option<&str>, launched: &[(&str, u64, u64)]) -> Wanted {
        let launched = launched.iter().map(|(pid, generation, at_us)| Launched {
            boot: "b".into(),
            pid: (*pid).into(),
            generation: *generation,
            at_us: *at_us,
        });
        Wanted {
            identifier: "web".into(),
            unit: UnitName::new("web").unwrap(),
            generation: Generation(2),
            cgroup: cgroup.map(str::to_owned),
            records: Default::default(),
            launched: launched.collect(),
        }
    }

    fn entry(cgroup: Option<&str>, pid: &str, at_us: u64) -> Entry {
        let at = at_us.to_string();
        serde_json::from_value(
            json!({"_SYSTEMD_CGROUP": cgroup, "_PID": pid, "_BOOT_ID": "b", "__REALTIME_TIMESTAMP": at}),
        )
        .unwrap()
    }

    #[test]
    fn a_cgroup_tells_whose_a_line_is() {
        let wanted = wanted(Some("/docker/x/system.slice/supd.service/web.g2"), &[]);
        for (group, is) in [
            ("/docker/x/system.slice/supd.service/web.g2/abc", true),
            ("/system.slice/supd.service/web.g2/abc/its/own", true),
            ("/system.slice/supd.service/web.g1/abc", false),
            ("/system.slice/supd.service/shop.g2/abc", false),
            ("/user.slice/user-1000.slice/user@1000.service/web.g2", false),
            ("/system.slice/supd.service.evil/web.g2", false),
            // ExecStartPre
            ("/system.slice/supd.service/supd", true),
        ] {
            assert_eq!(wanted.is(&entry(Some(group), "1", 1)), is, "{group}");
        }
    }

    #[test]
    fn without_one_the_process_does_and_then_the_time() {
        let at = |second: u64| second * 1_000_000;
        let launched = [("10", 1, at(100)), ("20", 2, at(200)), ("11", 1, at(220)), ("30", 3, at(300))];
        let wanted = wanted(None, &launched);
        for (pid, second, is) in [
            ("20", 250, true),
            ("20", 350, true),
            ("10", 250, false),
            // A child of nobody knows whom.
            ("99", 210, true),
            ("99", 350, false),
            ("99", 50, false),
            // The number was another's before.
            ("20", 150, false),
        ] {
            assert_eq!(wanted.is(&entry(None, pid, at(second))), is, "{pid} at {second}");
        }
    }

    #[test]
    fn a_line_is_given_as_it_was_written() {
        let line = |value: Value| serde_json::from_value::<Entry>(value).unwrap().line();
        assert_eq!(line(json!({"MESSAGE": "a"})), b"a\n");
        assert_eq!(line(json!({"MESSAGE": [27, 255, 10]})), [27, 255, 10, 10]);
        assert_eq!(line(json!({"MESSAGE": "a", "_LINE_BREAK": "line-max"})), b"a");
        assert_eq!(line(json!({"MESSAGE": null})), b"\n");
    }
}
