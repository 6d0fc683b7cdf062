//! yaque: a queue of one sender and one receiver, kept in segment files that it never syncs.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{anyhow, bail};
use yaque::{Receiver, Sender, TryRecvError};

use super::bell::Bell;
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Yaque;

impl Engine for Yaque {
    fn name(&self) -> &'static str {
        "yaque"
    }

    fn version(&self) -> String {
        env!("VERSION_YAQUE").to_owned()
    }

    fn settings(&self, _durability: Durability) -> String {
        "a queue per lane, all defaults: the receiver's position is saved at every 250th task and when it is closed, so \
         that a kill undoes acks (and more often it can't be saved safely: its file is emptied first)"
            .to_owned()
    }

    fn can(&self, durability: Durability, needs: &[Need]) -> Result<(), String> {
        if durability == Durability::Power {
            return Err("it never syncs".to_owned());
        }
        for need in needs {
            match need {
                Need::Lanes | Need::Producers => {}
                Need::Keep => return Err("a commit settles all that was received".to_owned()),
                Need::Outstanding => return Err("a send is over when it returns".to_owned()),
                Need::Consumers => return Err("one receiver, which commits before it receives more".to_owned()),
                Need::Reopen => return Err("what is sent behind a batch that a kill cut short is lost".to_owned()),
            }
        }
        Ok(())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let lanes = (0..setup.lanes).map(|lane| Lane::open(setup.dir.join(lane.to_string()))).collect::<Result<_, _>>()?;
        Ok(Box::new(Opened { lanes, bell: Bell::default() }))
    }
}

struct Opened {
    lanes: Vec<Lane>,
    bell: Bell,
}

struct Lane {
    dir: PathBuf,
    sender: Mutex<Sender>,
    /// Opened by the first take, since it has a thread that is woken by every send.
    receiver: Mutex<Option<Receiver>>,
}

impl Lane {
    fn open(dir: PathBuf) -> std::io::Result<Lane> {
        let sender = Mutex::new(Sender::open(&dir)?);
        Ok(Lane { dir, sender, receiver: Mutex::new(None) })
    }

    /// Shows and commits at most so many; gives their number.
    fn take(&self, tasks: usize, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let mut receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = match &mut *receiver {
            Some(receiver) => receiver,
            unopened => unopened.insert(Receiver::open(&self.dir)?),
        };
        let taken = if tasks == 1 {
            receiver.try_recv().map(|task| {
                see(&task);
                task.commit().map(|()| 1)
            })
        } else {
            receiver.try_recv_batch_up_to(tasks).map(|batch| {
                for task in batch.iter() {
                    see(task);
                }
                let count = batch.len();
                batch.commit().map(|()| count)
            })
        };
        match taken {
            Ok(count) => Ok(count?),
            Err(TryRecvError::QueueEmpty) => Ok(0),
            Err(TryRecvError::Io(error)) => Err(error.into()),
        }
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { store: self }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { store: self }))
    }
}

struct Sending<'a> {
    store: &'a Opened,
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let Some(lane) = self.store.lanes.get(usize::from(lane)) else { bail!("no lane {lane}") };
        let mut sender = lane.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let [one] = tasks {
            sender.try_send(one).map_err(|error| anyhow!("{error}"))?;
        } else {
            sender.try_send_batch(tasks).map_err(|error| anyhow!("{error}"))?;
        }
        drop(sender);
        self.store.bell.ring();
        Ok(())
    }
}

struct Taking<'a> {
    store: &'a Opened,
}

impl Consumer for Taking<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let taken = self.store.bell.wait_until(wait, || {
            let mut count = 0;
            for lane in &self.store.lanes {
                if count == tasks {
                    break;
                }
                count += lane.take(tasks - count, see)?;
            }
            Ok((count > 0).then_some(count))
        })?;
        Ok(taken.unwrap_or(0))
    }
}
