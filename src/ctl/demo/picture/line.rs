//! A line of the picture: pieces of text, each with its style, cut to the width of the terminal.

use crate::ctl::demo::version::Version;

/// How a piece looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// As the terminal does.
    Plain,
    /// Of little interest.
    Faint,
    /// A heading.
    Strong,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// The colours of versions: in front, and behind.
    Fill(Version, Option<Version>),
}

impl Style {
    /// The parameters of SGR (ECMA-48); colours of the terminal's own palette, so that they fit it.
    fn code(self) -> String {
        match self {
            Self::Plain => String::new(),
            Self::Faint => "2".into(),
            Self::Strong => "1".into(),
            Self::Good => "32".into(),
            Self::Bad => "1;31".into(),
            Self::Fill(front, None) => format!("3{}", colour(front)),
            Self::Fill(front, Some(back)) => format!("3{};4{}", colour(front), colour(back)),
        }
    }
}

/// Blue and yellow are told apart by nearly everyone.
fn colour(version: Version) -> u8 {
    match version {
        Version::Old => 4,
        Version::New => 2,
        Version::Broken => 5,
        Version::Faulty => 3,
    }
}

/// Pieces from left to right. Every character takes one column: there are no others in the picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Line {
    pieces: Vec<(Style, String)>,
}

impl Line {
    /// Adds a piece at the right end.
    pub(super) fn push(&mut self, style: Style, text: impl Into<String>) -> &mut Self {
        let text = text.into();
        match self.pieces.last_mut() {
            Some((last, before)) if *last == style => before.push_str(&text),
            _ => self.pieces.push((style, text)),
        }
        self
    }

    /// The line as bytes for a terminal, at most `width` columns wide.
    pub(super) fn render(&self, width: usize, coloured: bool) -> String {
        let (mut out, mut left) = (String::new(), width);
        for (style, text) in &self.pieces {
            let cut: String = text.chars().take(left).collect();
            left -= cut.chars().count();
            let code = style.code();
            if coloured && !code.is_empty() && !cut.is_empty() {
                out += &format!("\x1b[{code}m{cut}\x1b[0m");
            } else {
                out += &cut;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_takes_more_columns_than_there_are() {
        let mut line = Line::default();
        line.push(Style::Plain, "ab").push(Style::Bad, "c█d").push(Style::Good, "e");
        for width in 0..=6 {
            assert_eq!(line.render(width, false).chars().count(), width);
        }
        assert_eq!(line.render(9, false), "abc█de");
        assert_eq!(line.render(3, true), "ab\x1b[1;31mc\x1b[0m");
    }

    #[test]
    fn neighbours_of_one_style_are_one_piece() {
        let mut line = Line::default();
        line.push(Style::Bad, "a").push(Style::Bad, "b");
        assert_eq!(line.render(9, true), "\x1b[1;31mab\x1b[0m");
    }
}
