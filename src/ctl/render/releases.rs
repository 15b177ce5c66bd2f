//! `supctl releases`: a table, a line for each release.

use super::size::size;
use super::table::{Align, Cell, Column, draw};
use super::text::{Colour, Paint, clean};
use crate::codec::json::{ReleaseView, ReleasesView};
use crate::codec::span::coarse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const COLUMNS: [Column; 7] = [
    Column { heading: "UNIT", align: Align::Left, width_min: 5 },
    Column { heading: "RELEASE", align: Align::Left, width_min: 7 },
    Column { heading: "AGE", align: Align::Left, width_min: 5 },
    Column { heading: "SIZE", align: Align::Right, width_min: 8 },
    Column { heading: "FILES", align: Align::Right, width_min: 5 },
    Column { heading: "VERDICT", align: Align::Left, width_min: 7 },
    Column { heading: "NOTE", align: Align::Left, width_min: 0 },
];

/// The table, as of now.
pub(in crate::ctl) fn table(view: &ReleasesView, now: SystemTime, paint: Paint) -> Vec<String> {
    if view.releases.is_empty() {
        return vec!["No releases yet. Install one: supctl deploy UNIT LABEL SOURCE".to_owned()];
    }
    let rows: Vec<_> = view.releases.iter().map(|release| row(release, now)).collect();
    draw(&COLUMNS, &rows, paint)
}

fn row(release: &ReleaseView, now: SystemTime) -> [Cell; 7] {
    let installed = UNIX_EPOCH.checked_add(Duration::from_micros(release.installed_at_us));
    // A clock that was set back knows no age.
    let age = installed.and_then(|installed| now.duration_since(installed).ok()).map(coarse);
    let colour = match release.verdict.as_str() {
        "good" => Some(Colour::Good),
        "bad" => Some(Colour::Bad),
        _ => None,
    };
    let newest = release.newest.then(|| "swap takes it".to_owned());
    let held = release.held.as_deref().map(|held| clean(held).into_owned());
    let note: Vec<String> = newest.into_iter().chain(held).collect();
    [
        clean(&release.unit).as_ref().into(),
        clean(&release.label).as_ref().into(),
        age.unwrap_or_else(|| "-".to_owned()).into(),
        size(release.bytes).into(),
        release.files.to_string().into(),
        Cell { text: clean(&release.verdict).into_owned(), colour },
        note.join("; ").into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_a_line_that_says_what_holds_it() {
        let hour = 3_600_000_000;
        let release = |label: &str, age: u64, verdict: &str, newest, held: Option<&str>| ReleaseView {
            unit: "web".into(),
            label: label.into(),
            files: 3,
            bytes: 2_500_000,
            installed_at_us: 10 * hour - age * hour,
            verdict: verdict.into(),
            newest,
            held: held.map(Into::into),
            ..ReleaseView::default()
        };
        let releases = vec![
            release("1.4.2", 3, "good", true, Some("is retained: a rollback goes to it")),
            release("1.5.0\x1b[2J", 0, "bad", false, None),
        ];
        let view = ReleasesView { format: 1, releases };
        let now = UNIX_EPOCH + Duration::from_micros(10 * hour);
        let lines = table(&view, now, Paint(false));
        assert_eq!(lines.len(), 3);
        assert_eq!(
            lines[1],
            "web    1.4.2      3h       2.5 MB      3  good     \
             swap takes it; is retained: a rollback goes to it"
        );
        assert!(!lines[2].contains('\u{1b}') && lines[2].ends_with("bad"), "{:?}", lines[2]);
        assert!(table(&ReleasesView::default(), now, Paint(false))[0].contains("supctl deploy"));
    }
}
