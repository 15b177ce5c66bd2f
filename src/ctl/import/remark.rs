//! What a person has to know of an import: what was changed, left out, or is still to do.

use crate::ctl::render::text::clean;
use serde::Serialize;
use std::path::PathBuf;

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// Without this the unit is not complete.
    ToDo,
    /// supd has it in another way.
    Changed,
    /// supd does not have it.
    LeftOut,
    /// Good to know.
    Note,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::ToDo => "to do",
            Self::Changed => "changed",
            Self::LeftOut => "left out",
            Self::Note => "note",
        }
    }
}

/// Where something stands: a file and a line in it, from 1.
pub(super) type Place = (PathBuf, u32);

/// One remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Remark {
    pub(super) kind: Kind,
    /// The file that it is about; empty for the unit as a whole.
    pub(super) file: String,
    /// From 1; 0: the file as a whole.
    pub(super) line: u32,
    pub(super) keys: Vec<String>,
    /// What is so.
    pub(super) what: String,
    /// What to do about it.
    pub(super) remedy: String,
}

/// All of a unit's.
#[derive(Debug, Default)]
pub(super) struct Remarks(pub(super) Vec<Remark>);

impl Remarks {
    pub(super) fn add(&mut self, kind: Kind, place: Option<&Place>, key: &str, what: &str, remedy: &str) {
        let (file, line) =
            place.map_or((String::new(), 0), |(file, line)| (file.display().to_string(), *line));
        let same = |other: &&mut Remark| {
            (other.kind, other.what.as_str(), other.remedy.as_str()) == (kind, what, remedy)
                && other.file == file
        };
        if let Some(other) = self.0.iter_mut().find(same) {
            if !other.keys.iter().any(|known| known == key) {
                other.keys.push(key.to_owned());
            }
            return;
        }
        let keys = if key.is_empty() { Vec::new() } else { vec![key.to_owned()] };
        let (what, remedy) = (what.to_owned(), remedy.to_owned());
        self.0.push(Remark { kind, file, line, keys, what, remedy });
    }

    /// The most urgent first; within a kind in the order in which they were found.
    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(|remark| remark.kind as u8);
    }

    /// Whether the unit can be used as it is.
    pub(super) fn is_complete(&self) -> bool {
        !self.0.iter().any(|remark| remark.kind == Kind::ToDo)
    }
}

/// Two lines for each remark at most, as compilers tell theirs.
pub(super) fn lines(remarks: &[Remark], unit: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for Remark { kind, file, line, keys, what, remedy } in remarks {
        let mut text = if file.is_empty() { unit.to_owned() } else { clean(file).into_owned() };
        if *line > 0 {
            text += &format!(":{line}");
        }
        if !keys.is_empty() {
            text += &format!(": {}", clean(&keys.join(", ")));
        }
        text += &format!(": {}", kind.words());
        if !what.is_empty() {
            text += &format!(": {}", clean(what));
        }
        lines.push(text);
        if !remedy.is_empty() {
            lines.push(format!("  {}", clean(remedy)));
        }
    }
    lines
}
