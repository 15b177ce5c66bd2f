//! The server against real clients, in one thread: a loop of its own, and sockets of both ends.

use super::*;
use crate::codec::varlink::CALL_MAX;
use crate::model::{ExitStatus, Generation, Stops, WaitFor};
use mio::{Events, Poll};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as Client;
use std::time::{Duration, Instant};

mod descriptors;

const FIRST: Token = Token(1 << 40);
const BOUND: Duration = Duration::from_secs(20);

struct World {
    poll: Poll,
    control: Control,
    folder: tempfile::TempDir,
    now: Tick,
    /// Every arrival so far.
    arrived: Vec<Arrival>,
}

impl World {
    fn new() -> Self {
        Self::with(Limits {
            total: 64,
            per_user: 16,
            waits_per_user: 16,
            reserve: 4,
            memory: 32 << 20,
            descriptors: 16,
        })
    }

    fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let poll = Poll::new().unwrap();
        let control = Control::bind(&folder.path().join("control"), poll.registry(), FIRST, limits).unwrap();
        Self { poll, control, folder, now: Tick(1_000_000), arrived: Vec::new() }
    }

    fn client(&self) -> Client {
        let client = Client::connect(self.folder.path().join("control")).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    /// One turn of a loop as the reactor has it.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(64);
        let wait = if self.control.pending() { Duration::ZERO } else { Duration::from_millis(5) };
        self.poll.poll(&mut events, Some(wait)).unwrap();
        for event in &events {
            assert!(self.control.owns(event.token()));
            self.control.ready(event);
        }
        self.control.turn(self.now, &mut self.arrived);
    }

    /// Turns until something is so.
    fn until<T>(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + BOUND;
        loop {
            if let Some(result) = so(self) {
                return result;
            }
            self.turn();
            assert!(Instant::now() < end, "never: {what}; {:?}", self.arrived);
        }
    }

    /// Turns until there is nothing to do, and then once more for events on their way.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.turn();
            while self.control.pending() {
                self.turn();
            }
        }
    }

    fn calls(&self) -> Vec<Call> {
        let call = |arrival: &Arrival| match arrival {
            Arrival::Call(call) => {
                let Call { client, peer, method, meta, more, descriptor: _ } = &**call;
                let (client, more, descriptor) = (*client, *more, None);
                let (peer, method, meta) = (peer.clone(), method.clone(), meta.clone());
                Some(Call { client, peer, method, meta, more, descriptor })
            }
            Arrival::HungUp(_) => None,
        };
        self.arrived.iter().filter_map(call).collect()
    }

    fn is_told_of(&self, gone: ClientId) -> bool {
        self.arrived.iter().any(|arrival| matches!(arrival, Arrival::HungUp(client) if *client == gone))
    }

    fn call(&mut self, number: usize) -> Call {
        self.until("a call", |world| world.calls().into_iter().nth(number))
    }

    /// The next message for this client; `None`: supd closed the connection.
    fn hear(&mut self, client: &mut Client) -> Option<Value> {
        let mut bytes = Vec::new();
        self.until("an answer", |_| {
            let mut byte = [0];
            loop {
                match client.read(&mut byte) {
                    Ok(0) => {
                        assert!(bytes.is_empty(), "half an answer");
                        return Some(None);
                    }
                    Ok(_) if byte == [0] => return Some(Some(serde_json::from_slice(&bytes).unwrap())),
                    Ok(_) => bytes.push(byte[0]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                    Err(_reset) => return Some(None),
                }
            }
        })
    }

    /// Whether supd has closed the connection; answers are thrown away.
    fn is_closed(&mut self, client: &mut Client) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match client.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn status() -> &'static [u8] {
    b"{\"method\":\"dev.supd.Manager.Status\"}\0"
}

fn swap(more: bool) -> Vec<u8> {
    let unit = crate::model::UnitName::new("web").unwrap();
    let (label, wait) = (None, WaitFor::Active);
    let method = Method::Swap { unit, label, stops: Stops::default(), replace: false, force: false, wait };
    varlink::call(&method, &Meta::default(), more)
}

