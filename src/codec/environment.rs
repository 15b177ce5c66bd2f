//! Environment files (systemd.exec(5), EnvironmentFile=).

use super::fault::{Fault, quoted};
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
pub const FILE_BYTES_MAX: usize = 2 << 20;

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
                exhausted: false,
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

#[cfg(test)]
mod tests {
    use super::{FAULTS_MAX, parse};
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

    #[test]
    fn every_short_text_is_read() {
        const ALPHABET: [char; 9] = ['A', '=', '\'', '"', '\\', '\n', '\r', '#', ' '];
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            let longer = |text: &String| ALPHABET.map(|next| format!("{text}{next}"));
            texts = texts.iter().flat_map(longer).collect();
            for text in &texts {
                let out = parse(Path::new("env"), text.as_bytes());
                let lines = u32::try_from(text.matches('\n').count()).unwrap() + 1;
                assert!(out.faults.iter().all(|fault| (1..=lines).contains(&fault.line)), "{text:?}");
                assert!(
                    out.variables.iter().all(|(name, _)| name.bytes().all(|byte| byte == b'A')),
                    "{text:?}"
                );
            }
        }
    }
}
