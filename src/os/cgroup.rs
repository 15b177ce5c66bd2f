//! Control groups, version 2 (cgroups(7), the kernel's admin-guide/cgroup-v2): where this process is, and folders
//! below it with processes in them.
//!
//! Nothing here waits for anyone, but the kernel may take some milliseconds for a move or a new controller: a
//! worker's group is made and joined by its own child.

use super::pidfd::PidFd;
use crate::model::Signal;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use std::ffi::{CStr, CString, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where supd itself is: no process may be in a group whose children have controllers. systemd puts it there by
/// itself, from 254 on, with DelegateSubgroup=supd.
pub const OWN: &str = "supd";

/// A list of processes that is longer is cut off: Linux allows 4 million, a server has hundreds.
const LIST_MAX: u64 = 1 << 20;

/// So many groups below one are looked at: a worker that runs as root may make as many as it likes.
const BELOW_MAX: usize = 256;

/// How often processes are killed one by one where the kernel cannot kill a group (before Linux 5.14): each round
/// meets only what those before it have started.
const ROUNDS: usize = 16;

/// Where a hierarchy is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Which part of it, as /proc/self/cgroup counts.
    root: String,
    /// The folder.
    point: PathBuf,
}

/// The one hierarchy of version 2, as this process sees it.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// Where this process is: `/` and what follows.
    pub own: String,
    mounts: Vec<Mount>,
}

impl Hierarchy {
    /// Looks it up.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn find() -> Result<Self, String> {
        let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let own = own_of(&read("/proc/self/cgroup")?).ok_or("this kernel has no cgroups of version 2")?;
        let mounts = mounts_of(&read("/proc/self/mountinfo")?);
        if mounts.is_empty() {
            return Err("no cgroup2 file system is mounted".to_owned());
        }
        Ok(Self { own, mounts })
    }

    /// The folder of a group; `None`: it is not under any mount.
    #[must_use]
    pub fn folder(&self, path: &str) -> Option<PathBuf> {
        // As a group is mounted over by hand, the last mount is the one that is seen.
        self.mounts.iter().rev().find_map(|mount| Some(mount.point.join(below(&mount.root, path)?)))
    }
}

/// What comes after `root` in `path`, without a slash in front.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    let inside = !path.split('/').any(|part| part == "..");
    (inside && (rest.is_empty() || rest.starts_with('/'))).then(|| rest.trim_start_matches('/'))
}

/// The group of version 2 in a /proc/PID/cgroup.
fn own_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The mounts of version 2 in a /proc/PID/mountinfo (proc(5)).
fn mounts_of(text: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (fields, of) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let point = PathBuf::from(OsString::from_vec(unescape(point)));
        let root = String::from_utf8(unescape(root)).ok()?;
        of.starts_with("cgroup2 ").then_some(Mount { root, point })
    };
    text.lines().filter_map(mount).collect()
}

/// `\040` and its like.
fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let octal = bytes.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                plain.push(value);
                at += 4;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

/// The group that a process is in.
#[must_use]
pub fn of(pid: i32) -> Option<String> {
    own_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Whether this is the group that everything is in: it is the machine's.
#[must_use]
pub fn is_root(folder: &Path) -> bool {
    folder.join("cgroup.procs").exists() && !folder.join("cgroup.type").exists()
}

/// Whether systemd says that whoever is in this group may do with it what they like (its CGROUP_DELEGATION:
/// `user.delegate`, which anyone can read, and before 251 `trusted.delegate`, which root can).
#[must_use]
#[allow(unsafe_code, reason = "getxattr(2) has no wrapper")]
pub fn is_delegated(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    let says_so = |name: &CStr| {
        let mut value = [0u8; 1];
        // SAFETY: both names end with a NUL, and the kernel writes at most the one byte that it is given.
        let length =
            unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        length == 1 && value == *b"1"
    };
    [c"user.delegate", c"trusted.delegate"].into_iter().any(says_so)
}

/// Takes a group for this process alone: two supd in one would end each other's workers. The lock is the
/// process's (fcntl(2)), on a file that nobody here opens else, for as long as that is open.
///
/// # Errors
/// EACCES, EPERM: this user may move no processes here; EAGAIN: another supd has it.
pub fn take(folder: &Path) -> Result<File, Errno> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.join("cgroup.threads"))
        .map_err(|error| errno(&error))?;
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    match fcntl(&file, FcntlArg::F_SETLK(&whole)) {
        Ok(_) => Ok(file),
        Err(Errno::EACCES | Errno::EAGAIN) => Err(Errno::EAGAIN),
        Err(errno) => Err(errno),
    }
}

