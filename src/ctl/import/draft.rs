//! A unit file while it is made.

use super::remark::Place;
use crate::codec::unitfile::keys_of;

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) key: String,
    /// As TOML.
    pub(super) value: String,
    /// What stands behind it.
    pub(super) comment: String,
    /// Where it comes from.
    pub(super) from: Option<Place>,
    /// It is written as a comment.
    pub(super) off: bool,
}

/// One table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub(super) Vec<Row>);

impl Table {
    pub(super) fn set(&mut self, key: &str, value: impl Into<String>, from: Option<&Place>) {
        let row = Row {
            key: key.to_owned(),
            value: value.into(),
            comment: String::new(),
            from: from.cloned(),
            off: false,
        };
        match self.0.iter_mut().find(|row| row.key == key) {
            Some(known) => *known = row,
            None => self.0.push(row),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|row| row.key == key)
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.0.retain(|row| row.key != key);
    }

    pub(super) fn comment(&mut self, key: &str, comment: impl Into<String>) {
        if let Some(row) = self.0.iter_mut().find(|row| row.key == key) {
            row.comment = comment.into();
        }
    }
}

/// The whole of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    /// Comments at the head.
    pub(super) head: Vec<String>,
    pub(super) unit: Table,
    pub(super) sockets: Vec<Table>,
    /// Lines in the place of sockets, written as comments: what is to be filled in.
    pub(super) missing: Vec<String>,
    pub(super) service: Table,
    pub(super) swap: Table,
}

/// Which row of a draft stands on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Unit(usize),
    Socket(usize, usize),
    Service(usize),
    Swap(usize),
}

impl Draft {
    pub(super) fn row(&mut self, at: At) -> Option<&mut Row> {
        match at {
            At::Unit(row) => self.unit.0.get_mut(row),
            At::Socket(socket, row) => self.sockets.get_mut(socket)?.0.get_mut(row),
            At::Service(row) => self.service.0.get_mut(row),
            At::Swap(row) => self.swap.0.get_mut(row),
        }
    }

    /// Puts the keys of each table into the order in which the manual has them.
    pub(super) fn sort(&mut self) {
        let sort = |table: &mut Table, name: &str| {
            let order = |row: &Row| {
                let key = row.key.split('.').next().unwrap_or_default();
                keys_of(name).iter().position(|known| *known == key)
            };
            table.0.sort_by_key(order);
        };
        sort(&mut self.unit, "Unit");
        self.sockets.iter_mut().for_each(|socket| sort(socket, "Socket"));
        sort(&mut self.service, "Service");
        sort(&mut self.swap, "Swap");
    }

    /// The text, and what stands on each of its lines, from line 1 on.
    pub(super) fn write(&self) -> (String, Vec<Option<At>>) {
        let mut page = Page::default();
        for line in &self.head {
            page.line(&comment(line), None);
        }
        page.table("[Unit]", &self.unit, At::Unit);
        for (index, socket) in self.sockets.iter().enumerate() {
            page.table("[[Socket]]", socket, |row| At::Socket(index, row));
        }
        if !self.missing.is_empty() {
            page.gap();
            for line in &self.missing {
                page.line(&comment(line), None);
            }
        }
        page.table("[Service]", &self.service, At::Service);
        page.table("[Swap]", &self.swap, At::Swap);
        (page.text, page.lines)
    }
}

/// A comment may hold anything but the end of its line and what TOML forbids there.
fn comment(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    format!("# {}", text.chars().map(plain).collect::<String>()).trim_end().to_owned()
}

#[derive(Default)]
struct Page {
    text: String,
    lines: Vec<Option<At>>,
}

impl Page {
    fn line(&mut self, text: &str, at: Option<At>) {
        self.text.push_str(text);
        self.text.push('\n');
        self.lines.push(at);
    }

    fn gap(&mut self) {
        if !self.text.is_empty() {
            self.line("", None);
        }
    }

    fn table(&mut self, header: &str, table: &Table, at: impl Fn(usize) -> At) {
        if table.0.is_empty() {
            return;
        }
        self.gap();
        let all_off = table.0.iter().all(|row| row.off);
        self.line(&if all_off { comment(header) } else { header.to_owned() }, None);
        for (index, row) in table.0.iter().enumerate() {
            let behind = match row.comment.as_str() {
                "" => String::new(),
                text => format!("  {}", comment(text)),
            };
            let text = format!("{} = {}{behind}", row.key, row.value);
            self.line(&if row.off { comment(&text) } else { text }, Some(at(index)));
        }
    }
}
