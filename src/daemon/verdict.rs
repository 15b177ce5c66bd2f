//! What ExecStop and ExecStopPost are told of the end of their worker: SERVICE_RESULT, EXIT_CODE and
//! EXIT_STATUS, in the words of systemd.exec(5). And what ExecOnFailure is told of its unit.

use crate::machine::{Failure, FailureKind, Fault, JobKind};
use crate::model::settings::Service;
use crate::model::{Signal, WorkerExit};
use crate::os::spawn::Variable;

/// Signals that end a server as its operator meant it (systemd.service(5), SuccessExitStatus=).
const CLEAN: [Signal; 4] = [Signal(1), Signal(2), Signal(13), Signal::TERM];

/// The variables of a command of this kind; `exit` is that of the worker's main process, once it has
/// ended, and `fault` why supd ended it, where it did.
pub(super) fn variables(
    kind: JobKind,
    exit: Option<WorkerExit>,
    fault: Option<Fault>,
    service: &Service,
) -> Vec<Variable> {
    if !matches!(kind, JobKind::Stop | JobKind::StopPost) {
        return Vec::new();
    }
    let set = &service.success_exit_status;
    let (result, how) = match exit {
        None if kind == JobKind::Stop => ("success", None),
        // There was no process, or nobody can say how it ended.
        None | Some(WorkerExit::Unknown) => ("resources", None),
        Some(WorkerExit::Code(code)) => {
            let fine = code == 0 || set.codes.contains(&code);
            (if fine { "success" } else { "exit-code" }, Some(("exited", code.to_string())))
        }
        Some(WorkerExit::Killed { signal, core }) => {
            let fine = set.signals.contains(&signal) || (!core && CLEAN.contains(&signal));
            let name = signal.to_string();
            let name = name.strip_prefix("SIG").unwrap_or(&name).to_owned();
            let (result, code) = if core { ("core-dump", "dumped") } else { ("signal", "killed") };
            (if fine { "success" } else { result }, Some((code, name)))
        }
    };
    // How it took what supd did to it is not the reason.
    let result = match fault {
        Some(Fault::TimedOut) => "timeout",
        Some(Fault::Watchdog) => "watchdog",
        Some(Fault::Hook) => "exit-code",
        Some(Fault::Unlaunched) | None => result,
    };
    let mut variables: Vec<Variable> = vec![("SERVICE_RESULT".into(), result.into())];
    if let Some((code, status)) = how {
        variables.push(("EXIT_CODE".into(), code.into()));
        variables.push(("EXIT_STATUS".into(), status.into()));
    }
    variables
}

/// The variables of ExecOnFailure: SUPD_FAILURE and SUPD_REASON; and where the end of a worker was the reason,
/// what ExecStopPost is told of it.
pub(super) fn of_failure(failure: &Failure, service: &Service) -> Vec<Variable> {
    let mut told: Vec<Variable> = vec![
        ("SUPD_FAILURE".into(), failure.what.word().into()),
        ("SUPD_REASON".into(), failure.reason.as_str().into()),
    ];
    if failure.exit.is_some() {
        told.extend(variables(JobKind::StopPost, failure.exit, None, service));
    }
    if failure.what == FailureKind::StartLimit {
        told.retain(|(name, _)| name != "SERVICE_RESULT");
        told.push(("SERVICE_RESULT".into(), "start-limit-hit".into()));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::testbed::settings;
    use super::*;

    #[test]
    fn the_words_are_systemds() {
        let settings =
            settings("User = \"nobody\"\nExecStart = \"/bin/true\"\nSuccessExitStatus = [3, \"SIGUSR1\"]");
        let blamed = |kind, exit, fault| {
            let all = variables(kind, exit, fault, &settings.service);
            let values = all.into_iter().map(|(_, value)| value.into_string().unwrap());
            values.collect::<Vec<_>>().join(" ")
        };
        let told = |kind, exit| blamed(kind, exit, None);
        let killed = |signal, core| Some(WorkerExit::Killed { signal: Signal(signal), core });
        for (exit, words) in [
            (None, "resources"),
            (Some(WorkerExit::Unknown), "resources"),
            (Some(WorkerExit::Code(0)), "success exited 0"),
            (Some(WorkerExit::Code(3)), "success exited 3"),
            (Some(WorkerExit::Code(4)), "exit-code exited 4"),
            (killed(15, false), "success killed TERM"),
            (killed(10, false), "success killed USR1"),
            (killed(9, false), "signal killed KILL"),
            (killed(11, true), "core-dump dumped SEGV"),
        ] {
            assert_eq!(told(JobKind::StopPost, exit), words);
        }
        for (exit, fault, words) in [
            (killed(15, false), Fault::TimedOut, "timeout killed TERM"),
            (killed(9, false), Fault::TimedOut, "timeout killed KILL"),
            (None, Fault::TimedOut, "timeout"),
            (killed(6, true), Fault::Watchdog, "watchdog dumped ABRT"),
            (Some(WorkerExit::Code(0)), Fault::Watchdog, "watchdog exited 0"),
            (killed(15, false), Fault::Hook, "exit-code killed TERM"),
            (None, Fault::Unlaunched, "resources"),
        ] {
            assert_eq!(blamed(JobKind::StopPost, exit, Some(fault)), words);
        }
        assert_eq!(told(JobKind::Stop, None), "success");
        assert_eq!(told(JobKind::StartPre, None), "");
    }
}
