//! What a person sees: on a terminal a picture that lives, elsewhere plain lines.

pub(super) mod chart;
mod line;
pub(super) mod live;
pub(super) mod output;
pub(super) mod plain;

use super::act::{Act, millis, seconds};
use super::timeline::Timeline;
use super::version::Version;
use chart::{Chart, pattern, thousands};
use line::{Line, Style};
use std::time::Duration;

/// Lines that the chart has at most and at least.
const CHART_MOST: usize = 10;
const CHART_LEAST: usize = 3;

/// Lines beside the chart's cells and the acts: the heading, an empty one, axis and time, an empty
/// one, the counts, an empty one.
const BESIDE: usize = 7;

/// Everything that is drawn, at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The first line.
    pub(super) heading: &'a str,
    pub(super) timeline: &'a Timeline,
    /// On the clock of the load.
    pub(super) now: Duration,
    pub(super) acts: &'a [Act],
    /// Versions that were brought in so far, whether or not they answered.
    pub(super) versions: &'a [Version],
}

/// Room on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

impl Scene<'_> {
    /// The picture, no larger than the room.
    pub(super) fn draw(&self, room: Room, coloured: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let mut heading = Line::default();
        heading.push(Style::Strong, "supctl demo").push(Style::Plain, format!("  {}", self.heading));
        lines.push(heading);
        lines.push(Line::default());
        let height = room.rows.saturating_sub(BESIDE + self.acts.len() + 1).clamp(CHART_LEAST, CHART_MOST);
        let marks: Vec<(Duration, char)> = self.acts.iter().map(|act| (act.began, act.mark)).collect();
        let chart = Chart::new(self.timeline, self.now, room.columns);
        lines.extend(chart.lines(height, &marks, coloured));
        lines.push(Line::default());
        lines.push(self.counts(coloured));
        lines.push(Line::default());
        lines.extend(self.acts.iter().map(|act| self.act(act)));
        // The last line stays free for the cursor. Where there is no room, the oldest lines go.
        let over = lines.len().saturating_sub(room.rows.saturating_sub(1));
        lines.drain(..over);
        lines.iter().map(|line| line.render(room.columns, coloured)).collect()
    }

    fn counts(&self, coloured: bool) -> Line {
        let total = self.timeline.total();
        let mut line = Line::default();
        for version in self.versions {
            let (style, sample) = match coloured {
                true => (Style::Fill(*version, None), '█'),
                false => (Style::Plain, pattern(*version)),
            };
            let count = thousands(total.answered[version.index()]);
            line.push(style, sample).push(Style::Plain, format!(" {version} {count}   "));
        }
        let lost = if total.lost == 0 { Style::Good } else { Style::Bad };
        line.push(lost, format!("lost {}", thousands(total.lost)));
        if self.timeline.idle_closes() > 0 {
            line.push(Style::Faint, format!("   idle closes {}", self.timeline.idle_closes()));
        }
        if let Some(slow) = self.timeline.quantile(990) {
            line.push(Style::Faint, format!("   p99 {}", millis(slow)));
        }
        line
    }

    fn act(&self, act: &Act) -> Line {
        let mut line = Line::default();
        line.push(Style::Strong, act.mark).push(Style::Faint, format!("{:>8}", seconds(act.began)));
        line.push(Style::Strong, format!("  {:<20}", act.command));
        line.push(Style::Plain, format!(" {:<3}  ", act.about));
        match act.end {
            None => {
                let since = seconds(self.now.saturating_sub(act.began));
                line.push(Style::Plain, &act.news).push(Style::Faint, format!("  {since}"))
            }
            Some(end) if end.as_told => line.push(Style::Good, "✓ ").push(Style::Plain, &act.news),
            Some(_) => line.push(Style::Bad, "✗ ").push(Style::Plain, &act.news),
        };
        line
    }
}

#[cfg(test)]
mod tests {
    use super::super::act::End;
    use super::super::timeline::{Loss, Outcome};
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn timeline() -> Timeline {
        let mut timeline = Timeline::default();
        for at in 0..2000 {
            let version = if at < 1000 { Version::Old } else { Version::New };
            timeline.record(ms(at), ms(5), Outcome::Answered(version));
        }
        timeline.record(ms(1500), ms(5), Outcome::Lost(Loss::Refused));
        timeline
    }

    fn acts() -> Vec<Act> {
        let first = Act::new('0', ms(0), "supd starts web", "1.0");
        let second = Act::new('1', ms(1000), "supctl swap web", "2.0");
        let end = Some(End { at: ms(900), as_told: true });
        vec![Act { news: "serves".into(), end, ..first }, Act { news: "waits for ready".into(), ..second }]
    }

    #[test]
    fn the_picture_says_it_all_without_colours() {
        let (timeline, acts) = (timeline(), acts());
        let scene = Scene {
            heading: "http://127.0.0.1:1",
            timeline: &timeline,
            now: ms(2050),
            acts: &acts,
            versions: &[Version::Old, Version::New],
        };
        let lines = scene.draw(Room { columns: 80, rows: 13 }, false);
        assert_eq!(
            lines,
            [
                "supctl demo  http://127.0.0.1:1",
                "",
                " 1,000/s│░░░░░█████",
                "        │░░░░░█████",
                "        │░░░░░█████",
                "        └0────1─✗───────────────────────────────────────────────────────────────",
                "         0 s       2 s       4 s       6 s       8 s       10 s      12 s",
                "",
                "░ 1.0 1,000   █ 2.0 1,000   lost 1   p99 5.1 ms",
                "",
                "0   0.0 s  supd starts web      1.0  ✓ serves",
                "1   1.0 s  supctl swap web      2.0  waits for ready  1.0 s",
            ]
            .map(|line| line.to_owned())
        );
    }

    #[test]
    fn it_is_never_larger_than_the_room() {
        let (timeline, acts) = (timeline(), acts());
        let versions = Version::ALL;
        let scene =
            Scene { heading: "x", timeline: &timeline, now: ms(2000), acts: &acts, versions: &versions };
        for columns in [0, 1, 5, 10, 40, 80, 200] {
            for rows in [0, 1, 2, 5, 10, 13, 24, 60] {
                let lines = scene.draw(Room { columns, rows }, false);
                assert!(lines.len() <= rows.saturating_sub(1), "{columns} {rows}: {lines:#?}");
                assert!(lines.iter().all(|line| line.chars().count() <= columns), "{columns} {rows}");
            }
        }
    }
}
