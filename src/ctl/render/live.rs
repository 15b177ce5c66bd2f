//! Progress: one line for each step, and on a terminal one more that lives: what is being waited
//! for, and since when.
//!
//! The living line is the last one and is drawn over; the cursor is never hidden and no mode of
//! the terminal is changed, so there is nothing to restore but that line, whoever ends supctl how.

use super::text::{Colour, Paint, clean, cut};
use crate::codec::json::{OutcomeView, ProgressView, clients};
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// Carriage return, erase to the end of the line (ECMA-48, EL).
const ERASE: &str = "\r\x1b[K";

/// Where progress goes.
pub(in crate::ctl) struct Live<W: Write> {
    out: W,
    /// The columns of the terminal; `None`: it is none.
    columns: Option<usize>,
    paint: Paint,
    /// The unit, before each line.
    subject: String,
    waiting: Option<Waiting>,
    /// Whether the living line is drawn.
    drawn: bool,
    last: String,
    /// Why a line that was to stay is not there.
    failure: Option<io::Error>,
}

/// What is waited for.
struct Waiting {
    what: String,
    /// What is left of it; it changes, and the wait goes on.
    left: String,
    since: Instant,
}

impl<W: Write> Live<W> {
    pub(in crate::ctl) fn new(out: W, columns: Option<usize>, paint: Paint, subject: &str) -> Self {
        let subject = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
        Self { out, columns, paint, subject, waiting: None, drawn: false, last: String::new(), failure: None }
    }

    /// Whether there is a line that wants to be drawn again as time passes.
    pub(in crate::ctl) fn is_live(&self) -> bool {
        self.columns.is_some()
    }

    /// What is being waited for from now on.
    pub(in crate::ctl) fn wait_for(&mut self, what: impl Into<String>, now: Instant) {
        self.wait_for_rest(what.into(), String::new(), now);
    }

    fn wait_for_rest(&mut self, what: String, left: String, now: Instant) {
        match &mut self.waiting {
            Some(waiting) if waiting.what == what => waiting.left = left,
            waiting => *waiting = Some(Waiting { what, left, since: now }),
        }
        self.tick(now);
    }

    /// Draws the living line anew.
    pub(in crate::ctl) fn tick(&mut self, now: Instant) {
        let Some(Waiting { what, left, since }) = &self.waiting else { return };
        self.draw(&format!("waiting for {what}{left}, {}", seconds(now.duration_since(*since))));
    }

    /// Has the living line say this, where there is one.
    pub(in crate::ctl) fn draw(&mut self, text: &str) {
        let Some(columns) = self.columns else { return };
        let text = format!("{}{}", self.subject, clean(text));
        // One column is left free: some terminals break the line at the last one.
        let text = cut(&text, columns.saturating_sub(1));
        let painted = self.paint.apply(Colour::Faint, &text);
        let _closed = write!(self.out, "{ERASE}{painted}").and_then(|()| self.out.flush());
        self.drawn = true;
    }

    /// A line that stays. The same one twice running is said once.
    pub(in crate::ctl) fn line(&mut self, text: &str, colour: Option<Colour>) {
        let text = format!("{}{}", self.subject, without_subject(&self.subject, &clean(text)));
        if text == self.last {
            return;
        }
        self.erase();
        let painted = colour.map_or((&*text).into(), |colour| self.paint.apply(colour, &text));
        if let Err(error) = writeln!(self.out, "{painted}").and_then(|()| self.out.flush()) {
            self.failure.get_or_insert(error);
        }
        self.last = text;
    }

    /// Why not every line could be written, if so. Whoever stopped reading has seen enough.
    pub(in crate::ctl) fn failure(&mut self) -> Option<io::Error> {
        self.failure.take().filter(|error| error.kind() != ErrorKind::BrokenPipe)
    }

    /// Nothing is waited for any more: the living line goes.
    pub(in crate::ctl) fn end(&mut self) {
        self.waiting = None;
        self.erase();
    }

