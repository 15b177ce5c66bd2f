//! Reads a scenario, as steps print themselves.

use crate::knobs::{Knobs, parse_span};
use crate::step::{Act, Ask, JOBS, Say, Step, Turn, UNITS, WAITS, WorkerRef, find};
use supd::model::{Signal, WaitFor, WorkerExit};

/// Reads a whole scenario: one step a line, `#` begins a remark.
pub(crate) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        if !words.is_empty() {
            steps.push(parse_step(&words).map_err(|fault| format!("line {}: {fault}", number + 1))?);
        }
    }
    Ok(steps)
}

fn parse_step(words: &[&str]) -> Result<Step, String> {
    match *words {
        ["unit" | "new" | "edit", unit, ref knobs @ ..] => {
            let unit = parse_unit(unit)?;
            let knobs = knobs.iter().try_fold(Knobs::default(), |set, word| set.parse(word))?;
            Ok(match words[0] {
                "edit" => Step::Edit { unit, knobs },
                word => Step::Unit { unit, knobs, later: word == "new" },
            })
        }
        [client, "asks", unit, ref ask @ ..] => {
            let (client, unit) = (parse_client(client)?, parse_unit(unit)?);
            Ok(Step::Asks { client, unit, ask: parse_ask(ask)? })
        }
        [client, "hangs-up"] => Ok(Step::HangsUp { client: parse_client(client)? }),
        [client, "shutdown"] => Ok(Step::Shutdown { client: Some(parse_client(client)?) }),
        ["shutdown"] => Ok(Step::Shutdown { client: None }),
        ["advance", span] => Ok(Step::Advance(parse_span(span)?)),
        ["clock"] => Ok(Step::Clock),
        ["deadline"] => Ok(Step::Deadline),
        ["late", span] => Ok(Step::Late(parse_span(span)?)),
        ["crash", after, saved, ref kept @ ..] if matches!(kept, [] | ["kept"]) => Ok(Step::Crash {
            after: parse_count("after=", after)?,
            saved: parse_count("saved=", saved)?,
            kept: !kept.is_empty(),
        }),
        ["reboot", saved] => Ok(Step::Reboot { saved: parse_count("saved=", saved)? }),
        ["boot"] => Ok(Step::Boot),
        ["marked"] => Ok(Step::Marked),
        ["released"] => Ok(Step::Released),
        ["run", span] => Ok(Step::Run(parse_span(span)?)),
        ["settle"] => Ok(Step::Settle),
        ["expect", ..] => Ok(Step::Expect(words[1..].join(" "))),
        [unit, "forged", say] => Ok(Step::Forged { unit: parse_unit(unit)?, say: parse_say(say)? }),
        [subject, ref act @ ..] => match subject.split_once('/') {
            Some((unit, rest)) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Step::Worker(parse_worker(unit, rest)?, parse_act(act)?))
            }
            Some((unit, job)) => {
                let kind = find(&JOBS, job).ok_or_else(|| format!("no job {job:?}"))?;
                let passes = match *act {
                    ["passes"] => true,
                    ["fails"] => false,
                    _ => return Err("a job passes or fails".to_owned()),
                };
                Ok(Step::Job { unit: parse_unit(unit)?, kind, passes })
            }
            None => {
                let turn = find(&Turn::ALL, act.join(" ").as_str());
                let turn = turn.ok_or_else(|| format!("{:?} is no step", words.join(" ")))?;
                Ok(Step::At { unit: parse_unit(subject)?, turn })
            }
        },
        [] => Err("an empty step".to_owned()),
    }
}

fn parse_unit(word: &str) -> Result<usize, String> {
    UNITS.iter().position(|unit| *unit == word).ok_or_else(|| format!("no unit {word:?}"))
}

fn parse_client(word: &str) -> Result<u64, String> {
    let number = word.strip_prefix('c').and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("{word:?} is no client: say c1"))
}

fn parse_count<T: std::str::FromStr>(prefix: &str, word: &str) -> Result<T, String> {
    let number = word.strip_prefix(prefix).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("{word:?} is not {prefix}NUMBER"))
}

fn parse_worker(unit: &str, rest: &str) -> Result<WorkerRef, String> {
    let fault = || format!("{rest:?} is no worker: say web/2.0 or web/2.0~1");
    let (rest, back) = rest.split_once('~').unwrap_or((rest, "0"));
    let (generation, index) = rest.split_once('.').ok_or_else(fault)?;
    Ok(WorkerRef {
        unit: parse_unit(unit)?,
        generation: generation.parse().map_err(|_| fault())?,
        index: index.parse().map_err(|_| fault())?,
        back: back.parse().map_err(|_| fault())?,
    })
}

fn parse_act(words: &[&str]) -> Result<Act, String> {
    Ok(match *words {
        ["spawned"] => Act::Spawned,
        ["spawn-fails"] => Act::SpawnFails,
        ["says", say] => Act::Says(parse_say(say)?),
        ["dies", exit] => Act::Dies(parse_exit(exit)?),
        ["reaped"] => Act::Reaped,
        ["exits", exit] => Act::Exits(parse_exit(exit)?),
        ["forks"] => Act::Forks,
        ["leftovers-end"] => Act::LeftoversEnd,
        ["swept"] => Act::Swept,
        _ => return Err(format!("{:?} is nothing that a worker does", words.join(" "))),
    })
}

