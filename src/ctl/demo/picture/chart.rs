//! The chart: time goes right, requests per second go up, and the colours say who answered.

use super::line::{Line, Style};
use crate::ctl::demo::timeline::{Moment, TICK, Timeline};
use crate::ctl::demo::version::Version;
use std::time::Duration;

/// The least that a column stands for, in ticks: 100 ms.
const COLUMN_LEAST: usize = 2;

/// The whole story takes about so long; the picture leaves room for it from the beginning.
const STORY: Duration = Duration::from_millis(12_500);

/// Left of the chart: the rate, and a line.
const GUTTER: usize = 9;

/// A cell is drawn in so many steps.
const STEPS: u64 = 8;

/// From one eighth of a cell to seven.
const EIGHTHS: [char; 7] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇'];

/// The chart's measures at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chart {
    columns: Vec<Moment>,
    /// Columns that there is room for.
    width: usize,
    ticks: usize,
    /// Answers in a column that reaches the top.
    top: u64,
}

impl Chart {
    /// The chart of a timeline at `now`, `width` columns wide with all that stands at its left.
    pub(super) fn new(timeline: &Timeline, now: Duration, width: usize) -> Self {
        let width = width.saturating_sub(GUTTER).max(1);
        let passed = Timeline::tick_of(now);
        let ticks = passed.max(Timeline::tick_of(STORY)).div_ceil(width).max(COLUMN_LEAST);
        let spans = (0..passed / ticks).map(|column| column * ticks);
        let columns: Vec<Moment> = spans.map(|from| timeline.span(from, from + ticks)).collect();
        let most = columns.iter().map(Moment::total).max().unwrap_or_default();
        let mut chart = Self { columns, width, ticks, top: most.max(1) };
        // A round rate at the top: two digits that count.
        let rate = chart.per_second(chart.top);
        let unit = 10_u64.pow(rate.max(1).ilog10().saturating_sub(1));
        let round = rate.div_ceil(unit) * unit;
        chart.top = (round * chart.column_ms()).div_ceil(1000).max(1);
        chart
    }

    fn column_ms(&self) -> u64 {
        self.ticks as u64 * u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX)
    }

    fn per_second(&self, count: u64) -> u64 {
        count * 1000 / self.column_ms()
    }

    /// `height` lines of cells, then one with the marks and the losses, then one with the time.
    pub(super) fn lines(&self, height: usize, marks: &[(Duration, char)], coloured: bool) -> Vec<Line> {
        let heights: Vec<[u64; Version::ALL.len() + 1]> =
            self.columns.iter().map(|column| self.bounds(column, height)).collect();
        let mut lines = Vec::with_capacity(height + 2);
        for row in (0..height as u64).rev() {
            let mut line = Line::default();
            let label = match row + 1 == height as u64 {
                true => format!("{}/s", thousands(self.per_second(self.top))),
                false => String::new(),
            };
            line.push(Style::Faint, format!("{label:>width$}│", width = GUTTER - 1));
            for bounds in &heights {
                let (style, cell) = cell(bounds, row * STEPS, coloured);
                line.push(style, cell);
            }
            lines.push(line);
        }
        lines.push(self.axis(marks));
        lines.push(self.times());
        lines
    }

    /// Where each version's part of a column ends, in eighths of cells from below.
    fn bounds(&self, column: &Moment, height: usize) -> [u64; Version::ALL.len() + 1] {
        let full = height as u64 * STEPS;
        let mut bounds = [0; Version::ALL.len() + 1];
        let mut sum = 0;
        for (bound, count) in bounds.iter_mut().skip(1).zip(column.answered) {
            sum += count;
            *bound = ((sum * full + self.top / 2) / self.top).min(full);
        }
        bounds
    }

    /// The column of a moment.
    fn column_of(&self, at: Duration) -> usize {
        (Timeline::tick_of(at) / self.ticks).min(self.width - 1)
    }

    fn axis(&self, marks: &[(Duration, char)]) -> Line {
        let mut row: Vec<(Style, char)> = vec![(Style::Faint, '─'); self.width];
        for (place, column) in self.columns.iter().enumerate() {
            if column.lost > 0 {
                row[place] = (Style::Bad, '✗');
            }
        }
        let mut free = 0;
        for &(at, mark) in marks {
            let place = self.column_of(at).max(free);
            if let Some(cell) = row.get_mut(place) {
                *cell = (Style::Strong, mark);
            }
            free = place + 1;
        }
        let mut line = Line::default();
        line.push(Style::Faint, format!("{:>width$}", '└', width = GUTTER));
        for (style, cell) in row {
            line.push(style, cell);
        }
        line
    }

    /// A label every few seconds, as wide as they need.
    fn times(&self) -> Line {
        let column_ms = usize::try_from(self.column_ms()).unwrap_or(usize::MAX);
        let columns = |seconds: usize| seconds.saturating_mul(1000) / column_ms;
        let steps = [1, 2, 5, 10, 30].into_iter().chain((0..20).map(|doublings| 60 << doublings));
        let step = steps.into_iter().find(|step| columns(*step) >= 8).unwrap_or(usize::MAX);
        let mut text = " ".repeat(GUTTER);
        for seconds in (0..).step_by(step) {
            let label = format!("{seconds} s");
            let place = GUTTER + columns(seconds);
            if place + label.len() > GUTTER + self.width {
                break;
            }
            text += &" ".repeat(place.saturating_sub(text.len()));
            text += &label;
        }
        let mut line = Line::default();
        line.push(Style::Faint, text);
        line
    }
}

