//! The screen of `supctl top`, drawn: the same state gives the same cells.

use super::screen::{Mode, Screen, connections};
use crate::codec::json::{GenerationView, HistoryEntry, UnitView};
use crate::codec::span::fine;
use crate::ctl::render::size::size;
use crate::ctl::render::text::clean;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};
use std::time::Duration;

/// Less than this cannot be read.
const COLUMNS_MIN: u16 = 60;
const LINES_MIN: u16 = 16;

const HELP: &str = "\
up, k  down, j   select a unit
p                promote: go on with its swap
a                abort its swap
r                roll back to what served before
                 each of them asks first: y does it
q, Esc, Ctrl-C   end; what was asked for goes on

CONN is open connections, QUEUE what waits to be
accepted, - what is not known.";

/// Draws all of it.
pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < LINES_MIN {
        let text = format!(
            "supctl top needs {COLUMNS_MIN}x{LINES_MIN}, and this is {}x{}: make it larger, or q",
            area.width, area.height
        );
        frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
        return;
    }
    let generations = screen.unit().map_or(0, |unit| unit.generations.len());
    let generations = u16::try_from(generations).unwrap_or(u16::MAX).clamp(1, 4) + 2;
    let entries = if area.height >= 22 { 5 } else { 0 };
    let [head, units, its, graph, last, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(4),
        Constraint::Length(generations),
        Constraint::Length(4),
        Constraint::Length(entries),
        Constraint::Length(1),
    ])
    .areas(area);
    header(screen, frame, head);
    table(screen, frame, units);
    of_unit(screen, frame, its);
    sparkline(screen, frame, graph);
    history(screen, frame, last);
    footer(screen, frame, foot);
    if screen.mode == Mode::Help {
        let [_, middle, _] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(56), Constraint::Fill(1)])
                .areas(area);
        let [_, middle, _] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(12), Constraint::Fill(1)])
                .areas(middle);
        frame.render_widget(Clear, middle);
        frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title("Keys")), middle);
    }
}

/// A colour where there may be any.
fn paint(screen: &Screen, colour: Color) -> Style {
    if screen.colours { Style::default().fg(colour) } else { Style::default() }
}

fn state_style(screen: &Screen, state: &str) -> Style {
    match state {
        "active" => paint(screen, Color::Green),
        "down" | "quarantine" | "failed" | "holding" => paint(screen, Color::Red),
        "stopped" | "waiting" | "standby" => Style::default(),
        _ => paint(screen, Color::Yellow),
    }
}

