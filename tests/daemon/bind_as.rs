//! UNIX paths that a server binds for itself: by another name, and beside what an earlier one left.

use crate::harness::Supd;
use crate::intercept::{said, unit, warm_round};
use crate::{Need, Test, test, test_with};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("bind_as::by_a_link_and_after_another_chdir", by_other_names),
        test("bind_as::a_server_that_removes_nothing", removes_nothing),
        test_with("bind_as::left_over_that_is_not_the_workers", &[Need::Root], not_the_workers),
        test("bind_as::somebody_else_is_behind_it", somebody_else),
    ]
}

/// Where clients come, and where the server binds.
fn paths(supd: &Supd) -> (PathBuf, PathBuf) {
    (supd.path().join("web.sock"), supd.app().join("own.sock"))
}

fn launch(supd: &Supd, program: &str) {
    supd.launch("web", &text(supd, program));
}

fn text(supd: &Supd, program: &str) -> String {
    let (public, own) = paths(supd);
    let sockets = format!("[[Socket]]\nListenStream = {public:?}\nBindAs = {own:?}\n");
    unit(supd, &sockets, program)
}

fn ask(public: &Path) -> u32 {
    said(UnixStream::connect(public).expect("the public path"))
}

fn by_other_names() {
    let supd = Supd::start();
    let (public, _) = paths(&supd);
    symlink(supd.app(), supd.path().join("link")).expect("a link");
    let link = supd.path().join("link/own.sock");
    for bound in [format!("s.bind({link:?})"), "s.bind('own.sock'); os.chdir('/')".to_owned()] {
        let program = format!(
            "s = socket.socket(socket.AF_UNIX)
try: os.unlink('own.sock')
except FileNotFoundError: pass
{bound}
s.listen(5)
serve(s)
"
        );
        launch(&supd, &program);
        warm_round(&supd);
        assert!(supd.status("web").pids().contains(&ask(&public)));
        supd.ctl(&["stop", "web", "--now"]).expect(0);
    }
    assert!(!supd.log().contains("BindAs of no"), "{}", supd.log());
}

/// Beside another supervisor it would fail at its second start.
const CLEAN: &str = "s = socket.socket(socket.AF_UNIX); s.bind('own.sock'); s.listen(5)\nserve(s)\n";

fn removes_nothing() {
    let supd = Supd::start();
    let (public, own) = paths(&supd);
    launch(&supd, CLEAN);
    for _ in 0..2 {
        warm_round(&supd);
        assert!(supd.status("web").pids().contains(&ask(&public)));
    }
    // The same by a link; what is no socket is nobody's left-over.
    let link = supd.path().join("link");
    symlink(supd.app(), &link).expect("a link");
    supd.write_unit(
        "web",
        &text(&supd, &CLEAN.replace("'own.sock'", &format!("{:?}", link.join("own.sock")))),
    );
    supd.ctl(&["swap", "web"]).expect(0);
    fs::remove_file(&own).expect("the last one's");
    fs::write(&own, "no socket").expect("a file");
    let output = supd.ctl(&["swap", "web"]).expect(1);
    assert!(output.text().contains("Address already in use"), "{output}");
    assert_eq!(fs::read_to_string(&own).expect("the file"), "no socket");
    ask(&public);
}

/// It is taken away with the worker's rights: where the worker could not, it stays.
fn not_the_workers() {
    let supd = Supd::start();
    let (_, own) = paths(&supd);
    let folder = supd.app();
    let open = |mode: u32| {
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("its mode");
    };
    open(0o777);
    let unit = text(&supd, CLEAN).replace("[Service]\n", "[Service]\nUser = \"nobody\"\n");
    supd.launch("web", &unit);
    warm_round(&supd);
    // As /tmp is: whose file it is may take it away.
    open(0o1777);
    warm_round(&supd);
    fs::remove_file(&own).expect("the last one's");
    drop(UnixListener::bind(&own).expect("one of root's"));
    let output = supd.ctl(&["swap", "web"]).expect(1);
    assert!(output.text().contains("Address already in use"), "{output}");
    assert!(own.exists(), "root's is not nobody's to remove");
}

fn somebody_else() {
    let supd = Supd::start();
    let (_, own) = paths(&supd);
    let stranger = UnixListener::bind(&own).expect("a path");
    supd.write_unit("web", &text(&supd, CLEAN));
    supd.ctl(&["daemon-reload"]).expect(0);
    let output = supd.ctl(&["start", "web"]).expect(7);
    assert!(output.text().contains("Address already in use"), "{output}");
    let mut client = UnixStream::connect(&own).expect("it is there still");
    client.write_all(b"x").expect("a connection");
    stranger.accept().expect("whoever came");
}
