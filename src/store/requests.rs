//! What is kept of requests: `requests/SLOT.json` in the state folder. The slots have a bound and are
//! used again, so nothing has to be removed.

use super::files;
use crate::codec::request::{self, FILE_MAX, RequestRecord};
use crate::os::Error;
use std::fs;
use std::io;
use std::path::Path;

/// The folder, in the state folder.
const FOLDER: &str = "requests";

/// How many requests are kept: slots are numbered below this.
pub const SLOTS: u16 = 1000;

/// The file of a slot, relative to the state folder.
#[must_use]
pub fn path(slot: u16) -> String {
    format!("{FOLDER}/{slot}.json")
}

/// Every request that is kept, by slot, and what is wrong with those that cannot be read: they are
/// lost, and nothing else is.
#[must_use]
pub fn load(state: &Path) -> (Vec<(u16, RequestRecord)>, Vec<String>) {
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    let folder = state.join(FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (all, faults),
        Err(error) => {
            faults.push(Error::from_io("read", folder.display(), &error).to_string());
            return (all, faults);
        }
    };
    let number = |name: &str| name.strip_suffix(".json")?.parse::<u16>().ok();
    let mut slots: Vec<u16> =
        entries.flatten().filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    slots.retain(|slot| *slot < SLOTS);
    slots.sort_unstable();
    for slot in slots {
        let path = state.join(path(slot));
        match files::read(&path, FILE_MAX).map_err(|error| error.to_string()) {
            Ok(None) => {}
            Ok(Some(bytes)) => match request::decode(&bytes) {
                Ok(record) => all.push((slot, record)),
                Err(why) => faults.push(format!("cannot use {}: {why}", path.display())),
            },
            Err(why) => faults.push(why),
        }
    }
    (all, faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::request::tests::sample;

    #[test]
    fn what_is_damaged_costs_itself_only() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(load(state.path()), (Vec::new(), Vec::new()));
        fs::write(state.path().join("requests"), "no folder").unwrap();
        assert_eq!(load(state.path()).1.len(), 1);
        fs::remove_file(state.path().join("requests")).unwrap();
        fs::create_dir(state.path().join("requests")).unwrap();
        let put = |slot, bytes: &[u8]| fs::write(state.path().join(path(slot)), bytes).unwrap();
        let good = request::encode(&sample("r", Some("done")));
        put(0, good.as_bytes());
        put(1, b"");
        put(2, &good.as_bytes()[..30]);
        put(3, &vec![b'x'; 1 << 20]);
        put(999, good.as_bytes());
        put(1000, good.as_bytes());
        for other in ["4.new", "x.json", "-1.json", "99999.json"] {
            fs::write(state.path().join("requests").join(other), "x").unwrap();
        }
        fs::create_dir(state.path().join(path(5))).unwrap();
        std::os::unix::fs::symlink("/dev/zero", state.path().join(path(6))).unwrap();
        nix::unistd::mkfifo(&state.path().join(path(7)), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (all, faults) = load(state.path());
        assert_eq!(all.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 999]);
        assert_eq!(faults.len(), 6, "{faults:?}");
        for (fault, what) in faults.iter().zip(["1.json", "2.json", "3.json", "5.json", "6.json", "7.json"]) {
            assert!(fault.contains(what), "{fault}");
        }
    }
}
