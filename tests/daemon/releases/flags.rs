//! Flags of the verbs for releases, each with what it changes.

use super::{Shop, text};
use crate::harness::{Output, Running};
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::rollback_from_and_stop", rollback_from_and_stop),
        test("releases::from_an_address_with_a_password", from_an_address_with_a_password),
        test("releases::deploy_at_max_generations", deploy_at_max_generations),
    ]
}

/// `--from` is for one generation alone; `--stop` keeps nothing of it.
fn rollback_from_and_stop() {
    let shop = Shop::open_with("", "Retain = \"warm\"\nStandbySec = \"1h\"");
    shop.deploy("1").expect(0);
    shop.deploy("2").expect(0);
    let before = shop.supd.status("web").pids();
    let refused = shop.ctl(&["rollback", "web", "--from", "1"]).expect(3);
    assert!(refused.text().contains("generation 1 is not active (2 is): nothing to roll back"), "{refused}");
    assert_eq!((shop.active().as_deref(), shop.supd.status("web").pids()), (Some("2"), before));
    shop.ctl(&["rollback", "web", "--from", "2"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("1"));
    assert_eq!(shop.supd.status("web").pids_in(2).len(), 1, "it stands by");
    shop.deploy("3").expect(0);
    shop.ctl(&["rollback", "web", "--stop"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("1"));
    wait_until("generation 3 to be gone", SOON, || shop.supd.status("web").pids_in(3).is_empty());
}

/// A server that gives a body to whoever says this line; its address.
fn serve(body: Vec<u8>, password: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
            let (status, body) = match head.iter().any(|line| line.eq_ignore_ascii_case(password)) {
                true => ("200 OK", &body[..]),
                false => ("401 Unauthorized", &b""[..]),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _hung_up = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body));
        }
    });
    format!("http://{address}/app.tar.zst")
}

/// In a file of headers, and in ~/.netrc.
fn from_an_address_with_a_password() {
    let shop = Shop::open();
    let archive = fs::read(shop.pack(&shop.build("1", ""), "one.tar.zst")).expect("the archive");
    let sum: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let home = shop.supd.app();
    let deploy = |label: &str, address: &str, more: &[&str]| -> Output {
        let line = [&["deploy", "web", label, address, "--sha256", &sum], more].concat();
        let mut command = shop.supd.ctl_command(&line);
        command.env("HOME", &home);
        for name in ["NETRC", "XDG_CACHE_HOME", "http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(name);
        }
        Running::start(&mut command).finish(SOON)
    };
    let by_header = serve(archive.clone(), "X-Token: of the shop");
    let refused = deploy("1", &by_header, &[]).expect(1);
    assert!(refused.text().contains("401") && refused.text().contains("--header-file FILE"), "{refused}");
    let headers = home.join("headers");
    fs::write(&headers, "# the shop's\nX-Token: of the shop\n").expect("a file");
    deploy("1", &by_header, &["--header-file", text(&headers)]).expect(0);
    assert_eq!(shop.answers(), "1");

    // me:secret
    let by_name = serve(archive, "Authorization: Basic bWU6c2VjcmV0");
    let netrc = home.join(".netrc");
    fs::write(&netrc, "machine 127.0.0.1 login me password secret\n").expect("a file");
    fs::set_permissions(&netrc, Permissions::from_mode(0o644)).expect("its mode");
    let refused = deploy("2", &by_name, &[]).expect(1);
    assert!(refused.text().contains("chmod 600"), "{refused}");
    assert!(!refused.text().contains("secret"), "{refused}");
    fs::set_permissions(&netrc, Permissions::from_mode(0o600)).expect("its mode");
    deploy("2", &by_name, &[]).expect(0);
    assert_eq!((shop.active().as_deref(), shop.labels().len()), (Some("2"), 2));
}

/// What could not be swapped to is not installed either, and a rehearsal says so.
fn deploy_at_max_generations() {
    let shop = Shop::open_with("", "MaxGenerations = 2");
    shop.ctl(&["deploy", "web", "1", text(&shop.build("1", "ignore-term"))]).expect(0);
    shop.deploy("2").expect(0);
    let three = shop.build("3", "");
    for more in [&["--dry-run"][..], &[]] {
        let refused = shop.ctl(&[more, &["deploy", "web", "3", text(&three)]].concat()).expect(3);
        assert!(refused.text().contains("MaxGenerations = 2"), "{refused}");
        assert!(refused.text().contains("Next: supctl drain web --generation 1"), "{refused}");
        assert_eq!(shop.labels(), ["1", "2"]);
    }
    // What is active already, or is only installed, needs no place.
    shop.ctl(&["deploy", "web", "2", text(&shop.build("2", ""))]).expect(0);
    shop.ctl(&["install", "web", "3", text(&three)]).expect(0);
    shop.supd.status("web").pids_in(1).iter().for_each(|pid| proc::signal(*pid, Signal::SIGKILL));
    wait_until("generation 1 to be gone", SOON, || shop.supd.status("web").pids_in(1).is_empty());
    shop.deploy("3").expect(0);
    assert_eq!(shop.active().as_deref(), Some("3"));
}
