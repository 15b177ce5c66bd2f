//! mdoc(7): words as a page has them, and pages as what they are about.

use std::fmt::Write as _;

/// A word of running text, or several.
pub(super) fn text(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for (at, c) in words.char_indices() {
        match c {
            '\\' => out.push_str("\\e"),
            '…' => out.push_str("..."),
            // A hyphen that somebody may copy into a command line.
            '-' if is_option(words, at) => out.push_str("\\-"),
            other => out.push(other),
        }
    }
    match out.starts_with(['.', '\'']) {
        true => format!("\\&{out}"),
        false => out,
    }
}

/// Whether this hyphen begins an option, or is that of a negative number.
fn is_option(words: &str, at: usize) -> bool {
    let before = words[..at].chars().next_back();
    let after = words[at + 1..].chars().next();
    before.is_none_or(|c| c.is_whitespace() || "([-'\"|".contains(c))
        && after.is_some_and(|c| !c.is_whitespace())
}

/// One argument of a macro, whatever is in it: what is to be typed.
pub(super) fn argument(words: &str) -> String {
    let mut out = String::from("\"");
    for c in words.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '"' => out.push_str("\\(dq"),
            '…' => out.push_str("..."),
            '-' => out.push_str("\\-"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            other => out.push(other),
        }
    }
    out.push('"');
    // A punctuation mark alone would be one to the macro.
    match out.len() {
        3 => out.replacen('"', "\"\\&", 1),
        _ => out,
    }
}

/// A paragraph, a sentence a line.
pub(super) fn sentences(paragraph: &str) -> String {
    let mut out = String::new();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let mut line: Vec<&str> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        line.push(word);
        // supd and supctl are written small also where they begin a sentence.
        let next = words.get(at + 1).map(|next| next.trim_start_matches('('));
        let starts =
            |next: &str| next.starts_with(|c: char| c.is_uppercase() || c == '-') || next.starts_with("sup");
        let ends = word.trim_end_matches(')').ends_with(['.', '!', '?']) && !word.ends_with("...");
        if next.is_none_or(|next| ends && starts(next)) {
            for part in wrapped(&line) {
                writeln!(out, "{}", text(&part)).expect("writing to a string");
            }
            line.clear();
        }
    }
    out
}

/// With a capital at its beginning, unless that is a name.
pub(super) fn capital(words: &str) -> String {
    let mut characters = words.chars();
    match words.starts_with("sup") {
        true => words.to_owned(),
        false => characters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect()),
    }
}

/// Lines of a page are short, so that a change of it can be read.
fn wrapped(words: &[&str]) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words {
        let line = lines.last_mut().expect("one at least");
        match line.is_empty() {
            true => line.push_str(word),
            false if line.len() + word.len() < 80 => {
                line.push(' ');
                line.push_str(word);
            }
            false => lines.push((*word).to_owned()),
        }
    }
    lines
}

/// What stands as it is.
pub(super) fn literal(lines: &[&str]) -> String {
    let mut out = String::from(".Bd -literal -offset indent\n");
    for line in lines {
        let typed = argument(line);
        let typed = typed[1..typed.len() - 1].replace("\\(dq", "\"");
        let guard = if typed.starts_with(['.', '\'']) { "\\&" } else { "" };
        writeln!(out, "{guard}{typed}").expect("writing to a string");
    }
    out.push_str(".Ed\n");
    out
}

/// A page with each line that is `.\" @NAME@` in its place; a name that is not given, or not there, is a fault.
pub(super) fn fill(page: &str, parts: &[(&str, String)]) -> String {
    let mut out = String::from(".\\\" Generated: SUPD_BLESS=1 cargo test --test tidy writes it anew.\n");
    let mut used = Vec::new();
    for line in page.lines() {
        match line.strip_prefix(".\\\" @").and_then(|rest| rest.strip_suffix('@')) {
            Some(name) => {
                let part = parts.iter().find(|(known, _)| *known == name);
                let (known, text) = part.unwrap_or_else(|| panic!("nobody fills in @{name}@"));
                used.push(*known);
                out.push_str(text);
            }
            None => writeln!(out, "{line}").expect("writing to a string"),
        }
    }
    for (name, _) in parts {
        assert!(used.contains(name), "no page has a place for @{name}@");
    }
    out
}

