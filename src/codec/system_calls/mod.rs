//! SystemCallFilter: from the words of a unit file to the numbers of this machine (systemd.exec(5)).

use crate::model::system_calls::SystemCalls;
use std::collections::BTreeSet;
use syscalls::Sysno;

/// The sets, as `@name` and a tail of indented lines.
const SETS: &str = include_str!("sets.txt");

/// What every process may make that may make anything: execve(2) and exit(2) are among it.
const ALWAYS: &str = "@default";

/// All of the machine's.
const KNOWN: &str = "@known";

/// The members of a set; a member may be a set.
fn members(set: &str) -> Option<impl Iterator<Item = &'static str>> {
    let mut lines = SETS.lines().skip_while(move |line| *line != set);
    lines.next()?;
    Some(lines.take_while(|line| line.starts_with(' ')).flat_map(str::split_whitespace))
}

/// The names of all sets.
pub fn sets() -> impl Iterator<Item = &'static str> {
    SETS.lines().filter(|line| line.starts_with('@')).chain([KNOWN])
}

/// The names of all system calls that any machine has, as far as supd knows.
pub fn names() -> impl Iterator<Item = &'static str> {
    let of_sets = SETS.lines().filter(|line| line.starts_with(' ')).flat_map(str::split_whitespace);
    of_sets.filter(|name| !name.starts_with('@')).chain(Sysno::iter().map(|call| call.name()))
}

/// The numbers that a word stands for. What this machine has not is passed over: a unit may be of another.
fn numbers(word: &str, into: &mut BTreeSet<u32>) {
    if word == KNOWN {
        return into.extend(Sysno::iter().filter_map(|call| u32::try_from(call.id()).ok()));
    }
    let Some(members) = word.starts_with('@').then(|| members(word)).flatten() else {
        into.extend(word.parse::<Sysno>().ok().and_then(|call| u32::try_from(call.id()).ok()));
        return;
    };
    // No set is a member of itself, however deep: see the test.
    members.for_each(|member| numbers(member, into));
}

/// What the words say: the first whether they are what is allowed or, with `~`, what is forbidden; each next adds to
/// that, or takes away from it. `None`: no word, all is allowed.
#[must_use]
pub fn resolve(words: &[String]) -> Option<SystemCalls> {
    let allowed = !words.first()?.starts_with('~');
    let mut all = BTreeSet::new();
    if allowed {
        numbers(ALWAYS, &mut all);
    }
    for word in words {
        let mut its = BTreeSet::new();
        numbers(word.trim_start_matches('~'), &mut its);
        if word.starts_with('~') == allowed {
            all.retain(|number| !its.contains(number));
        } else {
            all.append(&mut its);
        }
    }
    Some(SystemCalls { allowed, numbers: all.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, members, names, resolve, sets};
    use std::collections::BTreeSet;
    use syscalls::Sysno;

    fn of(words: &[&str]) -> (bool, BTreeSet<u32>) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let calls = resolve(&words).expect("there are words");
        assert!(calls.numbers.is_sorted());
        (calls.allowed, calls.numbers.into_iter().collect())
    }

    fn number(call: Sysno) -> u32 {
        call.id().unsigned_abs()
    }

    #[test]
    fn a_list_of_what_is_allowed_has_what_every_process_needs() {
        assert_eq!(resolve(&[]), None);
        let (allowed, all) = of(&["read", "@chown", "~fchown"]);
        assert!(allowed);
        for call in [Sysno::read, Sysno::fchownat, Sysno::execve, Sysno::exit_group, Sysno::rt_sigreturn] {
            assert!(all.contains(&number(call)), "{call}");
        }
        for call in [Sysno::fchown, Sysno::write, Sysno::ptrace] {
            assert!(!all.contains(&number(call)), "{call}");
        }
    }

    #[test]
    fn a_list_of_what_is_forbidden_has_nothing_else() {
        let (allowed, all) = of(&["~ptrace", "~@clock", "adjtimex", "~vm86_of_another_machine"]);
        assert!(!allowed);
        let expected = [Sysno::ptrace, Sysno::clock_adjtime, Sysno::clock_settime, Sysno::settimeofday];
        assert_eq!(all, expected.into_iter().map(number).collect());
        let (_, all_but) = of(&["@known", "~ptrace"]);
        assert!(all_but.contains(&number(Sysno::bpf)) && !all_but.contains(&number(Sysno::ptrace)));
    }

    #[test]
    fn every_set_ends_and_is_in_order() {
        let all: Vec<&str> = sets().filter(|set| *set != KNOWN).collect();
        assert!(all.len() == 29 && all.is_sorted(), "{all:?}");
        for set in &all {
            // Each level takes one name off: one that is in itself would never be done.
            let mut open = vec![(*set, 0)];
            while let Some((name, depth)) = open.pop() {
                assert!(depth < all.len(), "{set} is in itself");
                let its = members(name).expect("a set names a set that is there");
                let its: Vec<&str> = its.collect();
                assert!(!its.is_empty(), "{name} is empty");
                open.extend(its.into_iter().filter(|its| its.starts_with('@')).map(|its| (its, depth + 1)));
            }
        }
        assert!(members("@def").is_none() && members("read").is_none());
        assert!(names().any(|name| name == "mmap2") && names().any(|name| name == "landlock_create_ruleset"));
    }

    /// A server of today starts, serves and ends with what systemd recommends for services.
    #[test]
    fn what_is_recommended_has_what_servers_need() {
        let (_, all) = of(&["@system-service"]);
        for call in [
            Sysno::accept4,
            Sysno::epoll_pwait,
            Sysno::clone3,
            Sysno::openat,
            Sysno::sendfile,
            Sysno::setresuid,
            Sysno::io_uring_setup,
            Sysno::rseq,
        ] {
            assert!(all.contains(&number(call)), "{call}");
        }
        for call in [Sysno::mount, Sysno::ptrace, Sysno::init_module, Sysno::reboot, Sysno::bpf] {
            assert!(!all.contains(&number(call)), "{call}");
        }
    }
}
