//! One line for each effect, for people who read a trace.

use supd::machine::{Action, Effect, JobWork};

/// One line for the trace.
pub(crate) fn print_effect(effect: &Effect) -> String {
    match effect {
        Effect::Unit(name, Action::Spawn { worker, index, launch }) => format!(
            "{name}: Spawn worker {worker} = {name}/{}.{index} of {} origin {}{}",
            launch.generation,
            launch.settings.description,
            launch.origin,
            if launch.pinned { " pinned" } else { "" }
        ),
        Effect::Unit(name, Action::Bind { job, settings }) => {
            format!("{name}: Bind {job} {}", settings.description)
        }
        Effect::Unit(name, Action::Listen(list)) => format!("{name}: Listen {}", versions(list)),
        Effect::Unit(name, Action::HoldOff(list)) => format!("{name}: HoldOff {}", versions(list)),
        Effect::Unit(name, Action::CloseExcept(list)) => format!("{name}: CloseExcept {}", versions(list)),
        Effect::Unit(name, Action::Run { job, work: JobWork::Tell(_, failure), launch, .. }) => {
            let (what, generation) = (failure.what.word(), launch.generation);
            format!("{name}: Run job {job} {what} of generation {generation}: {}", failure.reason)
        }
        Effect::Unit(name, Action::Run { job, kind, launch, worker, .. }) => {
            format!("{name}: Run job {job} {kind:?} of generation {} for {worker:?}", launch.generation)
        }
        Effect::Unit(name, Action::Lend(launch)) => format!("{name}: Lend {}", launch.generation),
        Effect::Unit(name, Action::Pin(launch)) => format!("{name}: Pin {}", launch.generation),
        Effect::Unit(name, Action::Note { level, text, .. }) => format!("{name}: {level:?}: {text}"),
        Effect::Unit(name, Action::Record { id, record, client }) => {
            let durable = &record.durable;
            let number = |kept: &Option<supd::model::Kept>| {
                kept.as_ref().map_or("-".to_owned(), |kept| kept.generation.to_string())
            };
            format!(
                "{name}: Record {id} {:?} for {client:?}: {:?} last {} active {} previous {} retained {} forward {}",
                record.happening,
                durable.want,
                durable.generation_last,
                number(&durable.active),
                number(&durable.previous),
                number(&durable.retained),
                number(&durable.forward)
            )
        }
        Effect::Unit(name, Action::Unpack { job, label, settings, client }) => {
            format!("{name}: Unpack {job} {label} for {client} of {}", settings.description)
        }
        Effect::Unit(name, Action::Place { job, label, .. }) => format!("{name}: Place {job} {label}"),
        Effect::Unit(name, Action::Seal { job, label, .. }) => format!("{name}: Seal {job} {label}"),
        Effect::Unit(name, action) => format!("{name}: {action:?}"),
        Effect::Reply(..) | Effect::Quit => format!("{effect:?}"),
    }
}

fn versions(list: &[std::sync::Arc<supd::model::Settings>]) -> String {
    let words: Vec<&str> = list.iter().map(|settings| settings.description.as_str()).collect();
    format!("[{}]", words.join(" "))
}