fn errno(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Makes a group, if it is not there. Gives whether it was made.
///
/// # Errors
/// EACCES, EPERM, EROFS, ENOSPC (cgroup.max.descendants).
pub fn make(folder: &Path) -> Result<bool, Errno> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(errno(&error)),
    }
}

/// Moves this process into a group; its children to be will be there too.
///
/// # Errors
/// EACCES, EBUSY (controllers are enabled for the groups below it), ENOENT, EOPNOTSUPP.
pub fn enter(folder: &Path) -> Result<(), Errno> {
    write(&folder.join("cgroup.procs"), "0")
}

/// Without making what is not there: cgroupfs refuses that with another errno.
fn write(path: &Path, text: &str) -> Result<(), Errno> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(|error| errno(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| errno(&error))
}

fn read(path: &Path, most: u64) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(most).read_to_string(&mut text).ok()?;
    // What is cut off is not to be half a number: that would be another's.
    if text.len() as u64 == most {
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
    }
    Some(text)
}

/// One file of a group that holds a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The key of the unit file.
    pub key: String,
    /// Whose it is.
    pub controller: String,
    /// The file, as `memory.max`.
    pub file: String,
    /// What is written there.
    pub value: String,
}

/// How a worker comes into its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// Where supd's groups are.
    pub base: PathBuf,
    /// The name of its generation's.
    pub name: String,
    /// That of its own below it, which no other worker ever gets.
    pub own: String,
    /// What holds for the generation.
    pub limits: Vec<Limit>,
}

impl Joining {
    /// The generation's folder, in which no process is itself.
    fn generation(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    /// Its own folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.generation().join(&self.own)
    }

    /// Makes the group, with its limits, and goes there, as far as that can be done. Gives what cannot, each a
    /// sentence. For the child that is to be the worker, while it has supd's own rights.
    #[must_use]
    pub fn join(&self) -> Vec<String> {
        let folder = self.folder();
        let faults = make(&self.generation()).and_then(|_| {
            // Before anything can be used there.
            let faults = self.limit();
            make(&folder).and_then(|_| enter(&folder)).map(|()| faults)
        });
        faults.unwrap_or_else(|errno| {
            let why = errno.desc();
            let without =
                format!("it runs without a cgroup of its own: cannot join {}: {why}", folder.display());
            let keys: Vec<&str> = self.limits.iter().map(|limit| &*limit.key).collect();
            let lost =
                if keys.is_empty() { String::new() } else { format!("; {} not in force", keys.join(", ")) };
            vec![without + &lost]
        })
    }

    /// Sets the limits of a group that is there. Gives what cannot be, each a sentence.
    #[must_use]
    pub fn limit(&self) -> Vec<String> {
        let each = self.limits.iter().map(|limit| self.impose(limit).map_err(|why| (limit, why)));
        each.filter_map(Result::err)
            .map(|(limit, why)| format!("{} is not in force: {why}", limit.key))
            .collect()
    }

    /// A controller is enabled only where somebody asks for it: what is below cannot be had without it, and a
    /// systemd before 254 starts nothing in a service's group while it is.
    fn impose(&self, limit: &Limit) -> Result<(), String> {
        let file = self.generation().join(&limit.file);
        if !file.exists() {
            let (base, controller) = (self.base.display(), &limit.controller);
            let enabled = write(&self.base.join("cgroup.subtree_control"), &format!("+{controller}"));
            enabled.map_err(|errno| match errno {
                Errno::ENOENT => format!("{base} has no {controller} controller (its cgroup.controllers)"),
                Errno::EBUSY => format!(
                    "the {controller} controller cannot be enabled while processes are in {base} itself"
                ),
                errno => format!("cannot enable the {controller} controller in {base}: {}", errno.desc()),
            })?;
        }
        let failed =
            |errno: Errno| format!("cannot write {} to {}: {}", limit.value, file.display(), errno.desc());
        write(&file, &limit.value).map_err(failed)
    }
}

