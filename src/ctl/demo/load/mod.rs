//! Clients that ask without a pause and never ask twice for the same thing.

mod client;
mod head;

use super::timeline::Timeline;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Half of them keep their connections, the others open a new one for each request.
pub(super) const CLIENTS: usize = 16;

/// A request without a whole answer after this time is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// The clients, asking until [`Load::stop`].
#[derive(Debug)]
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    began: Instant,
    stop: AtomicBool,
    timeline: Mutex<Timeline>,
}

impl Shared {
    fn timeline(&self) -> MutexGuard<'_, Timeline> {
        // A client that panicked has noted less, nothing wrong.
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Begins to ask.
    ///
    /// # Errors
    /// The kernel has no thread left.
    pub(super) fn start(address: SocketAddr) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            address,
            began: Instant::now(),
            stop: AtomicBool::new(false),
            timeline: Mutex::default(),
        });
        let load = Self { shared, clients: Mutex::default() };
        for number in 0..CLIENTS {
            let shared = Arc::clone(&load.shared);
            let keeps = number % 2 == 0;
            let thread = Builder::new().name(format!("client-{number}")).stack_size(256 << 10);
            let thread = thread.spawn(move || client::run(&shared, keeps))?;
            load.clients().push(thread);
        }
        Ok(load)
    }

    /// Since the load began: the clock of its timeline.
    pub(super) fn now(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// What has been seen so far.
    pub(super) fn timeline(&self) -> MutexGuard<'_, Timeline> {
        self.shared.timeline()
    }

    /// Ends when every request under way has its outcome.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for client in self.clients().drain(..) {
            // One that panicked has told so itself.
            let _panicked = client.join();
        }
    }

    fn clients(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Timeline;
    use super::super::version::Version;
    use super::{Load, PATIENCE};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Served-By: 2.0\r\n\r\nhello";

    /// Runs the load against a server that treats each connection like this, until `enough`.
    fn against(serve: fn(TcpStream), enough: fn(&Timeline) -> bool) -> Timeline {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with the test's process: an accept cannot be told to stop.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                std::thread::spawn(move || serve(stream));
            }
        });
        let load = Load::start(address).unwrap();
        let until = Instant::now() + 4 * PATIENCE;
        while !enough(&load.timeline()) {
            assert!(Instant::now() < until, "{:?}", load.timeline());
            std::thread::yield_now();
        }
        load.stop();
        load.timeline().clone()
    }

    /// Whether a whole request came.
    fn request(stream: &mut TcpStream) -> bool {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return false,
            }
        }
        true
    }

    fn lost(timeline: &Timeline) -> bool {
        timeline.total().lost >= 32
    }

    #[test]
    fn answers_are_counted_by_version() {
        let timeline = against(
            |mut stream| {
                while request(&mut stream) && stream.write_all(ANSWER).is_ok() {}
            },
            |timeline| timeline.requests() > 500,
        );
        assert_eq!(timeline.losses(), "none lost");
        assert_eq!(timeline.idle_closes(), 0);
        assert_eq!(timeline.total().answered[Version::New.index()], timeline.requests());
        assert!(timeline.quantile(990).unwrap() < PATIENCE);
    }

    #[test]
    fn an_end_after_an_announcement_is_none() {
        let timeline = against(
            |mut stream| {
                request(&mut stream);
                let last =
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\nX-Served-By: 1.0\r\n\r\n";
                stream.write_all(last).unwrap();
            },
            |timeline| timeline.requests() > 500,
        );
        assert_eq!((timeline.losses().as_str(), timeline.idle_closes()), ("none lost", 0));
    }

    #[test]
    fn a_request_that_was_read_and_not_answered_is_lost() {
        let timeline = against(|mut stream| assert!(request(&mut stream)), lost);
        assert!(timeline.losses().ends_with("cut short)"), "{}", timeline.losses());
    }

    #[test]
    fn half_an_answer_is_a_loss() {
        for cut in [10, ANSWER.len() - 1] {
            let serve: fn(TcpStream) = match cut {
                10 => |mut stream| {
                    request(&mut stream);
                    stream.write_all(&ANSWER[..10]).unwrap();
                },
                _ => |mut stream| {
                    request(&mut stream);
                    stream.write_all(&ANSWER[..ANSWER.len() - 1]).unwrap();
                },
            };
            let timeline = against(serve, lost);
            assert!(timeline.losses().ends_with("cut short)"), "{}", timeline.losses());
        }
    }

    #[test]
    fn an_answer_with_5xx_is_a_loss() {
        let serve = |mut stream: TcpStream| {
            while request(&mut stream)
                && stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").is_ok()
            {}
        };
        let timeline = against(serve, lost);
        assert!(timeline.losses().ends_with("answered wrongly)"), "{}", timeline.losses());
    }

    #[test]
    fn an_idle_close_under_a_request_is_counted_apart() {
        // Answers once and closes with the next request unread: what a close of an idle connection
        // looks like to a client whose request crosses it.
        let timeline = against(
            |mut stream| {
                request(&mut stream);
                stream.write_all(ANSWER).unwrap();
                let _ends = stream.peek(&mut [0]);
            },
            |timeline| timeline.idle_closes() >= 32,
        );
        assert_eq!(timeline.losses(), "none lost");
    }

    #[test]
    fn where_nobody_listens_every_request_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let load = Load::start(address).unwrap();
        let until = Instant::now() + PATIENCE;
        while load.timeline().total().lost < 32 {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        load.stop();
        assert!(load.timeline().losses().ends_with("refused)"), "{}", load.timeline().losses());
    }
}
