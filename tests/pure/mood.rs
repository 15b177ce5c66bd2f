//! The ways in which a worker can misbehave.

/// How a worker behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Good,
    NeverReady,
    ReadyLate,
    ReadyTwice,
    DiesBeforeReady,
    DiesAtReady,
    DiesServing,
    CrashLoop,
    IgnoresTerm,
    FailsDraining,
    ExitsUnasked,
    SaysStopping,
    Forks,
    ReadyWhenTold,
    Reloads,
    Silent,
    Triggers,
    Extends,
}

/// All but the good one.
pub(crate) const MOODS: [Mood; 17] = [
    Mood::NeverReady,
    Mood::ReadyLate,
    Mood::ReadyTwice,
    Mood::DiesBeforeReady,
    Mood::DiesAtReady,
    Mood::DiesServing,
    Mood::CrashLoop,
    Mood::IgnoresTerm,
    Mood::FailsDraining,
    Mood::ExitsUnasked,
    Mood::SaysStopping,
    Mood::Forks,
    Mood::ReadyWhenTold,
    Mood::Reloads,
    Mood::Silent,
    Mood::Triggers,
    Mood::Extends,
];
