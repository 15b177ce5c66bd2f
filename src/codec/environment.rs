//! Environment files (systemd.exec(5), EnvironmentFile=) and variables in command lines
//! (systemd.service(5), COMMAND LINES).

use super::fault::{Fault, quoted};
use super::words::split_relaxed;
use std::fmt;
use std::path::Path;

/// What an environment file says.
///
/// systemd skips a line that it cannot read and says so in the log; here both halves are handed
/// out, and who launches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentText {
    /// Names and values in the order of the file; a later one of the same name counts.
    pub variables: Vec<(String, String)>,
    /// The lines that are no assignments, at most [`FAULTS_MAX`] of them.
    pub faults: Vec<Fault>,
}

/// How many faults of one environment file are told.
pub const FAULTS_MAX: usize = 20;

/// The most that an environment file may hold, in bytes: what execve(2) takes at all.
pub const FILE_BYTES_MAX: u64 = 2 << 20;

/// Whether a shell could have set a variable of this name (environ(7) asks for less).
#[must_use]
pub fn is_variable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Reads an environment file: `NAME=value` lines, comments with `#` or `;`, quotes of both kinds,
/// a backslash at the end of a line continues it. No variable is filled in.
#[must_use]
pub fn parse(path: &Path, bytes: &[u8]) -> EnvironmentText {
    let mut reader = Reader { path, out: EnvironmentText::default(), line: 1 };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let good = &bytes[..error.valid_up_to()];
            reader.line = 1 + lines_in(good);
            reader.fault("", "not UTF-8".to_owned(), "save the file as UTF-8");
            return reader.out;
        }
    };
    let mut rest = text.chars().peekable();
    while let Some(first) = rest.peek().copied() {
        match first {
            '\n' => {
                rest.next();
                reader.line += 1;
            }
            _ if is_space(first) => {
                rest.next();
            }
            '#' | ';' => skip_line(&mut rest),
            _ => reader.assignment(&mut rest),
        }
    }
    reader.out
}

type Characters<'t> = std::iter::Peekable<std::str::Chars<'t>>;

/// The white space that systemd's reader knows.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn lines_in(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(u32::MAX)
}

/// Up to the end of the line, which stays.
fn skip_line(rest: &mut Characters<'_>) {
    while rest.next_if(|c| *c != '\n').is_some() {}
}

struct Reader<'p> {
    path: &'p Path,
    out: EnvironmentText,
    line: u32,
}

impl Reader<'_> {
    fn fault(&mut self, name: &str, what: String, remedy: &str) {
        if self.out.faults.len() < FAULTS_MAX {
            let (file, key) = (self.path.to_owned(), name.chars().take(60).collect());
            self.out.faults.push(Fault {
                file,
                line: self.line,
                column: 1,
                key,
                what,
                remedy: remedy.into(),
            });
        }
    }

    /// One assignment, from the first character of its name to the end of its last line.
    fn assignment(&mut self, rest: &mut Characters<'_>) {
        let mut name = String::new();
        while let Some(character) = rest.next_if(|c| !matches!(c, '=' | '\n')) {
            name.push(character);
        }
        let name = name.trim_end_matches(is_space);
        if rest.next_if_eq(&'=').is_none() {
            self.fault("", format!("{} is no assignment", quoted(name)), "write NAME=value, or begin with #");
            return;
        }
        let first_line = self.line;
        let value = self.value(rest);
        let last_line = std::mem::replace(&mut self.line, first_line);
        if let Some(after) = name.strip_prefix("export").filter(|after| after.starts_with(is_space)) {
            let remedy = format!("write {}=…: this file is not run by a shell", after.trim_start());
            self.fault(name, "\"export\" is no part of a name".to_owned(), &remedy);
        } else if !is_variable_name(name) {
            let what = format!("{} is no name of a variable", quoted(name));
            self.fault("", what, "a name is made of A-Z a-z 0-9 _ and does not begin with a digit");
        } else {
            match value {
                Ok(value) if value.contains('\0') => {
                    self.fault(name, "its value holds a NUL byte".to_owned(), "take it out");
                }
                Ok(value) => self.out.variables.push((name.to_owned(), value)),
                Err(quote) => {
                    self.fault(name, format!("the quote {quote} is not closed"), "close it");
                }
            }
        }
        self.line = last_line;
    }

    /// The value after the `=`, several lines of it where it is quoted or continued.
    ///
    /// # Errors
    /// The quote that the file ends in.
    fn value(&mut self, rest: &mut Characters<'_>) -> Result<String, char> {
        let mut value = String::new();
        // White space that only counts if something follows it.
        let mut held = String::new();
        let mut begun = false;
        while let Some(character) = rest.next_if(|c| *c != '\n') {
            match character {
                '\'' | '"' if !begun => {
                    self.quoted(rest, character, &mut value)?;
                    continue;
                }
                '\\' => {
                    value.push_str(&held);
                    held.clear();
                    begun = true;
                    match rest.next() {
                        Some('\n') => self.line += 1,
                        Some('\r') if rest.next_if_eq(&'\n').is_some() => self.line += 1,
                        Some(escaped) => value.push(escaped),
                        None => {}
                    }
                }
                _ if is_space(character) => {
                    if begun {
                        held.push(character);
                    }
                }
                _ => {
                    value.push_str(&held);
                    held.clear();
                    value.push(character);
                    begun = true;
                }
            }
        }
        Ok(value)
    }

    /// The inside of a quoted piece and its closing quote.
    fn quoted(&mut self, rest: &mut Characters<'_>, quote: char, value: &mut String) -> Result<(), char> {
        while let Some(character) = rest.next() {
            if character == '\n' {
                self.line += 1;
            }
            if character == quote {
                return Ok(());
            }
            if character != '\\' || quote == '\'' {
                value.push(character);
                continue;
            }
            match rest.next() {
                Some('\n') => self.line += 1,
                Some(escaped @ ('"' | '\\' | '`' | '$')) => value.push(escaped),
                // Like a shell: before anything else the backslash stays.
                Some(other) => value.extend(['\\', other]),
                None => break,
            }
        }
        Err(quote)
    }
}

