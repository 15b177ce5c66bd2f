//! Variables in command lines (systemd.service(5), COMMAND LINES).

use super::environment::is_variable_name;
use super::words::split_relaxed;
use std::fmt;

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
pub fn expand<'v>(
    words: &[impl AsRef<str>],
    lookup: impl Fn(&str) -> Option<&'v str>,
) -> Result<Expanded, TooLong> {
    let mut out = Expanded::default();
    let mut bytes = 0;
    for word in words.iter().map(AsRef::as_ref) {
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
    use super::{TooLong, expand, mistaken_variable};

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