/// One cell, whose lower edge is at `low`: at most two colours fit into it, the lowest and the one
/// that has most of the rest.
fn cell(bounds: &[u64; Version::ALL.len() + 1], low: u64, coloured: bool) -> (Style, char) {
    let inside = |bound: u64| bound.clamp(low, low + STEPS) - low;
    let parts = bounds.windows(2).zip(Version::ALL);
    let parts = parts.map(|(ends, version)| (Some(version), inside(ends[1]) - inside(ends[0])));
    let empty = STEPS - inside(bounds[Version::ALL.len()]);
    let parts: Vec<(Option<Version>, u64)> =
        parts.chain([(None, empty)]).filter(|(_, part)| *part > 0).collect();
    if !coloured {
        let most = parts.iter().max_by_key(|(_, part)| *part).and_then(|(version, _)| *version);
        return (Style::Plain, most.map_or(' ', pattern));
    }
    match parts.as_slice() {
        [] | [(None, _), ..] => (Style::Plain, ' '),
        [(Some(version), _)] => (Style::Fill(*version, None), '█'),
        [(Some(version), part), rest @ ..] => {
            let behind = rest.iter().max_by_key(|(_, part)| *part).and_then(|(version, _)| *version);
            let eighths = usize::try_from(part.saturating_sub(1)).unwrap_or_default();
            (Style::Fill(*version, behind), EIGHTHS[eighths.min(EIGHTHS.len() - 1)])
        }
    }
}

/// What a version looks like where there are no colours.
pub(super) fn pattern(version: Version) -> char {
    match version {
        Version::Old => '░',
        Version::New => '█',
        Version::Broken => '▚',
        Version::Faulty => '▒',
    }
}

/// `1234567` as `1,234,567`.
pub(in crate::ctl::demo) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::demo::timeline::{Loss, Outcome};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// `count` answers of a version in each 100 ms of a span.
    fn answer(timeline: &mut Timeline, version: Version, count: u64, from: u64, to: u64) {
        for at in (from..to).step_by(100) {
            for _ in 0..count {
                timeline.record(ms(at), ms(5), Outcome::Answered(version));
            }
        }
    }

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.render(200, false)).collect()
    }

    #[test]
    fn the_picture_shows_who_answered_when() {
        let mut timeline = Timeline::default();
        answer(&mut timeline, Version::Old, 40, 0, 800);
        answer(&mut timeline, Version::Old, 20, 800, 1200);
        answer(&mut timeline, Version::New, 20, 800, 1200);
        answer(&mut timeline, Version::New, 40, 1200, 1700);
        timeline.record(ms(1500), ms(5), Outcome::Lost(Loss::Reset));
        let chart = Chart::new(&timeline, ms(1750), GUTTER + 170);
        let lines = text(&chart.lines(4, &[(ms(700), '1'), (ms(750), '2')], false));
        let rest = "─".repeat(170 - 16);
        assert_eq!(
            lines[..5],
            [
                "   400/s│░░░░░░░░█████████".to_owned(),
                "        │░░░░░░░░█████████".to_owned(),
                "        │░░░░░░░░░░░░█████".to_owned(),
                "        │░░░░░░░░░░░░█████".to_owned(),
                format!("        └───────12──────✗{rest}"),
            ]
        );
        assert!(lines[5].starts_with("         0 s       1 s       2 s "), "{}", lines[5]);
    }

    #[test]
    fn whatever_the_width_the_whole_story_fits() {
        let mut timeline = Timeline::default();
        answer(&mut timeline, Version::Old, 1, 0, 40_000);
        for width in [0, 1, 9, 10, 20, 40, 79, 80, 120, 500] {
            for seconds in [0, 1, 16, 40, 4000] {
                let now = Duration::from_secs(seconds);
                let chart = Chart::new(&timeline, now, width);
                let room = width.saturating_sub(GUTTER).max(1);
                assert!(chart.columns.len() <= room, "{width} {seconds}");
                for line in text(&chart.lines(3, &[(now, '9'), (now, '9')], true)) {
                    assert!(line.chars().count() <= GUTTER + room, "{width} {seconds}: {line}");
                }
            }
        }
    }

    #[test]
    fn a_cell_has_the_colours_of_the_two_versions_that_have_most_of_it() {
        use Version::{Faulty, New, Old};
        let fill = |front, back| Style::Fill(front, back);
        for (bounds, expected) in [
            ([0, 0, 0, 0, 0], (Style::Plain, ' ')),
            ([0, 8, 8, 8, 8], (fill(Old, None), '█')),
            ([0, 0, 9, 9, 9], (fill(New, None), '█')),
            ([0, 3, 3, 3, 3], (fill(Old, None), '▃')),
            ([0, 3, 8, 8, 8], (fill(Old, Some(New)), '▃')),
            ([0, 1, 4, 4, 8], (fill(Old, Some(Faulty)), '▁')),
            ([0, 0, 7, 7, 7], (fill(New, None), '▇')),
        ] {
            assert_eq!(cell(&bounds, 0, true), expected, "{bounds:?}");
        }
        assert_eq!(cell(&[0, 8, 12, 12, 12], 8, true), (fill(New, None), '▄'));
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), text);
        }
    }
}
