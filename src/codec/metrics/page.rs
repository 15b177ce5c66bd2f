//! Lines of the exposition format, by families.

use std::fmt::Write as _;

/// A page on the way.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    family: String,
    /// What stands before the first line of the family: a family without a line is left out.
    head: String,
}

impl Page {
    /// From here on lines are of this one. `help` is a sentence of ours, in one line.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.family = name.to_owned();
        self.head = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A line of the family.
    pub(super) fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: &str) {
        self.text.push_str(&std::mem::take(&mut self.head));
        let Self { text, family, .. } = self;
        text.push_str(family);
        text.push_str(suffix);
        // An empty label is as good as none.
        for (index, (name, of)) in labels.iter().filter(|(_, of)| !of.is_empty()).enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            escape(of, text);
            text.push('"');
        }
        if labels.iter().any(|(_, of)| !of.is_empty()) {
            text.push('}');
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {value}");
    }

    /// A family of one line, if it is known.
    pub(super) fn single(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        value: impl FnOnce() -> Option<String>,
    ) {
        self.family(name, kind, help);
        if let Some(value) = value() {
            self.line("", &[], &value);
        }
    }

    pub(super) fn text(self) -> String {
        self.text
    }
}

/// The value of a label: a backslash, a quote and a line's end cannot stand in it as they are.
fn escape(value: &str, text: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}
