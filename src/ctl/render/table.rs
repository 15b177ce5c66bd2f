//! Columns that line up, by what a terminal shows and not by bytes.

use super::text::{Colour, Paint, width};

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column's heading, how it stands, and how narrow it may be: a table that is drawn again and
/// again should not jump.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) align: Align,
    pub(super) width_min: usize,
}

/// One cell.
#[derive(Debug, Clone, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) colour: Option<Colour>,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), colour: None }
    }
}

/// Headings and rows, two spaces between columns, nothing at the end of a line.
pub(super) fn draw<const N: usize>(columns: &[Column; N], rows: &[[Cell; N]], paint: Paint) -> Vec<String> {
    let width_of = |index: usize| {
        let cells = rows.iter().map(|row| width(&row[index].text));
        cells.chain([width(columns[index].heading), columns[index].width_min]).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width_of);
    let headings: [Cell; N] = std::array::from_fn(|index| Cell::from(columns[index].heading));
    let line = |cells: &[Cell; N]| {
        let mut line = String::new();
        let mut owed = 0;
        for (index, cell) in cells.iter().enumerate() {
            let space = widths[index].saturating_sub(width(&cell.text));
            let (before, after) = match columns[index].align {
                Align::Left => (0, space),
                Align::Right => (space, 0),
            };
            // Spaces are owed until something follows them.
            if cell.text.is_empty() {
                owed += widths[index] + 2;
                continue;
            }
            line.push_str(&" ".repeat(owed + before));
            match cell.colour {
                Some(colour) => line.push_str(&paint.apply(colour, &cell.text)),
                None => line.push_str(&cell.text),
            }
            owed = after + 2;
        }
        line
    };
    std::iter::once(&headings).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_is_in_them() {
        let columns = [
            Column { heading: "NAME", align: Align::Left, width_min: 0 },
            Column { heading: "N", align: Align::Right, width_min: 3 },
            Column { heading: "NOTE", align: Align::Left, width_min: 0 },
        ];
        let red = Cell { text: "日本".into(), colour: Some(Colour::Bad) };
        let rows = [
            [Cell::from("a"), "12345".into(), "x".into()],
            [red, "7".into(), Cell::default()],
            [Cell::from("longest"), Cell::default(), "y".into()],
        ];
        let plain = ["NAME         N  NOTE", "a        12345  x", "日本         7", "longest         y"];
        assert_eq!(draw(&columns, &rows, Paint(false)), plain);
        assert_eq!(draw(&columns, &rows, Paint(true))[2], "\x1b[31m日本\x1b[0m         7");
    }
}
