//! `supctl import`: the real files of Debian's packages, and a unit that is imported and really runs.

use crate::harness::{Output, Running, SUPCTL_BOUND, Supd, folder, free_port};
use crate::{Need, Test, test, test_with};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Packages that tests/run unpacks, without installing anything of them.
const UNPACKED: &str = "target/test-tools/debian";

pub(crate) fn tests() -> Vec<Test> {
    const DEBIAN: &[Need] = &[Need::File("target/test-tools/debian/complete", "tests/run fetches it")];
    vec![
        test_with("import::debian", DEBIAN, debian),
        test("import::into_the_folder_of_units", into_the_folder_of_units),
        test_with("import::and_run", &[Need::Program("gunicorn", "gunicorn")], and_run),
    ]
}

/// What is imported, what it is called, its addresses, and how its program is launched.
const CASES: [(&[&str], &str, &[&str], &str); 8] = [
    (
        &["nginx.service"],
        "nginx",
        &["0.0.0.0:80", "[::]:80"],
        r#"["/usr/sbin/nginx", "-g", "daemon off; master_process on;"]"#,
    ),
    (
        &["redis-server.service"],
        "redis-server",
        &["127.0.0.1:6379", "[::1]:6379"],
        r#"["/usr/bin/redis-server", "/etc/redis/redis.conf", "--supervised", "systemd", "--daemonize", "no"]"#,
    ),
    (
        &["lighttpd.service"],
        "lighttpd",
        &["0.0.0.0:80", "[::]:80"],
        r#"["/usr/sbin/lighttpd", "-D", "-f", "/etc/lighttpd/lighttpd.conf"]"#,
    ),
    (
        &["postgresql@15-main.service"],
        "postgresql-15-main",
        &["127.0.0.1:5433", "[::1]:5433", "/var/run/postgresql/.s.PGSQL.5433"],
        r#"["/usr/bin/pg_ctlcluster", "--skip-systemctl-redirect", "15-main", "start", "--foreground"]"#,
    ),
    (&["ssh.service"], "ssh", &["0.0.0.0:22", "[::]:22"], r#"["/usr/sbin/sshd", "-D", "$SSHD_OPTS"]"#),
    (&["ssh.service", "ssh.socket"], "ssh", &["22"], r#"["/usr/sbin/sshd", "-D", "$SSHD_OPTS"]"#),
    (
        &["cups.service"],
        "cups",
        &["/run/cups/cups.sock", "127.0.0.1:631", "[::1]:631"],
        r#"["/usr/sbin/cupsd", "-l"]"#,
    ),
    (&["uuidd.service"], "uuidd", &["/run/uuidd/request"], r#"["/usr/sbin/uuidd", "--socket-activation"]"#),
];

/// A copy of what the packages hold, with what their installation would have made.
fn machine(root: &Path) {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(UNPACKED).join("root");
    for part in ["etc", "lib", "usr/lib/systemd", "usr/share/cups", "usr/share/openssh"] {
        let (from, to) = (unpacked.join(part), root.join(part));
        if from.exists() {
            fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            let copied = Command::new("cp").arg("-a").arg(&from).arg(&to).status().expect("cp");
            assert!(copied.success(), "copying {part}");
        }
    }
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let share = |path: &str| fs::read_to_string(root.join("usr/share").join(path)).expect(path);
    put("etc/ssh/sshd_config", &share("openssh/sshd_config"));
    put("etc/cups/cupsd.conf", &share("cups/cupsd.conf.default"));
    put("etc/postgresql/15/main/postgresql.conf", "port = 5433\t# as pg_createcluster writes it\n");
    let site = root.join("etc/nginx/sites-enabled/default");
    fs::create_dir_all(site.parent().expect("a folder")).expect("a folder");
    if fs::symlink_metadata(&site).is_err() {
        symlink("/etc/nginx/sites-available/default", &site).expect("a link");
    }
}

fn supctl(arguments: &[&str]) -> Output {
    Running::start(Command::new(env!("CARGO_BIN_EXE_supctl")).args(arguments)).finish(SUPCTL_BOUND)
}

/// The values of a key in a unit file, as they are written.
fn values<'t>(text: &'t str, key: &str) -> Vec<&'t str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
    lines.map(|value| value.split("  # ").next().unwrap_or(value)).collect()
}

/// Each becomes a unit with the right addresses and a program in the foreground, that the real
/// `supctl check` accepts but for exactly what this supd cannot do yet.
fn debian() {
    let root = folder();
    machine(root.path());
    let units = folder();
    let (root, units) = (root.path().to_str().expect("a name"), units.path());
    let mut seen = 0;
    for (names, unit, addresses, program) in CASES {
        let path = units.join(format!("{unit}.unit"));
        let mut arguments = vec!["import", "--root", root, "--force", "-o", path.to_str().expect("a name")];
        arguments.extend(names);
        let output = supctl(&arguments);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {output}"));

        let mut listens = values(&text, "ListenStream");
        listens.iter_mut().for_each(|value| *value = value.trim_matches('"'));
        assert_eq!(listens, addresses, "{names:?}\n{text}");
        assert_eq!(values(&text, "ExecStart"), [program], "{names:?}\n{text}");

        let checked = supctl(&["--json", "check", path.to_str().expect("a name")]);
        let found: Value = serde_json::from_str(&checked.stdout).expect("JSON");
        let faults = found["faults"].as_array().expect("faults");
        assert!(faults.is_empty(), "{names:?}: {faults:?}\n{text}");
        // The exit status says the same as the check, and what is left for a person to do.
        let complete = !output.stderr.contains(": to do: ");
        assert_eq!(output.code(), i32::from(!complete), "{output}");
        assert_eq!(checked.code(), 0, "{checked}");

        // Whatever was left out is named, with its file.
        assert!(output.stderr.contains(": left out"), "{output}");
        seen += 1;
    }
    assert_eq!(seen, CASES.len());
    supctl(&["import", "--root", root, "postgresql@.service"]).expect(3);
    supctl(&["import", "--root", root, "postgresql.service"]).expect(3);
}

/// `--write` goes where supd looks, and over nothing that is there.
fn into_the_folder_of_units() {
    let folder = folder();
    let (units, service) = (folder.path().join("units"), folder.path().join("shop.service"));
    let socket = folder.path().join("shop.socket");
    fs::write(&service, "[Service]\nType=notify\nExecStart=/bin/true\n").expect("a service");
    fs::write(&socket, "[Socket]\nListenStream=127.0.0.1:8099\n").expect("a socket");
    let import = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_supctl"));
        command.arg("import").args([&service, &socket]).arg("--write").args(more).env("SUPD_UNITS", &units);
        Running::start(&mut command).finish(SUPCTL_BOUND)
    };
    let written = import(&[]).expect(0);
    assert_eq!(written.stdout, "", "{written}");
    let unit = units.join("shop.unit");
    let text = fs::read_to_string(&unit).expect("the unit");
    assert!(text.contains("ExecStart") && text.contains("127.0.0.1:8099"), "{text}");
    fs::write(&unit, "mine").expect("the unit");
    import(&[]).expect(3);
    assert_eq!(fs::read_to_string(&unit).expect("the unit"), "mine");
    import(&["--force"]).expect(0);
    assert_eq!(fs::read_to_string(&unit).expect("the unit"), text);
}

