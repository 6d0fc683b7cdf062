//! Pauses and resumes.

use super::super::model::{Held, Violation};
use super::{Actor, Step};
use crate::engine::pause::Pausable;
use crate::types::LaneId;

impl Actor<'_> {
    /// Pauses the lane, or else the group, or resumes it.
    pub(super) fn pause(&mut self, lane: Option<LaneId>, at: usize, resumes: bool) -> Step {
        let what = match lane {
            Some(lane) => Pausable::Lane(lane),
            None => {
                let name = &self.model.sides[at].name;
                let cell = self.engine.group(name).map_err(|error| Violation(format!("a group is gone: {error}")))?;
                Pausable::Group(cell.id)
            }
        };
        let outcome = self.call(|actor| match resumes {
            true => actor.engine.resume(what, actor.now.wall),
            false => actor.engine.pause(what, actor.now.wall),
        });
        let held = match lane {
            Some(lane) => self.model.lanes_held.entry(lane).or_default(),
            None => &mut self.model.sides[at].held,
        };
        match outcome {
            Ok(_) => held.set(!resumes),
            Err(_) => Held::maybe(held, !resumes),
        }
        outcome.map(drop)
    }
}