/// An entry of a list of a page: `.It Ic Key …` and all that stands below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// The heading of the section, and of the part of it.
    pub(super) section: (String, String),
    /// `Ic`, `Ev` …
    pub(super) kind: String,
    /// All that stands behind `.It`.
    pub(super) head: String,
    /// What is explained: the words behind that macro up to the next one.
    pub(super) names: Vec<String>,
    /// The lines below it, as they are written.
    pub(super) lines: Vec<String>,
}

impl Item {
    /// Whether its section, or the part of it, has this heading.
    pub(super) fn is_in(&self, heading: &str) -> bool {
        self.section.0 == heading || self.section.1 == heading
    }
}

/// Every entry of every list, in the order of the page; each has the lines up to the next one.
pub(super) fn items(page: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut section = (String::new(), String::new());
    let mut inside = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix(".Sh ") {
            (section, inside) = ((unquoted(heading), String::new()), false);
        } else if let Some(heading) = line.strip_prefix(".Ss ") {
            (section.1, inside) = (unquoted(heading), false);
        } else if let Some(head) = line.strip_prefix(".It ") {
            items.push(Item { section: section.clone(), lines: Vec::new(), ..head_of(head) });
            inside = true;
        } else if inside {
            items.last_mut().expect("one is open").lines.push(line.to_owned());
        }
    }
    items
}

/// What stands behind `.It`.
fn head_of(head: &str) -> Item {
    let kind = head.split_whitespace().next().unwrap_or_default().to_owned();
    Item {
        section: Default::default(),
        names: marked(head, &kind),
        kind,
        head: head.to_owned(),
        lines: Vec::new(),
    }
}

/// The words of a line that this macro marks, up to the next macro; punctuation is none.
pub(super) fn marked(line: &str, kind: &str) -> Vec<String> {
    let (mut now, mut words) = ("", Vec::new());
    for word in line.trim_start_matches('.').split_whitespace() {
        if is_macro(word) {
            now = word;
        } else if now == kind && word.contains(char::is_alphanumeric) {
            words.push(unquoted(word));
        }
    }
    words
}

fn is_macro(word: &str) -> bool {
    const MACROS: [&str; 12] = ["Ar", "Cm", "Dv", "Er", "Ev", "Fl", "Ic", "Li", "No", "Ns", "Op", "Pa"];
    MACROS.contains(&word)
}

fn unquoted(words: &str) -> String {
    words.trim().trim_matches('"').replace("\\-", "-").replace("\\&", "")
}

#[test]
fn words_stand_as_they_are() {
    assert_eq!(text("a \\ b"), "a \\e b");
    assert_eq!(text(".Sh is no macro here"), "\\&.Sh is no macro here");
    assert_eq!(text("a well-known --flag, -f or (-1)"), "a well-known \\-\\-flag, \\-f or (\\-1)");
    assert_eq!(argument("supctl logs web -f | cat"), "\"supctl logs web \\-f | cat\"");
    assert_eq!(argument("|"), "\"\\&|\"");
    assert_eq!(
        sentences("One. Two\nof it, e.g. this. -1 is (three)."),
        "One.\nTwo of it, e.g. this.\n\\-1 is (three).\n"
    );
    assert_eq!(literal(&[".a \"b\" -c"]), ".Bd -literal -offset indent\n\\&.a \"b\" \\-c\n.Ed\n");
}

#[test]
fn a_page_is_what_it_is_about() {
    let page = ".Sh ONE\n.Bl -tag\n.It Ic Key No = Ar x\nIts text.\n.It Ev A , B\n.Bl -tag\n.It Li word\nof it\n.El\n.El\n\
                .Ss \"Of it\"\n.Bl -tag\n.It Fl -flag\n.El\n";
    let items = items(page);
    let told: Vec<String> =
        items.iter().map(|item| format!("{} {}", item.kind, item.names.join(" "))).collect();
    assert_eq!(told, ["Ic Key", "Ev A B", "Li word", "Fl -flag"]);
    assert_eq!(items[0].lines, ["Its text."]);
    assert!(items[0].is_in("ONE") && items[3].is_in("Of it") && items[3].is_in("ONE"));
}
