//! Golden units: `tests/unitfiles/import/root` is a machine, NAME.expected what becomes of its
//! units. `SUPD_BLESS=1 cargo test import` writes the expected files anew.

use super::gather::Gatherer;
use super::look::Look;
use super::remark::lines;
use super::translate::{of_texts, translate};
use crate::codec::systemd::Facts;
use crate::codec::unitfile::{Source, Sources, parse};
use crate::model::UnitName;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unitfiles/import")
}

/// What is imported, and what the unit is called.
const CASES: [(&[&str], &str); 18] = [
    (&["nginx.service"], "nginx"),
    (&["redis-server.service"], "redis-server"),
    (&["lighttpd.service"], "lighttpd"),
    (&["postgresql@15-main.service"], "postgresql-15-main"),
    (&["ssh.service"], "ssh"),
    (&["ssh.service", "ssh.socket"], "ssh-by-socket"),
    (&["cups"], "cups"),
    (&["uuidd.socket"], "uuidd"),
    (&["php8.2-fpm.service"], "php8.2-fpm"),
    (&["haproxy.service"], "haproxy"),
    (&["apache2.service"], "apache2"),
    (&["memcached.service"], "memcached"),
    (&["shop.service"], "shop"),
    (&["rails.service"], "rails"),
    (&["asgi.service"], "asgi"),
    (&["app.service"], "app"),
    (&["olddaemon@one.service"], "olddaemon-one"),
    (&["dyn.service"], "dyn"),
];

fn facts() -> Facts {
    Facts { host: "web1.example".into(), ..Facts::of_system() }
}

fn imported(names: &[&str]) -> Result<super::Imported, super::Failure> {
    let look = Look::new(Some(folder().join("root")));
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let jobs = Gatherer::new(&look).jobs(&names)?;
    assert_eq!(jobs.len(), 1, "{names:?}");
    translate(&jobs[0], None, &look, &facts())
}

