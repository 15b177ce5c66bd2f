//! `supctl cat`

use super::act::{error_of, print_json};
use super::args;
use super::context::Context;
use super::failure::Failure;
use super::render::text::{Colour, Paint, clean};
use crate::codec::json::{CatView, SettingView};
use crate::codec::varlink::{Meta, Method};
use crate::model::{ExitStatus, Generation, UnitName};

/// Show a unit's effective settings, and where each comes from
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl cat web                  what the files say now, defaults filled in
  supctl cat web --generation 3   what generation 3 was launched with, and a rollback to it takes
  supctl --json cat web           for programs

What is printed can be read as a unit file. Behind a key that was changed on disk since the running
generation was launched stands what that one has. It is for those who may act on the unit: the
environment may hold secrets.")]
pub(super) struct Cat {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// What was pinned for this generation
    #[arg(long, value_name = "GEN", value_parser = args::generation)]
    generation: Option<Generation>,
}

impl Cat {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let unit = self.unit.to_string();
        let method = Method::Cat { unit: self.unit, generation: self.generation };
        let answer = context.client()?.ask(&method, &Meta::default(), None)?;
        if context.json {
            return print_json(context, &answer);
        }
        if let Some(error) = error_of(&answer) {
            return Err(Failure::from_error(&error, Some(&unit)));
        }
        let view: CatView = serde_json::from_str(answer.raw()).map_err(|error| {
            Failure::new(ExitStatus::Timeout, format!("supd's answer cannot be read: {error}"))
        })?;
        context.print(page(&view, context.paint))?;
        Ok(ExitStatus::Done)
    }
}

/// A unit file with a comment behind each key.
fn page(view: &CatView, paint: Paint) -> Vec<String> {
    let unit = clean(&view.unit);
    let heading = match (view.generation, view.compared_with) {
        (Some(generation), _) => format!("# {unit}: what generation {generation} was launched with"),
        (None, Some(generation)) if view.differs() => {
            format!("# {unit}: changed on disk since generation {generation}: supctl restart {unit}")
        }
        (None, Some(generation)) => {
            format!("# {unit}: as on disk, and as generation {generation} was launched")
        }
        (None, None) => format!("# {unit}: as on disk; nothing of it runs"),
    };
    let mut lines = vec![paint.apply(Colour::Strong, &heading).into_owned()];
    let mut table = None;
    for setting in &view.settings {
        if table != Some(&setting.table) {
            let name = &setting.table;
            let is_socket = name.starts_with("Socket.");
            let header = if is_socket { "[[Socket]]".to_owned() } else { format!("[{}]", clean(name)) };
            // A socket that only runs has no line of its own here, and so no table.
            let on_disk = view.settings.iter().any(|one| one.table == *name && one.value.is_some());
            let hash = if on_disk { "" } else { "# " };
            lines.extend([String::new(), format!("{hash}{header}")]);
            table = Some(&setting.table);
        }
        lines.push(line(setting, view, paint));
    }
    lines
}

fn line(setting: &SettingView, view: &CatView, paint: Paint) -> String {
    let key = clean(&setting.key);
    let running = match (setting.differs, view.compared_with) {
        (true, Some(generation)) => {
            let value =
                setting.running.as_deref().map_or("has none".into(), |value| format!("has {}", clean(value)));
            Some(format!("generation {generation} {value}"))
        }
        (_, _) => None,
    };
    let Some(value) = &setting.value else {
        let text = format!("# {key}: not on disk; {}", running.unwrap_or_default());
        return paint.apply(Colour::Moving, &text).into_owned();
    };
    let origin = match (&setting.file, setting.line, view.generation) {
        (Some(file), Some(line), _) => Some(format!("{}:{line}", clean(file))),
        (_, _, None) => Some("default".to_owned()),
        (_, _, Some(_)) => None,
    };
    let comment: Vec<String> = origin.into_iter().chain(running).collect();
    if comment.is_empty() {
        return format!("{key} = {}", clean(value));
    }
    let comment = format!("# {}", comment.join("; "));
    let colour = if setting.differs { Colour::Moving } else { Colour::Faint };
    format!("{key} = {}  {}", clean(value), paint.apply(colour, &comment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(table: &str, key: &str, value: Option<&str>) -> SettingView {
        let value = value.map(str::to_owned);
        SettingView { table: table.into(), key: key.into(), value, ..SettingView::default() }
    }

    #[test]
    fn each_key_says_where_it_is_from_and_what_runs_instead() {
        let view = CatView {
            unit: "web".into(),
            compared_with: Some(3),
            settings: vec![
                SettingView {
                    file: Some("/etc/web.unit\n".into()),
                    line: Some(7),
                    ..setting("Socket.http", "ListenStream", Some("\"[::]:80\""))
                },
                setting("Service", "Nice", Some("5")),
                SettingView {
                    differs: true,
                    running: Some("\"web\"".into()),
                    ..setting("Service", "User", Some("\"www\""))
                },
                SettingView { differs: true, ..setting("Service", "Environment.B", Some("\"1\"")) },
                SettingView { differs: true, running: Some("7".into()), ..setting("Service", "Gone", None) },
            ],
            ..CatView::default()
        };
        let expected = "\
# web: changed on disk since generation 3: supctl restart web

[[Socket]]
ListenStream = \"[::]:80\"  # /etc/web.unit:7

[Service]
Nice = 5  # default
User = \"www\"  # default; generation 3 has \"web\"
Environment.B = \"1\"  # default; generation 3 has none
# Gone: not on disk; generation 3 has 7";
        assert_eq!(page(&view, Paint(false)).join("\n"), expected);
        let pinned = CatView { generation: Some(2), compared_with: None, ..view };
        let told = page(&pinned, Paint(false));
        assert_eq!(told[0], "# web: what generation 2 was launched with");
        assert_eq!(told[6], "Nice = 5");
    }
}
