//! What a load found out: every answer with its time and its version, every loss by its name.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// The ways in which a request can be lost (the design's own list), and what no honest server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Refused,
    Reset,
    TimedOut,
    CutShort,
    ServerError,
    /// An answer that is none: wrong bytes, a status nobody asked for.
    Garbled,
}

/// One lost request.
#[derive(Debug, Clone)]
pub(crate) struct Loss {
    pub(crate) kind: Kind,
    /// Since the load began.
    pub(crate) at: Duration,
    /// How many requests this connection had served before.
    pub(crate) served_before: u64,
    /// The client's port, where there was a TCP connection.
    pub(crate) port: Option<u16>,
    /// Where it broke: "connect", "send", "wait for the answer", "read the body" …
    pub(crate) phase: &'static str,
    pub(crate) detail: String,
}

/// How a kept-alive connection ended that lost nothing: HTTP allows a server to close one between
/// two requests (RFC 9112, 9.3.1), and a client cannot help sending into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IdleCloses {
    /// The close was there before the request was sent.
    pub(crate) before: u64,
    /// The close and the request crossed: the request was never read, the kernel says so by a reset.
    pub(crate) crossed: u64,
    /// As crossed, from a server that closes by half and reads on, so that no reset comes.
    pub(crate) by_half: u64,
}

/// One answered request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// When the request began (connecting included), in microseconds since the load began.
    pub(crate) begun: u64,
    /// Until the last byte of the answer, in microseconds.
    pub(crate) took: u32,
    /// Index into [`Tally::servers`].
    pub(crate) server: u16,
}

/// Everything that a load found out.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answers: Vec<Answer>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) idle: IdleCloses,
    /// Connections that the server ended by saying `Connection: close` in an answer.
    pub(crate) announced: u64,
    pub(crate) connections: u64,
    /// Who answered, as "version/pid".
    pub(crate) servers: Vec<String>,
    pub(crate) ran: Duration,
}

/// Who answered, when, how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) count: u64,
    /// When the first request that it answered began, and when the last answer was complete.
    pub(crate) first: Duration,
    pub(crate) last: Duration,
    pub(crate) pids: Vec<u32>,
}

/// Latencies, and the longest time in which nobody got an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Speed {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) p999: Duration,
    pub(crate) max: Duration,
    pub(crate) longest_gap: Duration,
}

impl Tally {
    pub(crate) fn answered(&self) -> u64 {
        self.answers.len() as u64
    }

    pub(crate) fn lost(&self) -> u64 {
        self.losses.len() as u64
    }

    pub(crate) fn lost_by(&self, kind: Kind) -> u64 {
        self.losses.iter().filter(|loss| loss.kind == kind).count() as u64
    }

    /// By version, over all pids.
    pub(crate) fn versions(&self) -> BTreeMap<String, Served> {
        let mut versions: BTreeMap<String, Served> = BTreeMap::new();
        for answer in &self.answers {
            let (version, pid) = split(&self.servers[usize::from(answer.server)]);
            let first = Duration::from_micros(answer.begun);
            let last = Duration::from_micros(answer.begun + u64::from(answer.took));
            let served = versions.entry(version.to_owned()).or_insert_with(|| Served {
                count: 0,
                first,
                last,
                pids: Vec::new(),
            });
            served.count += 1;
            served.first = served.first.min(first);
            served.last = served.last.max(last);
            if !served.pids.contains(&pid) {
                served.pids.push(pid);
            }
        }
        versions
    }

    /// The versions that answered requests begun at `from` (since the load began) or later.
    pub(crate) fn versions_since(&self, from: Duration) -> BTreeMap<String, u64> {
        self.versions_between(from, Duration::MAX)
    }

    /// The versions that answered requests begun in a span of time.
    pub(crate) fn versions_between(&self, from: Duration, to: Duration) -> BTreeMap<String, u64> {
        let mut versions = BTreeMap::new();
        let span = from.as_micros()..to.as_micros();
        for answer in self.answers.iter().filter(|answer| span.contains(&answer.begun.into())) {
            let (version, _) = split(&self.servers[usize::from(answer.server)]);
            *versions.entry(version.to_owned()).or_insert(0) += 1;
        }
        versions
    }

    /// The versions that answered requests that began in a span of time and ended in it. Of one that only
    /// began in it nobody knows when it was sent.
    pub(crate) fn versions_within(&self, from: Duration, to: Duration) -> BTreeMap<String, u64> {
        let mut versions = BTreeMap::new();
        let (from, to) = (from.as_micros(), to.as_micros());
        let within = |answer: &Answer| {
            u128::from(answer.begun) >= from && u128::from(answer.begun + u64::from(answer.took)) <= to
        };
        for answer in self.answers.iter().filter(|answer| within(answer)) {
            let (version, _) = split(&self.servers[usize::from(answer.server)]);
            *versions.entry(version.to_owned()).or_insert(0) += 1;
        }
        versions
    }