    fn erase(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _closed = write!(self.out, "{ERASE}").and_then(|()| self.out.flush());
        }
    }

    /// A step on the way.
    pub(in crate::ctl) fn step(&mut self, outcome: &OutcomeView, now: Instant) {
        let Some(step) = &outcome.progress else { return };
        let generation = step.generation.unwrap_or_default();
        let (ready, workers) = (step.ready.unwrap_or_default(), step.workers.unwrap_or_default());
        // What changes many times is only in the living line, where there is one.
        let passes = match step.event.as_str() {
            "ready" => ready < workers,
            "draining" => workers > 0,
            _ => false,
        };
        if !(passes && self.is_live()) {
            let colour = match step.event.as_str() {
                "switched" | "committed" => Some(Colour::Good),
                "rolling-back" => Some(Colour::Bad),
                _ => None,
            };
            self.line(&outcome.text, colour);
        }
        let probation = Duration::from_millis(step.probation_ms.unwrap_or_default());
        let waiting = match step.event.as_str() {
            "launched" | "ready" if ready < workers => {
                format!("generation {generation} to be ready ({ready} of {workers})")
            }
            "ready" => format!("generation {generation} to settle"),
            "switched" if !probation.is_zero() => {
                format!(
                    "the probation of generation {} to end ({})",
                    step.to.unwrap_or_default(),
                    seconds(probation)
                )
            }
            "switched" => format!("generation {} to be committed", step.to.unwrap_or_default()),
            "rolling-back" => format!("generation {} to take over", step.to.unwrap_or_default()),
            "draining" if workers > 0 => {
                return self.wait_for_rest(format!("generation {generation} to drain"), rest(step), now);
            }
            "committed" | "held" | "draining" => "supd's answer".to_owned(),
            _ => return,
        };
        self.wait_for(waiting, now);
    }
}

/// What is left of a drain.
fn rest(step: &ProgressView) -> String {
    let count = |number: u32, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let workers = count(step.workers.unwrap_or_default(), "worker");
    let oldest = step.oldest_ms.map(Duration::from_millis);
    let open = clients(step.connections, oldest, step.queue, &step.queues);
    let most = step.left_ms.map(|left| format!("; at most {} more", seconds(Duration::from_millis(left))));
    format!(" ({workers} left{open}{})", most.unwrap_or_default())
}

/// supd's sentences may begin with the unit's name already.
fn without_subject<'a>(subject: &str, text: &'a str) -> &'a str {
    if subject.is_empty() { text } else { text.strip_prefix(subject).unwrap_or(text) }
}

