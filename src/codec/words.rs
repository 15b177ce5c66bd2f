//! Splitting a text into words as systemd.syntax(7) and systemd.service(5) do. No shell.

use super::fault::quoted;
use std::fmt;

/// One word, its quotes and escapes already taken off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// What the program gets.
    pub text: String,
    /// Whether any of it was quoted or escaped: then even a lone `;` was meant as it stands.
    pub literal: bool,
}

/// Why a text cannot be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WordFault {
    /// This quote is never closed.
    Unclosed(char),
    /// A backslash before something that has no meaning there.
    Escape(String),
    /// A backslash at the very end.
    Trailing,
    /// An escape that stands for NUL, which no argument can hold.
    Nul,
}

impl fmt::Display for WordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unclosed(quote) => write!(f, "a quote {quote} is not closed"),
            Self::Escape(text) => write!(f, "{} is no escape", quoted(text)),
            Self::Trailing => f.write_str("it ends with a backslash"),
            Self::Nul => f.write_str("an argument cannot hold a NUL byte"),
        }
    }
}

impl std::error::Error for WordFault {}

/// Splits at white space. Quotes of both kinds group, and the C escapes of systemd.syntax(7) are
/// replaced, inside quotes too; `\;` is a lone `;`.
///
/// # Errors
/// [`WordFault`]: systemd drops such a line with a log message, supd refuses the file.
pub fn split(text: &str) -> Result<Vec<Word>, WordFault> {
    Splitter { rest: text.chars().peekable(), escapes: Escapes::Strict }.all()
}

/// The same, but a backslash before something that has no meaning there stays, as systemd does
/// for its own unit files, with a log message.
///
/// # Errors
/// [`WordFault`], but never [`WordFault::Escape`].
pub fn split_keeping(text: &str) -> Result<Vec<Word>, WordFault> {
    Splitter { rest: text.chars().peekable(), escapes: Escapes::Keep }.all()
}

/// Splits the value of a variable: quotes group, a backslash takes the next character as it is,
/// and what is left open at the end counts as closed, as systemd does for `$VAR`.
#[must_use]
pub fn split_relaxed(text: &str) -> Vec<String> {
    let words = Splitter { rest: text.chars().peekable(), escapes: Escapes::Plain }.all();
    words.unwrap_or_default().into_iter().map(|word| word.text).collect()
}

/// What a backslash does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escapes {
    /// Begins an escape of C, and nothing else.
    Strict,
    /// Begins an escape of C, or stays.
    Keep,
    /// Takes the next character as it is; and an end closes everything.
    Plain,
}

struct Splitter<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    escapes: Escapes,
}

