//! Datagrams with numbers: a question without its answer in time is lost.

use super::{lock, tally::Answer, tally::Kind, tally::Loss, tally::Tally};
use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A question without an answer after this time is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// Clients of a UDP echo that answers `VERSION/PID ` and then what it was sent.
pub(crate) struct Echo {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    began: Instant,
    threads: Vec<JoinHandle<Tally>>,
}

impl Echo {
    pub(crate) fn start(address: SocketAddr, clients: u64) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let began = Instant::now();
        let servers: Arc<Mutex<HashMap<String, u16>>> = Arc::default();
        let threads = (0..clients)
            .map(|number| {
                let (stop, answered, servers) =
                    (Arc::clone(&stop), Arc::clone(&answered), Arc::clone(&servers));
                std::thread::spawn(move || {
                    let mut client = Client::new(address, number, began, servers);
                    while !stop.load(Ordering::Relaxed) {
                        client.ask();
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    client.finish()
                })
            })
            .collect();
        Self { stop, answered, began, threads }
    }

    /// Since the load began: the clock of its [`Tally`].
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until about `more` questions have been asked from now on.
    pub(crate) fn wait_for_more(&self, more: u64, bound: Duration) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        crate::wait::wait_until("more datagrams", bound, || self.answered.load(Ordering::Relaxed) >= goal);
    }

    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = Tally { ran: self.began.elapsed(), ..Tally::default() };
        for thread in self.threads {
            let tally = thread.join().expect("a client of the echo panicked");
            if tally.servers.len() > total.servers.len() {
                total.servers.clone_from(&tally.servers);
            }
            total.absorb(tally);
        }
        total
    }
}

struct Client {
    socket: UdpSocket,
    number: u64,
    sequence: u64,
    began: Instant,
    servers: Arc<Mutex<HashMap<String, u16>>>,
    tally: Tally,
}

impl Client {
    fn new(
        address: SocketAddr,
        number: u64,
        began: Instant,
        servers: Arc<Mutex<HashMap<String, u16>>>,
    ) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP socket");
        socket.connect(address).expect("connecting a UDP socket");
        Self {
            socket,
            number,
            sequence: 0,
            began,
            servers,
            tally: Tally { connections: 1, ..Tally::default() },
        }
    }

    /// Asks once and waits for the answer to this question; an answer to an earlier one is late and
    /// changes nothing.
    fn ask(&mut self) {
        self.sequence += 1;
        let question = format!("{} {}", self.number, self.sequence);
        let begun = self.began.elapsed();
        let until = Instant::now() + PATIENCE;
        // ECONNREFUSED is what an earlier datagram to a closed port leaves behind.
        if let Err(error) = self.socket.send(question.as_bytes()) {
            return self.lost(Kind::Refused, "send", error.to_string());
        }
        let mut buffer = [0; 512];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.lost(Kind::TimedOut, "wait for the answer", question);
            }
            self.socket.set_read_timeout(Some(left)).expect("a time above zero");
            match self.socket.recv(&mut buffer) {
                Ok(count) => {
                    let text = String::from_utf8_lossy(&buffer[..count]);
                    let server = text.split_once(' ').filter(|(_, echoed)| *echoed == question);
                    if let Some((server, _)) = server {
                        return self.answered(server, begun);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    return self.lost(Kind::Refused, "wait for the answer", error.to_string());
                }
                Err(_) => {}
            }
        }
    }

    fn answered(&mut self, server: &str, begun: Duration) {
        let took = u32::try_from((self.began.elapsed() - begun).as_micros()).unwrap_or(u32::MAX);
        let begun = u64::try_from(begun.as_micros()).unwrap_or(u64::MAX);
        let mut servers = lock(&self.servers);
        let next = u16::try_from(servers.len()).expect("a test has fewer than 65,536 servers");
        let server = *servers.entry(server.to_owned()).or_insert(next);
        self.tally.answers.push(Answer { begun, took, server });
    }

    fn lost(&mut self, kind: Kind, phase: &'static str, detail: String) {
        let at = self.began.elapsed();
        self.tally.losses.push(Loss {
            kind,
            at,
            served_before: self.sequence - 1,
            port: None,
            phase,
            detail,
        });
        crate::wait::pause(Duration::from_millis(5));
    }

    fn finish(mut self) -> Tally {
        let servers = lock(&self.servers);
        self.tally.servers = vec![String::new(); servers.len()];
        for (name, number) in servers.iter() {
            self.tally.servers[usize::from(*number)].clone_from(name);
        }
        drop(servers);
        self.tally
    }
}
