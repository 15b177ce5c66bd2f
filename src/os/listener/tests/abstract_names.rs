//! UNIX sockets with abstract names.

use super::unix::unix_worker;
use super::*;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};

fn named(kind: SocketKind, what: &str) -> Address {
    Address::Abstract { kind, name: format!("supd-test-{what}-{}", std::process::id()) }
}

fn connect_named(address: &Address) -> std::io::Result<UnixStream> {
    let Address::Abstract { name, .. } = address else { panic!("{address}") };
    UnixStream::connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap())
}

#[test]
fn an_abstract_stream_is_refused_and_listens_again() {
    let address = named(SocketKind::Stream, "again");
    let mut listener = bind(&socket(address.clone())).unwrap();
    let refused = |result: std::io::Result<UnixStream>| {
        result.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    };
    assert!(refused(connect_named(&address)));
    listener.listen().unwrap();
    listener.listen().unwrap();
    is_served(connect_named(&address).unwrap(), unix_worker(&listener).accept().unwrap().0);
    assert!(!listener.hold_off().unwrap());
    let queued = connect_named(&address).unwrap();
    listener.refuse().unwrap();
    assert!(refused(connect_named(&address)));
    is_served(queued, unix_worker(&listener).accept().unwrap().0);

    // As long as a worker has the old one, the name is taken, and supd says by whom.
    let old = unix_worker(&listener);
    let error = listener.listen().unwrap_err();
    assert_eq!(error.errno(), Errno::EADDRINUSE, "{error}");
    assert_eq!(listener.traffic(), Traffic::Refused);
    drop(old);
    at_last(|| listener.listen());
    is_served(connect_named(&address).unwrap(), unix_worker(&listener).accept().unwrap().0);
}

#[test]
fn an_abstract_name_that_is_taken_names_its_holder() {
    for kind in [SocketKind::Stream, SocketKind::Datagram, SocketKind::SequentialPacket] {
        let address = named(kind, "taken");
        let _first = bind(&socket(address.clone())).unwrap();
        let error = bind(&socket(address)).unwrap_err().to_string();
        assert!(error.contains("another listener of this supd"), "{error}");
    }
}

#[test]
fn abstract_datagrams_are_received_only_while_open() {
    let address = named(SocketKind::Datagram, "datagram");
    let Address::Abstract { name, .. } = &address else { panic!("{address}") };
    let place = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    let mut listener = bind(&socket(address.clone())).unwrap();
    client.send_to_addr(b"early", &place).unwrap();
    assert_eq!(listener.queue_length(), Some(0));
    listener.listen().unwrap();
    client.send_to_addr(b"hello", &place).unwrap();
    assert_eq!(listener.queue_length(), Some(5));
    listener.refuse().unwrap();
    client.send_to_addr(b"late", &place).unwrap();
    let worker: UnixDatagram = listener.fd().try_clone_to_owned().unwrap().into();
    let mut got = [0; 9];
    assert_eq!(worker.recv(&mut got).unwrap(), 5);
    assert_eq!(listener.queue_length(), Some(0));
}
