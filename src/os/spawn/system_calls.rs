//! SystemCallFilter: what a process may not ask of the kernel ends it, with SIGSYS.

use super::super::seccomp::{self, ARCH, NUMBER, OWN, X32, answer, jump, load};
use crate::model::system_calls::SystemCalls;
use nix::errno::Errno;
use nix::libc::{BPF_JEQ, BPF_JGE, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS, sock_filter};

/// Says so to the kernel. From here on it holds for this process too.
pub(super) fn limit(calls: &SystemCalls) -> Result<(), Errno> {
    seccomp::install(&program(calls), 0).map(drop)
}

/// One pair of instructions for each number: the kernel remembers for each what comes of it (since 5.11), so that
/// nobody walks through them.
fn program(calls: &SystemCalls) -> Vec<sock_filter> {
    let (listed, others) = match calls.allowed {
        true => (SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS),
        false => (SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW),
    };
    let forbid = answer(SECCOMP_RET_KILL_PROCESS);
    // The same number is another call there, so that a list would be no list.
    let mut program = vec![load(ARCH), jump(BPF_JEQ, OWN, 1, 0), forbid, load(NUMBER)];
    program.extend([jump(BPF_JGE, X32, 0, 1), forbid]);
    for number in &calls.numbers {
        program.extend([jump(BPF_JEQ, *number, 0, 1), answer(listed)]);
    }
    program.push(answer(others));
    program
}

#[cfg(test)]
#[allow(unsafe_code, reason = "what forbids a call can only be tried by a process of its own that makes it")]
mod tests {
    use super::*;
    use nix::libc;
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    /// What becomes of a process with that list which makes that call, with these arguments.
    fn done(calls: &SystemCalls, number: libc::c_long) -> WaitStatus {
        // SAFETY: the child calls nothing but system calls.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let status = if limit(calls).is_err() {
                    2
                } else {
                    // SAFETY: the calls of these tests take no argument, or fail with these.
                    unsafe { libc::syscall(number, 0, 0, 0, 0, 0, 0) };
                    0
                };
                // SAFETY: nothing of the parent's is run.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        }
    }

    fn calls(allowed: bool, numbers: &[libc::c_long]) -> SystemCalls {
        let mut numbers: Vec<u32> = numbers.iter().map(|number| u32::try_from(*number).unwrap()).collect();
        numbers.sort_unstable();
        SystemCalls { allowed, numbers }
    }

    fn is_forbidden(status: WaitStatus) -> bool {
        matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _))
    }

    #[test]
    fn the_kernel_does_what_the_list_says() {
        let only = calls(true, &[libc::SYS_getpid, libc::SYS_exit_group]);
        assert!(matches!(done(&only, libc::SYS_getpid), WaitStatus::Exited(_, 0)));
        assert!(is_forbidden(done(&only, libc::SYS_getppid)));
        let all_but = calls(false, &[libc::SYS_getppid]);
        assert!(matches!(done(&all_but, libc::SYS_getpid), WaitStatus::Exited(_, 0)));
        assert!(is_forbidden(done(&all_but, libc::SYS_getppid)));
    }

    /// One that lists what is forbidden would else let through the same calls under other numbers.
    #[test]
    fn no_other_entry_leads_around_it() {
        let all_but = calls(false, &[libc::SYS_getppid]);
        assert!(is_forbidden(done(&all_but, libc::SYS_getppid | libc::c_long::from(X32))));
        // More than the machine has.
        let many: Vec<libc::c_long> = (1_000..1_600).collect();
        assert!(matches!(done(&calls(false, &many), libc::SYS_getpid), WaitStatus::Exited(_, 0)));
        assert!(is_forbidden(done(&calls(false, &many), 1_599)));
    }
}
