//! Log files of real workers: where output goes, that it stays below LogMaxSize however it is written,
//! that the newest of it is what stays, and that a log that cannot be had stops nothing.

use crate::harness::{Setup, Supd, free_port};
use crate::wait::{SOON, pause, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DISK: &[Need] = &[Need::Root, Need::Program("unshare", "util-linux"), Need::Program("mount", "mount")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("output::where_output_goes", where_output_goes),
        test("output::a_gigabyte_in_bursts", a_gigabyte_in_bursts),
        test("output::the_bound_while_it_goes_on", the_bound_while_it_goes_on),
        test("output::a_line_without_end", a_line_without_end),
        test("output::a_writer_that_does_not_append", a_writer_that_does_not_append),
        test("output::last_words_of_a_flood", last_words_of_a_flood),
        test("output::filled_before_it_is_watched", filled_before_it_is_watched),
        test("output::a_folder_that_is_removed", a_folder_that_is_removed),
        test("output::a_log_that_cannot_be_opened", a_log_that_cannot_be_opened),
        test("output::rest_when_nobody_writes", rest_when_nobody_writes),
        test_with("output::a_full_disk", DISK, a_full_disk),
        test_with("output::a_disk_that_cannot_collapse", DISK, a_disk_that_cannot_collapse),
    ]
}

const MIB: u64 = 1 << 20;

/// Writes what its clients tell it to: `lines N`: N MiB of numbered lines of 1 KiB as fast as it can;
/// `paced N`: N MiB at 50 MiB a second; `endless N`: without a line end; `plain`: no longer appending;
/// `say TEXT`: one line. Each is answered when it is done. A disk that is full is its client's to know.
const LOGGER: &str = r#"import socket,os,fcntl,time
n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n.connect(os.environ['NOTIFY_SOCKET']); n.send(b'READY=1')
s=socket.socket(fileno=3)
count=0
def mib():
    global count
    b=b''.join(b'line %010d %s\n' % (count+i, b'x'*1007) for i in range(1024)); count+=1024
    os.write(1,b)
while True:
    c,_=s.accept()
    f=c.makefile('rwb')
    for order in f:
        word,_,rest=order.decode().strip().partition(' ')
        try:
            if word=='lines':
                for _ in range(int(rest)): mib()
            elif word=='paced':
                for _ in range(int(rest)): mib(); time.sleep(0.02)
            elif word=='endless':
                for _ in range(int(rest)): os.write(1,b'x'*(1<<20))
            elif word=='plain':
                fcntl.fcntl(1,fcntl.F_SETFL,fcntl.fcntl(1,fcntl.F_GETFL)&~os.O_APPEND)
            elif word=='say':
                os.write(1,rest.encode()+b'\n')
            f.write(b'done\n')
        except OSError as error:
            f.write(b'errno %d\n' % error.errno)
        f.flush()
"#;

fn unit(port: u16, program: &str, service: &str) -> String {
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nReleases = false\n\
         ExecStart = [\"/usr/bin/python3\", \"-c\", '''{program}''']\n{service}\n\
         ReadySettleSec = \"100ms\"\nTimeoutStopSec = \"200ms\"\n\n[Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\n\
         MaxGenerations = 16\nProbationSec = \"100ms\"\n"
    )
}

/// A unit `web` whose worker is the logger, in a supd of its own.
struct Logged {
    supd: Supd,
    port: u16,
    orders: BufReader<TcpStream>,
}

impl Logged {
    fn start(setup: &Setup, service: &str) -> Self {
        let supd = Supd::start_with(setup);
        let port = free_port();
        supd.launch("web", &unit(port, LOGGER, service));
        let orders = connect(port);
        Self { supd, port, orders }
    }

