//! Faults of unit files, as compilers tell theirs: `file:line:column`.

use super::text::clean;
use crate::codec::json::FaultView;

/// Two lines for each fault at most: where and what, and what to do instead.
pub(in crate::ctl) fn lines(faults: &[FaultView]) -> Vec<String> {
    let mut lines = Vec::new();
    for fault in faults {
        let mut place = clean(&fault.file).into_owned();
        if fault.line > 0 {
            place += &format!(":{}:{}", fault.line, fault.column);
        }
        let key = if fault.key.is_empty() { String::new() } else { format!("{}: ", clean(&fault.key)) };
        let separator = if place.is_empty() { "" } else { ": " };
        lines.push(format!("{place}{separator}{key}{}", clean(&fault.what)));
        if !fault.remedy.is_empty() {
            lines.push(format!("  {}", clean(&fault.remedy)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_where_what_and_what_instead() {
        let fault = FaultView {
            file: "/etc/supd/units/web.unit".into(),
            line: 7,
            column: 12,
            key: "DrainSec".into(),
            what: "\"5x\" is no time".into(),
            remedy: "write \"5s\"".into(),
        };
        let whole =
            FaultView { file: "x.unit".into(), what: "it is a directory".into(), ..FaultView::default() };
        let bare = FaultView { what: "nothing is known".into(), ..FaultView::default() };
        assert_eq!(
            lines(&[fault, whole, bare]),
            [
                "/etc/supd/units/web.unit:7:12: DrainSec: \"5x\" is no time",
                "  write \"5s\"",
                "x.unit: it is a directory",
                "nothing is known",
            ]
        );
    }
}
