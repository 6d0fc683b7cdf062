//! Tasks whose time is to come, several at once: far enough that they have no slot before, and so many that runs are written.

use super::super::model::Asks;
use super::super::operation::Op;
use super::super::schedule::Keyed;
use super::keyed::key_name;
use super::{Actor, Step};
use crate::format::fields::Traits;
use crate::types::{LaneId, Timestamp};

impl Actor<'_> {
    /// Tasks with delays that don't increase; some have keys, where there are any.
    pub(super) fn later(&mut self, op: Op) -> Step {
        let Op::Later { lane, tasks, delay_ms, step_ms, power } = op else { return Ok(()) };
        for number in 0..tasks {
            let delay_ms = u64::from(delay_ms) + u64::from(step_ms) * u64::from(number * 5 % tasks);
            let run_at = self.now.wall.0 + delay_ms;
            let asks = Asks { run_at: Some(run_at), ..Asks::default() };
            let key = Some(number % 4).filter(|_| self.setting.keyed != Keyed::No && number % 2 == 0);
            let name = key.map(|key| key_name(self.engine.queue(), key));
            let traits = Traits { run_at: Some(Timestamp(run_at)), key: name.as_deref(), ..Traits::default() };
            self.enqueue_with(LaneId(lane), 9, power, &traits, |task| (task.asks, task.key) = (asks, key))?;
        }
        Ok(())
    }
}