    fn log(&self) -> PathBuf {
        log_of(&self.supd, 1)
    }

    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.get_mut(), "{order}").expect("an order");
        let mut answer = String::new();
        self.orders.read_line(&mut answer).expect("an answer");
        answer.trim().to_owned()
    }

    fn done(&mut self, order: &str) {
        assert_eq!(self.order(order), "done", "{order}");
    }

    /// Carries an order out, and gives the most that the log took of the disk meanwhile.
    fn watch(&mut self, order: &str) -> u64 {
        let (log, mut peak) = (self.log(), 0);
        std::thread::scope(|scope| {
            let ordered = scope.spawn(|| self.done(order));
            while !ordered.is_finished() {
                peak = peak.max(on_disk(&log));
                pause(Duration::from_millis(5));
            }
            ordered.join().expect("the order");
        });
        peak
    }

    /// The log is below its cap soon, and what was written last is in it, whole and in order.
    fn is_capped(&self, cap: u64, newest: u64) {
        let log = self.log();
        wait_until("the log to be below LogMaxSize", SOON, || on_disk(&log) <= cap);
        let text = text(&log);
        let numbers: Vec<u64> = text.lines().filter_map(number).collect();
        assert_eq!(numbers.last(), Some(&newest), "the newest lines are not there");
        assert!(numbers.len() > 20, "{} lines are left", numbers.len());
        assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "lines are missing in between");
    }
}

fn connect(port: u16) -> BufReader<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    BufReader::new(wait_for("the logger", SOON, || TcpStream::connect(address).ok()))
}

fn log_of(supd: &Supd, generation: u64) -> PathBuf {
    supd.state_folder().join(format!("logs/web/{generation}.log"))
}

fn number(line: &str) -> Option<u64> {
    line.strip_prefix("line ")?.split(' ').next()?.parse().ok()
}

fn text(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).expect("the log")).replace('\0', "")
}

/// How much of the disk a file takes: holes take none, nor does what was allotted ahead of its end.
fn on_disk(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len().min(512 * file.blocks()))
}

/// Each of the streams, each of the places.
fn where_output_goes() {
    let supd = Supd::start();
    let (out, err) = (supd.app().join("out"), supd.app().join("err"));
    fs::write(&out, "before, and longer\n").expect("a file");
    fs::write(&err, "before\n").expect("a file");
    let port = free_port();
    let program = "import os,socket
os.write(1,b'to out\\n'); os.write(2,b'to err\\n')
n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n.connect(os.environ['NOTIFY_SOCKET']); n.send(b'READY=1')
socket.socket(fileno=3).accept()
";
    let (out_path, err_path) = (out.display(), err.display());
    let cases = [
        (String::new(), "to out\nto err\n"),
        ("StandardError = \"null\"".to_owned(), "to out\n"),
        ("StandardOutput = \"null\"\nStandardError = \"auto\"".to_owned(), "to err\n"),
        ("StandardOutput = \"null\"".to_owned(), ""),
        (format!("StandardOutput = \"file:{out_path}\"\nStandardError = \"append:{err_path}\""), ""),
        ("StandardOutput = \"inherit\"".to_owned(), ""),
    ];
    for (generation, (service, logged)) in (1..).zip(&cases) {
        supd.write_unit("web", &unit(port, program, service));
        if generation == 1 {
            supd.ctl(&["daemon-reload"]).expect(0);
            supd.ctl(&["start", "web"]).expect(0);
        } else {
            supd.ctl(&["swap", "web"]).expect(0);
        }
        let log = log_of(&supd, generation);
        assert_eq!(fs::read_to_string(&log).unwrap_or_default(), *logged, "{service}");
        assert_eq!(log.exists(), !logged.is_empty(), "{service}");
    }
    // file: is written from its start and not emptied, as systemd does it.
    assert_eq!(fs::read_to_string(&out).expect("the file"), "to out\n and longer\n");
    assert_eq!(fs::read_to_string(&err).expect("the file"), "before\nto err\n");
    let own = supd.log();
    assert!(own.lines().any(|line| line == "to out") && own.lines().any(|line| line == "to err"), "{own}");

    // One that fails: what went elsewhere is not said to be nothing.
    let dies = "import os; os.write(2,b'last words\\n'); os._exit(3)";
    for (service, says) in [
        ("", "It wrote: last words"),
        ("StandardOutput = \"null\"", ""),
        ("StandardError = \"null\"", "It wrote nothing."),
    ] {
        supd.write_unit("web", &unit(port, dies, service));
        let failed = supd.ctl(&["swap", "web"]).expect(1);
        assert!(failed.text().contains(says), "{says:?} is not said:\n{failed}");
        assert_eq!(failed.text().contains("It wrote"), !says.is_empty(), "{failed}");
    }
}

