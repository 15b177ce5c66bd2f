//! cupsd.conf: `Listen` and `Port`.

use super::{AnyHost, Reader, lines, word, words};
use std::path::Path;

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let Some(text) = reader.text(path) else { return };
    for (place, line) in lines(path, &text) {
        let words = words(line);
        let argument = word(&words, 1);
        if matches!(
            word(&words, 0).to_ascii_lowercase().as_str(),
            "listen" | "ssllisten" | "port" | "sslport"
        ) {
            for bind in reader.bind(argument, Some(631), AnyHost::Both, &place) {
                bind.mode = bind.is_path().then(|| "0666".to_owned());
            }
        }
    }
}
