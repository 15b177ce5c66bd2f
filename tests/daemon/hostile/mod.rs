//! Bad input: from workers, from clients, from files, from a clock, from a machine that has run out of
//! something.
//! Whatever comes, the active generation goes on serving, nothing is lost, and supd stays small.

mod clients;
pub(crate) mod clock;
mod disk;
mod files;
mod limits;
mod listeners;
mod moments;
mod room;
mod workers;

use crate::harness::{Output, Setup, Status, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::proc;
use crate::wait::SOON;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

pub(crate) fn tests() -> Vec<crate::Test> {
    [
        clients::tests(),
        clock::tests(),
        disk::tests(),
        files::tests(),
        limits::tests(),
        listeners::tests(),
        moments::tests(),
        room::tests(),
        workers::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// supd may not grow by more than this, whatever it is fed.
const GROWTH_KIB: u64 = 16 << 10;

/// A unit `web` in version 1 that serves a gentle load.
struct Serving {
    supd: Supd,
    port: u16,
    load: Load,
    before: Status,
    rss: u64,
}

impl Serving {
    fn start() -> Self {
        Self::start_with(&Setup::default())
    }

    fn start_with(setup: &Setup) -> Self {
        let supd = Supd::start_with(setup);
        supd.install_worker("1");
        let port = free_port();
        supd.launch("web", &supd.worker(port, &[], "", ""));
        let before = supd.status("web");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let plan = Plan::new(Target::Tcp(address), Mode::Close, 4).think(Duration::from_millis(4));
        let load = Load::start(plan);
        load.wait_for_more(20, SOON);
        let rss = proc::rss_kib(supd.pid());
        Self { supd, port, load, before, rss }
    }

    /// Writes a unit whose next candidate behaves as `arguments` say; the program says version 2.
    fn candidate(&self, arguments: &[&str], service: &str, swap: &str) {
        self.supd.install_worker("2");
        self.supd.write_unit("web", &self.supd.worker(self.port, arguments, service, swap));
    }

    /// Tries a swap to it.
    fn swap(&self, arguments: &[&str], service: &str, swap: &str) -> Output {
        self.candidate(arguments, service, swap);
        self.supd.ctl(&["swap", "web"])
    }

    /// The load goes on being answered, by the generation that was there before.
    fn untouched(&self) {
        self.load.wait_for_more(50, SOON);
        assert_eq!(self.load.lost(), 0, "requests were lost");
        let now = self.supd.status("web");
        assert_eq!((now.state(), now.active()), ("active", self.before.active()), "{}", now.0);
        let pids = now.pids_in(self.before.active().expect("an active generation"));
        assert_eq!(pids, self.before.pids(), "the active generation's workers changed: {}", now.0);
    }

    /// The load goes on being answered, by whatever is active now.
    fn serving(&self) {
        self.load.wait_for_more(50, SOON);
        assert_eq!(self.load.lost(), 0, "requests were lost");
        assert_eq!(self.supd.status("web").state(), "active");
    }

    /// supd is there, small, and was never big.
    fn small(&self) {
        assert!(self.supd.is_alive(), "supd is gone");
        let peak = proc::peak_rss_kib(self.supd.pid());
        assert!(peak <= self.rss + GROWTH_KIB, "supd grew from {} KiB to {peak} KiB", self.rss);
    }

    /// All of it, at the end of a test in which version 1 must have answered everything.
    fn unharmed(self) -> Supd {
        self.unharmed_since(Duration::ZERO)
    }

    /// All of it, where the candidate accepts from the listener that both share although it is not
    /// ready: nobody can keep it from that as long as there is one slot, so its answers count, up
    /// to its end.
    fn unharmed_since(self, end: Duration) -> Supd {
        self.untouched();
        self.small();
        let tally = self.load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
        assert!(tally.versions_since(end).keys().eq(["1"]), "another version answered:\n{tally}");
        self.supd
    }

    /// As [`Serving::unharmed`], where the candidate became active.
    fn took_over(self) -> Supd {
        self.serving();
        self.small();
        let now = self.supd.status("web");
        assert_ne!(now.active(), self.before.active(), "the candidate is not active: {}", now.0);
        let old = self.before.pids();
        crate::wait::wait_until("the old generation to end", SOON, || {
            old.iter().all(|pid| !proc::alive(*pid))
        });
        let from = self.load.now();
        self.load.wait_for_more(50, SOON);
        let tally = self.load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
        assert!(tally.versions_since(from).keys().eq(["2"]), "{tally}");
        self.supd
    }
}

/// The text says all of these words.
fn says(output: &Output, words: &[&str]) {
    for word in words {
        assert!(output.text().contains(word), "no {word:?} in:\n{output}");
    }
}
