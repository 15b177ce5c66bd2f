//! How many descriptors this process may still open.

use nix::sys::resource::{Resource, getrlimit};

/// What of RLIMIT_NOFILE is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// So many may be open.
    pub limit: u64,
    /// So many are.
    pub open: u64,
}

impl Room {
    /// How it is now; `None` where /proc does not say.
    #[must_use]
    pub fn now() -> Option<Self> {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        Some(Self { limit, open: open()? })
    }

    /// So many are left.
    #[must_use]
    pub fn left(self) -> u64 {
        self.limit.saturating_sub(self.open)
    }
}

/// From Linux 6.2 on it is the size of the folder (proc_pid_fd(5)); before that, each is counted.
fn open() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER).ok()?.len() {
        // Without the one that it is read by.
        0 => Some((std::fs::read_dir(FOLDER).ok()?.count() as u64).saturating_sub(1)),
        size => Some(size),
    }
}

#[cfg(test)]
mod tests {
    use super::Room;
    use crate::os::alone::alone;
    use std::fs::File;

    #[test]
    fn what_is_opened_is_counted() {
        let _said = alone("os::room::tests::what_is_opened_is_counted", || {
            let before = Room::now().unwrap();
            let files: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
            let after = Room::now().unwrap();
            assert_eq!((after.open - before.open, before.left() - after.left()), (50, 50));
            drop(files);
            assert_eq!(Room::now(), Some(before));
            String::new()
        });
    }
}