/// As fast as the disk takes it, three times, with and without rest in between.
fn a_gigabyte_in_bursts() {
    let mut logged = Logged::start(&Setup::default(), "LogMaxSize = \"1M\"");
    let rss = proc::rss_kib(logged.supd.pid());
    let mut newest = 0;
    for mib in [1024, 64, 3] {
        let began = Instant::now();
        let peak = logged.watch(&format!("lines {mib}"));
        newest += mib * 1024;
        println!("{mib} MiB in {:?}: at most {} MiB at once", began.elapsed(), peak / MIB);
        logged.is_capped(MIB, newest - 1);
    }
    logged.done("lines 40");
    logged.done("lines 1");
    logged.is_capped(MIB, newest + 41 * 1024 - 1);
    let status = logged.supd.ctl(&["status", "web"]).expect(0);
    assert!(status.took < Duration::from_secs(5), "{status}");
    assert!(proc::peak_rss_kib(logged.supd.pid()) < rss + 4096, "supd grew by what workers wrote");
}

/// A worker that writes 50 MiB a second for six seconds is never further above the cap than by what it
/// writes in a second, and by what it does while a trim takes its time.
fn the_bound_while_it_goes_on() {
    let mut logged = Logged::start(&Setup::default(), "LogMaxSize = \"1M\"");
    let peak = logged.watch("paced 300");
    println!("50 MiB/s for 6 s: at most {} MiB at once", peak / MIB);
    assert!(peak < 110 * MIB, "{} MiB", peak / MIB);
    logged.is_capped(MIB, 300 * 1024 - 1);
}

fn a_line_without_end() {
    let mut logged = Logged::start(&Setup::default(), "LogMaxSize = \"1M\"");
    logged.done("endless 64");
    logged.done("say the end");
    let log = logged.log();
    wait_until("the log to be below LogMaxSize", SOON, || on_disk(&log) <= MIB);
    assert!(text(&log).ends_with("xxxthe end\n"));
    logged.done("lines 2");
    logged.is_capped(MIB, 2047);
}

/// It goes on where it was: behind a hole, which takes nothing of the disk and hides nothing.
fn a_writer_that_does_not_append() {
    let mut logged = Logged::start(&Setup::default(), "LogMaxSize = \"1M\"");
    logged.done("lines 8");
    logged.is_capped(MIB, 8 * 1024 - 1);
    logged.done("plain");
    let mut newest = 8 * 1024;
    for mib in [8, 64, 8] {
        logged.done(&format!("lines {mib}"));
        newest += mib * 1024;
        logged.is_capped(MIB, newest - 1);
    }
    logged.done("say the end");
    assert!(text(&logged.log()).ends_with("\nthe end\n"));
}

/// A candidate that writes 200 MiB and dies of it: its last 20 lines are shown, whatever is trimmed
/// meanwhile.
fn last_words_of_a_flood() {
    let logged = Logged::start(&Setup::default(), "");
    let dies = "import os,time
for i in range(200): os.write(1,b'y'*(1<<20)); time.sleep(0.005)
for i in range(30): os.write(2,b'\\x1b[31mlast words %d\\n' % i)
os._exit(3)
";
    logged.supd.write_unit("web", &unit(logged.port, dies, "LogMaxSize = \"64K\""));
    let failed = logged.supd.ctl(&["swap", "web"]).expect(1);
    let words: Vec<String> = (10..30).map(|number| format!("| last words {number}\n")).collect();
    let words = words.concat().replace('\n', "\n  ");
    assert!(failed.text().contains(words.trim_end()), "{failed}");
    assert!(!failed.text().contains("last words 9"), "more than 20 lines:\n{failed}");
}

/// Written faster than supd can hear of the launch, and then nothing any more.
fn filled_before_it_is_watched() {
    let supd = Supd::start();
    let program = "import os,socket
for i in range(8192): os.write(1,b'line %010d %s\\n' % (i,b'x'*1007))
n=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); n.connect(os.environ['NOTIFY_SOCKET']); n.send(b'READY=1')
socket.socket(fileno=3).accept()
";
    supd.launch("web", &unit(free_port(), program, "LogMaxSize = \"1M\""));
    let log = log_of(&supd, 1);
    wait_until("the log to be below LogMaxSize", SOON, || (1..=MIB).contains(&on_disk(&log)));
    assert_eq!(text(&log).lines().last().and_then(number), Some(8191));
}

