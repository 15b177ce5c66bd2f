//! Downloads from a small server of each test's own: real sockets, real files.

use super::download::{Manner, Told, Wanted};
use super::http::Waits;
use super::retry::Patience;
use super::sum::{self, Sum};
use super::*;
use crate::ctl::render::text::Paint;
use server::{Server, Silent, length, say, serve, tls_server};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

mod server;

fn sum(body: &[u8]) -> Sum {
    Sum::of(Sha256::new_with_prefix(body))
}

fn body() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

/// A caller with a home of its own.
struct Home {
    folder: tempfile::TempDir,
    vain: u32,
    bytes_max: u64,
    silence: Duration,
    timeout: Option<Duration>,
}

impl Home {
    fn new() -> Self {
        let (folder, silence) = (tempfile::tempdir().unwrap(), Duration::from_millis(700));
        Self { folder, vain: 4, bytes_max: 1 << 30, silence, timeout: None }
    }

    fn fetch(&self, url: &str, sum: &Sum) -> Result<Vec<u8>, Failure> {
        self.fetch_with(url, sum, None)
    }

    fn fetch_with(&self, url: &str, sum: &Sum, headers: Option<&Path>) -> Result<Vec<u8>, Failure> {
        let home = self.folder.path().to_owned();
        let manner = Manner {
            variable: &move |name| (name == "HOME").then(|| home.clone().into()),
            waits: Waits { connect: Duration::from_secs(10), silence: self.silence },
            patience: Patience { pause: Duration::from_millis(1), vain: self.vain },
            bytes_max: self.bytes_max,
            deadline: self.timeout.map(|timeout| Instant::now() + timeout),
            told: Told { silent: true, columns: None, paint: Paint(false) },
        };
        let (descriptor, downloaded) = Wanted::new(url, sum, headers)?.fetch(&manner)?;
        let mut bytes = Vec::new();
        File::from(descriptor).read_to_end(&mut bytes).unwrap();
        assert_eq!(self.kept().len(), 1, "it is kept until it is installed");
        downloaded.remove();
        Ok(bytes)
    }