    /// When the last request of a span of time began that one of these versions answered; else `from`.
    #[allow(dead_code, reason = "the benchmarks ask")]
    pub(crate) fn last_begun(&self, from: Duration, to: Duration, is: impl Fn(&str) -> bool) -> Duration {
        let span = from.as_micros()..to.as_micros();
        let its = self.answers.iter().filter(|answer| {
            span.contains(&answer.begun.into()) && is(split(&self.servers[usize::from(answer.server)]).0)
        });
        its.map(|answer| Duration::from_micros(answer.begun)).max().unwrap_or(from)
    }

    pub(crate) fn speed(&self) -> Speed {
        if self.answers.is_empty() {
            return Speed { longest_gap: self.ran, ..Speed::default() };
        }
        let mut took: Vec<u32> = self.answers.iter().map(|answer| answer.took).collect();
        took.sort_unstable();
        let at = |per_mille: usize| {
            Duration::from_micros(u64::from(took[(took.len() * per_mille / 1000).min(took.len() - 1)]))
        };
        let mut done: Vec<u64> =
            self.answers.iter().map(|answer| answer.begun + u64::from(answer.took)).collect();
        done.sort_unstable();
        let gap = done.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        Speed {
            p50: at(500),
            p99: at(990),
            p999: at(999),
            max: at(1000),
            longest_gap: Duration::from_micros(gap),
        }
    }

    /// Takes over what another client of the same load found out.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.answers.extend(other.answers);
        self.losses.extend(other.losses);
        self.idle.before += other.idle.before;
        self.idle.crossed += other.idle.crossed;
        self.idle.by_half += other.idle.by_half;
        self.announced += other.announced;
        self.connections += other.connections;
    }
}

/// "version/pid"
fn split(server: &str) -> (&str, u32) {
    let (version, pid) = server.split_once('/').unwrap_or((server, "0"));
    (version, pid.parse().unwrap_or(0))
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speed = self.speed();
        writeln!(
            f,
            "{} answered, {} lost in {:.1?} over {} connections; p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, \
             max {:.1?}, longest gap {:.1?}",
            self.answered(),
            self.lost(),
            self.ran,
            self.connections,
            speed.p50,
            speed.p99,
            speed.p999,
            speed.max,
            speed.longest_gap,
        )?;
        if self.idle != IdleCloses::default() || self.announced > 0 {
            writeln!(
                f,
                "  kept-alive connections ended by the server: {} announced, {} while idle, {} as the next \
                 request was sent (no loss: RFC 9112, 9.3.1)",
                self.announced,
                self.idle.before,
                self.idle.crossed + self.idle.by_half,
            )?;
        }
        for (version, served) in self.versions() {
            writeln!(
                f,
                "  version {version}: {} from {:.3?} to {:.3?} by {} process(es)",
                served.count,
                served.first,
                served.last,
                served.pids.len(),
            )?;
        }
        for kind in
            [Kind::Refused, Kind::Reset, Kind::TimedOut, Kind::CutShort, Kind::ServerError, Kind::Garbled]
        {
            let count = self.lost_by(kind);
            if count > 0 {
                writeln!(f, "  {kind:?}: {count}")?;
            }
        }
        for loss in self.losses.iter().take(20) {
            writeln!(
                f,
                "  lost at {:.3?}: {:?} at {}, {} served before on that connection: {}",
                loss.at, loss.kind, loss.phase, loss.served_before, loss.detail
            )?;
        }
        Ok(())
    }
}

pub(crate) fn tests() -> Vec<crate::Test> {
    vec![crate::test("load::tally::figures_come_from_the_answers", figures_come_from_the_answers)]
}

fn figures_come_from_the_answers() {
    let answer = |begun, took, server| Answer { begun, took, server };
    let tally = Tally {
        answers: vec![answer(0, 10, 0), answer(100, 20, 0), answer(5_000, 30, 1), answer(5_010, 1_000, 2)],
        servers: vec!["1/7".into(), "2/8".into(), "2/9".into()],
        ..Tally::default()
    };
    let speed = tally.speed();
    assert_eq!((speed.p50, speed.max), (Duration::from_micros(30), Duration::from_millis(1)));
    assert_eq!(speed.longest_gap, Duration::from_micros(4_910));
    let versions = tally.versions();
    assert_eq!((versions["1"].count, versions["2"].count), (2, 2));
    assert_eq!(versions["2"].pids, [8, 9]);
    assert_eq!(versions["1"].last, Duration::from_micros(120));
    let since = tally.versions_since(Duration::from_micros(5_000));
    assert_eq!(since.into_iter().collect::<Vec<_>>(), [("2".to_owned(), 2)]);
}
