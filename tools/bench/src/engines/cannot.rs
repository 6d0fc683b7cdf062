//! Servers that were tried, and can't keep what a queue's run asks for: an ack that has happened when the call returns.
//! They are shown as such, with the reason, and never measured.

use anyhow::anyhow;

use super::server::Program;
use crate::engine::{Durability, Engine, Need, Setup, Store};

/// A server, and what was found when its adapter was tried.
pub struct Tried {
    name: &'static str,
    program: &'static Program,
    reason: &'static str,
}

static NATS_SERVER: Program = Program::new("nats-server", &["/usr/sbin"], "--version");
static RABBITMQ_SERVER: Program = Program::new("rabbitmqctl", &["/usr/sbin"], "version");

/// JetStream 2.9.10, file storage: the consumer's state is written some time after the ack is answered.
pub static NATS: Tried = Tried {
    name: "nats",
    program: &NATS_SERVER,
    reason: "tasks whose acks were answered come again after kill -9 (39 of 40 with 2.9.10)",
};

/// 3.10.8, classic and quorum queues: `basic.ack` has no answer.
pub static RABBITMQ: Tried = Tried {
    name: "rabbitmq",
    program: &RABBITMQ_SERVER,
    reason: "an ack has no answer, and acked tasks come again after kill -9 (up to 40 of 40 with 3.10.8)",
};

impl Engine for Tried {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        self.program.path().map_or_else(|_| "?".to_owned(), |_| self.program.version())
    }

    fn settings(&self, _durability: Durability) -> String {
        "not measured".to_owned()
    }

    fn can(&self, _durability: Durability, _needs: &[Need]) -> Result<(), String> {
        self.program.path()?;
        Err(self.reason.to_owned())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        Err(anyhow!("{} can't be opened in {}: {}", self.name, setup.dir.display(), self.reason))
    }
}
