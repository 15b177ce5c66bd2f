//! Connections that stay where they were after a way back: they end there, not at once.

use super::context::Context;
use super::failure::Failure;
use crate::codec::json::{GenerationView, StatusView};
use crate::codec::varlink::{Meta, Method};
use crate::model::{ExitStatus, UnitName};
use std::time::Duration;

/// Says how many are left after a rollback. The answer is printed by then: to count takes a moment.
pub(super) fn tell(context: &Context, unit: &UnitName) -> Result<(), Failure> {
    if !context.json && !context.meta.dry_run {
        context.print(lines(context, unit))?;
    }
    Ok(())
}

/// The same where supd went back by itself.
pub(super) fn told(
    context: &Context,
    unit: &UnitName,
    result: Result<ExitStatus, Failure>,
) -> Result<ExitStatus, Failure> {
    let back = |failure: &Failure| failure.status == ExitStatus::RolledBack && !context.json;
    result.map_err(|mut failure| {
        if back(&failure) {
            failure.details.extend(lines(context, unit).into_iter().map(|line| line.trim().to_owned()));
        }
        failure
    })
}

fn lines(context: &Context, unit: &UnitName) -> Vec<String> {
    let method = Method::Status { unit: Some(unit.clone()), count: true };
    let asked = context.client().and_then(|client| client.ask(&method, &Meta::default(), None));
    // It is said of what has happened already: where supd cannot be asked, that stands by itself.
    let status: StatusView =
        asked.ok().and_then(|answer| serde_json::from_str(answer.raw()).ok()).unwrap_or_default();
    let unit = status.units.into_iter().next().unwrap_or_default();
    let active = unit.active;
    unit.generations.iter().filter(|one| Some(one.generation) != active).filter_map(line).collect()
}

fn line(one: &GenerationView) -> Option<String> {
    let stays = if one.state == "standby" { "stands by" } else { "ends once they have" };
    let count = match one.connections? {
        0 => return None,
        1 => "1 connection is".to_owned(),
        count => format!("{count} connections are"),
    };
    // A count is news for a while: this one may be from before the switch.
    let age = Duration::from_millis(one.counted_ms.unwrap_or_default());
    let as_of = format!("{}.{}s", age.as_secs(), age.subsec_millis() / 100);
    Some(format!("  {count} still on generation {} (as of {as_of} ago), which {stays}", one.generation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_there_is_told() {
        let one = |state: &str, connections| {
            line(&GenerationView {
                generation: 7,
                state: state.to_owned(),
                connections,
                counted_ms: Some(456),
                ..Default::default()
            })
        };
        assert_eq!(one("standby", None), None);
        assert_eq!(one("standby", Some(0)), None);
        let told = one("standby", Some(1));
        let expected = "  1 connection is still on generation 7 (as of 0.4s ago), which stands by";
        assert_eq!(told.as_deref(), Some(expected));
        let told = one("draining", Some(20));
        assert_eq!(
            told.as_deref(),
            Some("  20 connections are still on generation 7 (as of 0.4s ago), which ends once they have")
        );
    }
}
