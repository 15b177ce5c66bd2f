//! The supctl program; all of it lives in the library. Called by the name supd it is supd: so
//! `supctl demo` has a supd of its own version, even where no other program was built.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "supd") {
        return supd::daemon::main();
    }
    supd::ctl::main()
}
