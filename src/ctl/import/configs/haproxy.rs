//! haproxy.cfg: `bind` of each frontend and listen.

use super::{AnyHost, Reader, lines, word, words};
use crate::ctl::import::remark::Place;
use std::path::Path;

const SECTIONS: [&str; 4] = ["global", "defaults", "backend", "peers"];

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let Some(text) = reader.text(path) else { return };
    let mut accepts = false;
    for (place, line) in lines(path, &text) {
        let words = words(line);
        match word(&words, 0) {
            "frontend" | "listen" => {
                accepts = true;
                // As before version 1.5: the address behind the name.
                if let Some(addresses) = words.get(2).filter(|word| word.contains(':')) {
                    bind(reader, addresses, &words[3..], &place);
                }
            }
            other if SECTIONS.contains(&other) => accepts = false,
            "bind" if accepts => {
                if let Some(addresses) = words.get(1) {
                    bind(reader, addresses, &words[2..], &place);
                }
            }
            _ => {}
        }
    }
}

fn bind(reader: &mut Reader<'_>, addresses: &str, options: &[String], place: &Place) {
    let value = |name: &str| {
        let at = options.iter().position(|option| option == name)?;
        options.get(at + 1).cloned()
    };
    for address in addresses.split(',') {
        if let Some((before, port)) = address.rsplit_once(':').filter(|(_, port)| port.contains('-')) {
            let what = format!("a range of ports: {before}:{port}");
            reader.doubt(place, what);
            continue;
        }
        let (address, datagram) = match address.split_once('@') {
            Some(("ipv4" | "ipv6" | "unix", rest)) => (rest.to_owned(), false),
            Some(("quic4" | "quic6" | "udp" | "udp4" | "udp6", rest)) => (rest.to_owned(), true),
            Some(("abns", name)) => {
                let what = format!("the abstract socket {name}");
                reader.doubt(place, what);
                continue;
            }
            _ => (address.to_owned(), false),
        };
        for bind in reader.bind(&address, None, AnyHost::V4, place) {
            bind.datagram = datagram;
            bind.v6only = options.iter().any(|option| option == "v6only");
            bind.backlog = value("backlog");
            if bind.is_path() {
                (bind.mode, bind.user, bind.group) = (value("mode"), value("user"), value("group"));
            }
        }
    }
}