#[test]
fn a_call_comes_with_who_asks_and_is_answered() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&swap(false)).unwrap();
    let call = world.call(0);
    assert_eq!(call.peer.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(call.peer.pid, i32::try_from(std::process::id()).unwrap());
    assert_eq!((call.method.name(), call.more), ("Swap", false));
    // Progress is for those who asked for it.
    world.control.progress(call.client, &Progress::Held { generation: Generation(8) });
    let reply = Reply::done(true, "done").about(None, Some(Generation(8)));
    world.control.reply(call.client, &reply, Vec::new(), None);
    let answer = world.hear(&mut client).unwrap();
    assert_eq!(
        answer,
        json!({"parameters": {"format": 1, "changed": true, "text": "done", "next": null,
            "generation": 8, "swap_id": null, "progress": null}})
    );
    // A second answer to the same call finds nobody.
    world.control.reply(call.client, &reply, Vec::new(), None);
    drop(client);
    world.until("it is forgotten", |world| (world.control.clients() == 0).then_some(()));
    assert_eq!(world.arrived.len(), 1, "no hang-up after the answer");
}

#[test]
fn progress_streams_and_a_failure_ends_it() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&swap(true)).unwrap();
    let call = world.call(0);
    world.control.progress(call.client, &Progress::Launched { generation: Generation(8), workers: 2 });
    let answer = world.hear(&mut client).unwrap();
    assert_eq!(answer["continues"], true);
    assert_eq!(answer["parameters"]["text"], "generation 8 launched (2 workers)");
    assert_eq!(answer["parameters"]["changed"], Value::Null);
    let reply = Reply::new(ExitStatus::Failed, false, "it exited");
    world.control.reply(call.client, &reply, vec!["last words".into()], Some("/l".into()));
    let answer = world.hear(&mut client).unwrap();
    assert_eq!(answer["error"], "dev.supd.Manager.Failed");
    assert_eq!(answer["parameters"]["log"], json!(["last words"]));
    assert_eq!(answer.get("continues"), None);
}

#[test]
fn status_is_answered_whatever_its_size() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(status()).unwrap();
    let call = world.call(0);
    let units = vec![UnitView { unit: "web".into(), ..UnitView::default() }; 1_500];
    world.control.status(call.client, units, vec!["a note".into()]);
    let answer = world.hear(&mut client).unwrap();
    assert_eq!(answer["parameters"]["units"].as_array().unwrap().len(), 1_500);
    assert_eq!(answer["parameters"]["notes"], json!(["a note"]));
}

#[test]
fn pipelined_calls_are_answered_in_order_one_at_a_time() {
    let mut world = World::new();
    let mut client = world.client();
    let info = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";
    client.write_all(&[&swap(false), &info[..], status(), b"{\"method\":\"nonsense\"}\0"].concat()).unwrap();
    world.settle();
    assert_eq!(world.calls().len(), 1, "the second waits for the first");
    let first = world.call(0);
    world.control.reply(first.client, &Reply::done(true, "first"), Vec::new(), None);
    let second = world.call(1);
    assert!(second.client > first.client);
    world.control.status(second.client, Vec::new(), Vec::new());
    assert_eq!(world.hear(&mut client).unwrap()["parameters"]["text"], "first");
    assert_eq!(world.hear(&mut client).unwrap()["parameters"]["product"], "supd");
    assert_eq!(world.hear(&mut client).unwrap()["parameters"]["units"], json!([]));
    assert_eq!(world.hear(&mut client).unwrap()["error"], "org.varlink.service.InvalidParameter");
    assert_eq!(world.control.clients(), 1, "an error of the protocol ends nothing");
}

#[test]
fn bytes_that_dribble_in_make_a_call() {
    let mut world = World::new();
    let mut client = world.client();
    for byte in status() {
        assert!(world.arrived.is_empty());
        client.write_all(&[*byte]).unwrap();
        world.turn();
    }
    world.call(0);
}

#[test]
fn garbage_is_answered_and_the_connection_closed() {
    let mut world = World::new();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n\0"[..], b"\0", b"\xff\xfe\0", b"{}\0", b"[1]\0"] {
        let mut client = world.client();
        client.write_all(garbage).unwrap();
        let answer = world.hear(&mut client).unwrap();
        assert_eq!(answer["error"], "dev.supd.Manager.BadMessage", "{garbage:?}");
        assert_eq!(world.hear(&mut client), None, "{garbage:?}");
    }
    assert!(world.arrived.is_empty());
    world.until("all are forgotten", |world| (world.control.clients() == 0).then_some(()));
}

#[test]
fn a_hundred_megabytes_without_an_end_are_refused_early() {
    let mut world = World::new();
    let mut client = world.client();
    let mut sent = 0;
    let chunk = vec![b'x'; 64 << 10];
    world.until("supd closes", |_| {
        while sent < 100 << 20 {
            match client.write(&chunk) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(_broken_pipe) => return Some(()),
            }
        }
        panic!("all was taken");
    });
    // What it did not read is what the kernel's buffer holds.
    assert!(sent < CALL_MAX + (1 << 20), "{sent} bytes were taken");
    assert_eq!(world.hear(&mut client).unwrap()["error"], "dev.supd.Manager.BadMessage");
}

