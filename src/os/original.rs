//! What supd was given when it started, so that a worker is given the same: what supd raises for
//! itself must not reach it.

use super::Error;
use crate::model::settings::{Limit, Resource};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::resource::{getrlimit, setrlimit};

/// The settings that a child inherits and that supd may change for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    limits: Vec<(Resource, u64, u64)>,
    oom_score_adjust: Option<i32>,
    nice: i32,
    timer_slack_ns: Option<u64>,
}

/// Every limit of setrlimit(2), in the order of the kernel's numbers.
pub const RESOURCES: [Resource; 16] = [
    Resource::Cpu,
    Resource::Fsize,
    Resource::Data,
    Resource::Stack,
    Resource::Core,
    Resource::Rss,
    Resource::Nproc,
    Resource::Nofile,
    Resource::Memlock,
    Resource::As,
    Resource::Locks,
    Resource::Sigpending,
    Resource::Msgqueue,
    Resource::Nice,
    Resource::Rtprio,
    Resource::Rttime,
];

/// setrlimit(2)'s value for "as much as you like".
pub const INFINITY: u64 = libc::RLIM_INFINITY;

impl Original {
    /// Reads what this process has now. To be called first of all, before supd changes anything.
    ///
    /// # Errors
    /// What getrlimit(2) says.
    pub fn read() -> Result<Self, Error> {
        let limit = |resource| match getrlimit(kernel(resource)) {
            Ok((soft, hard)) => Ok((resource, soft, hard)),
            Err(errno) => Err(Error::new("read", key(resource), errno)),
        };
        Ok(Self {
            limits: RESOURCES.into_iter().map(limit).collect::<Result<_, _>>()?,
            // Without /proc nobody can have changed it either.
            oom_score_adjust: read_oom_score_adjust(),
            nice: nice(),
            timer_slack_ns: prctl::get_timerslack().ok().and_then(|ns| u64::try_from(ns).ok()),
        })
    }

    /// The soft and the hard limit as supd got them.
    #[must_use]
    pub fn limit(&self, resource: Resource) -> (u64, u64) {
        let found = self.limits.iter().find(|(known, ..)| *known == resource);
        found.map_or((INFINITY, INFINITY), |(_, soft, hard)| (*soft, *hard))
    }

    /// oom_score_adj as supd got it.
    #[must_use]
    pub fn oom_score_adjust(&self) -> Option<i32> {
        self.oom_score_adjust
    }

    /// The nice value as supd got it.
    #[must_use]
    pub fn nice(&self) -> i32 {
        self.nice
    }

    /// The timer slack as supd got it, in nanoseconds (PR_SET_TIMERSLACK).
    #[must_use]
    pub fn timer_slack_ns(&self) -> Option<u64> {
        self.timer_slack_ns
    }
}

/// The key of the unit file that sets a resource.
#[must_use]
pub fn key(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "LimitCPU",
        Resource::Fsize => "LimitFSIZE",
        Resource::Data => "LimitDATA",
        Resource::Stack => "LimitSTACK",
        Resource::Core => "LimitCORE",
        Resource::Rss => "LimitRSS",
        Resource::Nofile => "LimitNOFILE",
        Resource::As => "LimitAS",
        Resource::Nproc => "LimitNPROC",
        Resource::Memlock => "LimitMEMLOCK",
        Resource::Locks => "LimitLOCKS",
        Resource::Sigpending => "LimitSIGPENDING",
        Resource::Msgqueue => "LimitMSGQUEUE",
        Resource::Nice => "LimitNICE",
        Resource::Rtprio => "LimitRTPRIO",
        Resource::Rttime => "LimitRTTIME",
    }
}

/// The kernel's name of a resource.
fn kernel(resource: Resource) -> nix::sys::resource::Resource {
    use nix::sys::resource::Resource as Kernel;
    match resource {
        Resource::Cpu => Kernel::RLIMIT_CPU,
        Resource::Fsize => Kernel::RLIMIT_FSIZE,
        Resource::Data => Kernel::RLIMIT_DATA,
        Resource::Stack => Kernel::RLIMIT_STACK,
        Resource::Core => Kernel::RLIMIT_CORE,
        Resource::Rss => Kernel::RLIMIT_RSS,
        Resource::Nofile => Kernel::RLIMIT_NOFILE,
        Resource::As => Kernel::RLIMIT_AS,
        Resource::Nproc => Kernel::RLIMIT_NPROC,
        Resource::Memlock => Kernel::RLIMIT_MEMLOCK,
        Resource::Locks => Kernel::RLIMIT_LOCKS,
        Resource::Sigpending => Kernel::RLIMIT_SIGPENDING,
        Resource::Msgqueue => Kernel::RLIMIT_MSGQUEUE,
        Resource::Nice => Kernel::RLIMIT_NICE,
        Resource::Rtprio => Kernel::RLIMIT_RTPRIO,
        Resource::Rttime => Kernel::RLIMIT_RTTIME,
    }
}

