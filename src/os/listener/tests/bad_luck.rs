//! What runs out, and what must not leak.

use super::*;
use nix::sys::resource::{Resource, setrlimit};
use std::os::fd::AsRawFd;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One of each kind, in `folder`.
fn one_of_each(folder: &Path) -> Vec<Arc<Socket>> {
    let mut all = vec![socket(tcp("127.0.0.1", free_port())), socket(udp("::1", free_port()))];
    for kind in [SocketKind::Stream, SocketKind::Datagram, SocketKind::SequentialPacket] {
        all.push(socket(Address::Unix { kind, path: folder.join("s") }));
        let name = format!("supd-leak-{}-{kind:?}", std::process::id());
        all.push(socket(Address::Abstract { kind, name }));
    }
    all.push(socket(Address::Fifo { path: folder.join("f") }));
    all
}

#[test]
fn every_descriptor_and_every_name_is_given_back() {
    alone("bad_luck::every_descriptor_and_every_name_is_given_back", || {
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("private");
        let all = one_of_each(folder.path());
        let before = descriptors();
        for round in 0..125 {
            for wanted in &all {
                let mut listener = Listener::bind(wanted, &private).unwrap();
                listener.listen().unwrap();
                listener.hold_off().unwrap();
                if round % 25 == 0 {
                    let second = Listener::bind(wanted, &private);
                    assert_eq!(second.unwrap_err().errno(), Errno::EADDRINUSE, "{}", wanted.address);
                }
                listener.listen().unwrap();
                listener.refuse().unwrap();
                listener.listen().unwrap();
                match round % 3 {
                    0 => listener.close(),
                    1 => drop(listener),
                    _ => {
                        let fd = listener.leave();
                        Listener::adopt(wanted, fd, &private).unwrap().close();
                    }
                }
            }
        }
        assert_eq!(descriptors(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the private folder");
        assert_eq!(std::fs::read_dir(&private).unwrap().count(), 0);
    });
}

#[test]
fn running_out_of_descriptors_at_any_moment_is_an_error_and_leaves_nothing() {
    alone("bad_luck::running_out_of_descriptors_at_any_moment_is_an_error_and_leaves_nothing", || {
        let folder = tempfile::tempdir().unwrap();
        let private = folder.path().join("private");
        // The limit is about numbers: no gaps below it.
        let filler: Vec<_> = (0..64).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let highest = u64::try_from(filler.last().unwrap().as_raw_fd()).unwrap();
        let before = descriptors();
        for wanted in one_of_each(folder.path()) {
            let (mut bound, mut failed) = (false, false);
            for spare in 0..8 {
                setrlimit(Resource::RLIMIT_NOFILE, highest + 1 + spare, 4096).unwrap();
                let result = Listener::bind(&wanted, &private).and_then(|mut listener| {
                    listener.listen()?;
                    listener.hold_off()?;
                    listener.listen()?;
                    let _ = listener.queue_length();
                    listener.refuse().ok();
                    listener.listen()
                });
                setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096).unwrap();
                if let Err(error) = &result {
                    let text = error.to_string();
                    assert!(text.contains("LimitNOFILE"), "{spare}: {text}");
                }
                bound |= result.is_ok();
                failed |= result.is_err();
                assert_eq!(descriptors(), before);
                assert!(!folder.path().join("s").exists() && !folder.path().join("f").exists());
                assert_eq!(std::fs::read_dir(&private).map_or(0, Iterator::count), 0);
            }
            assert!(bound && failed, "{}", wanted.address);
        }
    });
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: file.join("s") });
    let error = Listener::bind(&wanted, &folder.path().join("private")).unwrap_err().to_string();
    assert!(error.contains("cannot make the folder") && error.contains("/file"), "{error}");

    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: folder.path().join("s") });
    let error = Listener::bind(&wanted, &file).unwrap_err().to_string();
    assert!(error.contains("cannot make the folder"), "{error}");

    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: closed.path().join("s") });
    let private = folder.path().join("private");
    let error = std::thread::spawn(move || {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        Listener::bind(&wanted, &private).unwrap_err().to_string()
    });
    let error = error.join().unwrap();
    assert!(error.contains("needs write permission in"), "{error}");
}
