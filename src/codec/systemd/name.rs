//! Names of units (systemd.unit(5)): prefix, instance, suffix, and their escapes.

use crate::model::UnitName;
use std::fmt;

/// The kinds of units that a server is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// .service
    Service,
    /// .socket
    Socket,
}

/// The name of a .service or a .socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// What stands before the `@`, or before the suffix.
    pub prefix: String,
    /// What stands behind the `@`; empty for a template; `None` without an `@`.
    pub instance: Option<String>,
    /// The suffix.
    pub kind: Kind,
}

/// The longest name of a unit, in bytes (UNIT_NAME_MAX).
const NAME_MAX: usize = 255;

impl Name {
    /// Reads `nginx.service`, `postgresql@15-main.service`; without a suffix it is a service.
    /// `None` for other kinds of units, and for what can be no name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (stem, kind) = match text.rsplit_once('.') {
            Some((stem, "service")) => (stem, Kind::Service),
            Some((stem, "socket")) => (stem, Kind::Socket),
            Some((_, suffix)) if OTHERS.contains(&suffix) => return None,
            _ => (text, Kind::Service),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
        let (prefix, instance) = match stem.split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance.to_owned())),
            None => (stem, None),
        };
        let good = !prefix.is_empty() && text.len() <= NAME_MAX && stem.chars().all(legal);
        good.then(|| Self { prefix: prefix.to_owned(), instance, kind })
    }

    /// Whether it is a template without an instance.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.instance.as_deref() == Some("")
    }

    /// The file of the template that it is an instance of.
    #[must_use]
    pub fn template(&self) -> Option<String> {
        self.instance.as_ref().map(|_| format!("{}@.{}", self.prefix, self.suffix()))
    }

    /// `service` or `socket`.
    #[must_use]
    pub fn suffix(&self) -> &'static str {
        match self.kind {
            Kind::Service => "service",
            Kind::Socket => "socket",
        }
    }

    /// The name without its suffix: `%N`.
    #[must_use]
    pub fn stem(&self) -> String {
        match &self.instance {
            Some(instance) => format!("{}@{instance}", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// The same name with another suffix: the socket of a service, the service of a socket.
    #[must_use]
    pub fn with(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The folders of drop-ins, the most particular first: `a-b@c.service.d`, `a-b@.service.d`,
    /// `a-.service.d`, `service.d`.
    #[must_use]
    pub fn drop_in_folders(&self) -> Vec<String> {
        let suffix = self.suffix();
        let mut folders = vec![format!("{self}.d")];
        folders.extend(self.template().map(|template| format!("{template}.d")));
        folders.dedup();
        let at = if self.instance.is_some() { "@" } else { "" };
        let dashes =
            self.prefix.char_indices().rev().filter(|(at, c)| *c == '-' && *at + 1 < self.prefix.len());
        for (index, _) in dashes {
            folders.push(format!("{}{at}.{suffix}.d", &self.prefix[..=index]));
        }
        folders.push(format!("{suffix}.d"));
        folders
    }

    /// The name of the unit of supd: `@` becomes `-`, and so does what supd's names do not have.
    ///
    /// # Errors
    /// The rule for names, where the name is too long for one of supd's.
    pub fn to_unit(&self) -> Result<UnitName, String> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '-' };
        let name: String = unescape(&self.stem()).chars().map(plain).collect();
        let name = name.trim_start_matches(['-', '.', '_']);
        UnitName::new(name).map_err(|rule| rule.to_string())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.stem(), self.suffix())
    }
}

/// Suffixes of units that run no server.
const OTHERS: [&str; 9] =
    ["target", "timer", "path", "mount", "automount", "swap", "slice", "scope", "device"];

/// Takes `\xNN` back; bytes that make no UTF-8 together stay as they were written.
#[must_use]
pub(super) fn unescape(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = rest.strip_prefix(b"\\x").and_then(|hex| {
            let digits = std::str::from_utf8(hex.get(..2)?).ok()?;
            u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        });
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// The same for what may be a path: `-` is `/` (`%I`, `%J`, `%P`).
#[must_use]
pub(super) fn unescape_path(text: &str) -> String {
    unescape(&text.replace('-', "/"))
}
