//! Text that came from a worker, made safe to show on a terminal and in one line.

use std::str::Chars;

/// How programs say EADDRINUSE: libc, Go, Node.js, Java, Rust; and by its number.
const IN_USE: [&str; 6] =
    ["address already in use", "address in use", "eaddrinuse", "os error 98", "errno 98", "bindexception"];

/// Whether a line says that an address is another's.
#[must_use]
pub fn says_in_use(line: &str) -> bool {
    let line = line.to_lowercase();
    IN_USE.iter().any(|word| line.contains(word))
}

/// One line of at most `bytes_max` bytes: escape sequences taken out, tabs made spaces, every other
/// control character (and what turns the direction of writing) made a question mark.
#[must_use]
pub fn printable(text: &str, bytes_max: usize) -> String {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    let mut rest = text.trim_end().chars();
    while let Some(character) = rest.next() {
        let shown = match character {
            '\u{1b}' => {
                skip_escape(&mut rest);
                continue;
            }
            '\t' => ' ',
            // Explicit directions, and the two line ends of Unicode's own.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => '?',
            other if other.is_control() => '?',
            other => other,
        };
        if line.len() + shown.len_utf8() > bytes_max {
            break;
        }
        line.push(shown);
    }
    line
}

/// What follows an ESC (ECMA-48): a sequence of parameters and one final byte, a string up to its
/// terminator, or one character.
fn skip_escape(rest: &mut Chars<'_>) {
    match rest.next() {
        Some('[') => {
            let _ = rest.find(|c| ('@'..='~').contains(c));
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // Ended by BEL, or by ESC and a backslash.
            let end = rest.find(|c| matches!(c, '\u{7}' | '\u{1b}'));
            if end == Some('\u{1b}') {
                rest.next();
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(printable("ready: 5 workers \n", 100), "ready: 5 workers");
        assert_eq!(printable("\u{1b}[1;31mred\u{1b}[0m and\tblue", 100), "red and blue");
        assert_eq!(printable("\u{1b}]0;title\u{7}a\u{1b}]8;;x\u{1b}\\b\u{1b}cd", 100), "abd");
        assert_eq!(printable("a\rb\u{0}c\u{7f}d\u{9b}e", 100), "a?b?c?d?e");
        assert_eq!(printable("a\u{202e}b\u{2028}c", 100), "a?b?c");
        assert_eq!(printable("\u{1b}[never ends", 100), "ever ends");
        assert_eq!(printable("\u{1b}]never ends", 100), "");
        assert_eq!(printable("\u{1b}", 100), "");
    }

    #[test]
    fn it_is_cut_at_a_character() {
        assert_eq!(printable("aäöü", 4), "aä");
        assert_eq!(printable("äöü", 0), "");
    }
}