/// The names of the groups right below one.
#[must_use]
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A group and those below it, each before its children, as far as there are not too many.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_path_buf()];
    let mut at = 0;
    while at < all.len() && all.len() < BELOW_MAX {
        let inside: Vec<PathBuf> = names(&all[at]).iter().map(|name| all[at].join(name)).collect();
        all.extend(inside.into_iter().take(BELOW_MAX - all.len()));
        at += 1;
    }
    all
}

/// The processes in a group and in those below it. What is not in our sight (another PID namespace) is left out.
#[must_use]
pub fn processes(folder: &Path) -> Vec<i32> {
    let lists = tree(folder).into_iter().filter_map(|one| read(&one.join("cgroup.procs"), LIST_MAX));
    let numbers = |list: String| list.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(numbers).filter(|pid| *pid > 0).collect()
}

/// Moves these out of a group and into supd's own, if somebody has moved them there: a worker that runs
/// as root may do so with any process.
pub fn bring_back(folder: &Path, ours: &[i32]) {
    let Some(own) = folder.ancestors().nth(2).map(|base| base.join(OWN)) else { return };
    let there = processes(folder);
    for pid in ours.iter().filter(|pid| there.contains(pid)) {
        // Where that cannot be, they are at least not killed.
        let _ = write(&own.join("cgroup.procs"), &pid.to_string());
    }
}

/// Kills every process in a group and in those below it, but for `spared`.
pub fn kill(folder: &Path, spared: &[i32]) {
    let is_clear = !processes(folder).iter().any(|pid| spared.contains(pid));
    if is_clear && write(&folder.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    for _ in 0..ROUNDS {
        let seen = processes(folder).into_iter().filter(|pid| !spared.contains(pid));
        let held: Vec<PidFd> = seen.filter_map(|pid| PidFd::open(pid).ok()).collect();
        // Whose number is still in the list after it is held is the one that was seen.
        let now = processes(folder);
        let held = held.iter().filter(|process| now.contains(&process.pid()) && !process.is_over());
        if held.filter(|process| process.send(Signal::KILL).is_ok()).count() == 0 {
            return;
        }
    }
}

/// Removes a group, and those below it.
///
/// # Errors
/// EBUSY: a process is in it.
pub fn remove(folder: &Path) -> Result<(), Errno> {
    for one in tree(folder).iter().rev() {
        match fs::remove_dir(one) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(errno(&error)),
        }
    }
    Ok(())
}

/// What a group uses, as far as the kernel counts it there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// memory.current, in bytes: where the memory controller is on.
    pub memory: Option<u64>,
    /// Microseconds of all processors, of what has ended too: usage_usec of cpu.stat.
    pub cpu_usec: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
}

