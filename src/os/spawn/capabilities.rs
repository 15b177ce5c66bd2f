//! Capability sets of a worker (capabilities(7)), in the order in which the kernel allows it:
//! bounding set first, the rest around the change of user.
#![allow(unsafe_code)]

use super::failure::{SpawnFailure, Step};
use caps::Capability;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl::set_keepcaps;

/// The sets that capget(2) and capset(2) move, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    effective: u64,
    permitted: u64,
    inheritable: u64,
}

/// _LINUX_CAPABILITY_VERSION_3 of linux/capability.h: 64 bits in two halves.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

impl Sets {
    fn read() -> Result<Self, Errno> {
        let mut header = Header { version: VERSION_3, pid: 0 };
        let mut halves = [Half::default(); 2];
        // SAFETY: version 3 writes exactly two halves.
        Errno::result(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) })?;
        let [low, high] = halves;
        Ok(Self {
            effective: join(low.effective, high.effective),
            permitted: join(low.permitted, high.permitted),
            inheritable: join(low.inheritable, high.inheritable),
        })
    }

    #[allow(clippy::cast_possible_truncation, reason = "each half is meant")]
    fn write(self) -> Result<(), Errno> {
        let mut header = Header { version: VERSION_3, pid: 0 };
        let half = |shift: u32| Half {
            effective: (self.effective >> shift) as u32,
            permitted: (self.permitted >> shift) as u32,
            inheritable: (self.inheritable >> shift) as u32,
        };
        let halves = [half(0), half(32)];
        // SAFETY: version 3 reads exactly two halves.
        Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) }).map(drop)
    }
}

/// `CAP_NET_ADMIN` or `net_admin` as a bit.
fn bits(names: &[String]) -> Result<u64, SpawnFailure> {
    let bit = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let known = full.parse::<Capability>();
        known
            .map(|capability| capability.bitmask())
            .map_err(|_| SpawnFailure::reason(Step::Capability, name, "no such capability"))
    };
    names.iter().try_fold(0, |all, name| Ok(all | bit(name)?))
}

fn prctl(option: i32, argument: u64, bit: u64) -> Result<i32, Errno> {
    // SAFETY: these options take numbers only.
    Errno::result(unsafe { libc::prctl(option, argument, bit, 0u64, 0u64) })
}

/// The capabilities that a unit asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capabilities {
    ambient: u64,
    bounding: Option<u64>,
}

impl Capabilities {
    pub(super) fn parse(ambient: &[String], bounding: Option<&[String]>) -> Result<Self, SpawnFailure> {
        Ok(Self { ambient: bits(ambient)?, bounding: bounding.map(bits).transpose()? })
    }

    /// To be called before the user changes.
    pub(super) fn limit(self) -> Result<(), SpawnFailure> {
        if let Some(allowed) = self.bounding {
            // The kernel may know more than we have names for: all that are not allowed go.
            for bit in 0..64 {
                let Ok(set) = prctl(libc::PR_CAPBSET_READ, bit, 0) else { break };
                if set == 1 && allowed >> bit & 1 == 0 {
                    prctl(libc::PR_CAPBSET_DROP, bit, 0)
                        .map_err(|e| SpawnFailure::errno(Step::Capability, "CapabilityBoundingSet", e))?;
                }
            }
        }
        // Without this the change of user empties the permitted set, and there is nothing left to
        // raise. execve(2) switches it off again.
        set_keepcaps(self.ambient != 0).map_err(|e| SpawnFailure::errno(Step::Capability, "keeping them", e))
    }

    /// To be called after the user changed. What supd itself holds as ambient or inheritable is
    /// not passed on.
    pub(super) fn grant(self) -> Result<(), SpawnFailure> {
        let failed = |what: &'static str| move |errno| SpawnFailure::errno(Step::Capability, what, errno);
        let asked = "AmbientCapabilities";
        let mut sets = Sets::read().map_err(failed("reading"))?;
        if sets.permitted & self.ambient != self.ambient {
            return Err(failed(asked)(Errno::EPERM).hint("supd itself does not have them"));
        }
        // The kernel takes out of the ambient set what leaves the inheritable one.
        sets.inheritable = self.ambient;
        if !nix::unistd::geteuid().is_root() {
            sets.permitted = self.ambient;
            sets.effective = self.ambient;
        }
        sets.write().map_err(failed(asked))?;
        for bit in (0..64).filter(|bit| self.ambient >> bit & 1 == 1) {
            prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, bit).map_err(failed(asked))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Sets, bits};

    #[test]
    fn names_become_bits() {
        let of = |names: &[&str]| bits(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["CAP_CHOWN", "cap_net_bind_service"]), Ok(1 | 1 << 10));
        assert_eq!(of(&["checkpoint_restore"]), Ok(1 << 40));
        assert_eq!(of(&[]), Ok(0));
        let text = of(&["CAP_FLY"]).unwrap_err().to_string();
        assert_eq!(text, "cannot set capabilities: CAP_FLY: no such capability");
    }

    #[test]
    fn the_kernel_agrees_about_the_layout() {
        let line = |key: &str| {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
            u64::from_str_radix(&line, 16).unwrap()
        };
        let sets = Sets::read().unwrap();
        assert_eq!(sets.permitted, line("CapPrm:"));
        assert_eq!(sets.effective, line("CapEff:"));
        assert_eq!(sets.inheritable, line("CapInh:"));
    }
}
