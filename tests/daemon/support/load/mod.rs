//! A load of our own: HTTP/1.1 clients that never retry, call every loss by its name, and know
//! which version answered when. wrk cannot tell an idle close from a loss and knows no versions;
//! it is used beside this one, as a judge from outside.

mod client;
pub(crate) mod echo;
pub(crate) mod talk;
pub(crate) mod tally;
pub(crate) mod wrk;

use crate::wait::wait_until;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tally::Tally;

/// Where the requests go.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    /// Each question a datagram.
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// Whether each request has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Close,
    KeepAlive,
}

/// What its server understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http,
    Redis,
    Memcached,
}

/// What a load does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    pub(crate) path: String,
    /// Each n-th request of a client goes to `/slow` instead: one that is in flight at a switch.
    pub(crate) slow_every: Option<u64>,
    /// Rest between two requests, drawn anew each time, from none to this.
    pub(crate) think: Duration,
    /// A request without a whole answer after this time is lost. More than three seconds, so that
    /// a SYN dropped by a full queue (repeated by the kernel after 1 s) shows as a latency.
    pub(crate) patience: Duration,
    /// The server ends idle connections by half and reads on: see the head of client.rs.
    pub(crate) half_closes: bool,
    pub(crate) speaks: Speaks,
    /// After so many answers a client ends its kept-alive connection by itself.
    pub(crate) renew_every: Option<u64>,
}

impl Plan {
    pub(crate) fn new(target: Target, mode: Mode, connections: usize) -> Self {
        Self {
            target,
            mode,
            connections,
            path: "/".into(),
            slow_every: None,
            think: Duration::ZERO,
            patience: Duration::from_secs(10),
            half_closes: false,
            speaks: Speaks::Http,
            renew_every: None,
        }
    }

    pub(crate) fn slow_every(self, requests: u64) -> Self {
        Self { slow_every: Some(requests), ..self }
    }

    pub(crate) fn think(self, think: Duration) -> Self {
        Self { think, ..self }
    }
}

/// What the clients of one load share.
struct Shared {
    plan: Plan,
    began: Instant,
    stop: AtomicBool,
    /// Every "version/pid" seen, in the order of first sight.
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    names: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Shared {
    fn number_of(&self, server: &str) -> u16 {
        let mut servers = lock(&self.servers);
        if let Some(number) = servers.numbers.get(server) {
            return *number;
        }
        let number = u16::try_from(servers.names.len()).expect("a test has fewer than 65,536 servers");
        servers.names.push(server.to_owned());
        servers.numbers.insert(server.to_owned(), number);
        number
    }
}

/// A load under way. One thread a connection; each keeps its own record, looked at now and then.
pub(crate) struct Load {
    shared: Arc<Shared>,
    records: Vec<Arc<Mutex<Tally>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(plan: Plan) -> Self {
        let connections = plan.connections;
        let shared = Arc::new(Shared {
            plan,
            began: Instant::now(),
            stop: AtomicBool::new(false),
            servers: Mutex::default(),
        });
        let mut load = Self { shared, records: Vec::new(), threads: Vec::new() };
        for number in 0..connections {
            let record = Arc::new(Mutex::new(Tally::default()));
            load.records.push(Arc::clone(&record));
            let shared = Arc::clone(&load.shared);
            let thread = std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn(move || client::run(&shared, &record, number as u64))
                .expect("a thread for a client");
            load.threads.push(thread);
        }
        load
    }

    /// Since the load began: the clock of its [`Tally`].
    pub(crate) fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    pub(crate) fn answered(&self) -> u64 {
        self.records.iter().map(|record| lock(record).answered()).sum()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.records.iter().map(|record| lock(record).lost()).sum()
    }

    /// Whether the last answer of every client came from `version`.
    #[allow(dead_code, reason = "the benchmarks ask")]
    pub(crate) fn all_on(&self, version: &str) -> bool {
        let servers = lock(&self.shared.servers).names.clone();
        let by = |server: u16| {
            servers.get(usize::from(server)).is_some_and(|name| name.split('/').next() == Some(version))
        };
        self.records.iter().all(|record| lock(record).answers.last().is_some_and(|last| by(last.server)))
    }

    /// Waits until `more` requests have been answered from now on.
    ///
    /// # Panics
    /// When that takes longer than `bound`.
    pub(crate) fn wait_for_more(&self, more: u64, bound: Duration) {
        let goal = self.answered() + more;
        wait_until(&format!("{more} more answers"), bound, || self.answered() >= goal);
    }

    /// Lets each client finish its request, then adds up.
    ///
    /// # Panics
    /// When a client panicked: the load itself was at fault.
    pub(crate) fn stop(self) -> Tally {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client of the load panicked");
        }
        let mut total = Tally { ran: self.shared.began.elapsed(), ..Tally::default() };
        for record in &self.records {
            total.absorb(std::mem::take(&mut *lock(record)));
        }
        total.losses.sort_by_key(|loss| loss.at);
        total.servers = lock(&self.shared.servers).names.clone();
        total
    }
}

/// A record is whole after every change, so one that a panicking thread held is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The load by hand: `MODE ADDRESS CONNECTIONS SECONDS [SLOW_EVERY [THINK_MS]]`, MODE is close, keep
/// or udp, ADDRESS is ip:port or a path. Ends with 1 if anything was lost.
pub(crate) fn by_hand(arguments: &[String]) -> std::process::ExitCode {
    let [mode, address, connections, seconds, more @ ..] = arguments else {
        eprintln!("MODE ADDRESS CONNECTIONS SECONDS [SLOW_EVERY [THINK_MS]]");
        return std::process::ExitCode::from(2);
    };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let span = Duration::from_secs(number(seconds));
    let tally = if mode == "udp" {
        let echo = echo::Echo::start(address.parse().expect("an address"), number(connections));
        crate::wait::pause(span);
        echo.stop()
    } else {
        let target = address.parse().map_or_else(|_| Target::Unix(address.into()), Target::Tcp);
        let mode = if mode == "close" { Mode::Close } else { Mode::KeepAlive };
        let mut plan = Plan::new(target, mode, usize::try_from(number(connections)).expect("a count"));
        plan.slow_every = more.first().map(|every| number(every)).filter(|every| *every > 0);
        plan.think = Duration::from_millis(more.get(1).map_or(0, |think| number(think)));
        let load = Load::start(plan);
        crate::wait::pause(span);
        load.stop()
    };
    print!("{tally}");
    std::process::ExitCode::from(u8::from(tally.lost() > 0))
}