/// The words of a command line with every variable filled in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expanded {
    /// The words; a `$VAR` of its own may have become none or several.
    pub words: Vec<String>,
    /// Variables that are not set, each once: they were taken as empty.
    pub missing: Vec<String>,
}

/// The words grew past [`WORDS_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("with its variables filled in, the command line is longer than execve(2) takes")
    }
}

impl std::error::Error for TooLong {}

/// The most that all words of a command may hold together: ARG_MAX with the usual stack limit.
pub const WORDS_BYTES_MAX: usize = 2 << 20;

/// Fills in variables as systemd does: `${VAR}` anywhere in a word becomes exactly its value; a
/// word that is `$VAR` and nothing else becomes the words of its value; `$$` is one `$`.
///
/// # Errors
/// [`TooLong`]
pub fn expand<'v>(words: &[String], lookup: impl Fn(&str) -> Option<&'v str>) -> Result<Expanded, TooLong> {
    let mut out = Expanded::default();
    let mut bytes = 0;
    for word in words {
        let before = out.words.len();
        if let Some(name) = word.strip_prefix('$').filter(|name| is_variable_name(name)) {
            match lookup(name) {
                Some(value) => out.words.extend(split_relaxed(value)),
                None => note_missing(&mut out.missing, name),
            }
        } else {
            let mut text = String::new();
            for piece in pieces(word) {
                match piece {
                    Piece::Text(plain) => text.push_str(plain),
                    Piece::Variable(name) => match lookup(name) {
                        Some(value) => text.push_str(value),
                        None => note_missing(&mut out.missing, name),
                    },
                }
                if bytes + text.len() > WORDS_BYTES_MAX {
                    return Err(TooLong);
                }
            }
            out.words.push(text);
        }
        bytes += out.words[before..].iter().map(|word| word.len() + 1).sum::<usize>();
        if bytes > WORDS_BYTES_MAX {
            return Err(TooLong);
        }
    }
    Ok(out)
}

fn note_missing(missing: &mut Vec<String>, name: &str) {
    if !missing.iter().any(|known| known == name) {
        missing.push(name.to_owned());
    }
}