fn parse_exit(word: &str) -> Result<WorkerExit, String> {
    let fault = || format!("{word:?} is no exit: say 0, SIG9, SIG6core or unknown");
    if word == "unknown" {
        return Ok(WorkerExit::Unknown);
    }
    let Some(signal) = word.strip_prefix("SIG") else {
        return Ok(WorkerExit::Code(word.parse().map_err(|_| fault())?));
    };
    let (number, core) = signal.strip_suffix("core").map_or((signal, false), |number| (number, true));
    let signal = Signal::parse(number).ok_or_else(fault)?;
    Ok(WorkerExit::Killed { signal, core })
}

fn parse_say(word: &str) -> Result<Say, String> {
    let plain = [
        ("ready", Say::Ready),
        ("listening", Say::Listening),
        ("waits", Say::Waits),
        ("reloading", Say::Reloading),
        ("reloading-old", Say::ReloadingOld),
        ("reloading-bare", Say::ReloadingBare),
        ("stopping", Say::Stopping),
        ("alive", Say::Alive),
        ("trigger", Say::Trigger),
        ("reset", Say::Reset),
        ("status", Say::Status),
    ];
    if let Some(span) = word.strip_prefix("period=") {
        return Ok(Say::Period(parse_span(span)?));
    }
    if let Some(span) = word.strip_prefix("extend=") {
        return Ok(Say::Extend(parse_span(span)?));
    }
    find(&plain, word).ok_or_else(|| format!("{word:?} is nothing that a worker says"))
}

fn parse_ask(words: &[&str]) -> Result<Ask, String> {
    let [verb, ref options @ ..] = *words else { return Err("asks what?".to_owned()) };
    let mut wait = WaitFor::Committed;
    let (mut from, mut canary) = (None, None);
    let mut set = Vec::new();
    for option in options {
        if let Some(word) = option.strip_prefix("wait=") {
            wait = find(&WAITS, word).ok_or_else(|| format!("cannot wait for {word:?}"))?;
        } else if option.starts_with("from=") {
            from = Some(parse_count("from=", option)?);
        } else if option.starts_with("canary=") {
            canary = Some(parse_count("canary=", option)?);
        } else {
            set.push(*option);
        }
    }
    let has = |word: &str| set.contains(&word);
    let label = || set.first().and_then(|word| word.parse().ok()).ok_or("which release? say 1");
    Ok(match verb {
        "start" => Ask::Start(wait),
        "stop" => Ask::Stop { now: has("now"), keep_listening: has("keep-listening") },
        "restart" => Ask::Restart(wait),
        "swap" => {
            let (unbound, hold) = (has("unbound"), has("hold"));
            Ask::Swap { unbound, hold, canary, replace: has("replace"), wait }
        }
        "rollback" => Ask::Rollback { from, stop: has("stop"), anyway: has("anyway"), wait },
        "swap-to" => Ask::SwapTo { label: label()?, wait },
        "install" | "deploy" => Ask::Install { label: label()?, deploy: verb == "deploy", wait },
        "undeploy" => Ask::Undeploy(label()?),
        "rollback-to" => Ask::RollbackTo { label: label()?, wait },
        "share" => {
            Ask::Share(set.first().and_then(|word| word.parse().ok()).ok_or("which share? say 500")?, wait)
        }
        "drain" => Ask::Drain(set.first().and_then(|word| word.parse().ok()).ok_or("drain whom?")?),
        "promote" => Ask::Promote(wait),
        "abort" => Ask::Abort,
        "wait" => Ask::Wait(wait),
        "reload" => Ask::Reload,
        "kill" => Ask::Kill(set.first().and_then(|word| Signal::parse(word)).ok_or("kill by which signal?")?),
        "refresh" => Ask::Refresh,
        _ => return Err(format!("no verb {verb:?}")),
    })
}

#[test]
fn what_is_printed_is_read_again() {
    let text = "unit web workers=2 settle=1s
new api start=manual
edit web probation=0s
c1 asks web start wait=ready
c1 asks web stop now keep-listening
c2 asks api swap hold replace wait=drained
c3 asks web rollback from=3 stop anyway
c4 asks web kill 1
c5 asks web wait wait=active
c6 asks web deploy 1 wait=ready
c7 asks web install 2
c8 asks web undeploy 2
c8 asks web swap-to 1 wait=drained
c8 asks web rollback-to 3
c8 asks web drain 2
c8 asks web share 2500 wait=active
c8 asks web swap canary=100
c3 hangs-up
c9 shutdown
shutdown
web bound
web orphaned
web unpacked-other
web/install fails
web/2.0 spawned
web/12.1~2 says extend=1500ms
web/2.0 dies SIG9
web/2.0 exits SIG6core
web/2.0 exits 255
web/2.0 dies unknown
api/ready-check fails
web/check passes
web forged reloading-old
advance 1ms
clock
deadline
late 3600s
crash after=3 saved=1
marked
released
reboot saved=0
boot
run 10s
settle
expect web active=2";
    let steps = parse(text).unwrap();
    let printed: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(printed.join("\n"), text);
    for bad in
        ["web", "web jumps", "web/x.1 spawned", "c1 asks web", "unit web workers=4", "web/2.0 exits SIG99"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
