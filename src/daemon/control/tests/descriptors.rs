use super::*;
use crate::daemon::control::connection::{Connection, Excess, Next};
use crate::os::ancillary::{Read as Got, receive_stream, send_stream};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::os::fd::{AsRawFd, RawFd};

/// A pair of sockets: once nobody holds the second any more, the first is at its end.
fn witness() -> (Client, Client) {
    let pair = Client::pair().unwrap();
    pair.0.set_nonblocking(true).unwrap();
    pair
}

fn is_closed(mut witness: &Client) -> bool {
    witness.read(&mut [0]).is_ok_and(|count| count == 0)
}

fn send(client: &Client, bytes: &[u8], passed: &Client, count: usize) {
    let numbers: Vec<RawFd> = vec![passed.as_raw_fd(); count];
    let rights = [ControlMessage::ScmRights(&numbers)];
    let sent =
        sendmsg::<()>(client.as_raw_fd(), &[io::IoSlice::new(bytes)], &rights, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(bytes.len()));
}

/// Both ends of one connection, without a server around it.
fn connection() -> (Client, Connection) {
    let (near, far) = Client::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let peer = Peer::of(&far).unwrap();
    (near, Connection::new(mio::net::UnixStream::from_std(far), peer, Tick(0)))
}

/// The next call of a connection, whatever it passes meanwhile.
fn next(connection: &mut Connection) -> Option<(String, Option<Beside>)> {
    connection.wake();
    loop {
        match connection.next(&mut (1 << 20), Tick(0)) {
            Next::Call(call, beside) => return Some((call.method, beside)),
            Next::Descriptor => {}
            Next::Nothing => return None,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_descriptor_belongs_to_the_call_that_it_was_sent_with() {
    let (client, mut connection) = connection();
    let calls: Vec<Vec<u8>> = (0..4).map(|n| format!("{{\"method\":\"a.B{n}\"}}\0").into_bytes()).collect();
    let (seen, passed) = witness();
    send_stream(&client, &[&calls[0][..], &calls[1][..5]].concat(), None).unwrap();
    send_stream(&client, &calls[1][5..], None).unwrap();
    send(&client, &calls[2], &passed, 1);
    drop(passed);
    send_stream(&client, &calls[3], None).unwrap();
    for (number, has_one) in [(0, false), (1, false), (2, true), (3, false)] {
        let (method, beside) = next(&mut connection).unwrap();
        assert_eq!((method, beside.is_some()), (format!("a.B{number}"), has_one));
        assert_eq!(is_closed(&seen), number == 3, "whoever took it has it alone");
    }
    assert_eq!((connection.descriptors(), next(&mut connection).is_none()), (0, true));
}

#[test]
fn a_descriptor_comes_with_any_byte_of_its_call() {
    let call = b"{\"method\":\"a.B\"}\0";
    for at in 0..call.len() {
        let (client, mut connection) = connection();
        let (_seen, passed) = witness();
        send_stream(&client, b"{\"method\":\"a.A\"}\0", None).unwrap();
        if at > 0 {
            send_stream(&client, &call[..at], None).unwrap();
        }
        send(&client, &call[at..=at], &passed, 1);
        assert!(matches!(next(&mut connection), Some((_, None))), "{at}");
        let whole = at + 1 == call.len();
        if !whole {
            assert!(next(&mut connection).is_none());
            assert_eq!(connection.descriptors(), 1);
            send_stream(&client, &call[at + 1..], None).unwrap();
        }
        assert!(matches!(next(&mut connection), Some((_, Some(Ok(_))))), "{at}");
        assert_eq!(connection.descriptors(), 0);
    }
}

#[test]
fn a_second_descriptor_of_a_call_closes_the_first() {
    let (client, mut connection) = connection();
    let (seen, passed) = witness();
    let call = b"{\"method\":\"a.B\"}\0";
    for part in call.chunks(4) {
        send(&client, part, &passed, 1);
    }
    drop(passed);
    assert!(matches!(next(&mut connection), Some((_, Some(Err(Excess::TooMany))))));
    assert!(is_closed(&seen));
    // The next call of the same client is none the worse.
    let (_seen, passed) = witness();
    send(&client, call, &passed, 1);
    assert!(matches!(next(&mut connection), Some((_, Some(Ok(_))))));
}

#[test]
fn calls_that_take_none_are_refused_and_theirs_closed() {
    let mut world = World::new();
    let mut client = world.client();
    let info = &b"{\"method\":\"org.varlink.service.GetInfo\"}\0"[..];
    for (call, count, told) in [
        (status(), 1, "Status takes no descriptor, and one came with the call"),
        (&swap(true), 1, "Swap takes no descriptor, and one came with the call"),
        (info, 1, "org.varlink.service takes no descriptor, and one came with the call"),
        (status(), 200, "a call takes at most one descriptor; more came with this one"),
        (info, 2, "a call takes at most one descriptor; more came with this one"),
    ] {
        let (seen, passed) = witness();
        send(&client, call, &passed, count);
        drop(passed);
        let answer = world.hear(&mut client).unwrap();
        assert_eq!(answer["error"], "dev.supd.Manager.Refused");
        assert_eq!(answer["parameters"]["reason"], told);
        assert!(is_closed(&seen), "{told}");
    }
    assert!(world.arrived.is_empty());
    client.write_all(status()).unwrap();
    world.call(0);
}

#[test]
fn descriptors_of_half_a_call_are_bounded_and_end_with_their_client() {
    let mut world = World::with(Limits {
        total: 64,
        per_user: 64,
        waits_per_user: 64,
        reserve: 0,
        memory: 1 << 20,
        descriptors: 4,
    });
    let (seen, passed) = witness();
    let mut clients: Vec<Client> = (0..10).map(|_| world.client()).collect();
    for client in &clients {
        send(client, b"{\"method\":\"dev.supd", &passed, 1);
    }
    drop(passed);
    world.settle();
    assert_eq!(world.held(), 4, "the privileged may have all that there are");
    let mut busy = 0;
    for client in &mut clients {
        client.write_all(b".Manager.Status\"}\0").unwrap();
        match world.hear(client).unwrap()["error"].as_str() {
            Some("dev.supd.Manager.Busy") => busy += 1,
            Some("dev.supd.Manager.Refused") => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((busy, world.held()), (6, 0));
    assert!(is_closed(&seen));
    // One that holds a place for long gives way to one that comes now.
    let (seen, passed) = witness();
    for client in &clients[..4] {
        send(client, b"{", &passed, 1);
    }
    drop(passed);
    world.settle();
    world.now = world.now.after(Duration::from_secs(3));
    let (_seen, passed) = witness();
    send(&clients[5], status(), &passed, 1);
    assert_eq!(world.hear(&mut clients[5]).unwrap()["error"], "dev.supd.Manager.Refused");
    assert_eq!((world.held(), world.control.clients()), (3, 9));
    assert!(!is_closed(&seen));
    drop(clients);
    world.until("they are forgotten", |world| (world.control.clients() == 0).then_some(()));
    assert!(is_closed(&seen), "a client that is gone leaves none");
}

#[test]
fn the_answer_carries_a_descriptor_even_if_its_client_reads_late() {
    let mut world = World::new();
    let mut client = world.client();
    client.write_all(&swap(true)).unwrap();
    let call = world.call(0);
    // Progress until the socket is full.
    let note = "x".repeat(10_000);
    for _ in 0..22 {
        world.control.progress(call.client, &Progress::Note(note.clone()));
    }
    let (seen, passed) = witness();
    world.control.pass(call.client, &json!({"descriptor": 0}), passed.into());
    assert_eq!(world.held(), 1, "the socket was not full");
    let (mut heard, mut descriptors) = (Vec::new(), Vec::new());
    while heard.iter().filter(|byte| **byte == 0).count() < 23 {
        world.turn();
        let mut chunk = [0; 5_000];
        match receive_stream(&client, &mut chunk) {
            Ok(Got { length: 0, .. }) => panic!("it was cut off"),
            Ok(got) => {
                heard.extend_from_slice(&chunk[..got.length]);
                descriptors.extend(got.descriptors.into_iter().map(|descriptor| (heard.len(), descriptor)));
            }
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(errno) => panic!("{errno}"),
        }
    }
    let last = heard.iter().rposition(|byte| *byte == b'\n' || *byte == 0).unwrap();
    assert!(heard[..last].ends_with(b"{\"parameters\":{\"descriptor\":0}}"));
    let [(at, _)] = &descriptors[..] else { panic!("{} descriptors", descriptors.len()) };
    assert!(*at > last - 30, "it came at {at} of {last}");
    assert_eq!(world.held(), 0);
    assert!(!is_closed(&seen));
    drop(descriptors);
    assert!(is_closed(&seen));
}

#[test]
fn an_answer_for_one_who_is_gone_is_closed_with_what_it_carries() {
    let mut world = World::new();
    for read_first in [false, true] {
        let mut client = world.client();
        client.write_all(&swap(true)).unwrap();
        let call = world.call(world.calls().len());
        let (seen, passed) = witness();
        if read_first {
            for _ in 0..22 {
                world.control.progress(call.client, &Progress::Note("x".repeat(10_000)));
            }
        } else {
            drop(client);
            client = world.client();
            world.until("it is told", |world| world.is_told_of(call.client).then_some(()));
        }
        world.control.pass(call.client, &json!({}), passed.into());
        drop(client);
        world.until("all are forgotten", |world| (world.control.clients() == 0).then_some(()));
        assert!(is_closed(&seen), "{read_first}");
    }
}

impl World {
    fn held(&self) -> usize {
        self.control.connections.values().map(Connection::descriptors).sum()
    }
}