enum Piece<'w> {
    Text(&'w str),
    Variable(&'w str),
}

/// Cuts a word at its `${VAR}` and `$$`; anything else with a dollar is text, as in systemd.
fn pieces(word: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        let (text, dollar) = rest.split_at(at);
        let braced = dollar.strip_prefix("${").and_then(|inner| inner.split_once('}'));
        let (piece, after) = match braced {
            Some((name, after)) if is_variable_name(name) => (Piece::Variable(name), after),
            _ => match dollar.strip_prefix("$$") {
                Some(after) => (Piece::Text("$"), after),
                None => (Piece::Text("$"), &dollar[1..]),
            },
        };
        pieces.extend([Piece::Text(text), piece]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// A dollar in a word that looks like a variable and is none: `$HOME/x`, `${A:-b}`, `${`.
#[must_use]
pub fn mistaken_variable(word: &str) -> Option<&str> {
    if word.strip_prefix('$').is_some_and(is_variable_name) {
        return None;
    }
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        let dollar = &rest[at..];
        if let Some(after) = dollar.strip_prefix("$$") {
            rest = after;
            continue;
        }
        if let Some(inner) = dollar.strip_prefix("${") {
            match inner.split_once('}') {
                Some((name, after)) if is_variable_name(name) => rest = after,
                _ => return Some(dollar),
            }
            continue;
        }
        let next = dollar[1..].chars().next();
        if next.is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '(') {
            return Some(dollar);
        }
        rest = &dollar[1..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{FAULTS_MAX, TooLong, expand, mistaken_variable, parse};
    use std::path::Path;

    fn read(text: &str) -> Vec<(String, String)> {
        let out = parse(Path::new("env"), text.as_bytes());
        assert_eq!(out.faults, [], "{text:?}");
        out.variables
    }

    fn one(text: &str) -> String {
        let mut variables = read(text);
        assert_eq!(variables.len(), 1, "{text:?}");
        variables.remove(0).1
    }

    #[test]
    fn values_as_systemd_reads_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=b\n", "b"),
            ("  A = b c  \n", "b c"),
            ("A=", ""),
            ("A=\n", ""),
            ("A='b  c' ", "b  c"),
            ("A=\"b\\\"c\\$d\\e\\`\"", "b\"c$d\\e`"),
            ("A='b\\c'", "b\\c"),
            ("A='b\nc'", "b\nc"),
            ("A=\"b\\\nc\"", "bc"),
            ("A=b\\\nc", "bc"),
            ("A=b\\\r\nc\r\n", "bc"),
            ("A=b\\nc", "bnc"),
            ("A=b 'c'", "b 'c'"),
            ("A='b'\"c\"d", "bcd"),
            ("A=b # no comment", "b # no comment"),
            ("A=b=c", "b=c"),
            ("\u{feff}A=b\r\n", "b"),
            ("A=b\\", "b"),
            ("A=é", "é"),
        ] {
            assert_eq!(one(text), value, "{text:?}");
        }
        let text = "# a\n; b\n   # c \\\n\nA=1\nB=2\nA=3\n";
        assert_eq!(
            read(text),
            [("A".into(), "1".into()), ("B".into(), "2".into()), ("A".into(), "3".into())]
        );
    }

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let text = "A=1\nnonsense\nexport B=2\n1C=3\nD='x\ny'\nE=\"z\nF=\0\n";
        let out = parse(Path::new("env"), text.as_bytes());
        let told: Vec<String> = out.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "env:2:1: \"nonsense\" is no assignment; write NAME=value, or begin with #",
                "env:3:1: export B: \"export\" is no part of a name; write B=…: this file is not run by a shell",
                "env:4:1: \"1C\" is no name of a variable; \
             a name is made of A-Z a-z 0-9 _ and does not begin with a digit",
                "env:7:1: E: the quote \" is not closed; close it",
            ]
        );
        assert_eq!(out.variables, [("A".into(), "1".into()), ("D".into(), "x\ny".into())]);
        let out = parse(Path::new("env"), b"A=1\nB=\xff\n");
        assert_eq!(out.faults[0].to_string(), "env:2:1: not UTF-8; save the file as UTF-8");
        let out = parse(Path::new("env"), "x\n".repeat(1000).as_bytes());
        assert_eq!(out.faults.len(), FAULTS_MAX);
    }

    /// The environment of the example in systemd.service(5).
    fn lookup(name: &str) -> Option<&'static str> {
        match name {
            "ONE" => Some("'one'"),
            "TWO" => Some("'two two' too"),
            "THREE" => Some(""),
            _ => None,
        }
    }

    fn filled(words: &[&str]) -> (Vec<String>, Vec<String>) {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let out = expand(&words, lookup).unwrap();
        (out.words, out.missing)
    }

    #[test]
    fn the_examples_of_systemd_service() {
        assert_eq!(filled(&["${ONE}", "${TWO}", "${THREE}"]).0, ["'one'", "'two two' too", ""]);
        assert_eq!(filled(&["$ONE", "$TWO", "$THREE"]).0, ["one", "two two", "too"]);
        assert_eq!(filled(&["a${ONE}b${THREE}c"]).0, ["a'one'bc"]);
        assert_eq!(filled(&["$$ONE", "$${ONE}", "$$", "5$"]).0, ["$ONE", "${ONE}", "$", "5$"]);
        assert_eq!(filled(&["$ONE/x", "${}", "${ONE", "${A-B}"]).0, ["$ONE/x", "${}", "${ONE", "${A-B}"]);
        assert_eq!(
            filled(&["$NO", "${NO}", "x${NOT}"]),
            (vec![String::new(), "x".into()], vec!["NO".into(), "NOT".into()])
        );
    }

    #[test]
    fn words_cannot_grow_without_end() {
        let long = "x".repeat(1 << 20);
        let words = ["${A}${A}${A}".to_owned()];
        assert_eq!(expand(&words, |_| Some(long.as_str())), Err(TooLong));
        let words = vec!["$A".to_owned(); 3];
        assert_eq!(expand(&words, |_| Some(long.as_str())), Err(TooLong));
    }

    #[test]
    fn dollars_that_do_nothing_are_seen() {
        for bad in ["$HOME/x", "a$B", "${A:-b}", "${", "$(date)", "${A}$B"] {
            assert!(mistaken_variable(bad).is_some(), "{bad}");
        }
        for good in ["$A", "${A}", "x${A}y", "$$HOME/x", "5$", "a", "^[0-9]+$"] {
            assert_eq!(mistaken_variable(good), None, "{good}");
        }
    }
}
