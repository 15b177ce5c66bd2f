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
            None => Reply::done(false, format!("would {}", self.begins(before))),
        }
    }

    /// What this copy has begun.
    fn begins(&self, before: Option<SwapId>) -> String {
        if let Some(install) = &self.install {
            return if self.release(install.label()).is_some() {
                let label = install.label();
                format!("find release {label} installed: the same content changes nothing, other is refused")
            } else {
                install.intent()
            };
        }
        let Some(swap) = self.swap.as_ref().filter(|swap| Some(swap.id) != before) else {
            return match &self.life {
                Life::Stopping(_) => format!("end {} generation(s)", self.groups.values().count()),
                Life::Arming { .. } => "bind its listeners and wait for the first connection".to_owned(),
                Life::Stopped { .. } | Life::Waiting { .. } | Life::Blocked { .. } | Life::Up => {
                    "do as asked".to_owned()
                }
            };
        };
        let release =
            swap.plan.release.as_ref().map(|label| format!(" of release {label}")).unwrap_or_default();
        if swap.warm {
            return format!("lead new connections to generation {}{release}, which stands by", swap.to);
        }
        let beside = match swap.from {
            Some(from) => format!(" beside generation {from}, which goes on serving until it is ready"),
            None => String::new(),
        };
        format!("launch generation {}{release}{beside}", swap.to)
    }
}