    /// What is left of downloads.
    fn kept(&self) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.folder.path().join(".cache/supd")) else { return Vec::new() };
        entries.flatten().map(|entry| entry.metadata().unwrap().len()).collect()
    }

    fn netrc(&self, text: &str) {
        let path = self.folder.path().join(".netrc");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn what_has_the_right_sum_is_passed_and_nothing_else() {
    let (home, body) = (Home::new(), body());
    let content = body.clone();
    let server = Server::new(move |_, asked, out| serve(asked, out, &content, usize::MAX));
    assert_eq!(home.fetch(&server.url("/app.tar"), &sum(&body)).unwrap(), body);
    assert!(home.kept().is_empty());
    let asked = server.asked();
    assert_eq!((asked.path(), asked.header("range")), ("/app.tar", None));
    assert!(asked.header("user-agent").unwrap().starts_with("supctl/"));
    let failure = home.fetch(&server.url("/app.tar"), &sum(b"other")).unwrap_err();
    assert!(failure.text.ends_with(&format!("its SHA-256 is {}", sum(&body))), "{failure:?}");
    assert_eq!(failure.details, [format!("Wanted: {}", sum(b"other"))]);
    assert!(home.kept().is_empty(), "what is wrong is not kept");
}

#[test]
fn a_download_that_breaks_goes_on_where_it_broke() {
    let (home, body) = (Home::new(), body());
    let content = body.clone();
    let server = Server::new(move |number, asked, out| {
        serve(asked, out, &content, if number < 3 { 200_000 } else { usize::MAX });
    });
    assert_eq!(home.fetch(&server.url("/"), &sum(&body)).unwrap(), body);
    assert_eq!(server.asked().header("range"), None);
    for times in 1..=3 {
        let asked = server.asked();
        assert_eq!((asked.from(), asked.header("if-range")), (times * 200_000, Some("\"v1\"")));
    }
}

#[test]
fn a_later_command_goes_on_where_an_earlier_one_gave_up() {
    let (mut home, body) = (Home::new(), body());
    let content = body.clone();
    let server = Server::new(move |number, asked, out| {
        serve(asked, out, &content, if number == 0 { 500_000 } else { usize::MAX });
    });
    home.vain = 1;
    let failure = home.fetch(&server.url("/"), &sum(&body)).unwrap_err();
    assert!(failure.next.as_ref().unwrap().contains("the first 500.0 kB"), "{failure:?}");
    assert_eq!(home.kept(), [500_000]);
    assert_eq!(home.fetch(&server.url("/"), &sum(&body)).unwrap(), body);
    let (first, second) = (server.asked(), server.asked());
    assert_eq!((first.from(), second.from(), second.header("if-range")), (0, 500_000, None));
    // One that is whole already is not asked for again: an install that failed is tried again.
    let (file, name) = (
        home.folder.path().join(".cache/supd"),
        sum::name_of(&format!("{}\n{}", server.url("/"), sum(&body))),
    );
    let part = file.join(format!("{name}.part"));
    fs::write(&part, &body).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(home.fetch(&server.url("/"), &sum(&body)).unwrap(), body);
    assert!(server.is_silent());
}

#[test]
fn a_server_that_stalls_is_not_waited_for_beyond_the_deadline() {
    // How many bytes come before nothing does: no header, a part of one, some content. The last one
    // answers at once, but wants to be left alone for longer than there is time.
    for bytes in [Some(0), Some(30), Some(100), Some(100_000), None] {
        let (mut home, body) = (Home::new(), body());
        (home.silence, home.timeout) = (Duration::from_secs(20), Some(Duration::from_secs(1)));
        let (content, (ends, held)) = (body.clone(), channel::<()>());
        let server = Server::new(move |_, asked, out| {
            let mut whole = Vec::new();
            let Some(bytes) = bytes else {
                return say(out, "503 Service Unavailable", &["Retry-After: 30", "Content-Length: 0"], b"");
            };
            serve(asked, &mut whole, &content, usize::MAX);
            let _gone = out.write_all(&whole[..bytes]);
            let _until_the_test_ends = held.recv();
        });
        let began = Instant::now();
        let failure = home.fetch(&server.url("/"), &sum(&body)).unwrap_err();
        let took = began.elapsed();
        assert_eq!(failure.status, ExitStatus::Timeout, "{bytes:?}: {failure:?}");
        assert!(failure.text.ends_with("not downloaded within --timeout"), "{failure:?}");
        let said = failure.next.as_deref().is_some_and(|next| next.contains("goes on behind the first"));
        assert_eq!(said, bytes >= Some(100), "{failure:?}");
        assert!(took >= Duration::from_millis(990) && took < Duration::from_secs(2), "{bytes:?}: {took:?}");
        drop(ends);
    }
}

#[test]
fn pieces_of_two_files_are_not_taken_for_one() {
    let (home, body) = (Home::new(), body());
    let (other, content) = (vec![b'x'; body.len()], body.clone());
    let server = Server::new(move |number, asked, out| match number {
        // Breaks, is replaced by another file whose server does not know If-Range, and is back again.
        0 => serve(asked, out, &other, 500_000),
        _ => serve(asked, out, &content, usize::MAX),
    });
    assert_eq!(home.fetch(&server.url("/"), &sum(&body)).unwrap(), body);
    let from: Vec<usize> = (0..3).map(|_| server.asked().from()).collect();
    assert_eq!(from, [0, 500_000, 0]);
}

#[test]
fn a_server_without_ranges_begins_anew() {
    let (home, body) = (Home::new(), body());
    let content = body.clone();
    let server = Server::new(move |number, _, out| {
        let most = if number == 0 { 500_000 } else { usize::MAX };
        say(out, "200 OK", &[&length(&content)], &content[..content.len().min(most)]);
    });
    assert_eq!(home.fetch(&server.url("/"), &sum(&body)).unwrap(), body);
    assert_eq!((server.asked().from(), server.asked().from()), (0, 500_000));
}

#[test]
fn a_length_that_is_a_lie_is_found_out() {
    let (home, body) = (Home::new(), b"0123456789".to_vec());
    let longer = Server::new(|_, _, out| say(out, "200 OK", &["Content-Length: 1000"], b"0123456789"));
    let failure = home.fetch(&longer.url("/"), &sum(&body)).unwrap_err();
    assert!(failure.text.contains("(after 10 bytes)"), "{failure:?}");
    let shorter = Server::new(|_, _, out| say(out, "200 OK", &["Content-Length: 5"], b"0123456789"));
    let failure = home.fetch(&shorter.url("/"), &sum(&body)).unwrap_err();
    assert!(failure.text.contains(&sum(b"01234").to_string()), "{failure:?}");
    // None at all is none that could be wrong.
    let home = Home::new();
    let none = Server::new(|_, _, out| say(out, "200 OK", &[], b"0123456789"));
    assert_eq!(home.fetch(&none.url("/"), &sum(&body)).unwrap(), body);
    let part = Server::new(|_, asked, out| match asked.from() {
        0 => say(out, "200 OK", &["Content-Length: 10"], b"01234"),
        _ => say(
            out,
            "206 Partial Content",
            &["Content-Range: bytes 2-9/10", "Content-Length: 8"],
            b"23456789",
        ),
    });
    let failure = home.fetch(&part.url("/"), &sum(&body)).unwrap_err();
    assert!(failure.text.contains("another part"), "{failure:?}");
}

#[test]
fn a_server_that_goes_silent_is_asked_again() {
    let (home, body) = (Home::new(), body());
    let content = body.clone();
    let (held, holds) = channel();
    let server = Server::with(
        move |stream| {
            // Kept open: it is silent, not gone.
            held.send(stream.try_clone().unwrap()).unwrap();
            Box::new(Silent(stream))
        },
        move |number, asked, out| serve(asked, out, &content, if number == 0 { 300_000 } else { usize::MAX }),
    );
    assert_eq!(home.fetch(&server.url("/"), &sum(&body)).unwrap(), body);
    assert_eq!((server.asked().from(), server.asked().from()), (0, 300_000));
    drop(holds);
}

#[test]
fn redirects_stay_within_http_and_take_no_password_to_another_host() {
    let (home, body) = (Home::new(), b"content".to_vec());
    home.netrc("default login ann password secret");
    let headers = home.folder.path().join("headers");
    fs::write(&headers, "X-Token: secret too\n").unwrap();
    let other = Server::new(|_, _, out| say(out, "200 OK", &[&length(b"content")], b"content"));
    let there = other.url("/elsewhere");
    let server = Server::new(move |_, asked, out| match asked.path() {
        "/file" => say(out, "302 Found", &["Location: file:///etc/passwd"], b""),
        "/loop" => say(out, "301 Moved", &["Location: loop"], b""),
        "/here" => say(out, "307 Temporary", &["Location: ./there"], b""),
        "/there" => say(out, "308 Permanent", &[&format!("Location: {there}")], b""),
        path => panic!("{path}"),
    });
    let fetch = |path| home.fetch_with(&server.url(path), &sum(&body), Some(&headers));
    let failure = fetch("/file").unwrap_err();
    assert!(failure.text.contains("redirects to file:///etc/passwd: only http:// and"), "{failure:?}");
    assert!(fetch("/loop").unwrap_err().text.contains("more than 10 times"));
    assert_eq!(fetch("/here").unwrap(), body);
    // What was asked before is told when it is told.
    let mut asked = std::iter::repeat_with(|| server.asked())
        .skip_while(|asked| ["/file", "/loop"].contains(&asked.path()));
    for path in ["/here", "/there"] {
        let asked = asked.next().unwrap();
        // ann:secret
        assert_eq!((asked.path(), asked.header("authorization")), (path, Some("Basic YW5uOnNlY3JldA==")));
        assert_eq!(asked.header("x-token"), Some("secret too"));
    }
    let asked = other.asked();
    assert_eq!(
        (asked.path(), asked.header("authorization"), asked.header("x-token")),
        ("/elsewhere", None, None)
    );
}

#[test]
fn what_a_server_refuses_is_said_in_words() {
    let (home, body) = (Home::new(), b"content".to_vec());
    let tries = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let counted = tries.clone();
    let server = Server::new(move |_, asked, out| {
        *counted.lock().unwrap().entry(asked.path().to_owned()).or_default() += 1;
        refusing(asked, out);
    });
    let fetch = |path| home.fetch(&server.url(path), &sum(&body)).unwrap_err();
    for (path, tried, said) in [
        ("/none?key=secret", 1, "404 Not Found: there is no such file"),
        ("/gone", 1, "410 Gone: there is no such file"),
        ("/private", 1, "401 Unauthorized: it wants a name and a password"),
        ("/teapot", 1, "418 I'm a teapot: that is no file"),
        ("/never", 1, "501 Not Implemented: it cannot give files this way"),
        ("/noise", 1, "it does not answer as HTTP does"),
        ("/chunks", 1, "it does not answer as HTTP does"),
        // What may heal is tried as often as the caller's patience lasts.
        ("/busy", home.vain, "503 Service Unavailable"),
        ("/slow", home.vain, "504 Gateway Timeout"),
        ("/own", home.vain, "520 <unknown status code>"),
        ("/nothing", home.vain, ""),
    ] {
        let failure = fetch(path);
        assert!(failure.text.contains(said) && !failure.text.contains("secret"), "{failure:?}");
        assert_eq!(failure.status, ExitStatus::Failed);
        assert_eq!(tries.lock().unwrap().get(path), Some(&tried), "{failure:?}");
    }
    assert_eq!(fetch("/private").next.unwrap(), "put them into ~/.netrc (mode 600), or: --header-file FILE");
    home.netrc("machine 127.0.0.1 login ann password secret");
    assert_eq!(home.fetch(&server.url("/private"), &sum(&body)).unwrap(), body);
    // Nobody is there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = home.fetch(&format!("http://{closed}/"), &sum(&body)).unwrap_err();
    assert!(failure.text.to_lowercase().contains("refused"), "{failure:?}");
}

fn refusing(asked: &server::Asked, out: &mut dyn Write) {
    match (asked.path(), asked.header("authorization")) {
        ("/private", Some("Basic YW5uOnNlY3JldA==")) => say(out, "200 OK", &[], b"content"),
        ("/private", _) => say(out, "401 Unauthorized", &[], b"who are you?"),
        ("/busy", _) => say(out, "503 Service Unavailable", &["Retry-After: 0"], b""),
        ("/gone", _) => say(out, "410 Gone", &[], b""),
        ("/teapot", _) => say(out, "418 I'm a teapot", &[], b""),
        ("/nothing", _) => {}
        ("/noise", _) => out.write_all(b"SSH-2.0-OpenSSH_9\r\n\r\n").unwrap(),
        ("/chunks", _) => say(out, "200 OK", &["Transfer-Encoding: chunked"], b"no number\r\nx\r\n"),
        ("/never", _) => say(out, "501 Not Implemented", &[], b""),
        ("/slow", _) => say(out, "504 Gateway Timeout", &["Retry-After: 0"], b""),
        ("/own", _) => say(out, "520 Web Server Is Down", &["Retry-After: 0"], b""),
        _ => say(out, "404 Not Found", &[], b"<html>"),
    }
}

#[test]
fn what_is_too_large_is_refused_before_the_disk_is_full() {
    let mut home = Home::new();
    home.bytes_max = 100_000;
    let told = Server::new(|_, _, out| say(out, "200 OK", &["Content-Length: 9999999999"], b"x"));
    let endless = Server::new(|_, _, out| {
        let _gone = out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        while out.write_all(&[b'x'; 10_000]).is_ok() {}
    });
    for server in [told, endless] {
        let failure = home.fetch(&server.url("/"), &sum(b"")).unwrap_err();
        assert!(failure.text.ends_with("it is larger than 100.0 kB"), "{failure:?}");
        assert!(home.kept().iter().all(|length| *length <= 100_000));
    }
}

/// SSL_CERT_FILE is of the whole process, so it runs in one of its own: this test, once more.
#[test]
fn https_trusts_the_authority_that_the_caller_names() {
    const FOLDER: &str = "SUPD_TEST_AUTHORITY";
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        let folder = tempfile::tempdir().unwrap();
        for trusted in [true, false] {
            let authority = folder.path().join("ca.pem");
            let (key, mine) = (rcgen::KeyPair::generate().unwrap(), rcgen::CertificateParams::default());
            let other = mine.self_signed(&key).unwrap();
            fs::write(&authority, other.pem()).unwrap();
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            let name = std::thread::current().name().unwrap().to_owned();
            command.args(["--exact", &name, "--nocapture"]).env(FOLDER, folder.path());
            command.env("SSL_CERT_FILE", &authority).env_remove("SSL_CERT_DIR");
            command.env("SUPD_TEST_TRUSTED", if trusted { "yes" } else { "no" });
            let output = command.output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{text}");
        }
        return;
    };
    let trusted = std::env::var("SUPD_TEST_TRUSTED").unwrap() == "yes";
    let (server, authority) = tls_server();
    if trusted {
        fs::write(folder.join("ca.pem"), authority).unwrap();
    }
    let home = Home::new();
    let url = format!("https://localhost:{}/app", server.address.port());
    let got = home.fetch(&url, &sum(b"over TLS"));
    if trusted {
        assert_eq!(got.unwrap(), b"over TLS");
        let by_number = format!("https://127.0.0.1:{}/app", server.address.port());
        got_no_certificate(&home.fetch(&by_number, &sum(b"over TLS")).unwrap_err());
    } else {
        got_no_certificate(&got.unwrap_err());
    }
}

