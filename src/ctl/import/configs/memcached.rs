//! memcached.conf of Debian: options, one a line, that a script gives to memcached.

use super::{AnyHost, Reader, lines, words};
use crate::ctl::import::ports::{of_options, of_texts};
use crate::ctl::import::programs;
use std::path::Path;

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let Some(text) = reader.text(path) else { return };
    let Some(memcached) = programs::find("memcached") else { return };
    let options: Vec<String> = lines(path, &text).flat_map(|(_, line)| words(line)).collect();
    let mut said = of_options(&options, memcached.listens, AnyHost::Both, memcached.default);
    if said.binds.is_empty() {
        said = of_texts(memcached.default);
    }
    let place = (path.to_owned(), 0);
    reader.found.binds.extend(said.binds.into_iter().map(|bind| bind.at(&place)));
    for what in said.doubts {
        reader.doubt(&place, what);
    }
}
