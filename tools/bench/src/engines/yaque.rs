//! yaque: a queue of one sender and one receiver, kept in segment files that it never syncs.
//!
//! Its receiver saves its position now and then, into a file that is emptied first: a kill undoes acks, and not only those
//! since the last save. Its documentation leaves it to the application to know again what it has done. So tasks are
//! numbered here, and an ack writes the number to a file of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
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
        "defaults, a queue per lane; tasks are numbered, and an ack writes the number to a small file, since a kill undoes \
         yaque's own acks"
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
        let lanes =
            (0..setup.lanes).map(|lane| Lane::open(setup.dir.join(lane.to_string()))).collect::<Result<_, _>>()?;
        Ok(Box::new(Opened { lanes, bell: Bell::default() }))
    }
}

struct Opened {
    lanes: Vec<Lane>,
    bell: Bell,
}

struct Lane {
    sending: Mutex<Sending>,
    taking: Mutex<Taking>,
}

struct Sending {
    sender: Sender,
    /// Of the next task. The upper bits are those of the store's life.
    number: u64,
}

struct Taking {
    dir: PathBuf,
    /// Opened by the first take, since it has a thread that is woken by every send.
    receiver: Option<Receiver>,
    acks: Acks,
}

impl Lane {
    fn open(dir: PathBuf) -> std::io::Result<Lane> {
        let sender = Sender::open(&dir)?;
        let acks =
            Acks::open(File::options().read(true).write(true).create(true).truncate(false).open(dir.join("acks"))?)?;
        Ok(Lane {
            sending: Mutex::new(Sending { sender, number: acks.life << 40 }),
            taking: Mutex::new(Taking { dir, receiver: None, acks }),
        })
    }
}

impl Sending {
    fn send(&mut self, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let mut number = |task: &&[u8]| {
            self.number += 1;
            [&self.number.to_le_bytes(), *task].concat()
        };
        if let [one] = tasks {
            self.sender.try_send(number(one)).map_err(|error| anyhow!("{error}"))?;
        } else {
            self.sender.try_send_batch(tasks.iter().map(number)).map_err(|error| anyhow!("{error}"))?;
        }
        Ok(())
    }
}

impl Taking {
    /// Shows and acks at most so many; gives their number.
    fn take(&mut self, tasks: usize, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let receiver = match &mut self.receiver {
            Some(receiver) => receiver,
            unopened => unopened.insert(Receiver::open(&self.dir)?),
        };
        let mut count = 0;
        // Again, if all that came were acked before.
        while count == 0 {
            let committed = if tasks == 1 {
                receiver.try_recv().map(|task| {
                    count += self.acks.show(&task, see);
                    task.commit()
                })
            } else {
                receiver.try_recv_batch_up_to(tasks).map(|batch| {
                    count += batch.iter().map(|task| self.acks.show(task, see)).sum::<usize>();
                    batch.commit()
                })
            };
            match committed {
                Ok(committed) => committed?,
                Err(TryRecvError::QueueEmpty) => return Ok(0),
                Err(TryRecvError::Io(error)) => return Err(error.into()),
            }
        }
        self.acks.write()?;
        Ok(count)
    }
}

/// The file that has what yaque forgets: 8 bytes for the store's life, and 8 for the last task that is acked.
struct Acks {
    file: File,
    life: u64,
    acked: u64,
}

impl Acks {
    fn open(file: File) -> std::io::Result<Acks> {
        let (mut life, mut acked) = ([0; 8], [0; 8]);
        let known = file.read_at(&mut life, 0)? + file.read_at(&mut acked, 8)? == 16;
        let (life, acked) = if known { (u64::from_le_bytes(life) + 1, u64::from_le_bytes(acked)) } else { (1, 0) };
        file.write_all_at(&life.to_le_bytes(), 0)?;
        let acks = Acks { file, life, acked };
        acks.write()?;
        Ok(acks)
    }

    fn write(&self) -> std::io::Result<()> {
        self.file.write_all_at(&self.acked.to_le_bytes(), 8)
    }

    /// Shows the task, unless it comes again after a kill; gives how many were shown.
    fn show(&mut self, numbered: &[u8], see: &mut dyn FnMut(&[u8]) -> Settle) -> usize {
        let Some((number, task)) = numbered.split_first_chunk() else { return 0 };
        let number = u64::from_le_bytes(*number);
        if number <= self.acked {
            return 0;
        }
        see(task);
        self.acked = number;
        1
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(To(self)))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(From(self)))
    }
}

struct To<'a>(&'a Opened);

impl Producer for To<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        let Some(lane) = self.0.lanes.get(usize::from(lane)) else { bail!("no lane {lane}") };
        lane.sending.lock().unwrap_or_else(PoisonError::into_inner).send(tasks)?;
        self.0.bell.ring();
        Ok(())
    }
}

struct From<'a>(&'a Opened);

impl Consumer for From<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let taken = self.0.bell.wait_until(wait, || {
            let mut count = 0;
            for lane in &self.0.lanes {
                if count == tasks {
                    break;
                }
                count += lane.taking.lock().unwrap_or_else(PoisonError::into_inner).take(tasks - count, see)?;
            }
            Ok((count > 0).then_some(count))
        })?;
        Ok(taken.unwrap_or(0))
    }
}