/// What `supctl check` refuses.
fn faults(unit: &UnitName, text: &str) -> Vec<String> {
    let main = Source::new(format!("{unit}.unit"), text);
    let sources = Sources { unit: unit.clone(), defaults: None, main, drop_ins: Vec::new() };
    let faults = parse(&sources).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

#[test]
fn units_of_a_machine_become_what_is_expected() {
    let mut differences = Vec::new();
    for (names, case) in CASES {
        let one = imported(names).unwrap_or_else(|failure| panic!("{names:?}: {failure:?}"));
        assert_eq!(faults(&one.unit, &one.text), [""; 0], "{case}:\n{}", one.text);
        let told = lines(&one.remarks, &format!("{}.unit", one.unit)).join("\n");
        let found = format!("{}\n---- complete: {}\n{told}\n", one.text, one.complete);
        let expected = folder().join(format!("{case}.expected"));
        if std::env::var_os("SUPD_BLESS").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if wanted != found {
            differences.push(format!("--- {case} wants\n{wanted}\n--- and has\n{found}"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_is_no_server_is_refused_with_the_next_step() {
    for (name, status, said) in [
        ("postgresql@.service", 3, "say of which instance"),
        ("nosuch.service", 3, "there is no nosuch.service in /etc/systemd/system"),
        ("nginx.timer", 2, "no .service and no .socket"),
        ("masked.service", 3, "is masked"),
        ("once.service", 3, "Type=oneshot"),
        ("empty.service", 3, "no ExecStart"),
        ("each.socket", 3, "Accept=yes"),
        ("broken.service", 78, "is wrong"),
    ] {
        let failure = imported(&[name]).unwrap_err();
        assert!(
            i32::from(failure.status.code()) == status && failure.text.contains(said),
            "{name}: {failure:?}"
        );
    }
}

/// What systemd itself refuses or passes over is said with its place.
#[test]
fn bytes_that_are_no_text_folders_and_open_quotes_are_named() {
    let root = tempfile::tempdir().unwrap();
    let system = root.path().join("etc/systemd/system");
    fs::create_dir_all(system.join("web.service.d/folder.conf")).unwrap();
    let import = |text: &[u8]| {
        fs::write(system.join("web.service"), text).unwrap();
        let look = Look::new(Some(root.path().to_owned()));
        let jobs = Gatherer::new(&look).jobs(&["web.service".to_owned()])?;
        translate(&jobs[0], None, &look, &facts())
    };
    let good = import(b"[Unit]\n# caf\xe9\nDescription=Caf\xc3\xa9\n[Service]\nExecStart=/bin/x\n").unwrap();
    assert!(good.text.contains("Description = \"Caf\u{e9}\""), "{}", good.text);
    let told = lines(&good.remarks, "web.unit").join("\n");
    assert!(told.contains("web.service.d/folder.conf: note: a folder among the drop-ins"), "{told}");
    let lists = "SupplementaryGroups='a\nReadWritePaths=\"/srv\nSystemCallFilter=read\n";
    let good = import(format!("[Service]\nExecStart=/bin/x\n{lists}").as_bytes()).unwrap();
    let told = lines(&good.remarks, "web.unit").join("\n");
    assert!(told.contains("web.service:3: ") && told.contains("web.service:4: "), "{told}");
    let keys = ["SupplementaryGroups", "ReadWritePaths"];
    assert!(keys.iter().all(|key| !good.text.contains(key)), "{}", good.text);
    let good =
        import(b"[Service]\nExecStart=/bin/x\nSupplementaryGroups=b\nSupplementaryGroups='a\n").unwrap();
    assert!(good.text.contains("SupplementaryGroups = [\"b\"]"), "{}", good.text);
    for (text, said) in [
        (&b"[Service]\nExecStart=/bin/x\nEnvironment=A=caf\xe9\n"[..], "web.service:3:1: this is no UTF-8"),
        (b"[Service]\n\nExecStart=/bin/x 'a b\n", "web.service:3:1: ExecStart: a quote ' is not closed"),
        (b"[Service]\nExecStart=/bin/x \\\n  \"a\n", "web.service:2:1: ExecStart: a quote \" is not closed"),
    ] {
        let failure = import(text).unwrap_err();
        let details = failure.details.join("\n");
        assert!(failure.status.code() == 78 && details.contains(said), "{failure:?}");
    }
}

/// The same files under other names: what an alias is a link to counts.
#[test]
fn an_alias_is_the_unit_that_it_stands_for() {
    assert_eq!(imported(&["redis.service"]).unwrap().unit.as_str(), "redis-server");
}

#[test]
fn nothing_is_written_over_unless_it_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/web.unit");
    super::put(&path, "one", false, false).unwrap();
    let failure = super::put(&path, "two", false, false).unwrap_err();
    assert!(failure.status.code() == 3 && failure.text.contains("is there already"), "{failure:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    // --dry-run says the same, and writes nothing, even over what may be written over.
    super::put(&path, "none", false, true).unwrap_err();
    super::put(&path, "none", true, true).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "one");
    super::put(&path, "two", true, false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 1, "something was left behind");
}

/// SplitMix64, so that every failure can be replayed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

/// Lines of real units, shuffled and broken: it never panics, and what it writes can be read.
#[test]
fn any_text_becomes_a_unit_that_can_be_read_or_is_refused() {
    const SCRAPS: [&str; 20] = [
        "%", "%i", "\\", "\"", "'", "=", "\n", "[", "]", ";", "$A", "${", "-", "~", "0", "é", "\u{202e}",
        ":", "@", "infinity",
    ];
    let read = |name: &str| fs::read_to_string(folder().join("root/lib/systemd/system").join(name)).unwrap();
    let services: Vec<String> = [
        "nginx.service",
        "redis-server.service",
        "shop.service",
        "olddaemon@.service",
        "dyn.service",
        "uuidd.service",
    ]
    .map(read)
    .into();
    let sockets = [read("shop.socket"), read("ssh.socket")];
    let all: Vec<&str> = services.iter().chain(&sockets).flat_map(|text| text.lines()).collect();
    let unit = UnitName::new("web-a-b").unwrap();
    let mut written = 0;
    for seed in 0..3_000 {
        let mut dice = Dice(seed);
        let mut text = services[dice.roll(services.len())].clone();
        for _ in 0..=dice.roll(8) {
            let mut at = dice.roll(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            match dice.roll(3) {
                0 => text.insert_str(at, &format!("\n{}\n", all[dice.roll(all.len())])),
                1 => text.insert_str(at, SCRAPS[dice.roll(SCRAPS.len())]),
                _ => text.truncate(at.max(1)),
            }
        }
        let socket = (dice.roll(2) == 0).then(|| sockets[dice.roll(sockets.len())].as_str());
        let (unit_text, told) = of_texts(&text, socket);
        assert!(told.iter().all(|line| !line.contains(char::is_control)), "seed {seed}: {told:?}");
        if unit_text.is_empty() {
            continue;
        }
        written += 1;
        let faults = faults(&unit, &unit_text);
        assert!(
            faults.iter().all(|fault| fault.contains("ExecStart: it is missing")),
            "seed {seed}: {faults:?}\n{unit_text}"
        );
    }
    assert!(written > 500, "only {written} were written");
}