fn got_no_certificate(failure: &Failure) {
    assert!(failure.text.contains("certificate"), "{failure:?}");
    assert!(failure.next.as_ref().unwrap().contains("SSL_CERT_FILE=ca.pem"), "{failure:?}");
}

fn arguments(words: &[&str]) -> SourceArgs {
    use clap::Parser;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        source: SourceArgs,
    }
    Line::try_parse_from(std::iter::once(&"x").chain(words)).unwrap().source
}

fn context() -> Context {
    Context {
        socket: PathBuf::new(),
        json: true,
        meta: crate::codec::varlink::Meta::default(),
        deadline: None,
        paint: Paint(false),
        columns: None,
    }
}

#[test]
fn source_is_what_it_looks_like() {
    let path = |text: &str| kind(OsStr::new(text)) == Ok(Kind::Path(Path::new(text)));
    assert!(path("a") && path("./-") && path("a:b") && path("/x://y") && path("c:\\x") && path("http:/x"));
    assert_eq!(kind(OsStr::new("-")), Ok(Kind::Stdin));
    assert_eq!(kind(OsStr::new("HTTPS://h/x")), Ok(Kind::Address("HTTPS://h/x")));
    assert_eq!(kind(OsStr::new("ftp://h/x")).unwrap_err().status, ExitStatus::Usage);
    let zeros = "0".repeat(64);
    for (words, said) in [
        (&["https://h/x"][..], "needs --sha256"),
        (&["http://h/x"], "needs --sha256"),
        (&["-", "--sha256", &zeros], "--sha256 is for an http(s) SOURCE"),
        (&["x", "--header-file", "y"], "--header-file is for an http(s) SOURCE"),
        (&["https://ann:secret@h/x", "--sha256", &zeros], "a password in it"),
    ] {
        let failure = arguments(words).open(&context()).unwrap_err();
        assert!(failure.text.contains(said) && !failure.text.contains("secret"), "{failure:?}");
        assert_eq!(failure.status, ExitStatus::Usage);
    }
}

