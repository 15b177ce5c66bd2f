//! The same as lines, one after the other: for pipes, files and terminals that only print.

use super::Scene;
use super::chart::thousands;
use super::output::{Closed, Output};
use crate::ctl::demo::act::{Act, seconds};
use crate::ctl::demo::timeline::{TICK, Timeline};
use std::time::Duration;

/// One line of counts for each of these.
const COUNT: Duration = Duration::from_secs(1);

/// Lines; remembers which were written.
#[derive(Debug)]
pub(in crate::ctl::demo) struct Plain {
    output: Output,
    acts: Vec<Act>,
    counted: Duration,
    begun: bool,
}

impl Plain {
    pub(in crate::ctl::demo) fn new(output: Output) -> Self {
        Self { output, acts: Vec::new(), counted: Duration::ZERO, begun: false }
    }

    /// Writes what is new in the scene.
    ///
    /// # Errors
    /// [`Closed`]
    pub(in crate::ctl::demo) fn draw(
        &mut self,
        scene: &Scene<'_>,
        ended: &dyn Fn() -> bool,
    ) -> Result<(), Closed> {
        let text: String = self.lines(scene).into_iter().map(|line| line + "\n").collect();
        self.output.write(&text, ended)
    }

    /// A line of its own.
    ///
    /// # Errors
    /// [`Closed`]
    pub(in crate::ctl::demo) fn say(&mut self, text: &str, ended: &dyn Fn() -> bool) -> Result<(), Closed> {
        self.output.write(&format!("{text}\n"), ended)
    }

    fn lines(&mut self, scene: &Scene<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            lines.push(format!("supctl demo  {}", scene.heading));
        }
        while scene.now >= self.counted + COUNT {
            let from = Timeline::tick_of(self.counted);
            let moment = scene.timeline.span(from, from + Timeline::tick_of(COUNT));
            self.counted += COUNT;
            let answered = scene.versions.iter().map(|version| (version, moment.answered[version.index()]));
            let answered: Vec<String> = answered
                .filter(|(_, count)| *count > 0)
                .map(|(version, count)| format!("{version} answered {}", thousands(count)))
                .collect();
            let answered = if answered.is_empty() { "nobody answered".into() } else { answered.join(", ") };
            lines.push(format!("{:>7}  {answered}, lost {}", seconds(self.counted), moment.lost));
        }
        for (place, act) in scene.acts.iter().enumerate() {
            let before = self.acts.get(place);
            if before.is_none() {
                lines.push(format!(
                    "{:>7}  ({}) {}  {}",
                    seconds(act.began),
                    act.mark,
                    act.command,
                    act.about
                ));
            }
            let news = before.is_none_or(|before| before.news != act.news || before.end != act.end);
            if news && !act.news.is_empty() {
                let verdict = match act.end {
                    None => "",
                    Some(end) if end.as_told => "as told: ",
                    Some(_) => "NOT as told: ",
                };
                let at = act.end.map_or(scene.now, |end| end.at);
                lines.push(format!("{:>7}  ({}) {verdict}{}", seconds(at), act.mark, act.news));
            }
        }
        self.acts = scene.acts.to_vec();
        lines
    }
}

const _: () = assert!(COUNT.as_millis() % TICK.as_millis() == 0, "a count has whole ticks");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::demo::act::End;
    use crate::ctl::demo::timeline::Outcome;
    use crate::ctl::demo::version::Version;
    use nix::unistd::pipe;

    #[test]
    fn each_piece_of_news_is_one_line_and_said_once() {
        let (_reader, writer) = pipe().unwrap();
        let mut plain = Plain::new(Output::new(writer));
        let ms = Duration::from_millis;
        let mut timeline = Timeline::default();
        for at in 0..2000 {
            timeline.record(ms(at), ms(5), Outcome::Answered(Version::Old));
        }
        let versions = [Version::Old, Version::New];
        let mut act = Act::new('1', ms(300), "supctl swap web", "2.0");
        let mut lines = |now: u64, act: &Act| {
            let acts = [act.clone()];
            plain.lines(&Scene {
                heading: "x",
                timeline: &timeline,
                now: ms(now),
                acts: &acts,
                versions: &versions,
            })
        };
        assert_eq!(lines(300, &act), ["supctl demo  x", "  0.3 s  (1) supctl swap web  2.0"]);
        act.news = "launched".into();
        assert_eq!(lines(1100, &act), ["  1.0 s  1.0 answered 1,000, lost 0", "  1.1 s  (1) launched"]);
        assert_eq!(lines(1900, &act), [""; 0]);
        act = Act { news: "committed".into(), end: Some(End { at: ms(2900), as_told: true }), ..act };
        assert_eq!(
            lines(3000, &act),
            [
                "  2.0 s  1.0 answered 1,000, lost 0",
                "  3.0 s  nobody answered, lost 0",
                "  2.9 s  (1) as told: committed"
            ]
        );
    }
}
