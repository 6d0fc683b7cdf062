//! What an engine is to the harness: a store that producers send to and consumers take from.
//!
//! An adapter uses its engine the way the engine's own documentation recommends for a queue, and promises no more than
//! the engine keeps: what can't be done at the durability asked for is said by [`Engine::can`], never measured.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What must have become of a task when a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// It survives `kill -9` of every process that took part: the kernel has it.
    Process,
    /// It survives a power loss: stable storage has it.
    Power,
}

impl Durability {
    /// As the command's options and its output have it.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Process => "process",
            Durability::Power => "power",
        }
    }
}

/// What a store is opened for.
#[derive(Clone, Debug)]
pub struct Setup {
    /// An empty directory of the store's own, or one that an earlier store was opened in.
    pub dir: PathBuf,
    /// What enqueues and acks must have reached when they return.
    pub durability: Durability,
    /// How many priorities tasks have, 1 to 256; 0 is the most urgent.
    pub lanes: u16,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// Threads that send.
    pub producers: usize,
    /// Threads that take; 0 if none does before all is sent.
    pub consumers: usize,
}

/// What a workload asks of an engine beyond sending, taking in order, and settling what was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// More than one priority.
    Lanes,
    /// Taken tasks may stay unsettled while later ones are settled ([`Settle::Keep`]).
    Keep,
    /// [`Producer::submit`] returns before the task is durable.
    Outstanding,
    /// Several producers at once.
    Producers,
    /// Several consumers at once, each task to one of them.
    Consumers,
    /// A store whose process was killed is opened again with all that was accepted.
    Reopen,
}

/// One engine.
pub trait Engine: Sync {
    /// As `--engine` has it: lower case.
    fn name(&self) -> &'static str;

    /// Of the crate, or of the server that was found.
    fn version(&self) -> String;

    /// The settings at this durability, in a few words: what a reader must know to repeat it.
    fn settings(&self, durability: Durability) -> String;

    /// Why it can't do this, in a few words that follow "can't: ". Also where its server is not installed.
    ///
    /// # Errors
    /// The reason.
    fn can(&self, durability: Durability, needs: &[Need]) -> Result<(), String>;

    /// Whether this is what the machine allows, and no engine: then nothing is there to be taken afterwards.
    fn is_limit(&self) -> bool {
        false
    }

    /// A store in the directory, made if there is none.
    ///
    /// # Errors
    /// Whatever keeps it from being opened.
    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>>;
}

/// An opened store, shared by all threads of a workload.
pub trait Store: Send + Sync {
    /// For one thread that sends.
    ///
    /// # Errors
    /// Whatever keeps it from sending.
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>>;

    /// For one thread that takes. Consumers compete: a task goes to one of them.
    ///
    /// # Errors
    /// Whatever keeps it from taking.
    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>>;

    /// The processes besides this one that do its work, whose time and memory count.
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Closes in good order. Servers end.
    ///
    /// # Errors
    /// Whatever was not in order.
    fn close(self: Box<Self>) -> anyhow::Result<()> {
        Ok(())
    }
}

/// One thread's way to send.
pub trait Producer: Send {
    /// Enqueues these tasks, in one batch where the engine has batches. Returns when all have the durability of the run.
    ///
    /// # Errors
    /// Whatever keeps a task from being accepted; the run is void then.
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()>;

    /// Begins to enqueue a task, and may return before it is durable. For engines that can [`Need::Outstanding`].
    ///
    /// # Errors
    /// As for [`Producer::send`].
    fn submit(&mut self, lane: u8, task: &[u8]) -> anyhow::Result<()> {
        self.send(lane, &[task])
    }

    /// Waits until at most so many of what was submitted are not yet durable.
    ///
    /// # Errors
    /// As for [`Producer::send`].
    fn confirm(&mut self, _outstanding_max: usize) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What becomes of a task that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is acked with the others of its batch, before the call returns, at the durability of the run.
    Ack,
    /// It stays with this consumer, unsettled, to the end. For engines that can [`Need::Keep`].
    Keep,
}

/// One thread's way to take.
pub trait Consumer: Send {
    /// Takes at most so many tasks, the most urgent lanes' first, in the order they were accepted in; shows each payload
    /// once; and settles them as `see` says, in one batch where the engine has batches. Waits so long for the first one;
    /// gives the number taken, 0 if none came. Tasks taken and not settled come again only after this consumer is gone.
    ///
    /// # Errors
    /// Whatever keeps tasks from being taken or settled; the run is void then.
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize>;
}