#[test]
fn files_and_folders_are_opened_and_devices_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.tar");
    fs::write(&file, "content").unwrap();
    symlink(&file, folder.path().join("link")).unwrap();
    std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    let open = |path: &Path| arguments(&[path.to_str().unwrap()]).open(&context());
    let content = |opened: &Opened| {
        let mut bytes = Vec::new();
        let copy = opened.descriptor().try_clone_to_owned().unwrap();
        File::from(copy).read_to_end(&mut bytes).unwrap();
        bytes
    };
    for name in ["app.tar", "link"] {
        let opened = open(&folder.path().join(name)).unwrap();
        assert_eq!(content(&opened), b"content");
        assert_eq!(opened.finish(true), Ok(()));
    }
    for (path, said, status) in [
        (folder.path().join("socket"), "is a device or a socket", ExitStatus::Usage),
        ("/dev/null".into(), "is a device or a socket", ExitStatus::Usage),
        (folder.path().join("none"), "No such file", ExitStatus::Failed),
    ] {
        let failure = open(&path).unwrap_err();
        assert!(failure.text.contains(said) && failure.status == status, "{failure:?}");
        assert!(
            failure.next.as_ref().is_some_and(|next| next.contains("a folder or an archive")),
            "{failure:?}"
        );
    }
    fs::remove_file(folder.path().join("socket")).unwrap();
    let opened = open(folder.path()).unwrap();
    let archive = content(&opened);
    assert_eq!(opened.finish(true), Ok(()));
    let mut archive = tar::Archive::new(&archive[..]);
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert_eq!(names, [Path::new("app.tar"), Path::new("link")]);
    // What went wrong here explains what supd says. A pipe does not hold the whole file.
    fs::write(folder.path().join("big"), vec![0; 1 << 20]).unwrap();
    let opened = open(folder.path()).unwrap();
    fs::write(folder.path().join("late"), "").unwrap();
    let whole = content(&opened);
    assert!(whole.len() > 1 << 20);
    let told = opened.finish(false);
    assert!(told.unwrap_err().text.contains("changed while it was read"));
}

