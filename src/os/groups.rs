//! From a group's name to its number, without ever waiting.
//!
//! getgrnam(3) may ask a server on the network (NSS: LDAP, SSSD) and block for as long as that
//! likes; supd asks in its loop who may act, so it reads /etc/group itself, afresh each time: a
//! group made a moment ago counts. A group that lives elsewhere is named by its number.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// More than this of /etc/group is not read.
const FILE_MAX: u64 = 4 << 20;

/// The number of a group, by its name in /etc/group or by the number itself.
#[must_use]
pub fn gid_of(group: &str) -> Option<u32> {
    gid_in(Path::new("/etc/group"), group)
}

/// The same with another file; group(5) says its form.
fn gid_in(file: &Path, group: &str) -> Option<u32> {
    if let Ok(number) = group.parse() {
        return Some(number);
    }
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    bytes.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let is_it = fields.next()? == group.as_bytes();
        let number = fields.nth(1)?;
        if is_it { std::str::from_utf8(number).ok()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::{gid_in, gid_of};

    #[test]
    fn a_group_is_found_by_name_or_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("group");
        std::fs::write(&file, b"root:x:0:\n\xff:x:5:\nbroken\nempty::\ndeploy-web:x:1234:ann,bob\n").unwrap();
        assert_eq!(gid_in(&file, "root"), Some(0));
        assert_eq!(gid_in(&file, "deploy-web"), Some(1234));
        assert_eq!(gid_in(&file, "77"), Some(77));
        for missing in ["deploy", "ann", "broken", "empty", "", "x"] {
            assert_eq!(gid_in(&file, missing), None, "{missing}");
        }
        assert_eq!(gid_in(&folder.path().join("none"), "root"), None);
        assert_eq!(gid_of("root"), Some(0));
    }
}
