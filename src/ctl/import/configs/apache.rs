//! apache2.conf: `Listen`, in files that others include, under modules that are loaded.

use super::{AnyHost, Reader, lines, word, words};
use std::path::{Path, PathBuf};

struct State {
    root: PathBuf,
    modules: Vec<String>,
    /// For each open `<IfModule>` whether it holds; for other containers, whether they always do.
    open: Vec<bool>,
}

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let root = path.parent().unwrap_or(path).to_owned();
    let mut state = State { root, modules: Vec::new(), open: Vec::new() };
    file(reader, path, &mut state);
}

fn file(reader: &mut Reader<'_>, path: &Path, state: &mut State) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        if line.starts_with("</") {
            state.open.pop();
            continue;
        }
        if let Some(container) = line.strip_prefix('<') {
            let words = words(container.trim_end_matches('>'));
            let argument = word(&words, 1);
            let holds = match words.first().map(|word| word.to_ascii_lowercase()).as_deref() {
                Some("ifmodule") => match argument.strip_prefix('!') {
                    Some(module) => !state.has(module),
                    None => state.has(argument),
                },
                _ => true,
            };
            state.open.push(holds);
            continue;
        }
        if state.open.contains(&false) {
            continue;
        }
        let words = words(line);
        let argument = word(&words, 1);
        match word(&words, 0).to_ascii_lowercase().as_str() {
            "listen" => {
                reader.bind(argument, None, AnyHost::Dual, &place);
            }
            "loadmodule" => state.modules.push(argument.to_owned()),
            "serverroot" => state.root = PathBuf::from(argument),
            "include" | "includeoptional" => {
                let root = state.root.clone();
                reader.include(argument, &root, |reader, path| file(reader, path, state));
            }
            _ => {}
        }
    }
}

impl State {
    /// By its name, or by that of its source file: `ssl_module`, `mod_ssl.c`.
    fn has(&self, module: &str) -> bool {
        let name = match module.strip_prefix("mod_").and_then(|name| name.strip_suffix(".c")) {
            Some(stem) => format!("{stem}_module"),
            None => module.to_owned(),
        };
        self.modules.contains(&name)
    }
}
