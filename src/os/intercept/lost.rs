//! Calls that a supd took, and died before it could tell anybody of: their threads wait in them still, and /proc
//! says in which call a thread waits.

use super::calls::What;
use crate::os::process::Stat;
use nix::libc;
use std::fs;

/// No more processes, and no more threads of one, are looked at: tens of microseconds each.
const LOOKED_AT_MAX: usize = 8192;

/// The threads of processes in these sessions that wait in bind(2) or listen(2), and what each asks for.
#[must_use]
pub fn waiting(sessions: &[i32]) -> Vec<(i32, What)> {
    let its =
        numbers("/proc").filter(|pid| Stat::read(*pid).is_some_and(|it| sessions.contains(&it.session)));
    let threads = its.flat_map(|pid| numbers(&format!("/proc/{pid}/task")));
    threads.filter_map(|thread| Some((thread, call(thread)?))).collect()
}

fn numbers(folder: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(LOOKED_AT_MAX)
}

fn call(thread: i32) -> Option<What> {
    parse(&fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?)
}

/// `49 0x3 0x7ffc5ab0 0x10 …`: its number, and its arguments (proc_pid_syscall(5)).
fn parse(line: &str) -> Option<What> {
    let mut words = line.split_ascii_whitespace();
    let number: libc::c_long = words.next()?.parse().ok()?;
    let mut argument = || u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok();
    let (first, second, third) = (argument()?, argument()?, argument()?);
    // As the kernel does: of an int it looks at the lower half.
    let int = |value: u64| value as u32 as i32;
    match number {
        libc::SYS_bind => {
            let length = usize::try_from(int(third)).unwrap_or(0);
            Some(What::Bind { fd: int(first), address: second, length })
        }
        libc::SYS_listen => Some(What::Listen { fd: int(first), backlog: int(second) }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel() {
        let line = |number: libc::c_long, rest: &str| format!("{number} {rest} 0x0 0x0 0x0 0x7ffd 0x7f12\n");
        let bind = What::Bind { fd: 3, address: 0x7ffc_5ab0, length: 16 };
        assert_eq!(parse(&line(libc::SYS_bind, "0x3 0x7ffc5ab0 0x10")), Some(bind));
        let listen = What::Listen { fd: 3, backlog: -1 };
        assert_eq!(parse(&line(libc::SYS_listen, "0x3 0xffffffff 0x0")), Some(listen));
        assert_eq!(parse(&line(libc::SYS_read, "0x3 0x7ffc5ab0 0x10")), None);
        for other in ["running\n", "-1 0x7ffd 0x7f12\n", "", "49 3 4 5", "49 0x3"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