/// A service and a socket, written by hand, imported, started, and asked.
fn and_run() {
    let supd = Supd::start();
    crate::servers::copy_apps(&supd.app());
    crate::servers::version_file(&supd.app(), "1");
    let (port, app) = (free_port(), supd.app());
    let from = supd.path().join("systemd");
    fs::create_dir(&from).expect("a folder");
    let service = format!(
        "[Unit]\nDescription=Shop\nRequires=shop.socket\nAfter=network.target\n\n[Service]\nType=notify\n\
         WorkingDirectory={}\nEnvironment=PYTHONDONTWRITEBYTECODE=1 \"GREETING=a b\"\n\
         ExecStart=/usr/bin/gunicorn --workers 1 \\\n    # a comment\n    wsgi:application\n\
         ExecReload=/bin/kill -s HUP $MAINPID\nTimeoutStopSec=30\n\n[Install]\nWantedBy=multi-user.target\n",
        app.display()
    );
    fs::write(from.join("shop.service"), service).expect("a service");
    fs::write(from.join("shop.socket"), format!("[Socket]\nListenStream=127.0.0.1:{port}\n"))
        .expect("a socket");
    let units = supd.path().join("units");
    let (service, units) = (from.join("shop.service"), format!("{}/", units.display()));
    let arguments = ["import", service.to_str().expect("a name"), "-o", units.as_str()];
    supctl(&arguments).expect(0);
    // A second time nothing is written over.
    supctl(&arguments).expect(3);
    supd.ctl(&["daemon-reload"]).expect(0);
    supd.ctl(&["start", "shop"]).expect(0);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.") && answer.contains("X-Served-By: 1/"), "{answer}");
    supd.ctl(&["reload", "shop"]).expect(0);
}
