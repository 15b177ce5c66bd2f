//! The effective settings of a unit, key by key.

use super::FORMAT;
use crate::codec::unitfile::{Origin, Table};
use serde::{Deserialize, Serialize};

/// What `Cat` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CatView {
    /// [`FORMAT`]
    pub format: u32,
    /// The unit's name.
    pub unit: String,
    /// Whose pinned settings these are; null: what the files say now.
    pub generation: Option<u64>,
    /// The generation that the files were compared with: the one that receives the traffic.
    pub compared_with: Option<u64>,
    /// Every key that has a value, in the order of a unit file.
    pub settings: Vec<SettingView>,
}

/// One key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SettingView {
    /// `Unit`, `Socket.NAME`, `Service` or `Swap`.
    pub table: String,
    /// The key; `Environment.NAME` for a variable.
    pub key: String,
    /// The value as TOML; null where only the generation compared with has one.
    pub value: Option<String>,
    /// The file that sets it; null where none does.
    pub file: Option<String>,
    /// The line in it, from 1.
    pub line: Option<u32>,
    /// Whether `running` is another value, or none.
    pub differs: bool,
    /// The value of the generation compared with.
    pub running: Option<String>,
}

impl CatView {
    /// What was pinned for a generation.
    #[must_use]
    pub fn pinned(unit: &str, generation: u64, tables: Vec<Table>) -> Self {
        let settings = flat(tables).collect();
        let generation = Some(generation);
        Self { format: FORMAT, unit: unit.to_owned(), generation, compared_with: None, settings }
    }

    /// What the files say, beside what a generation runs with.
    #[must_use]
    pub fn on_disk(unit: &str, tables: Vec<Table>, running: Option<(u64, Vec<Table>)>) -> Self {
        let mut view = Self { format: FORMAT, unit: unit.to_owned(), ..Self::default() };
        view.settings = flat(tables).collect();
        if let Some((generation, tables)) = running {
            view.compared_with = Some(generation);
            compare(&mut view.settings, flat(tables).collect());
        }
        view
    }

    /// Whether any key has another value than what runs.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.settings.iter().any(|setting| setting.differs)
    }
}

fn flat(tables: Vec<Table>) -> impl Iterator<Item = SettingView> {
    tables.into_iter().flat_map(|table| {
        let name = table.name;
        table.rows.into_iter().map(move |row| {
            let (file, line) = match row.origin {
                Some(Origin::File { file, line, .. }) => (Some(file.display().to_string()), Some(line)),
                Some(Origin::Default) | None => (None, None),
            };
            let value = Some(row.value);
            SettingView {
                table: name.clone(),
                key: row.key,
                value,
                file,
                line,
                differs: false,
                running: None,
            }
        })
    })
}

/// Sets `running` everywhere, and adds the keys that only the running one has: each behind the last
/// one of its table.
fn compare(settings: &mut Vec<SettingView>, running: Vec<SettingView>) {
    let key = |setting: &SettingView| (setting.table.clone(), setting.key.clone());
    let mut others: std::collections::BTreeMap<_, _> =
        running.iter().map(|setting| (key(setting), setting.value.clone())).collect();
    for setting in settings.iter_mut() {
        setting.running = others.remove(&key(setting)).flatten();
        setting.differs = setting.running != setting.value;
    }
    for gone in running {
        if others.remove(&key(&gone)).is_none() {
            continue;
        }
        let end = settings.iter().rposition(|setting| setting.table == gone.table);
        let at = end.map_or(settings.len(), |last| last + 1);
        let setting = SettingView { differs: true, running: gone.value, ..SettingView::default() };
        settings.insert(at, SettingView { table: gone.table, key: gone.key, ..setting });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::unitfile::{Source, Sources, parse, rows};
    use crate::model::UnitName;

    fn tables(text: &str) -> Vec<Table> {
        let main = Source::new("web.unit", text);
        let unit = UnitName::new("web").unwrap();
        let loaded = parse(&Sources { unit, defaults: None, main, drop_ins: Vec::new() }).unwrap();
        rows(&loaded.settings, Some(&loaded.origins))
    }

    #[test]
    fn what_differs_is_marked_on_either_side() {
        let now = "[[Socket]]\nListenStream = 81\n[Service]\nExecStart = \"/bin/x\"\nUser = \"web\"\n\
                   Environment = { A = \"1\", B = \"2\" }\n";
        let before = "[[Socket]]\nListenStream = 80\n[Service]\nExecStart = \"/bin/x\"\nUser = \"web\"\nNice = 5\n\
                      Environment = { A = \"1\" }\n[[Socket]]\nName = \"old\"\nListenStream = 82\n";
        let before = before.replacen("[[Socket]]\n", "[[Socket]]\nName = \"web\"\n", 1);
        let view = CatView::on_disk("web", tables(now), Some((3, tables(&before))));
        assert_eq!((view.compared_with, view.differs()), (Some(3), true));
        let differing: Vec<_> = view.settings.iter().filter(|setting| setting.differs).collect();
        let told = |setting: &SettingView| {
            let show = |value: &Option<String>| value.clone().unwrap_or_default();
            format!(
                "{}.{}: {} | {}",
                setting.table,
                setting.key,
                show(&setting.value),
                show(&setting.running)
            )
        };
        let told: Vec<String> = differing.iter().map(|setting| told(setting)).collect();
        assert_eq!(
            told[..3],
            [
                "Socket.web.ListenStream: \"[::]:81\" | \"[::]:80\"",
                "Service.Environment.B: \"2\" | ",
                "Service.Nice:  | 5",
            ]
        );
        assert!(told[3..].iter().all(|line| line.starts_with("Socket.old.")), "{told:?}");
        let port = differing[0];
        assert_eq!((port.file.as_deref(), port.line), (Some("web.unit"), Some(2)));

        let same = CatView::on_disk("web", tables(now), Some((3, tables(now))));
        assert!(!same.differs());
        let alone = CatView::on_disk("web", tables(now), None);
        assert!(!alone.differs() && alone.settings.iter().all(|setting| setting.running.is_none()));
    }
}
