//! A page in Markdown: its sections, the blocks in them, and whether what came is what a block shows.

use std::fs;
use std::path::Path;

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To be typed.
    Sh,
    /// What comes then.
    Text,
    Toml,
}

/// A page, or one section of it: from one `## ` to the next.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    text: String,
}

impl Page {
    pub(super) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { title: name.to_owned(), text }
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = Self> {
        let parts = self.text.split("\n## ").skip(1);
        parts.map(|part| {
            let (title, text) = part.split_once('\n').expect("a section has lines");
            Self { title: title.to_owned(), text: text.to_owned() }
        })
    }

    pub(super) fn section(&self, title: &str) -> Self {
        let found = self.sections().find(|section| section.title == title);
        found.unwrap_or_else(|| panic!("{} has no section {title:?}", self.title))
    }

    /// Every block with a known kind, in order.
    pub(super) fn all(&self) -> Vec<(Kind, &str)> {
        let mut blocks = Vec::new();
        // Every second part is inside of a block.
        for block in self.text.split("```").skip(1).step_by(2) {
            let (kind, text) = block.split_once('\n').expect("a block has lines");
            match kind {
                "sh" => blocks.push((Kind::Sh, text)),
                "text" => blocks.push((Kind::Text, text)),
                "toml" => blocks.push((Kind::Toml, text)),
                other => panic!("{}: a block of the kind {other:?}: nothing tries it", self.title),
            }
        }
        blocks
    }

    pub(super) fn blocks(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.all().into_iter().filter(move |(is, _)| *is == kind).map(|(_, text)| text)
    }
}

/// Where what came differs from what was promised. "…" alone on a line stands for any lines.
pub(super) fn difference(promised: &str, came: &str) -> Option<String> {
    let came_lines: Vec<String> = came.lines().map(masked).collect();
    let (mut at, mut anything) = (0, false);
    for line in promised.lines() {
        if line == "…" {
            anything = true;
            continue;
        }
        let wanted = masked(line);
        let found = came_lines[at..].iter().position(|came| *came == wanted);
        match found {
            Some(skipped) if skipped == 0 || anything => at += skipped + 1,
            _ => return Some(format!("promised: {line}\nas:       {wanted}\nwhat came:\n{came}")),
        }
        anything = false;
    }
    let more = came_lines.len() > at && !anything;
    more.then(|| format!("more came than was promised, from line {}:\n{came}", at + 1))
}

/// A line without what differs from one run to the next: times, dates, sizes, the columns' widths, and
/// whether what has just ended was looked after already.
fn masked(line: &str) -> String {
    let line = line.split("is drained still").next().unwrap_or_default();
    line.split_whitespace().map(masked_word).collect::<Vec<_>>().join(" ")
}

fn masked_word(word: &str) -> String {
    let core = word.trim_end_matches(['.', ',', ':', ';']);
    let unit = core.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_number = core.len() > unit.len() && core.starts_with(|c: char| c.is_ascii_digit());
    let clock =
        |mark: char| core.matches(mark).count() == 2 && core.chars().all(|c| c.is_ascii_digit() || c == mark);
    match (is_number, unit) {
        _ if clock('-') || clock(':') => "WHEN".to_owned(),
        (true, "us" | "ms" | "s" | "min" | "h") => word.replacen(core, "TIME", 1),
        // "2.2 kB" is two words.
        (true, "") if core.contains('.') && core.matches('.').count() == 1 => "SIZE".to_owned(),
        _ => word.to_owned(),
    }
}

pub(super) fn tests() -> Vec<crate::Test> {
    vec![crate::test("hour::page::differences_are_found", differences_are_found)]
}

fn differences_are_found() {
    let same = |promised, came| difference(promised, came).is_none();
    assert!(same("ready after 1.2s\nactive  2.2 kB", "ready after 987ms\nactive 17.0 kB\n"));
    assert!(same("…\nlast", "one\ntwo\nlast\n"));
    assert!(same("first\n…\n", "first\ntwo\nlast\n"));
    assert!(same("2026-11-26 14:27:10 swap", "2027-01-01 00:00:00 swap\n"));
    assert!(!same("release 1.0.0", "release 1.1.0\n"));
    assert!(!same("first", "first\nsecond\n"));
    assert!(!same("first\nsecond", "first\n"));
    assert!(!same("first\n…\nsecond\nlast", "first\nsecond\nthird\nlast\n"));
}