/// Sets one limit of this process. Infinity is "as much as may be had": what the kernel allows at
/// all, or the hard limit where more takes a privilege that is not there.
///
/// # Errors
/// EPERM: above the hard limit, without CAP_SYS_RESOURCE; EINVAL: soft above hard.
pub fn set_limit(limit: &Limit) -> Result<(), Errno> {
    let most = match limit.resource {
        // The kernel refuses more descriptors than fs.nr_open, infinity among them.
        Resource::Nofile => most_descriptors(),
        _ => INFINITY,
    };
    match set_raw(limit.resource, limit.soft.unwrap_or(most), limit.hard.unwrap_or(most)) {
        Err(Errno::EPERM) if limit.hard.is_none() => {
            let (_, hard) = getrlimit(kernel(limit.resource))?;
            set_raw(limit.resource, limit.soft.unwrap_or(hard), hard)
        }
        done => done,
    }
}

/// The same in the kernel's own numbers, and only where it changes anything.
///
/// # Errors
/// As [`set_limit`].
pub fn set_raw(resource: Resource, soft: u64, hard: u64) -> Result<(), Errno> {
    if getrlimit(kernel(resource)) == Ok((soft, hard)) {
        return Ok(());
    }
    setrlimit(kernel(resource), soft, hard)
}

/// fs.nr_open; its default where it cannot be read.
fn most_descriptors() -> u64 {
    let text = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap_or_default();
    text.trim().parse().unwrap_or(1_048_576)
}

const OOM_SCORE_ADJUST: &str = "/proc/self/oom_score_adj";

fn read_oom_score_adjust() -> Option<i32> {
    std::fs::read_to_string(OOM_SCORE_ADJUST).ok()?.trim().parse().ok()
}

/// Sets this process's oom_score_adj, where that changes anything.
///
/// # Errors
/// EACCES: below what it is allowed, without CAP_SYS_RESOURCE; ENOENT: no /proc.
pub fn set_oom_score_adjust(value: i32) -> Result<(), Errno> {
    if read_oom_score_adjust() == Some(value) {
        return Ok(());
    }
    std::fs::write(OOM_SCORE_ADJUST, value.to_string())
        .map_err(|e| e.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
}

/// The nice value of this process.
#[allow(unsafe_code, reason = "getpriority(2) has no wrapper")]
#[must_use]
pub fn nice() -> i32 {
    // SAFETY: takes two numbers. It cannot fail for oneself, so -1 needs no errno to be told apart.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

/// Sets the nice value of this process, where that changes anything.
///
/// # Errors
/// EACCES: lower than now, without CAP_SYS_NICE or room in RLIMIT_NICE.
#[allow(unsafe_code, reason = "setpriority(2) has no wrapper")]
pub fn set_nice(value: i32) -> Result<(), Errno> {
    if nice() == value {
        return Ok(());
    }
    // SAFETY: takes three numbers.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{INFINITY, Original, RESOURCES, kernel, key, set_limit, set_nice, set_oom_score_adjust};
    use crate::model::settings::{Limit, Resource};
    use crate::os::task::{Task, tests::finish};
    use nix::sys::resource::getrlimit;
    use std::time::Duration;

    #[test]
    fn every_limit_of_the_kernel_is_known() {
        let table = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert_eq!(table.lines().count() - 1, RESOURCES.len());
        let original = Original::read().unwrap();
        for resource in RESOURCES {
            assert_eq!(getrlimit(kernel(resource)), Ok(original.limit(resource)), "{}", key(resource));
        }
    }

    #[test]
    fn settings_of_a_child() {
        let limit = |resource, value| Limit { resource, soft: Some(value), hard: Some(value) };
        let task = Task::run("a test", Duration::from_secs(20), &[], || {
            let same = Original::read().unwrap();
            set_limit(&limit(Resource::Core, 0)).unwrap();
            set_limit(&limit(Resource::Nofile, 64)).unwrap();
            set_nice(same.nice() + 1).unwrap();
            set_oom_score_adjust(same.oom_score_adjust().unwrap() + 1).unwrap();
            let now = Original::read().unwrap();
            assert_eq!(now.limit(Resource::Core), (0, 0));
            assert_eq!(now.limit(Resource::Nofile), (64, 64));
            assert_eq!(now.nice(), same.nice() + 1);
            assert_ne!(now.oom_score_adjust(), same.oom_score_adjust());
            Ok(Vec::new())
        });
        assert_eq!(finish(task.unwrap()), Ok(Vec::new()));
    }

    #[test]
    fn soft_above_hard_is_refused() {
        let limit = Limit { resource: Resource::Core, soft: Some(INFINITY), hard: Some(0) };
        assert_eq!(set_limit(&limit), Err(nix::errno::Errno::EINVAL));
    }
}