/// Tenths of a second, so that it can be seen to move; whole seconds from a minute on.
fn seconds(span: Duration) -> String {
    if span < Duration::from_secs(60) {
        format!("{}.{}s", span.as_secs(), span.subsec_millis() / 100)
    } else {
        format!("{}min {:02}s", span.as_secs() / 60, span.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::progress_text;
    use crate::model::{Generation, Progress};

    fn outcome(progress: &Progress) -> OutcomeView {
        let text = progress_text(progress);
        OutcomeView { text, progress: Some(ProgressView::from(progress)), ..OutcomeView::default() }
    }

    fn swap() -> Vec<Progress> {
        let (old, new) = (Generation(7), Generation(8));
        let draining = |workers, connections, left: Option<u64>| Progress::Draining {
            generation: old,
            workers,
            connections,
            oldest: None,
            queued: None,
            queues: Vec::new(),
            left: left.map(Duration::from_secs),
        };
        let ready =
            |ready| Progress::Ready { generation: new, ready, workers: 2, after: Duration::from_millis(900) };
        vec![
            Progress::Launched { generation: new, workers: 2 },
            ready(1),
            ready(2),
            Progress::Switched { from: Some(old), to: new, probation: Duration::from_secs(10) },
            Progress::Committed { generation: new },
            draining(2, None, None),
            draining(2, Some(12), Some(25)),
            draining(1, Some(1), Some(24)),
            draining(1, Some(1), Some(24)),
            draining(0, Some(0), None),
            Progress::Note("web: all is well\x1b[2J".into()),
        ]
    }

    fn shown(columns: Option<usize>, paint: bool) -> String {
        let mut out = Vec::new();
        let mut live = Live::new(&mut out, columns, Paint(paint), "web");
        let mut now = Instant::now();
        live.wait_for("supd's answer", now);
        for step in swap() {
            now += Duration::from_millis(1200);
            live.tick(now);
            live.step(&outcome(&step), now);
        }
        live.end();
        String::from_utf8(out).unwrap()
    }

    /// What a terminal shows in the end, and each living line on the way.
    fn on_a_terminal(bytes: &str) -> (Vec<String>, Vec<String>) {
        let (mut lines, mut living) = (vec![String::new()], Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let last = lines.last_mut().unwrap();
            if let Some(after) = rest.strip_prefix(ERASE) {
                living.push(std::mem::take(last));
                rest = after;
            } else {
                let c = rest.chars().next().unwrap();
                assert!(c == '\n' || !c.is_control(), "{c:?} in {rest}");
                if c == '\n' {
                    lines.push(String::new());
                } else {
                    last.push(c);
                }
                rest = &rest[c.len_utf8()..];
            }
        }
        living.retain(|line| !line.is_empty());
        (lines, living)
    }

    #[test]
    fn a_line_that_is_not_written_is_known() {
        let line = |out: &str| {
            let file = std::fs::OpenOptions::new().write(true).open(out).unwrap();
            let mut live = Live::new(file, None, Paint(false), "web");
            live.line("generation 2 is committed", None);
            (live.failure().and_then(|error| error.raw_os_error()), live.failure().is_none())
        };
        assert_eq!(line("/dev/full"), (Some(libc::ENOSPC), true));
        assert_eq!(line("/dev/null"), (None, true));
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(read);
        let mut live = Live::new(std::fs::File::from(write), None, Paint(false), "web");
        live.line("generation 2 is committed", None);
        assert!(live.failure().is_none(), "nobody reads it any more");
    }

    #[test]
    fn plain_lines_come_once_each() {
        let expected = "\
web: generation 8 launched (2 workers)
web: generation 8: 1 of 2 workers ready after 900ms
web: generation 8: 2 of 2 workers ready after 900ms
web: generation 8 receives the traffic (before: 7); on probation for 10s
web: generation 8 stays
web: generation 7: 2 workers still draining
web: generation 7: 2 workers still draining, 12 connections open, at most 25s more
web: generation 7: 1 worker still draining, 1 connection open, at most 24s more
web: generation 7 has ended
web: all is well\u{fffd}[2J
";
        assert_eq!(shown(None, false), expected);
    }

    #[test]
    fn a_terminal_keeps_the_steps_and_shows_what_is_waited_for() {
        let (lines, living) = on_a_terminal(&shown(Some(120), false));
        let expected = [
            "web: generation 8 launched (2 workers)",
            "web: generation 8: 2 of 2 workers ready after 900ms",
            "web: generation 8 receives the traffic (before: 7); on probation for 10s",
            "web: generation 8 stays",
            "web: generation 7 has ended",
            "web: all is well\u{fffd}[2J",
            "",
        ];
        assert_eq!(lines, expected);
        for line in [
            "web: waiting for supd's answer, 0.0s",
            "web: waiting for supd's answer, 1.2s",
            "web: waiting for generation 8 to be ready (0 of 2), 1.2s",
            "web: waiting for generation 8 to be ready (1 of 2), 0.0s",
            "web: waiting for generation 8 to settle, 1.2s",
            "web: waiting for the probation of generation 8 to end (10.0s), 1.2s",
            "web: waiting for generation 7 to drain (2 workers left), 0.0s",
            // What is left changes, and the wait counts on.
            "web: waiting for generation 7 to drain (2 workers left, 12 connections open; at most 25.0s more), 1.2s",
            "web: waiting for generation 7 to drain (1 worker left, 1 connection open; at most 24.0s more), 4.8s",
        ] {
            assert!(living.iter().any(|shown| shown == line), "{line} in {living:#?}");
        }
    }

    #[test]
    fn a_living_line_never_breaks() {
        let (_, living) = on_a_terminal(&shown(Some(20), false));
        assert!(living.iter().all(|line| line.len() < 20), "{living:?}");
        assert!(shown(Some(80), true).contains("\x1b[32mweb: generation 8 stays\x1b[0m\n"));
    }
}
