//! What supd says to systemd's journal, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), and what the
//! journal tells of itself.

use super::json::HistoryEntry;

/// MESSAGE_ID of each kind of message, by the word that `supctl events` has for it; `worker-launched` is in the
/// journal alone. An id never changes and is never used again.
pub const KINDS: [(&str, &str); 19] = [
    ("began", "fe39bc7668e64288a886f23d224a1828"),
    ("switched", "612c6725e73b4052a0803d0dde204f4a"),
    ("ended", "6c9023c69cf84c9e8d23f4c743345a60"),
    ("installed", "064b9e1af754439bae5a68380efc5c1d"),
    ("undeployed", "0b8685a6f79c4f57a4f14e3350dc9a70"),
    ("install-failed", "51dd27d07c264dbe9c9825b58ed123b9"),
    ("taken", "2b0993ac52184d2da2811da5046a35e3"),
    ("waiting", "574f1bd1d2464f12be8983f89c7b0fb5"),
    ("stopped", "18011e400c0649ec910e94aad3fac038"),
    ("reloaded", "e64b9ff6116f451990409c279f325e76"),
    ("signalled", "3518a5fc8d3945369e9b5d0bec1fd730"),
    ("worker-launched", "9fdc33b2a62b4c21ac3ca7b34a04b7ed"),
    ("worker-failed", "e32d50e2318a4bddaef17f35f65b2f04"),
    ("quarantined", "d670cffe861d4aaebda08ca63dad985b"),
    ("daemon-reload", "de48aed8a53b444b9d167fa1e8c77d1a"),
    ("supd-started", "8fad7977fb6040f3a148346db7d86f39"),
    ("supd-ended", "d8660572fa43454db441258ca77d58de"),
    ("reexec", "e7c2915b22db45c6b555c964d4e5ce5d"),
    ("reexec-failed", "dbe39fe333cc4248a6e8a54ad031cf37"),
];

/// MESSAGE_ID of the launch of a worker.
pub const LAUNCHED: &str = "worker-launched";

/// A message is cut to this, in bytes: with all its fields it fits into the smallest socket buffer.
const VALUE_MAX: usize = 16 * 1024;

/// MESSAGE_ID of what has this word.
#[must_use]
pub fn message_id(what: &str) -> Option<&'static str> {
    KINDS.iter().find(|(word, _)| *word == what).map(|(_, id)| *id)
}

/// The datagram of one message. What has a line end in it goes by its length.
#[must_use]
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    for (name, value) in fields {
        let end = (0..=VALUE_MAX.min(value.len())).rev().find(|at| value.is_char_boundary(*at));
        let value = &value[..end.unwrap_or(0)];
        bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// The fields of something that happened, beside its sentence.
#[must_use]
pub fn fields(entry: &HistoryEntry) -> Vec<(&'static str, String)> {
    let to = entry.to.as_ref();
    let generation = entry.generation.or(to.map(|to| to.generation));
    let release = entry.release.clone().or_else(|| to.and_then(|to| to.release.clone()));
    let all = [
        ("MESSAGE_ID", message_id(&entry.what).map(str::to_owned)),
        ("SUPD_EVENT", Some(entry.what.clone())),
        ("SUPD_UNIT", entry.unit.clone()),
        ("SUPD_GENERATION", generation.map(|generation| generation.to_string())),
        ("SUPD_RELEASE", release),
        ("SUPD_SWAP_ID", entry.swap_id.map(|id| id.to_string())),
        ("SUPD_RESULT", entry.result.clone()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Whether a person should look at it.
#[must_use]
pub fn is_grave(entry: &HistoryEntry) -> bool {
    match entry.what.as_str() {
        "worker-failed" | "install-failed" | "quarantined" | "reexec-failed" => true,
        "ended" => matches!(entry.result.as_deref(), Some("failed" | "rolled-back")),
        _ => false,
    }
}

/// `web: swap committed: generation 8 (1.4.2) to 9 (1.5.0)`
#[must_use]
pub fn sentence(entry: &HistoryEntry) -> String {
    let kind = entry.kind.as_deref().unwrap_or("swap");
    let words = match (entry.what.as_str(), &entry.result) {
        ("began", _) => format!("{kind} began"),
        ("switched", _) => format!("{kind} switched"),
        ("ended", Some(result)) => format!("{kind} {result}"),
        (other, _) => other.to_owned(),
    };
    let release =
        |release: &Option<String>| release.as_ref().map_or(String::new(), |label| format!(" ({label})"));
    let side = |side: &super::json::SideView| format!("{}{}", side.generation, release(&side.release));
    let whom = match (&entry.from, &entry.to, entry.generation) {
        (Some(from), Some(to), _) => Some(format!("generation {} to {}", side(from), side(to))),
        (None, Some(to), _) => Some(format!("generation {}", side(to))),
        (_, None, Some(generation)) => Some(format!("generation {generation}{}", release(&entry.release))),
        (_, None, None) => entry.release.clone(),
    };
    let parts = [entry.unit.clone(), Some(words), whom, entry.cause.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::SideView;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_has_an_id_of_its_own() {
        let ids: BTreeSet<&str> = KINDS.iter().map(|(_, id)| *id).collect();
        assert_eq!(ids.len(), KINDS.len());
        for id in ids {
            assert!(
                id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                "{id}"
            );
        }
        assert_eq!(message_id("nothing"), None);
        assert!(message_id(LAUNCHED).is_some());
    }

    #[test]
    fn a_line_end_in_a_value_is_no_field_of_its_own() {
        assert_eq!(encode(&[("A", "x"), ("B", "")]), b"A=x\nB=\n");
        assert_eq!(encode(&[("M", "a\nUID=0")]), b"M\n\x07\0\0\0\0\0\0\0a\nUID=0\n");
        let long = format!("{}ä", "x".repeat(VALUE_MAX - 1));
        assert_eq!(encode(&[("A", &long)]).len(), VALUE_MAX + 2);
    }

    #[test]
    fn what_happened_is_said_in_fields_and_in_a_sentence() {
        let side = |generation, release: &str| Some(SideView { generation, release: Some(release.into()) });
        let ended = HistoryEntry {
            what: "ended".into(),
            unit: Some("web".into()),
            swap_id: Some(4),
            result: Some("rolled-back".into()),
            cause: Some("worker 0 ended".into()),
            from: side(8, "1.4.2"),
            to: side(9, "1.5.0"),
            ..HistoryEntry::default()
        };
        let said = "web: swap rolled-back: generation 8 (1.4.2) to 9 (1.5.0): worker 0 ended";
        assert_eq!((sentence(&ended).as_str(), is_grave(&ended)), (said, true));
        let fields = fields(&ended);
        let field = |name: &str| fields.iter().find(|(its, _)| *its == name).map(|(_, value)| value.as_str());
        assert_eq!((field("SUPD_UNIT"), field("SUPD_GENERATION")), (Some("web"), Some("9")));
        assert_eq!((field("SUPD_RELEASE"), field("SUPD_RESULT")), (Some("1.5.0"), Some("rolled-back")));
        assert_eq!(field("MESSAGE_ID"), message_id("ended"));
        let began = HistoryEntry { what: "supd-started".into(), ..HistoryEntry::default() };
        assert_eq!((sentence(&began).as_str(), is_grave(&began)), ("supd-started", false));
    }
}