/// A pipe with a name: its reader waits for a writer, but no longer than it may; then the writer's bytes
/// come, however slowly.
#[test]
fn a_pipe_that_nobody_writes_is_given_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pipe");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let open = |span| {
        let deadline = Some(Instant::now() + Duration::from_millis(span));
        arguments(&[path.to_str().unwrap()]).open(&Context { deadline, ..context() })
    };
    let failure = open(50).unwrap_err();
    assert!(failure.text.contains("within --timeout"), "{failure:?}");
    assert!(failure.status == ExitStatus::Failed && failure.next.is_some(), "{failure:?}");
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, vec![7; 1 << 20])
    });
    let opened = open(60_000).unwrap();
    let mut bytes = Vec::new();
    let copy = opened.descriptor().try_clone_to_owned().unwrap();
    File::from(copy).read_to_end(&mut bytes).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(bytes.len(), 1 << 20, "it waits for bytes again, as pipes do");
}

const LINE: &str = "SUPD_TEST_SOURCE";

/// Not a test: SOURCE and its flags come by the environment, what would be passed goes to a file.
/// To see it: `SUPD_TEST_SOURCE="https://… --sha256 …" cargo test --lib fixture_source -- --nocapture`
#[test]
fn fixture_source() {
    let Ok(line) = std::env::var(LINE) else { return };
    let columns = crate::ctl::context::columns(|name| std::env::var_os(name));
    let context = Context { json: false, columns, ..context() };
    let words: Vec<&str> = line.split(' ').collect();
    let opened = arguments(&words).open(&context).unwrap_or_else(|failure| {
        println!("{}", failure.lines(false).join("\n"));
        std::process::exit(failure.status.code().into());
    });
    let mut to: Box<dyn Write> = match std::env::var_os("SUPD_TEST_TO") {
        Some(path) => Box::new(File::create(path).unwrap()),
        None => Box::new(io::sink()),
    };
    io::copy(&mut File::from(opened.descriptor().try_clone_to_owned().unwrap()), &mut to).unwrap();
    opened.finish(true).unwrap();
}