#[test]
fn a_hang_up_in_mid_call_is_told_once_and_frees_the_place() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&swap(true)).unwrap();
    let call = world.call(0);
    drop(client);
    world.until("it is told", |world| world.is_told_of(call.client).then_some(()));
    world.settle();
    assert_eq!(world.arrived.len(), 2);
    assert_eq!(world.control.clients(), 0);
    // What is said to it now is heard by nobody, and harms nobody.
    world.control.progress(call.client, &Progress::Note("x".into()));
    world.control.reply(call.client, &Reply::done(true, ""), Vec::new(), None);
}

#[test]
fn a_complete_call_counts_even_if_its_client_is_gone() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&[&swap(false)[..], status(), b"{\"method\":\"dev.supd.Manager.Sta"].concat()).unwrap();
    drop(client);
    world.until("it is forgotten", |world| {
        (world.control.clients() == 0 && !world.arrived.is_empty()).then_some(())
    });
    let order: Vec<&str> = world
        .arrived
        .iter()
        .map(|arrival| match arrival {
            Arrival::Call(call) => call.method.name(),
            Arrival::HungUp(_) => "gone",
        })
        .collect();
    assert_eq!(order, ["Swap", "gone", "Status", "gone"]);
}

#[test]
fn a_call_that_came_before_a_broken_pipe_was_noticed_counts_too() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&swap(false)).unwrap();
    let call = world.call(0);
    world.settle();
    client.write_all(status()).unwrap();
    drop(client);
    // The answer meets the broken pipe before the loop hears of it.
    world.control.reply(call.client, &Reply::done(true, ""), Vec::new(), None);
    world.control.turn(world.now, &mut world.arrived);
    assert_eq!(world.calls().len(), 2);
}

#[test]
fn one_who_has_said_all_still_listens() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&swap(true)).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let call = world.call(0);
    world.settle();
    assert_eq!(world.arrived.len(), 1, "that is no hang-up");
    world.control.progress(call.client, &Progress::Note("still here".into()));
    world.control.reply(call.client, &Reply::done(true, "done"), Vec::new(), None);
    assert_eq!(world.hear(&mut client).unwrap()["parameters"]["text"], "still here");
    assert_eq!(world.hear(&mut client).unwrap()["parameters"]["text"], "done");
    assert_eq!(world.hear(&mut client), None);
}

#[test]
fn a_oneway_call_gets_no_answer_and_the_next_one_does() {
    let mut world = World::new();
    let mut client = world.client();
    let oneway = b"{\"method\":\"dev.supd.Manager.Shutdown\",\"oneway\":true}\0";
    let wrong = b"{\"method\":\"dev.supd.Manager.Fly\",\"oneway\":true}\0";
    client.write_all(&[&oneway[..], wrong, status()].concat()).unwrap();
    let call = world.call(0);
    world.control.reply(call.client, &Reply::done(true, "done"), Vec::new(), None);
    let call = world.call(1);
    world.control.status(call.client, Vec::new(), Vec::new());
    assert!(world.hear(&mut client).unwrap()["parameters"]["units"].is_array());
}

#[test]
fn a_slow_reader_is_not_read_from_and_one_far_behind_is_cut_off() {
    let mut world = World::new();
    let mut slow = world.client();
    slow.write_all(&status().repeat(50)).unwrap();
    // A reply larger than the kernel's buffer: the rest of the calls waits.
    let call = world.call(0);
    let units = vec![UnitView::default(); 1_500];
    world.control.status(call.client, units, Vec::new());
    world.settle();
    assert_eq!(world.calls().len(), 1);
    // Meanwhile another is served.
    let mut other = world.client();
    other.write_all(status()).unwrap();
    let call = world.call(1);
    world.control.status(call.client, Vec::new(), Vec::new());
    world.hear(&mut other).unwrap();
    // Once it reads, it goes on where it was.
    world.hear(&mut slow).unwrap();
    world.call(2);

    let mut deaf = world.client();
    deaf.write_all(&swap(true)).unwrap();
    let call = world.call(3);
    let mut told = 0;
    world.until("it is cut off", |world| {
        for _ in 0..100 {
            world.control.progress(call.client, &Progress::Note("x".repeat(1000)));
            told += 1;
        }
        world.is_told_of(call.client).then_some(())
    });
    assert!(told < 10_000, "{told}");
}

