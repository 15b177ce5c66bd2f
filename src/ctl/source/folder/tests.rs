use super::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

fn sent(folder: &Path) -> (Result<Vec<u8>, io::Error>, Result<(), Failure>) {
    let opened =
        nix::fcntl::open(folder, OFlag::O_RDONLY | OFlag::O_DIRECTORY, nix::sys::stat::Mode::empty());
    let (reading, sender) = match send(folder, opened.unwrap()) {
        Ok(begun) => begun,
        Err(failure) => return (Ok(Vec::new()), Err(failure)),
    };
    let mut bytes = Vec::new();
    let read = File::from(reading).read_to_end(&mut bytes);
    (read.map(|_| bytes), sender.finish())
}

/// Names in order, with mode, content or target, as GNU tar's rules read them.
fn members(bytes: &[u8]) -> Vec<(String, u32, String)> {
    let mut archive = tar::Archive::new(bytes);
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let mode = header.mode().unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let target =
                entry.link_name_bytes().map(|target| String::from_utf8(target.into_owned()).unwrap());
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            (name, mode, target.map_or(content, |target| format!("-> {target}")))
        })
        .collect()
}

fn fill(folder: &Path) {
    fs::create_dir_all(folder.join("a/empty")).unwrap();
    fs::write(folder.join("a/b"), "b").unwrap();
    fs::write(folder.join("a-b"), "").unwrap();
    fs::write(folder.join("run"), "#!/bin/sh").unwrap();
    fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(folder.join("a/b"), fs::Permissions::from_mode(0o666)).unwrap();
    symlink("./a/../a-b", folder.join("link")).unwrap();
    symlink(format!("./{}", "x/".repeat(300)), folder.join("long link")).unwrap();
    fs::create_dir(folder.join("ä".repeat(60))).unwrap();
    fs::write(folder.join("ä".repeat(60)).join("ö".repeat(60)), "long name").unwrap();
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path());
    fs::write(other.path().join("zz"), "").unwrap();
    fill(other.path());
    fs::remove_file(other.path().join("zz")).unwrap();
    fs::set_permissions(other.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
    let (bytes, told) = sent(one.path());
    told.unwrap();
    let bytes = bytes.unwrap();
    assert_eq!(sent(other.path()).0.unwrap(), bytes);
    let long = "ä".repeat(60);
    let expected = [
        ("a-b", 0o644, ""),
        ("a/", 0o755, ""),
        ("a/b", 0o644, "b"),
        ("a/empty/", 0o755, ""),
        ("link", 0o777, "-> ./a/../a-b"),
        ("long link", 0o777, &format!("-> ./{}", "x/".repeat(300))),
        ("run", 0o755, "#!/bin/sh"),
        (&format!("{long}/"), 0o755, ""),
        (&format!("{long}/{}", "ö".repeat(60)), 0o644, "long name"),
    ];
    let expected: Vec<_> = expected.iter().map(|(n, m, c)| ((*n).to_owned(), *m, (*c).to_owned())).collect();
    assert_eq!(members(&bytes), expected);
    assert!(bytes.ends_with(&[0; 1024]), "an archive that is whole has its end");
    // Another program reads the same.
    let target = tempfile::tempdir().unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xf-").arg("-C").arg(target.path()).stdin(std::process::Stdio::piped());
    let mut tar = tar.spawn().unwrap();
    tar.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(fs::read_link(target.path().join("link")).unwrap(), Path::new("./a/../a-b"));
    assert_eq!(sent(target.path()).0.unwrap(), bytes);
}

/// The same release, whether its folder or an archive of it is given: also where a target has no room in a
/// header, or would have some if it were written otherwise.
#[test]
fn a_folder_has_the_digest_of_its_archive() {
    let digest = |bytes: &[u8]| {
        let into = tempfile::tempdir().unwrap();
        let top = crate::os::beneath::open_at(into.path()).unwrap();
        let bounds = crate::store::unpack::Bounds::default();
        crate::store::unpack::unpack_from(bytes, top.as_fd(), &bounds).unwrap().digest
    };
    for target in [
        "a-b".to_owned(),
        "x/".repeat(49) + "xy",
        "x/".repeat(49) + "xyz",
        "./".repeat(60) + "a-b",
        "x//".repeat(40) + "./.",
        "x".repeat(101) + "/",
    ] {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        symlink(&target, folder.path().join("ä".repeat(60)).join("to")).unwrap();
        let (bytes, told) = sent(folder.path());
        told.unwrap();
        let mut tar = std::process::Command::new("tar");
        let tar = tar.arg("-cf-").arg("-C").arg(folder.path()).arg(".").output().unwrap();
        assert!(tar.status.success());
        assert_eq!(digest(&bytes.unwrap()), digest(&tar.stdout), "{target}");
    }
}