/// The fixture with these words, in a home of its own.
fn fixture(home: &Home, line: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "ctl::source::tests::fixture_source", "--nocapture"]);
    command
        .env(LINE, line)
        .env("SUPD_TEST_TO", home.folder.path().join("to"))
        .env("HOME", home.folder.path());
    command.env("TERM", "xterm").env_remove("XDG_CACHE_HOME");
    command
}

#[test]
fn a_terminal_sees_how_far_it_is_and_a_log_sees_two_lines() {
    let (home, body) = (Home::new(), body());
    let content = body.clone();
    let server = Server::new(move |_, asked, out| serve(asked, out, &content, usize::MAX));
    let line = format!("{} --sha256 {}", server.url("/app.tar.zst"), sum(&body));
    let plain = fixture(&home, &line).output().unwrap();
    let plain = String::from_utf8(plain.stdout).unwrap();
    let lines: Vec<&str> = plain.lines().filter(|line| line.starts_with("app.tar.zst: ")).collect();
    assert_eq!(lines[0], "app.tar.zst: downloading (1.2 MB)");
    assert!(lines[1].starts_with("app.tar.zst: downloaded (1.2 MB in ") && lines.len() == 2, "{plain}");
    assert_eq!(fs::read(home.folder.path().join("to")).unwrap(), body);
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = fixture(&home, &line);
    let mut child = command.stdout(pty.slave).spawn().unwrap();
    drop(command);
    let (mut text, mut terminal) = (Vec::new(), File::from(pty.master));
    let _the_last_writer_is_gone = terminal.read_to_end(&mut text);
    assert!(child.wait().unwrap().success());
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\r\u{1b}[Kapp.tar.zst: 0 bytes of 1.2 MB"), "{text:?}");
}

#[test]
fn a_proxy_of_the_environment_is_asked() {
    let home = Home::new();
    let proxy = Server::new(|_, _, out| say(out, "407 Proxy Authentication Required", &[], b""));
    let line = format!("http://nowhere.invalid/app --sha256 {}", sum(b""));
    let mut command = fixture(&home, &line);
    let output = command.env("http_proxy", proxy.url("")).env_remove("ALL_PROXY").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(proxy.asked().0[0], "CONNECT nowhere.invalid:80 HTTP/1.1");
    assert!(!output.status.success() && text.contains("http_proxy=http://NAME:PASSWORD@HOST:PORT"), "{text}");
    assert!(proxy.is_silent(), "once more would not do better");
}