#[test]
fn all_together_hold_no_more_than_the_limit() {
    let limits =
        Limits { total: 64, per_user: 64, waits_per_user: 64, reserve: 2, memory: 1 << 20, descriptors: 16 };
    let mut world = World::with(limits);
    let mut clients: Vec<Client> = (0..40).map(|_| world.client()).collect();
    for client in &mut clients {
        // 60,000 bytes of a message that never ends.
        client.write_all(&vec![b'x'; 60_000]).unwrap();
        world.settle();
        let held: usize = world.control.connections.values().map(Connection::memory).sum();
        assert!(held <= limits.memory, "{held}");
    }
    let closed = clients.iter_mut().filter_map(|client| world.is_closed(client).then_some(())).count();
    assert!(closed > 10, "{closed}");
    // Whoever comes then is served.
    let mut honest = world.client();
    honest.write_all(status()).unwrap();
    world.call(0);
}

#[test]
fn a_thousand_clients_at_once_are_served_or_told_to_try_again() {
    let mut world = World::new();
    // Half of the places, in use: they are not taken away from whoever has them.
    let mut holders: Vec<Client> = (0..32).map(|_| world.client()).collect();
    for holder in &mut holders {
        holder.write_all(&swap(false)).unwrap();
    }
    world.until("they hold", |world| (world.calls().len() == 32).then_some(()));
    let (mut served, mut busy, mut taken) = (0, 0, 32);
    for _ in 0..10 {
        let mut clients: Vec<Client> = (0..100).map(|_| world.client()).collect();
        for client in &mut clients {
            // One that finds no place is closed already.
            let _broken_pipe = client.write_all(status());
        }
        world.settle();
        for number in taken..world.calls().len() {
            let call = world.call(number);
            world.control.status(call.client, Vec::new(), Vec::new());
        }
        taken = world.calls().len();
        for client in &mut clients {
            let answer = world.hear(client).unwrap();
            match answer["error"].as_str() {
                None => served += 1,
                Some("dev.supd.Manager.Busy") => busy += 1,
                Some(other) => panic!("{other}"),
            }
        }
        drop(clients);
        world.until("their places are free", |world| (world.control.clients() == 32).then_some(()));
    }
    assert_eq!((served, busy), (320, 680));
    assert!(!world.arrived.iter().any(|arrival| matches!(arrival, Arrival::HungUp(_))));
}

#[test]
fn idle_places_are_taken_back_when_they_are_needed() {
    let mut world = World::with(Limits {
        total: 8,
        per_user: 8,
        waits_per_user: 8,
        reserve: 0,
        memory: 1 << 20,
        descriptors: 16,
    });
    let mut idle: Vec<Client> = (0..8).map(|_| world.client()).collect();
    for client in &mut idle {
        client.write_all(b"{\"method\":").unwrap();
    }
    world.settle();
    let mut early = world.client();
    assert_eq!(world.hear(&mut early).unwrap()["error"], "dev.supd.Manager.Busy");
    world.now = world.now.after(Duration::from_secs(3));
    world.settle();
    let mut late = world.client();
    late.write_all(status()).unwrap();
    world.call(0);
    let closed = idle.iter_mut().filter_map(|client| world.is_closed(client).then_some(())).count();
    assert_eq!(closed, 1);
}

#[test]
fn no_turn_takes_more_than_its_share() {
    let mut world = World::new();
    let mut clients: Vec<Client> = (0..60).map(|_| world.client()).collect();
    for client in &mut clients {
        client.write_all(status()).unwrap();
    }
    let mut before = 0;
    while before < 60 {
        world.turn();
        let now = world.calls().len();
        assert!(now - before <= CALLS_PER_TURN, "{now} after {before}");
        before = now;
    }
}

/// Lowers the limit of the whole process, so it runs in one of its own: this test, once more.
#[test]
fn without_descriptors_clients_are_told_and_it_goes_on_afterwards() {
    use nix::sys::resource::{Resource, setrlimit};
    const ALONE: &str = "SUPD_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        let output = command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut world = World::new();
    let mut clients: Vec<Client> = (0..10).map(|_| world.client()).collect();
    let highest = clients.last().unwrap().as_fd().try_clone_to_owned().unwrap();
    let limit = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&highest)).unwrap();
    drop(highest);
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
    let mut turns = 0;
    world.until("all are told", |world| {
        turns += 1;
        clients.iter_mut().all(|client| world.is_closed(client)).then_some(())
    });
    assert!(turns < 20, "{turns}");
    assert!(!world.control.pending(), "it does not spin");
    clients.clear();
    let mut client = world.client();
    client.write_all(status()).unwrap();
    world.call(0);
}