#[test]
fn what_cannot_be_sent_is_named_before_anything_is() {
    let deep = (0..120).map(|_| "d").collect::<Vec<_>>().join("/");
    let cases: BTreeMap<&str, fn(&Path)> = BTreeMap::from([
        (
            "\"in/fifo\" is a FIFO",
            (|folder| {
                fs::create_dir(folder.join("in")).unwrap();
                nix::unistd::mkfifo(&folder.join("in/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
            }) as fn(&Path),
        ),
        ("\"socket\" is a socket", |folder| {
            std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap();
        }),
        ("has a name that is not UTF-8", |folder| {
            fs::write(folder.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        }),
        ("is more than 100 folders deep", |folder| {
            fs::create_dir_all(folder.join((0..120).map(|_| "d").collect::<Vec<_>>().join("/"))).unwrap();
        }),
    ]);
    assert_eq!(deep.len(), 239);
    for (said, make) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "sent first").unwrap();
        make(folder.path());
        let (bytes, told) = sent(folder.path());
        let failure = told.unwrap_err();
        assert!(failure.text.contains(said), "{failure:?}");
        assert_eq!((bytes.unwrap().len(), failure.status), (0, ExitStatus::Failed));
    }
}

/// Nobody takes it for whole: neither this reader nor GNU tar, wherever it was cut.
fn is_not_whole(bytes: &[u8]) {
    let mut archive = tar::Archive::new(bytes);
    let read = archive.entries().unwrap().try_for_each(|entry| {
        let mut entry = entry?;
        let size = entry.size();
        let copied = io::copy(&mut entry, &mut io::sink())?;
        if copied == size { Ok(()) } else { Err(io::Error::other("short")) }
    });
    read.unwrap_err();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-tf-").stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut tar = tar.stdout(std::process::Stdio::null()).spawn().unwrap();
    let _it_may_have_ended = tar.stdin.take().unwrap().write_all(bytes);
    assert!(!tar.wait().unwrap().success());
}

#[test]
fn a_folder_that_changes_meanwhile_is_never_taken_for_whole() {
    let big = vec![b'x'; 1 << 20];
    let changes: [fn(&Path); 5] = [
        |folder| fs::write(folder.join("c"), "shorter").unwrap(),
        |folder| File::options().append(true).open(folder.join("c")).unwrap().write_all(b"more").unwrap(),
        |folder| fs::write(folder.join("new"), "").unwrap(),
        |folder| fs::remove_file(folder.join("c")).unwrap(),
        |folder| {
            fs::remove_file(folder.join("c")).unwrap();
            symlink("/etc/passwd", folder.join("c")).unwrap();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name), &big).unwrap();
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let opened = nix::fcntl::open(folder.path(), flags, nix::sys::stat::Mode::empty()).unwrap();
        let (reading, sender) = send(folder.path(), opened).unwrap();
        // It has begun and waits for its reader.
        let (mut reading, mut bytes) = (File::from(reading), vec![0; 1000]);
        reading.read_exact(&mut bytes).unwrap();
        change(folder.path());
        reading.read_to_end(&mut bytes).unwrap();
        let failure = sender.finish().unwrap_err();
        assert!(failure.text.contains("changed while it was read"), "{failure:?}");
        assert!(bytes.len() > 1 << 20, "{number}");
        is_not_whole(&bytes);
    }
}

#[test]
fn wherever_it_is_cut_nobody_takes_it_for_whole() {
    for lacks in [0, 1, 48, 49, 100, 511, 512, 513, 560, 561, 1000, 1024, 1072, 1535, 1536, 2000] {
        let pipe = tempfile::tempfile().unwrap();
        let mut archive = Archive::new(pipe.try_clone().unwrap());
        let mut header = Header::new_gnu();
        header.set_path("f").unwrap();
        header.set_size(2000);
        header.set_cksum();
        archive.builder.get_mut().write_all(header.as_bytes()).unwrap();
        archive.builder.get_mut().write_all(&vec![b'x'; 2000 - lacks]).unwrap();
        archive.lacks = lacks as u64;
        archive.end(Err(Fault::new(Path::new("f"), "is odd").into())).unwrap_err();
        let mut bytes = Vec::new();
        io::Seek::rewind(&mut &pipe).unwrap();
        (&pipe).read_to_end(&mut bytes).unwrap();
        println!("{lacks} bytes lack in an archive of {}", bytes.len());
        is_not_whole(&bytes);
    }
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("big"), vec![0; 10 << 20]).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let opened = nix::fcntl::open(folder.path(), flags, nix::sys::stat::Mode::empty()).unwrap();
    let (reading, sender) = send(folder.path(), opened).unwrap();
    let copy = reading.as_fd().try_clone_to_owned().unwrap();
    let mut some = [0; 5000];
    File::from(copy).read_exact(&mut some).unwrap();
    drop(reading);
    assert_eq!(sender.finish(), Ok(()), "supd's own words are to be read");
}

/// A file is sent as it is read.
#[test]
fn memory_does_not_grow_with_the_content() {
    let folder = tempfile::tempdir().unwrap();
    let big = File::create(folder.path().join("hole")).unwrap();
    big.set_len(300 << 20).unwrap();
    let before = peak_kib();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let opened = nix::fcntl::open(folder.path(), flags, nix::sys::stat::Mode::empty()).unwrap();
    let (reading, sender) = send(folder.path(), opened).unwrap();
    let copied = io::copy(&mut File::from(reading), &mut io::sink()).unwrap();
    sender.finish().unwrap();
    assert!(copied > 300 << 20);
    // Other tests run beside this one.
    assert!(peak_kib() < before + (200 << 10));
}

fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
