//! AmbientCapabilities and CapabilityBoundingSet.

use super::document::Node;
use super::keys::nearest;
use super::report::{Bad, Reading, bad};
use super::section::Section;
use super::values::each_word;
use crate::codec::fault::quoted;
use crate::model::settings::Service;

/// Every capability of capabilities(7), in the order of their numbers.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

pub(super) fn read(section: &mut Section<'_, '_>, service: &mut Service) {
    section.set(&mut service.ambient_capabilities, "AmbientCapabilities", set);
    section.set_some(&mut service.capability_bounding_set, "CapabilityBoundingSet", set);
}

/// Names in the order of their numbers. A `~` before the first turns the set round, as in
/// systemd.exec(5): all but these.
fn set(node: &Node) -> Reading<Vec<String>> {
    let mut inverted = None;
    let named = each_word(node, |word| {
        let (tilde, name) = word.strip_prefix('~').map_or((false, word), |name| (true, name));
        if tilde && inverted.is_some() {
            return Err(Bad::new("only the first name may begin with ~", "take the other ~ out"));
        }
        inverted.get_or_insert(tilde);
        NAMES.iter().find(|known| **known == name).copied().ok_or_else(|| unknown(name))
    })?;
    let inverted = inverted.unwrap_or(false);
    if inverted && named.is_empty() {
        return bad("~ before nothing", "name the capabilities to take away");
    }
    let wanted = NAMES.iter().filter(|name| named.contains(name) != inverted);
    Ok(wanted.map(|name| (*name).to_owned()).collect())
}

fn unknown(name: &str) -> Bad {
    let what = format!("there is no capability {}", quoted(name));
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    match nearest(&full, &NAMES) {
        Some(near) => Bad::new(what, format!("did you mean \"{near}\"?")),
        None => Bad::new(what, "write names as in \"CAP_NET_ADMIN\"; capabilities(7) lists them"),
    }
}
