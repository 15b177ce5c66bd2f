//! php-fpm.conf: `listen` of each pool.

use super::{AnyHost, Reader};
use crate::ctl::import::bind::{Bind, parse};
use crate::ctl::import::remark::Place;
use std::path::Path;

#[derive(Default)]
struct Pool {
    name: String,
    listen: Option<(String, Place)>,
    backlog: Option<String>,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<String>,
}

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let mut pool = Pool::default();
    file(reader, path, &mut pool);
    close(reader, pool);
}

fn file(reader: &mut Reader<'_>, path: &Path, pool: &mut Pool) {
    let Some(text) = reader.text(path) else { return };
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.starts_with([';', '#']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let next = Pool { name: name.to_owned(), ..Pool::default() };
            close(reader, std::mem::replace(pool, next));
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.split(" ;").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
        let value = value.replace("$pool", &pool.name);
        match key.trim() {
            "include" => {
                let base = path.parent().unwrap_or(path);
                reader.include(&value, base, |reader, path| file(reader, path, pool));
            }
            "listen" => pool.listen = Some((value, (path.to_owned(), number))),
            "listen.backlog" => pool.backlog = Some(value).filter(|value| !value.starts_with('-')),
            "listen.owner" => pool.owner = Some(value),
            "listen.group" => pool.group = Some(value),
            "listen.mode" => pool.mode = Some(value),
            _ => {}
        }
    }
}

fn close(reader: &mut Reader<'_>, pool: Pool) {
    let Some((text, place)) = pool.listen else { return };
    match parse(&text, None, AnyHost::Dual) {
        Ok(binds) => reader.found.binds.extend(binds.into_iter().map(|bind| {
            let path = bind.is_path();
            let bind = Bind { backlog: pool.backlog.clone(), ..bind.at(&place) };
            let mode = pool.mode.clone().unwrap_or("0660".to_owned());
            if path {
                Bind { mode: Some(mode), user: pool.owner.clone(), group: pool.group.clone(), ..bind }
            } else {
                bind
            }
        })),
        Err(why) => reader.doubt(&place, why),
    }
}