impl Usage {
    /// Reads it.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let number = |file: &str| read(&folder.join(file), 64)?.trim_end().parse().ok();
        let stat = read(&folder.join("cpu.stat"), 4096).unwrap_or_default();
        let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok());
        let counted = || {
            let lists = tree(folder).into_iter().map(|one| read(&one.join("cgroup.threads"), LIST_MAX));
            lists.map(|list| u64::try_from(list?.lines().count()).ok()).sum()
        };
        Self {
            memory: number("memory.current"),
            cpu_usec: used,
            tasks: number("pids.current").or_else(counted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::alone::alone;

    #[test]
    fn the_own_group_is_that_of_version_2() {
        let hybrid = "4:memory:/system.slice\n1:name=systemd:/x\n0::/system.slice/supd.service\n";
        assert_eq!(own_of(hybrid).as_deref(), Some("/system.slice/supd.service"));
        assert_eq!(own_of("4:memory:/system.slice\n"), None);
    }

    #[test]
    fn a_group_is_found_under_its_mount() {
        let text = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                    41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n\
                    42 31 0:38 /a\\040b /mnt/with\\040space rw - cgroup2 none rw\n";
        let hierarchy = Hierarchy { own: "/".into(), mounts: mounts_of(text) };
        let folder = |path: &str| hierarchy.folder(path);
        assert_eq!(folder("/"), Some("/sys/fs/cgroup/unified/".into()));
        assert_eq!(folder("/x/y"), Some("/sys/fs/cgroup/unified/x/y".into()));
        assert_eq!(folder("/a b/c"), Some("/mnt/with space/c".into()));
        // Another one that begins alike, and one outside of this process's namespace.
        assert_eq!(folder("/a bc"), Some("/sys/fs/cgroup/unified/a bc".into()));
        assert_eq!(folder("/../x"), None);
    }

    fn joining(base: &Path) -> Joining {
        let limit = Limit {
            key: "MemoryMax".into(),
            controller: "memory".into(),
            file: "memory.max".into(),
            value: "4096".into(),
        };
        Joining { base: base.into(), name: "web.g3".into(), own: "0a".into(), limits: vec![limit] }
    }

    /// As before Linux 5.14; and whoever is spared is in the way of the kernel's own kill.
    #[test]
    fn one_by_one_nobody_is_left_but_the_spared() {
        const NAME: &str = "os::cgroup::tests::one_by_one_nobody_is_left_but_the_spared";
        let known = fs::read_to_string("/proc/filesystems").unwrap();
        if !known.contains("cgroup2") || !crate::os::alone::root_or_skip(NAME) {
            return;
        }
        alone(NAME, || {
            use nix::mount::{MsFlags, mount};
            let none = None::<&str>;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let place = tempfile::tempdir().unwrap();
            mount(Some("none"), place.path(), Some("cgroup2"), MsFlags::empty(), none).unwrap();
            let us = std::process::id();
            let group = place.path().join(format!("supd-test-kill-{us}"));
            assert!(make(&group).unwrap() && !make(&group).unwrap());
            enter(&group).unwrap();
            let mut children: Vec<_> =
                (0..3).map(|_| std::process::Command::new("sleep").arg("600").spawn().unwrap()).collect();
            let us = i32::try_from(us).unwrap();
            kill(&group, &[us]);
            for child in &mut children {
                assert!(!child.wait().unwrap().success());
            }
            assert_eq!(processes(&group), [us]);
            assert_eq!(remove(&group), Err(Errno::EBUSY));
            enter(place.path()).unwrap();
            assert_eq!(remove(&group), Ok(()));
            nix::mount::umount(place.path()).unwrap();
            String::new()
        });
    }

    /// A plain folder in the place of cgroupfs: what is written where, and in which order it is said.
    #[test]
    fn limits_are_written_before_anyone_is_in() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("web.g3");
        fs::create_dir_all(group.join("0a")).unwrap();
        for file in ["memory.max", "0a/cgroup.procs"] {
            fs::write(group.join(file), "").unwrap();
        }
        assert_eq!(joining(folder.path()).join(), Vec::<String>::new());
        assert_eq!(fs::read_to_string(group.join("memory.max")).unwrap(), "4096");
        assert_eq!(fs::read_to_string(group.join("0a/cgroup.procs")).unwrap(), "0");
        assert!(!folder.path().join("cgroup.subtree_control").exists(), "no controller is enabled twice");

        // A limit that cannot be had keeps nobody from joining.
        fs::remove_file(group.join("memory.max")).unwrap();
        let faults = joining(folder.path()).join();
        let base = folder.path().display();
        let said =
            format!("MemoryMax is not in force: {base} has no memory controller (its cgroup.controllers)");
        assert_eq!(faults, [said]);
        fs::write(folder.path().join("cgroup.subtree_control"), "").unwrap();
        let faults = joining(folder.path()).join();
        assert_eq!(fs::read_to_string(folder.path().join("cgroup.subtree_control")).unwrap(), "+memory");
        assert!(faults[0].contains("cannot write 4096 to"), "{faults:?}");
    }

    #[test]
    fn a_group_that_cannot_be_joined_takes_its_limits_along() {
        let folder = tempfile::tempdir().unwrap();
        // It is made, and there is no way into a plain folder.
        let faults = joining(folder.path()).join();
        let said = format!(
            "it runs without a cgroup of its own: cannot join {}: No such file or directory; MemoryMax not in force",
            folder.path().join("web.g3/0a").display()
        );
        assert_eq!(faults, [said]);
    }

    #[test]
    fn what_a_group_uses_is_what_its_files_say() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Usage::read(folder.path()), Usage::default());
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        file("cpu.stat", "usage_usec 1234\nuser_usec 1000\n");
        file("cgroup.threads", "1\n2\n3\n");
        let usage = Usage { memory: None, cpu_usec: Some(1234), tasks: Some(3) };
        assert_eq!(Usage::read(folder.path()), usage);
        file("memory.current", "4096\n");
        file("pids.current", "7\n");
        let usage = Usage { memory: Some(4096), tasks: Some(7), ..usage };
        assert_eq!(Usage::read(folder.path()), usage);
    }
}
