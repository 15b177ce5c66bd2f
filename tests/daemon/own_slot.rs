//! What reaches one generation and no other: checks of a candidate.

use crate::harness::{Supd, free_port};
use crate::wait::{SOON, wait_until};
use crate::{Test, test};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("own_slot::health_is_the_candidates_own", health_is_the_candidates_own),
        test("own_slot::worker_that_never_accepts", worker_that_never_accepts),
    ]
}

/// Where one listens, or a client goes.
#[derive(Debug, Clone)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What one request came to.
#[derive(Debug)]
struct Answer {
    version: String,
}

fn get(place: &Place) -> Answer {
    match place {
        Place::Tcp(address) => ask(TcpStream::connect(address).expect("a listener")),
        Place::Unix(path) => ask(UnixStream::connect(path).expect("a listener")),
    }
}

fn ask(mut stream: impl Read + Write) -> Answer {
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let served = header("X-Served-By: ").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let version = served.split('/').next().unwrap_or_default().to_owned();
    Answer { version }
}

/// A unit of three listeners with an app whose files say how it is.
struct Stage {
    supd: Supd,
    ports: [u16; 2],
    folder: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let supd = Supd::start();
        let folder = supd.path().join("says");
        fs::create_dir(&folder).expect("a folder");
        Self { supd, ports: [free_port(), free_port()], folder }
    }

    fn places(&self) -> [Place; 3] {
        [
            Place::Tcp((Ipv4Addr::LOCALHOST, self.ports[0]).into()),
            Place::Tcp((Ipv6Addr::LOCALHOST, self.ports[1]).into()),
            Place::Unix(self.supd.path().join("web.sock")),
        ]
    }

    fn unit(&self, version: u32, ready: &str, timeout: &str) -> String {
        let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/apart.py");
        let (folder, path) = (self.folder.display(), self.supd.path().join("web.sock"));
        let [four, six] = self.ports;
        format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"0.0.0.0:{four}\"\n\
             [[Socket]]\nName = \"six\"\nListenStream = \"[::1]:{six}\"\n\
             [[Socket]]\nName = \"unix\"\nListenStream = {path:?}\n\
             [Service]\nExecStart = [\"/usr/bin/python3\", \"{app}\", \"{version}\", \"{folder}\"]\n\
             Ready = \"{ready}\"\nReadySettleSec = \"0\"\nTimeoutStartSec = \"{timeout}\"\n\
             [Swap]\nRetain = \"warm\"\nProbationSec = \"0\"\nDrainSec = \"0\"\n"
        )
    }

    fn say(&self, what: &str) {
        fs::write(self.folder.join(what), "").expect("a file");
    }

    fn unsay(&self, what: &str) {
        fs::remove_file(self.folder.join(what)).expect("a file");
    }

    /// How often this version's /health was asked.
    fn asked(&self, version: u32) -> usize {
        fs::read_to_string(self.folder.join(format!("asked-{version}"))).unwrap_or_default().lines().count()
    }

    fn all_reach(&self, version: &str) {
        for place in self.places() {
            for _ in 0..20 {
                assert_eq!(get(&place).version, version, "{place:?}");
            }
        }
    }
}

fn health_is_the_candidates_own() {
    for listener in ["http", "six", "unix"] {
        let stage = Stage::new();
        let ready = format!("http://{{{listener}}}/health");
        stage.say("well-1");
        stage.supd.launch("web", &stage.unit(1, &ready, "60s"));
        let asked = stage.asked(1);
        assert!(asked > 0, "ready without a check");
        stage.supd.write_unit("web", &stage.unit(2, &ready, "60s"));
        let swap = stage.supd.ctl_start(&["swap", "web"]);
        wait_until("the candidate to be asked twice", SOON, || stage.asked(2) >= 2);
        assert_eq!(stage.supd.status("web").active(), Some(1));
        stage.all_reach("1");
        stage.say("well-2");
        swap.finish(SOON).expect(0);
        assert_eq!((stage.asked(1), stage.supd.status("web").active()), (asked, Some(2)), "{listener}");
        stage.all_reach("2");
        // The reason is told.
        stage.supd.write_unit("web", &stage.unit(3, &ready, "2s"));
        let failed = stage.supd.ctl(&["swap", "web"]).expect(1);
        assert!(failed.text().contains("GET /health: it answered with 503"), "{failed}");
        assert_eq!(stage.supd.status("web").active(), Some(2));
    }
}

/// supd listens, so that connecting always works: for each listener it is asked who accepts.
fn worker_that_never_accepts() {
    let stage = Stage::new();
    stage.supd.launch("web", &stage.unit(1, "tcp", "60s"));
    for deaf in 0..3 {
        let version = 2 + deaf;
        stage.say(&format!("deaf-{version}-{deaf}"));
        stage.supd.write_unit("web", &stage.unit(version, "tcp", "2s"));
        let failed = stage.supd.ctl(&["swap", "web"]).expect(1);
        assert!(failed.text().contains("was not ready within 2s"), "{failed}");
        assert_eq!(stage.supd.status("web").active(), Some(1));
        stage.all_reach("1");
    }
    // It is waited for.
    stage.say("deaf-9-1");
    stage.supd.write_unit("web", &stage.unit(9, "tcp", "60s"));
    let swap = stage.supd.ctl_start(&["swap", "web"]);
    wait_until("the candidate", SOON, || !stage.supd.status("web").pids_in(5).is_empty());
    stage.all_reach("1");
    assert_eq!(stage.supd.status("web").active(), Some(1));
    stage.unsay("deaf-9-1");
    swap.finish(SOON).expect(0);
    stage.all_reach("9");
}