/// Removed under a worker that writes: nothing stops, and the next generation has a log again.
fn a_folder_that_is_removed() {
    let mut logged = Logged::start(&Setup::default(), "LogMaxSize = \"1M\"");
    let folder = logged.supd.state_folder().join("logs");
    fs::remove_dir_all(&folder).expect("removing the logs");
    logged.done("lines 8");
    wait_until("supd to say it", SOON, || logged.supd.log().contains("its log "));
    logged.supd.ctl(&["swap", "web"]).expect(0);
    let mut orders = connect(logged.port);
    writeln!(orders.get_mut(), "say hello").expect("an order");
    let mut answer = String::new();
    orders.read_line(&mut answer).expect("an answer");
    assert_eq!(fs::read_to_string(log_of(&logged.supd, 2)).expect("a new log"), "hello\n");
}

/// Something else is where the folder should be: the worker runs, what it writes goes where supd's own
/// log goes, and that is said.
fn a_log_that_cannot_be_opened() {
    let logged = Logged::start(&Setup::default(), "");
    let folder = logged.supd.state_folder().join("logs/web");
    fs::remove_dir_all(&folder).expect("removing the logs");
    fs::write(&folder, "no folder").expect("a file in its place");
    logged.supd.ctl(&["swap", "web"]).expect(0);
    let mut orders = connect(logged.port);
    writeln!(orders.get_mut(), "say hello").expect("an order");
    let mut answer = String::new();
    orders.read_line(&mut answer).expect("an answer");
    let own = logged.supd.log();
    assert!(own.lines().any(|line| line == "hello"), "{own}");
    wait_until("supd to say it", SOON, || logged.supd.log().contains("web/g2: its log "));
}

/// A log is looked at once after it was written to, and then never again.
fn rest_when_nobody_writes() {
    let mut logged = Logged::start(&Setup::default(), "LogMaxSize = \"1M\"");
    logged.done("lines 4");
    logged.is_capped(MIB, 4 * 1024 - 1);
    let pids = [Some(logged.supd.pid()), logged.supd.writer()];
    let turns = || pids.iter().flatten().map(|pid| proc::switches(*pid)).sum::<u64>();
    wait_until("supd to rest", SOON, || {
        let before = turns();
        pause(Duration::from_millis(1500));
        turns() == before
    });
    let before = turns();
    pause(Duration::from_secs(5));
    assert_eq!(turns(), before, "supd does something although nobody writes");
    // And it still hears the next one.
    logged.done("lines 4");
    logged.is_capped(MIB, 8 * 1024 - 1);
}

/// Where blocks cannot be taken out of a file (tmpfs), it is emptied and its end written anew.
fn a_disk_that_cannot_collapse() {
    let setup = Setup { disk: Some(("state", 512)), ..Setup::default() };
    let mut logged = Logged::start(&setup, "LogMaxSize = \"1M\"");
    logged.done("lines 64");
    logged.is_capped(MIB, 64 * 1024 - 1);
    logged.done("plain");
    logged.done("lines 64");
    logged.is_capped(MIB, 128 * 1024 - 1);
    assert!(text(&logged.log()).contains("were cut off here (LogMaxSize)"));
}

/// The worker is told ENOSPC and nobody else is; when there is room again all is as before.
fn a_full_disk() {
    let setup = Setup { disk: Some(("state", 32)), ..Setup::default() };
    let mut logged = Logged::start(&setup, "LogMaxSize = \"16M\"");
    let ballast = logged.supd.state_folder().join("ballast");
    fs::write(&ballast, vec![0; 20 << 20]).expect("ballast");
    assert_eq!(logged.order("lines 64"), "errno 28");
    let status = logged.supd.status("web");
    assert_eq!((status.state(), status.active()), ("active", Some(1)), "{}", status.0);
    fs::remove_file(&ballast).expect("removing the ballast");
    wait_until("the log to be written to again", SOON, || logged.order("say again") == "done");
    let log = logged.log();
    wait_until("the log to be below LogMaxSize", SOON, || on_disk(&log) <= 16 * MIB);
    assert!(text(&log).ends_with("again\n"));
    logged.supd.ctl(&["swap", "web"]).expect(0);
}
