//! Specifiers: `%i` and its kin (systemd.unit(5), SPECIFIERS).

use super::name::{Name, unescape_path};
use std::path::Path;

/// What specifiers say of the machine and of the service manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The name of the machine: `%H`, and `%l` up to its first dot.
    pub host: String,
    /// /etc/machine-id: `%m`.
    pub machine_id: String,
    /// The release of the kernel: `%v`.
    pub kernel: String,
    /// The architecture as systemd names it: `%a`.
    pub architecture: String,
    /// The user of the service manager, by name: `%u`.
    pub user: String,
    /// By number: `%U`.
    pub uid: u32,
    /// Its group, by name: `%g`.
    pub group: String,
    /// By number: `%G`.
    pub gid: u32,
    /// Its home: `%h`.
    pub home: String,
    /// Its shell: `%s`.
    pub shell: String,
    /// `%t`
    pub runtime: String,
    /// `%S`
    pub state: String,
    /// `%C`
    pub cache: String,
    /// `%L`
    pub logs: String,
    /// `%E`
    pub configuration: String,
}

impl Facts {
    /// Those of systemd's own manager, for a machine of which nothing else is known.
    #[must_use]
    pub fn of_system() -> Self {
        let text = str::to_owned;
        Self {
            user: text("root"),
            group: text("root"),
            home: text("/root"),
            shell: text("/bin/sh"),
            runtime: text("/run"),
            state: text("/var/lib"),
            cache: text("/var/cache"),
            logs: text("/var/log"),
            configuration: text("/etc"),
            ..Self::default()
        }
    }
}

/// A value with its specifiers filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The value.
    pub text: String,
    /// Specifiers that stand for this machine as it is now (`%H`, `%m` …), each once.
    pub fixed: Vec<char>,
    /// Specifiers that cannot be filled in; they stay as they are.
    pub unknown: Vec<char>,
}

/// The longest value that comes of it, in bytes: past it the rest stays as written.
const BYTES_MAX: usize = 1 << 20;

/// Fills in specifiers.
#[must_use]
pub fn expand(text: &str, name: &Name, fragment: &Path, facts: &Facts) -> Expanded {
    let mut out = Expanded::default();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let Some(letter) = rest[at + 1..].chars().next() else { break };
        out.text.push_str(&rest[..at]);
        let written = &rest[at..at + 1 + letter.len_utf8()];
        rest = &rest[at + 1 + letter.len_utf8()..];
        match stands_for(letter, name, fragment, facts) {
            Some(value) if out.text.len() + value.len() <= BYTES_MAX => {
                out.text.push_str(&value);
                note(&mut out.fixed, letter, "HlmvaA");
            }
            Some(_) | None => {
                out.text.push_str(written);
                // Two that are no letter, as in `50%, or`, are no specifier to systemd either.
                note(&mut out.unknown, letter, "AbBdDfgGhHiIjJlLmMnNopPqsSTuUvVwWyYCEt");
            }
        }
    }
    out.text.push_str(rest);
    out
}

fn note(list: &mut Vec<char>, letter: char, among: &str) {
    if among.contains(letter) && !list.contains(&letter) {
        list.push(letter);
    }
}

fn stands_for(letter: char, name: &Name, fragment: &Path, facts: &Facts) -> Option<String> {
    let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let instance = name.instance.as_deref().unwrap_or_default();
    let last = name.prefix.rsplit('-').next().unwrap_or_default();
    match letter {
        '%' => Some("%".to_owned()),
        'i' => Some(instance.to_owned()),
        'I' => Some(unescape_path(instance)),
        'n' => Some(name.to_string()),
        'N' => Some(name.stem()),
        'p' => Some(name.prefix.clone()),
        'P' => Some(unescape_path(&name.prefix)),
        'j' => Some(last.to_owned()),
        'J' => Some(unescape_path(last)),
        'f' => {
            let whole = if instance.is_empty() { &name.prefix } else { instance };
            Some(format!("/{}", unescape_path(whole).trim_start_matches('/')))
        }
        't' => known(&facts.runtime),
        'S' => known(&facts.state),
        'C' => known(&facts.cache),
        'L' => known(&facts.logs),
        'E' => known(&facts.configuration),
        'T' => known("/tmp"),
        'V' => known("/var/tmp"),
        'h' => known(&facts.home),
        's' => known(&facts.shell),
        'u' => known(&facts.user),
        'g' => known(&facts.group),
        'U' if !facts.user.is_empty() => Some(facts.uid.to_string()),
        'G' if !facts.user.is_empty() => Some(facts.gid.to_string()),
        'H' => known(&facts.host),
        'l' => known(facts.host.split('.').next().unwrap_or_default()),
        'm' => known(&facts.machine_id),
        'v' => known(&facts.kernel),
        'a' => known(&facts.architecture),
        'y' => known(&fragment.to_string_lossy()),
        'Y' => known(&fragment.parent()?.to_string_lossy()),
        _ => None,
    }
}
