//! A child that reads what a stranger sent gives away, for good, whatever it does not need.

use super::Error;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, geteuid, getpid, getppid, setgroups, setresgid, setresuid};

/// The user for work that belongs to nobody: the kernel's own overflow uid, which owns no files.
pub const NOBODY: u32 = 65_534;

/// What the child keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// As whom it goes on, if it is root; anyone else stays who they are.
    pub identity: Option<(u32, u32)>,
    /// The longest file it may write, in bytes.
    pub file_bytes: u64,
    /// Seconds of processor time.
    pub cpu_seconds: u64,
    /// Bytes of memory beyond those that it has when it is confined.
    pub memory_bytes: u64,
    /// Descriptors, open at once.
    pub descriptors: u64,
    /// Whose child it is: it ends with it.
    pub parent: Pid,
}

impl Confinement {
    /// For a child of this process.
    #[must_use]
    pub fn of_a_child(identity: Option<(u32, u32)>) -> Self {
        Self {
            identity,
            file_bytes: u64::MAX,
            cpu_seconds: 3600,
            memory_bytes: 640 << 20,
            descriptors: 256,
            parent: getpid(),
        }
    }

    /// Gives the rest away. To be called in the child, which must have one thread.
    ///
    /// # Errors
    /// A step that failed. The work must not be begun then.
    pub fn enter(&self) -> Result<(), Error> {
        // Nothing that is created shows more than the one who creates it means to.
        umask(Mode::from_bits_truncate(0o077));
        if let Some((uid, gid)) = self.identity.filter(|_| geteuid().is_root()) {
            become_user(uid, gid)?;
        }
        drop_capabilities()?;
        prctl::set_no_new_privs().map_err(|errno| Error::new("set", "no_new_privs", errno))?;
        // Others of the same user may not look into it, take over its descriptors through /proc,
        // or trace it. After the identity, whose change would set it again.
        prctl::set_dumpable(false).map_err(|errno| Error::new("set", "PR_SET_DUMPABLE", errno))?;
        self.end_with_parent()?;
        self.limit()
    }

    /// A supd that is killed sweeps when it comes back: no child of the last one may write then.
    /// After the identity, whose change would take the signal back.
    fn end_with_parent(&self) -> Result<(), Error> {
        prctl::set_pdeathsig(Signal::SIGKILL)
            .map_err(|errno| Error::new("set", "PR_SET_PDEATHSIG", errno))?;
        if getppid() == self.parent {
            Ok(())
        } else {
            Err(Error::new("go on without", "supd, which has ended", Errno::ESRCH))
        }
    }

    fn limit(&self) -> Result<(), Error> {
        let memory = self.memory_bytes.saturating_add(address_space()?);
        let limits = [
            (Resource::RLIMIT_FSIZE, self.file_bytes, "RLIMIT_FSIZE"),
            (Resource::RLIMIT_CPU, self.cpu_seconds, "RLIMIT_CPU"),
            (Resource::RLIMIT_AS, memory, "RLIMIT_AS"),
            (Resource::RLIMIT_NOFILE, self.descriptors, "RLIMIT_NOFILE"),
            (Resource::RLIMIT_CORE, 0, "RLIMIT_CORE"),
            (Resource::RLIMIT_NPROC, 0, "RLIMIT_NPROC"),
        ];
        for (resource, most, name) in limits {
            lower(resource, most).map_err(|errno| Error::new("set", name, errno))?;
        }
        ignore_file_limit_signal();
        Ok(())
    }
}

/// Groups first, since afterwards the right to is gone; and then tries to come back, because one
/// that could would be none the wiser.
fn become_user(uid: u32, gid: u32) -> Result<(), Error> {
    let failed = |errno| Error::new("become", format!("uid {uid}, gid {gid}"), errno);
    setgroups(&[]).map_err(failed)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).map_err(failed)?;
    setresuid(uid, uid, uid).map_err(failed)?;
    let root = Uid::from_raw(0);
    if !uid.is_root() && setresuid(root, root, root).is_ok() {
        return Err(failed(Errno::EPERM));
    }
    Ok(())
}

