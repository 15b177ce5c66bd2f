//! Pages of code: what supd has run once stays mapped, though at rest it runs nothing.

#![allow(unsafe_code)]

use nix::errno::Errno;
use std::ffi::c_void;
use std::fs;
use std::io;

/// Unmaps the code of the program and of its libraries. It stays in the page cache, where it is shared
/// with whatever else runs it, and what is run again is mapped again, sixteen pages at a time.
///
/// A mapping with pages of its own is left alone: somebody has written there, as a debugger or a uprobe
/// does, and it would be lost.
///
/// # Errors
/// /proc cannot be read, or the kernel refuses.
pub fn let_go() -> io::Result<()> {
    for (start, length) in untouched(&fs::read_to_string("/proc/self/smaps")?) {
        let start = std::ptr::with_exposed_provenance_mut::<c_void>(start);
        // SAFETY: the range is a whole mapping of a file that can be run and not written, and that has
        // no page of its own: after MADV_DONTNEED each access finds in it what is in the file, which is
        // what it had found before (madvise(2)). That this code is among it makes no difference.
        Errno::result(unsafe { libc::madvise(start, length, libc::MADV_DONTNEED) })?;
    }
    Ok(())
}

/// The mappings of code in an smaps file (proc(5)) of which no page was written: start and length.
fn untouched(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut last = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if first == "Anonymous:" {
            found.extend(last.take().filter(|_| second == "0"));
        } else if !first.ends_with(':') {
            // Addresses, rights, offset, device, inode, name.
            let is_code = second == "r-xp" && words.nth(3).is_some_and(|name| name.starts_with('/'));
            last = range(first).filter(|_| is_code);
        }
    }
    found
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_that_nobody_wrote_to_is_let_go() {
        let text = "\
55d0c0000000-55d0c0001000 r--p 00000000 fe:00 1234    /usr/bin/supd\nRss: 4 kB\nAnonymous:        0 kB\n\
55d0c0001000-55d0c0003000 r-xp 00001000 fe:00 1234    /usr/bin/supd\nRss: 8 kB\nAnonymous:        0 kB\n\
55d0c0003000-55d0c0004000 rw-p 00003000 fe:00 1234    /usr/bin/supd\nRss: 4 kB\nAnonymous:        4 kB\n\
7f0000000000-7f0000001000 r-xp 00001000 fe:00 99      /usr/lib/libc.so.6\nRss: 4 kB\nAnonymous:        4 kB\n\
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0       [vdso]\nRss: 4 kB\nAnonymous:        0 kB\n\
7f0000002000-7f0000003000 r-xp 00000000 00:00 0\nRss: 4 kB\nAnonymous:        0 kB\n\
VmFlags: rd ex\n";
        assert_eq!(untouched(text), [(0x55d0_c000_1000, 0x2000)]);
        assert_eq!(untouched(""), []);
        assert_eq!(untouched("zz-1 r-xp 0 0 0 /x\nAnonymous: 0 kB\n2-1 r-xp 0 0 0 /x\nAnonymous: 0 kB"), []);
    }

    /// The KiB of code that are mapped of this program.
    fn mapped() -> u64 {
        let program = fs::read_link("/proc/self/exe").unwrap();
        let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps
            .lines()
            .skip_while(|line| !(line.contains(" r-xp ") && line.ends_with(program.to_str().unwrap())));
        let rss = lines.find_map(|line| line.strip_prefix("Rss:")).expect("the mapping of the code");
        rss.trim_end_matches("kB").trim().parse().unwrap()
    }

    #[test]
    fn what_is_let_go_is_mapped_no_longer_and_runs_all_the_same() {
        let before = mapped();
        // Other tests run beside this one, and map what they need.
        let less = (0..100).any(|_| {
            let_go().unwrap();
            mapped() < before / 2
        });
        assert!(less, "{before} KiB before, {} after", mapped());
        assert_eq!(untouched("").len(), 0);
    }
}
