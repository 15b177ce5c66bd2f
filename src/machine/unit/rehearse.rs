//! What a request would do: asked of a copy of the unit, whose effects nobody performs.

use super::super::effect::{Action, Effect};
use super::super::event::{Event, Request};
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::{ClientId, Reply, SwapId};

/// Who asks a copy; no client has this number.
const NOBODY: ClientId = ClientId(0);

impl Unit {
    /// The refusal, or a sentence that says what would begin. Ends the copy.
    pub(in crate::machine) fn rehearse(mut self, request: Request, turn: &mut Turn<'_>) -> Reply {
        let before = self.swap.as_ref().map(|swap| swap.id);
        let installs = self.install.is_some();
        let life = std::mem::discriminant(&self.life);
        let intent = self.sets_out_to(&request);
        self.step(Event::Asked { client: NOBODY, request }, turn);
        let answered = turn.out.iter().find_map(|effect| match effect {
            Effect::Unit(_, Action::Reply(NOBODY, reply)) => Some(reply.clone()),
            Effect::Unit(..) | Effect::Reply(..) | Effect::Quit => None,
        });
        match answered {
            Some(reply) if reply.changed => {
                Reply { changed: false, text: format!("would say: {}", reply.text), ..reply }
            }
            Some(reply) => reply,
            None => {
                let changed = std::mem::discriminant(&self.life) != life;
                let begins = self.begins(before, installs).or_else(|| self.becomes().filter(|_| changed));
                Reply::done(false, format!("would {}", begins.unwrap_or(intent)))
            }
        }
    }

    /// What a request sets out to do where neither a swap nor an install begins.
    fn sets_out_to(&self, request: &Request) -> String {
        let to = self.swap.as_ref().map(|swap| format!(" to generation {}", swap.to)).unwrap_or_default();
        match request {
            Request::Start { .. } => "start it".to_owned(),
            Request::Stop { .. } => format!("end {} generation(s)", self.groups.values().count()),
            Request::Restart { .. } => "restart it".to_owned(),
            Request::Swap { .. } => "swap to what its file says now".to_owned(),
            Request::Install { label, .. } => format!("install release {label}"),
            Request::Undeploy { label } => format!("take release {label} and its files away"),
            Request::Rollback { .. } | Request::Abort => match &self.swap {
                Some(swap) => {
                    let back = swap.from.map(|from| format!(", back to generation {from}, which still runs"));
                    format!("undo the swap{to}{}", back.unwrap_or_default())
                }
                None => "go back to what was before, as soon as its program is copied".to_owned(),
            },
            Request::Share { share, .. } => format!("lead {share} of the new connections{to}"),
            Request::Drain { generation } => format!("let generation {generation} go when it has drained"),
            Request::Promote { .. } => format!("go on with the swap{to}"),
            Request::Wait { .. } => "wait".to_owned(),
            Request::Reload => "have its workers read their configuration again".to_owned(),
            Request::Kill { signal } => format!("send {signal} to its workers"),
            Request::Refresh { .. } => "take in what its file says now".to_owned(),
        }
    }

    /// What this copy has become, if that says what follows.
    fn becomes(&self) -> Option<String> {
        match &self.life {
            Life::Stopping(_) => Some(format!("end {} generation(s)", self.groups.values().count())),
            Life::Arming { .. } => Some("bind its listeners and wait for the first connection".to_owned()),
            Life::Stopped { .. } | Life::Waiting { .. } | Life::Blocked { .. } | Life::Up => None,
        }
    }

    /// The install or the swap that this copy has begun.
    fn begins(&self, before: Option<SwapId>, installs: bool) -> Option<String> {
        if let Some(install) = self.install.as_ref().filter(|_| !installs) {
            return Some(if self.release(install.label()).is_some() {
                let label = install.label();
                format!("find release {label} installed: the same content changes nothing, other is refused")
            } else {
                install.intent()
            });
        }
        let swap = self.swap.as_ref().filter(|swap| Some(swap.id) != before)?;
        let release =
            swap.plan.release.as_ref().map(|label| format!(" of release {label}")).unwrap_or_default();
        if swap.warm {
            let to = swap.to;
            return Some(format!("lead new connections to generation {to}{release}, which stands by"));
        }
        let beside = match swap.from {
            Some(from) => format!(" beside generation {from}, which goes on serving until it is ready"),
            None => String::new(),
        };
        Some(format!("launch generation {}{release}{beside}", swap.to))
    }
}
