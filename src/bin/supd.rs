//! The supd program; all of it lives in the library.

fn main() -> std::process::ExitCode {
    supd::daemon::main()
}
