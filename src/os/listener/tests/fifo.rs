//! Named pipes.

use super::*;
use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

fn stage() -> (tempfile::TempDir, Arc<Socket>, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let wanted = with(Address::Fifo { path: path.clone() }, |o| o.mode = 0o620);
    (folder, wanted, path)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn write(path: &Path, what: &str) {
    OpenOptions::new().write(true).open(path).unwrap().write_all(what.as_bytes()).unwrap();
}

fn read(listener: &Listener) -> String {
    let mut got = [0; 64];
    let mut worker = std::fs::File::from(listener.fd().try_clone_to_owned().unwrap());
    let length = worker.read(&mut got).unwrap();
    String::from_utf8_lossy(&got[..length]).into_owned()
}

#[test]
fn a_fifo_is_made_written_read_and_removed() {
    let (folder, wanted, path) = stage();
    let private = folder.path().join("private");
    let mut listener = Listener::bind(&wanted, &private).unwrap();
    assert_eq!(names(folder.path()), ["private"]);
    listener.listen().unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
    write(&path, "one");
    write(&path, "two");
    assert_eq!(listener.queue_length(), Some(6), "no writer was the last");
    assert_eq!(read(&listener), "onetwo");
    assert_eq!(listener.queue_length(), Some(0));
    std::fs::remove_file(&path).unwrap();
    assert!(listener.republish().unwrap());
    write(&path, "three");
    assert_eq!(read(&listener), "three");
    listener.refuse().unwrap();
    assert!(!path.exists());
    listener.listen().unwrap();
    listener.close();
    assert_eq!(names(folder.path()), ["private"]);
    assert_eq!(names(&private), [] as [&str; 0]);
}

#[test]
fn a_writer_that_waits_at_a_fifo_of_before_gets_through() {
    let (folder, wanted, path) = stage();
    let private = folder.path().join("private");
    for _ in 0..2 {
        let mut listener = at_last(|| Listener::bind(&wanted, &private));
        listener.listen().unwrap();
        drop(listener.leave());
    }
    assert_eq!(names(&private), ["http.0"], "used again");
    let inode = std::fs::metadata(&path).unwrap().ino();
    let (name, named) = std::sync::mpsc::channel();
    let waiting = {
        let path = path.clone();
        std::thread::spawn(move || {
            name.send(nix::unistd::gettid()).unwrap();
            write(&path, "late");
        })
    };
    let thread = named.recv().unwrap();
    until("it waits in open(2)", || {
        std::fs::read_to_string(format!("/proc/self/task/{thread}/wchan"))
            .is_ok_and(|at| at.contains("fifo") || at.contains("wait_for_partner"))
            || std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall"))
                .is_ok_and(|call| call.starts_with(&format!("{} ", libc::SYS_openat)))
    });
    let listener = at_last(|| Listener::bind(&wanted, &private));
    waiting.join().unwrap();
    assert_eq!(read(&listener), "late");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn a_fifo_that_somebody_reads_names_who() {
    let (folder, wanted, path) = stage();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let other = Other::start(&format!("read {}", path.display()));
    let error = Listener::bind(&wanted, &folder.path().join("private")).unwrap_err().to_string();
    assert!(error.contains(&format!("(pid {}", other.pid())), "{error}");
    drop(other);
    Listener::bind(&wanted, &folder.path().join("private")).unwrap();
}

#[test]
fn a_strangers_fifo_is_replaced_and_a_file_is_not() {
    let (folder, wanted, path) = stage();
    let private = folder.path().join("private");
    if is_root_or_skip("fifo::a_strangers_fifo_is_replaced_and_a_file_is_not (in part)") {
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        let theirs = std::fs::metadata(&path).unwrap().ino();
        let mut listener = Listener::bind(&wanted, &private).unwrap();
        listener.listen().unwrap();
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), theirs);
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), 0);
    }
    std::fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&wanted, &private).unwrap_err().to_string();
    assert!(error.contains("there is a file at"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}