/// A supd of an ordinary user may have been given some (AmbientCapabilities), and one of root
/// keeps them where the securebits say so.
fn drop_capabilities() -> Result<(), Error> {
    use caps::CapSet;
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)
            .map_err(|_| Error::new("drop", format!("{set:?} capabilities"), Errno::EPERM))?;
    }
    Ok(())
}

/// Never up: a limit that supd was given holds for its children.
fn lower(resource: Resource, most: u64) -> Result<(), Errno> {
    let (soft, hard) = getrlimit(resource)?;
    setrlimit(resource, soft.min(most), hard.min(most))
}

/// How many bytes of addresses this process has in use; its limit counts them too.
fn address_space() -> Result<u64, Error> {
    let failed = |errno| Error::new("read", "/proc/self/statm", errno);
    let text = std::fs::read_to_string("/proc/self/statm")
        .map_err(|error| failed(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
    let pages: Option<u64> = text.split(' ').next().and_then(|pages| pages.parse().ok());
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    match (pages, size.and_then(|size| u64::try_from(size).ok())) {
        (Some(pages), Some(size)) => Ok(pages * size),
        _ => Err(failed(Errno::EINVAL)),
    }
}

/// A write past RLIMIT_FSIZE is then answered with EFBIG, which can be told; the signal would only
/// end the child.
#[allow(unsafe_code, reason = "signal(2)")]
fn ignore_file_limit_signal() {
    // SAFETY: "ignore" runs no code; the child's dispositions are its own.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::{Confinement, NOBODY};
    use crate::model::Signal;
    use crate::os::alone::root_or_skip;
    use crate::os::fork::fork;
    use crate::os::task::Task;
    use crate::os::task::tests::finish;
    use nix::errno::Errno;
    use nix::unistd::{ForkResult, Pid, Uid, geteuid, getgroups, getresgid, getresuid};
    use std::fs;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::time::Duration;

    /// What a confined child sees of itself.
    fn seen(confinement: Confinement, look: impl FnOnce() -> String) -> String {
        let task = Task::run("a test", Duration::from_secs(60), &[], || {
            confinement.enter().map_err(|error| error.to_string())?;
            Ok(look().into_bytes())
        });
        String::from_utf8(finish(task.unwrap()).unwrap()).unwrap()
    }

    fn status(keys: &[&str]) -> String {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        let lines = text.lines().filter(|line| keys.iter().any(|key| line.starts_with(&format!("{key}:"))));
        lines.map(|line| line.replace(char::is_whitespace, "")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nothing_is_left_that_is_not_needed() {
        let keys = ["NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapAmb", "Umask"];
        let said = seen(Confinement::of_a_child(None), || {
            let dumpable = nix::sys::prctl::get_dumpable().unwrap();
            format!("{} {dumpable}", status(&keys))
        });
        let none = "0000000000000000";
        assert_eq!(
            said,
            format!("Umask:0077 CapInh:{none} CapPrm:{none} CapEff:{none} CapAmb:{none} NoNewPrivs:1 false")
        );
    }

    #[test]
    fn root_becomes_somebody_else_for_good() {
        if !root_or_skip("root_becomes_somebody_else_for_good") {
            return;
        }
        let said = seen(Confinement::of_a_child(Some((4711, 4712))), || {
            let (uids, gids) = (getresuid().unwrap(), getresgid().unwrap());
            let groups = getgroups().unwrap().len();
            let back = nix::unistd::seteuid(Uid::from_raw(0)).is_ok();
            let shadow = fs::read("/etc/shadow").is_ok();
            format!("{uids:?} {gids:?} {groups} {back} {shadow}")
        });
        assert!(said.ends_with(" 0 false false"), "{said}");
        assert_eq!((said.matches("4711").count(), said.matches("4712").count()), (3, 3), "{said}");
        let said = seen(Confinement::of_a_child(Some((NOBODY, NOBODY))), || geteuid().to_string());
        assert_eq!(said, "65534");
    }

    #[test]
    fn whoever_is_no_root_stays_who_they_are() {
        if !root_or_skip("whoever_is_no_root_stays_who_they_are") {
            return;
        }
        let task = Task::run("a test", Duration::from_secs(60), &[], || {
            nix::unistd::setresuid(Uid::from_raw(4711), Uid::from_raw(4711), Uid::from_raw(4711)).unwrap();
            let confinement = Confinement::of_a_child(Some((4712, 4712)));
            Confinement { parent: nix::unistd::getppid(), ..confinement }.enter().unwrap();
            Ok(geteuid().to_string().into_bytes())
        });
        assert_eq!(finish(task.unwrap()), Ok(b"4711".to_vec()));
    }

    #[test]
    fn limits_hold() {
        let confinement = Confinement {
            file_bytes: 1000,
            memory_bytes: 50 << 20,
            descriptors: 30,
            ..Confinement::of_a_child(None)
        };
        let (file, uid) = (tempfile::tempfile().unwrap(), geteuid());
        let task = Task::run("a test", Duration::from_secs(60), &[file.as_fd()], || {
            confinement.enter().map_err(|error| error.to_string())?;
            let written = (&file).write(&[0; 2000]).unwrap();
            let full = (&file).write(&[0; 2000]).unwrap_err().raw_os_error();
            let memory = Vec::<u8>::new().try_reserve_exact(100 << 20).is_err();
            let descriptors =
                std::iter::from_fn(|| file.try_clone().ok()).take(100).collect::<Vec<_>>().len() < 30;
            // SAFETY: the child of the child does nothing at all.
            #[allow(unsafe_code)]
            let forked = match unsafe { nix::unistd::fork() } {
                Ok(ForkResult::Child) => loop {
                    nix::unistd::pause();
                },
                Ok(ForkResult::Parent { child }) => {
                    let _ = nix::sys::signal::kill(child, nix::sys::signal::SIGKILL);
                    true
                }
                Err(_) => false,
            };
            Ok(format!("{written} {full:?} {memory} {descriptors} {forked}").into_bytes())
        });
        let said = String::from_utf8(finish(task.unwrap()).unwrap()).unwrap();
        // Root's processes are not counted (RLIMIT_NPROC).
        let forked = uid.is_root();
        assert_eq!(said, format!("1000 {:?} true true {forked}", Some(libc::EFBIG)));
    }

    #[test]
    fn it_ends_with_the_one_that_began_it() {
        // The parent is a child of ours, which is killed.
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let (mut reader, writer) = (fs::File::from(reader), fs::File::from(writer));
        let parent = fork("a test", |_| {
            let confinement = Confinement::of_a_child(None);
            let child = fork("a test", |_| {
                confinement.enter().unwrap();
                (&writer).write_all(b"in").unwrap();
                loop {
                    nix::unistd::pause();
                }
            });
            let _child = child.unwrap();
            loop {
                nix::unistd::pause();
            }
        })
        .unwrap();
        drop(writer);
        let mut said = [0; 2];
        reader.read_exact(&mut said).unwrap();
        parent.process.send(Signal::KILL).unwrap();
        parent.process.wait().unwrap();
        // Its end of the pipe closes with it.
        assert_eq!(reader.read(&mut said).unwrap(), 0);
    }

    #[test]
    fn an_orphan_does_not_begin() {
        let confinement = Confinement { parent: Pid::from_raw(i32::MAX), ..Confinement::of_a_child(None) };
        let task = Task::run("a test", Duration::from_secs(60), &[], || {
            Ok(confinement.enter().unwrap_err().errno.to_string().into_bytes())
        });
        assert_eq!(finish(task.unwrap()), Ok(Errno::ESRCH.to_string().into_bytes()));
    }
}