impl Splitter<'_> {
    fn all(mut self) -> Result<Vec<Word>, WordFault> {
        let mut words = Vec::new();
        loop {
            while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
            if self.rest.peek().is_none() {
                return Ok(words);
            }
            words.push(self.word()?);
        }
    }

    fn word(&mut self) -> Result<Word, WordFault> {
        let mut word = Word { text: String::new(), literal: false };
        let mut quote = None;
        loop {
            let Some(character) = self.rest.peek().copied() else {
                return match quote {
                    Some(open) if self.escapes != Escapes::Plain => Err(WordFault::Unclosed(open)),
                    _ => Ok(word),
                };
            };
            if quote.is_none() && character.is_ascii_whitespace() {
                return Ok(word);
            }
            self.rest.next();
            match character {
                '\\' => {
                    word.literal = true;
                    self.escape(&mut word.text)?;
                }
                '\'' | '"' if quote.is_none() => {
                    word.literal = true;
                    quote = Some(character);
                }
                _ if quote == Some(character) => quote = None,
                _ => word.text.push(character),
            }
        }
    }

    /// What a backslash stands for, with what follows it.
    fn escape(&mut self, text: &mut String) -> Result<(), WordFault> {
        let Some(kind) = self.rest.next() else {
            return if self.escapes == Escapes::Plain { Ok(()) } else { Err(WordFault::Trailing) };
        };
        if self.escapes == Escapes::Plain {
            text.push(kind);
            return Ok(());
        }
        let begun = self.rest.clone();
        match self.meaning(kind) {
            Ok('\0') => return Err(WordFault::Nul),
            Ok(plain) => text.push(plain),
            Err(_) if self.escapes == Escapes::Keep => {
                self.rest = begun;
                text.extend(['\\', kind]);
            }
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    /// The character that an escape stands for.
    fn meaning(&mut self, kind: char) -> Result<char, WordFault> {
        Ok(match kind {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            's' => ' ',
            '\\' | '"' | '\'' | ';' => kind,
            'x' => self.number(kind, 16, 2)?,
            'u' => self.number(kind, 16, 4)?,
            'U' => self.number(kind, 16, 8)?,
            '0'..='7' => self.number(kind, 8, 3)?,
            _ => return Err(WordFault::Escape(format!("\\{kind}"))),
        })
    }

    /// A character by its number. Bytes past 0x7f are refused: alone they are not UTF-8.
    fn number(&mut self, kind: char, radix: u32, length: u32) -> Result<char, WordFault> {
        let mut shown = format!("\\{kind}");
        let mut value = if radix == 8 { kind.to_digit(8).unwrap_or(0) } else { 0 };
        let taken = u32::from(radix == 8);
        for _ in taken..length {
            let Some(digit) = self.rest.next_if(|c| c.is_digit(radix)) else {
                return Err(WordFault::Escape(shown));
            };
            shown.push(digit);
            value = value.saturating_mul(radix).saturating_add(digit.to_digit(radix).unwrap_or(0));
        }
        match char::from_u32(value) {
            Some(character) if length > 3 || value < 0x80 => Ok(character),
            _ => Err(WordFault::Escape(shown)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{WordFault, split, split_relaxed};

    fn texts(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn as_systemd_splits() {
        assert_eq!(texts("a  b\tc\n d "), ["a", "b", "c", "d"]);
        assert_eq!(texts("a 'b c' \"d e\""), ["a", "b c", "d e"]);
        assert_eq!(texts("--x='a b'c"), ["--x=a bc"]);
        assert_eq!(texts("'' \"\""), ["", ""]);
        assert_eq!(texts("\"it's\" 'a \"b\"'"), ["it's", "a \"b\""]);
        assert_eq!(
            texts(r"a\x20b \101 \u00e9 \t \s \\ 'a\nb' \;"),
            ["a b", "A", "é", "\t", " ", "\\", "a\nb", ";"]
        );
        assert_eq!(texts(""), [""; 0]);
        assert_eq!(texts("echo / >/dev/null & \\; ls"), ["echo", "/", ">/dev/null", "&", ";", "ls"]);
    }

    #[test]
    fn what_was_quoted_is_known() {
        let words = split(r"; ';' \; a").unwrap();
        let literal: Vec<bool> = words.iter().map(|word| word.literal).collect();
        assert_eq!(literal, [false, true, true, false]);
    }

    #[test]
    fn what_cannot_be_split_is_named() {
        assert_eq!(split("a 'b"), Err(WordFault::Unclosed('\'')));
        assert_eq!(split("a \"b'"), Err(WordFault::Unclosed('"')));
        assert_eq!(split("a\\"), Err(WordFault::Trailing));
        assert_eq!(split(r"a\ b"), Err(WordFault::Escape("\\ ".into())));
        assert_eq!(split(r"\d"), Err(WordFault::Escape("\\d".into())));
        assert_eq!(split(r"\x0"), Err(WordFault::Escape("\\x0".into())));
        assert_eq!(split(r"\xff"), Err(WordFault::Escape("\\xff".into())));
        assert_eq!(split(r"\777"), Err(WordFault::Escape("\\777".into())));
        assert_eq!(split(r"\ud800"), Err(WordFault::Escape("\\ud800".into())));
        assert_eq!(split(r"\Uffffffff"), Err(WordFault::Escape("\\Uffffffff".into())));
        assert_eq!(split(r"\x00"), Err(WordFault::Nul));
        assert_eq!(split(r"\000"), Err(WordFault::Nul));
    }

    #[test]
    fn values_are_split_with_leniency() {
        assert_eq!(split_relaxed("one 'two two' too"), ["one", "two two", "too"]);
        assert_eq!(split_relaxed("a 'b c"), ["a", "b c"]);
        assert_eq!(split_relaxed("a\\ b\\"), ["a b"]);
        assert_eq!(split_relaxed(r"\n"), ["n"]);
    }

    #[test]
    fn every_short_text_is_split_or_refused() {
        const ALPHABET: [char; 8] = ['a', 'x', '0', '\\', '\'', '"', ' ', 'é'];
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            let longer = |text: &String| ALPHABET.map(|next| format!("{text}{next}"));
            texts = texts.iter().flat_map(longer).collect();
            for text in &texts {
                assert!(split_relaxed(text).len() <= text.len(), "{text:?}");
                let Ok(words) = split(text) else { continue };
                // What was split can be quoted and split again.
                let quoted: Vec<String> = words
                    .iter()
                    .map(|word| format!("\"{}\"", word.text.replace('\\', "\\\\").replace('"', "\\\"")))
                    .collect();
                let again = split(&quoted.join(" ")).unwrap();
                assert!(
                    words.iter().map(|word| &word.text).eq(again.iter().map(|word| &word.text)),
                    "{text:?}"
                );
            }
        }
    }
}
