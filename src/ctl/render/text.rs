//! Text on its way to a terminal: what others wrote is made harmless, and colours are for eyes.

use std::borrow::Cow;
use unicode_width::UnicodeWidthStr;

/// Text that a worker, a client or a file gave, as one line that moves no cursor.
///
/// Control characters (C0, DEL, C1: an escape sequence begins with one) and those that turn the
/// direction of writing become U+FFFD; a tab or a line's end becomes a space.
#[must_use]
pub(in crate::ctl) fn clean(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if is_plain(text) || !text.chars().any(harmful) {
        return Cow::Borrowed(text);
    }
    let replaced = text.trim_end().chars().map(|c| match c {
        '\t' | '\n' | '\r' => ' ',
        c if harmful(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    });
    Cow::Owned(replaced.collect())
}

/// The columns that a text takes on a terminal.
pub(in crate::ctl) fn width(text: &str) -> usize {
    if is_plain(text) { text.len() } else { text.width() }
}

/// Most cells of most tables: nothing in it needs a look.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The text, cut so that it takes at most `columns`; a cut is shown by `...`. Colours of
/// [`Paint`] take no column, and are ended where they were begun.
pub(in crate::ctl) fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    let plain: String = pieces(text).filter(|(_, is_colour)| !is_colour).map(|(piece, _)| piece).collect();
    if width(&plain) <= columns {
        return Cow::Borrowed(text);
    }
    let room = columns.saturating_sub(3);
    let (mut kept, mut taken, mut full) = (String::new(), 0, false);
    for (piece, is_colour) in pieces(text) {
        if is_colour {
            kept.push_str(piece);
        } else if !full {
            taken += width(piece);
            full = taken > room;
            kept.push_str(if full { &"..."[..columns.min(3)] } else { piece });
        }
    }
    Cow::Owned(kept)
}

/// A text's characters and, marked true, the colours among them (ECMA-48: ESC [ … m).
fn pieces(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (length, is_colour) = match (first, rest.find('m')) {
            ('\x1b', Some(end)) => (end + 1, true),
            _ => (first.len_utf8(), false),
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some((piece, is_colour))
    })
}

/// Colours by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ctl) enum Colour {
    /// As it should be.
    Good,
    /// On its way.
    Moving,
    /// Needs a person.
    Bad,
    /// Of little interest.
    Faint,
    /// Headings.
    Strong,
}

/// Puts a text into a colour, or leaves it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ctl) struct Paint(pub(in crate::ctl) bool);

impl Paint {
    /// The text in this colour (ECMA-48, SGR).
    pub(in crate::ctl) fn apply<'a>(self, colour: Colour, text: &'a str) -> Cow<'a, str> {
        let code = match colour {
            Colour::Good => 32,
            Colour::Moving => 33,
            Colour::Bad => 31,
            Colour::Faint => 2,
            Colour::Strong => 1,
        };
        if self.0 { Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m")) } else { Cow::Borrowed(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_worker_says_moves_the_cursor() {
        for (said, shown) in [
            ("plain é 日本", "plain é 日本"),
            ("\x1b[2Jgone", "\u{fffd}[2Jgone"),
            ("a\tb\nc\r\n", "a b c"),
            ("bell\x07 null\0 c1\u{9b}31m", "bell\u{fffd} null\u{fffd} c1\u{fffd}31m"),
            ("\u{202e}desrever", "\u{fffd}desrever"),
        ] {
            assert_eq!(clean(said), shown);
        }
    }

    #[test]
    fn a_cut_counts_columns_and_not_bytes() {
        assert_eq!(cut("日本語", 6), "日本語");
        assert_eq!(cut("日本語", 5), "日...");
        assert_eq!(cut("abcdef", 5), "ab...");
        assert_eq!(cut("abcdef", 2), "..");
        assert_eq!(cut("abcdef", 0), "");
        let painted = format!("{} tail", Paint(true).apply(Colour::Bad, "abcdef"));
        assert_eq!(cut(&painted, 11), painted);
        assert_eq!(cut(&painted, 10), "\x1b[31mabcdef\x1b[0m ...");
        assert_eq!(cut(&painted, 6), "\x1b[31mabc...\x1b[0m");
    }

    #[test]
    fn colour_is_only_for_eyes() {
        assert_eq!(Paint(false).apply(Colour::Bad, "x"), "x");
        assert_eq!(Paint(true).apply(Colour::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