fn header(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let line = match &screen.gone {
        Some(why) => Line::styled(
            format!("no supd answers, trying again: {}", clean(why)),
            paint(screen, Color::Red).add_modifier(Modifier::BOLD),
        ),
        None => {
            let up = screen.status.units.iter().filter(|unit| unit.health == "up").count();
            let notes: String = screen.status.notes.iter().map(|note| format!("; {}", clean(note))).collect();
            let units = match screen.status.units.len() {
                1 => "1 unit".to_owned(),
                count => format!("{count} units"),
            };
            Line::from(format!("supd {}: {units}, {up} up{notes}", clean(&screen.status.version)))
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

/// The one that serves, else the newest.
fn shown(unit: &UnitView) -> Option<&GenerationView> {
    let active = unit.generations.iter().find(|one| Some(one.generation) == unit.active);
    active.or_else(|| unit.generations.last())
}

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn share(generation: &GenerationView) -> String {
    generation.share.map_or_else(|| "-".to_owned(), |share| format!("{share}%"))
}

fn release(generation: &GenerationView) -> String {
    let label = generation.release.as_deref().map(clean).unwrap_or_default();
    format!("{} {label}", generation.generation)
}

fn uptime(generation: &GenerationView) -> String {
    fine(Duration::from_secs(generation.uptime_ms / 1000))
}

fn table(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let head = Row::new(["UNIT", "STATE", "GEN", "SHARE", "WORK", "CONN", "QUEUE", "UP"])
        .style(Style::default().add_modifier(Modifier::BOLD));
    let rows = screen.status.units.iter().map(|unit| {
        let queue = unit.listeners.iter().filter_map(|listener| listener.queue).reduce(u64::saturating_add);
        let one = shown(unit);
        let of = |text: fn(&GenerationView) -> String| one.map_or_else(|| "-".to_owned(), text);
        Row::new([
            Span::raw(clean(&unit.unit).into_owned()),
            Span::styled(clean(&unit.state).into_owned(), state_style(screen, &unit.state)),
            Span::raw(of(release)),
            Span::raw(of(share)),
            Span::raw(of(|one| one.workers.len().to_string())),
            Span::raw(known(connections(unit))),
            Span::raw(known(queue)),
            Span::raw(of(uptime)),
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(10),
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(9),
    ];
    let table = Table::new(rows, widths)
        .header(head)
        .row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(screen.place());
    frame.render_stateful_widget(table, area, &mut state);
    if screen.status.units.is_empty() {
        let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
        let text = "No units yet. Write one, then: supctl check FILE; supctl daemon-reload";
        frame.render_widget(Paragraph::new(text), below);
    }
}

fn of_unit(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let Some(unit) = screen.unit() else { return };
    let title = format!("Generations of {}", clean(&unit.unit));
    let head = ["GEN", "STATE", "SHARE", "CONN", "OLDEST", "MEMORY", "UP", "WORKERS SAY"];
    let rows = unit.generations.iter().map(|one| {
        let oldest =
            one.oldest_ms.map_or_else(|| "-".to_owned(), |age| fine(Duration::from_secs(age / 1000)));
        Row::new([
            Span::raw(release(one)),
            Span::styled(clean(&one.state).into_owned(), state_style(screen, &one.state)),
            Span::raw(share(one)),
            Span::raw(known(one.connections)),
            Span::raw(oldest),
            Span::raw(one.memory_bytes.map_or_else(|| "-".to_owned(), size)),
            Span::raw(uptime(one)),
            Span::raw(clean(&one.status_text).into_owned()),
        ])
    });
    let widths = [
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Fill(1),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::default().add_modifier(Modifier::BOLD)))
        .block(Block::new().borders(Borders::TOP).title(title));
    frame.render_widget(table, area);
}

fn sparkline(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let samples = screen.samples();
    let most = samples.iter().max().copied().unwrap_or(0);
    let now = samples.last().copied().unwrap_or(0);
    let title = format!("Open connections, a look a second: {now}, at most {most}");
    // The last look is at the right end.
    let from = samples.len().saturating_sub(usize::from(area.width));
    let graph = Sparkline::default()
        .block(Block::new().borders(Borders::TOP).title(title))
        .style(paint(screen, Color::Cyan))
        .data(&samples[from..]);
    frame.render_widget(graph, area);
}

fn history(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.height.saturating_sub(1));
    let from = screen.history.len().saturating_sub(room);
    let lines: Vec<Line<'_>> = screen.history[from..].iter().map(entry).collect();
    let block = Block::new().borders(Borders::TOP).title("What happened last");
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn entry(entry: &HistoryEntry) -> Line<'static> {
    let words = [
        entry.unit.as_deref(),
        Some(entry.what.as_str()),
        entry.kind.as_deref(),
        entry.result.as_deref(),
        entry.cause.as_deref(),
    ];
    let words: Vec<String> = words.into_iter().flatten().map(|word| clean(word).into_owned()).collect();
    Line::from(words.join("  "))
}

fn footer(screen: &Screen, frame: &mut Frame<'_>, area: Rect) {
    let line = match (&screen.mode, &screen.asked, &screen.said) {
        (Mode::Confirm(act, unit), ..) => Line::styled(
            format!("{} {}? y does it, any other key does not", act.word(), clean(unit)),
            Style::default().add_modifier(Modifier::BOLD),
        ),
        (_, Some(asked), _) => Line::from(format!("{}: supd is asked ...", clean(asked))),
        (_, None, Some((done, text))) => Line::styled(
            clean(text).into_owned(),
            paint(screen, if *done { Color::Green } else { Color::Red }),
        ),
        (_, None, None) => Line::from("p promote  a abort  r rollback  j/k select  ? help  q quit"),
    };
    frame.render_widget(Paragraph::new(line), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::{ListenerView, StatusView};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    fn generation(number: u64, state: &str, share: f64) -> GenerationView {
        GenerationView {
            generation: number,
            release: Some(format!("1.{number}")),
            state: state.to_owned(),
            share: Some(share),
            connections: Some(number * 10),
            uptime_ms: 65_000,
            status_text: "\x1b[2Jfine".into(),
            ..GenerationView::default()
        }
    }

    fn screen() -> Screen {
        let listener = ListenerView { queue: Some(7), ..ListenerView::default() };
        let web = UnitView {
            unit: "web".into(),
            state: "canary".into(),
            health: "up".into(),
            active: Some(1),
            listeners: vec![listener],
            generations: vec![generation(1, "active", 75.0), generation(2, "canary", 25.0)],
            ..UnitView::default()
        };
        let mut screen = Screen::new(true, Some("web"));
        screen.status(StatusView { version: "0.1.0".into(), units: vec![web], ..StatusView::default() });
        screen.history(vec![HistoryEntry {
            unit: Some("web".into()),
            what: "began".into(),
            cause: Some("evil\u{202e}\x07".into()),
            ..HistoryEntry::default()
        }]);
        screen
    }

    fn drawn(screen: &Screen, columns: u16, lines: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
        terminal.draw(|frame| draw(screen, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y: u16| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..lines).map(|y| line(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn what_a_screen_of_80_by_24_has() {
        let lines = drawn(&screen(), 80, 24);
        let text = lines.join("\n");
        assert_eq!(lines[0], "supd 0.1.0: 1 unit, 1 up", "{text}");
        assert!(lines[1].starts_with("UNIT") && lines[1].contains("QUEUE"), "{text}");
        let row: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(row, ["web", "canary", "1", "1.1", "75%", "0", "30", "7", "65s"], "{text}");
        assert!(
            text.contains("Generations of web") && text.contains("2 1.2        canary     25%"),
            "{text}"
        );
        assert!(text.contains("Open connections, a look a second: 30, at most 30"), "{text}");
        assert!(text.contains("web  began"), "{text}");
        assert!(lines[23].starts_with("p promote"), "{text}");
    }

    #[test]
    fn nothing_that_others_wrote_moves_the_cursor() {
        let text = drawn(&screen(), 120, 30).join("\n");
        assert!(text.contains("\u{fffd}[2Jfine") && !text.contains('\x1b'), "{text}");
        assert!(text.contains("evil\u{fffd}\u{fffd}"), "{text}");
    }

    #[test]
    fn a_screen_that_is_too_small_says_so_and_none_is_a_panic() {
        assert!(drawn(&screen(), 40, 10).join(" ").contains("needs 60x16"));
        for (columns, lines) in [(1, 1), (60, 16), (80, 24), (300, 100)] {
            for mode in [Mode::Look, Mode::Help] {
                let mut screen = screen();
                screen.mode = mode;
                drawn(&screen, columns, lines);
                drawn(&Screen::new(false, None), columns, lines);
            }
        }
    }

    #[test]
    fn what_is_asked_answered_and_gone_is_said() {
        let mut screen = screen();
        screen.key(KeyEvent::new(KeyCode::Char('p'), KeyModifiers::NONE));
        assert!(drawn(&screen, 80, 24)[23].starts_with("promote web? y does it"));
        screen.key(KeyEvent::new(KeyCode::Char('y'), KeyModifiers::NONE));
        assert_eq!(drawn(&screen, 80, 24)[23], "promote web: supd is asked ...");
        screen.said(true, "generation 2 is active".into());
        assert_eq!(drawn(&screen, 80, 24)[23], "generation 2 is active");
        screen.gone("connection refused".into());
        let lines = drawn(&screen, 80, 24);
        assert_eq!(lines[0], "no supd answers, trying again: connection refused");
        assert!(lines[2].starts_with("web"), "what was known stays");
    }

    #[test]
    fn without_colours_there_is_none() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let mut screen = screen();
        screen.colours = false;
        terminal.draw(|frame| draw(&screen, frame)).unwrap();
        assert!(terminal.backend().buffer().content.iter().all(|cell| cell.fg == Color::Reset));
    }
}
