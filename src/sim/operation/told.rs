//! Steps in words, for whoever reads a schedule.

use std::fmt;

use super::{Op, Stands};

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Op::Enqueue { lane, bytes, power } => write!(f, "enqueue {bytes} bytes into lane {lane} at {}", at(power)),
            Op::Batch { lane, tasks, bytes, power, wait } => {
                let waits = if wait { ", wait" } else { "" };
                write!(f, "enqueue a batch of {tasks} of up to {bytes} bytes into lane {lane} at {}{waits}", at(power))
            }
            Op::Stall { lane, bytes, filled } => {
                let how = if filled { "and half filled" } else { "and not filled" };
                write!(f, "a producer stands still in lane {lane}, {bytes} bytes claimed {how}")
            }
            Op::GoOn => write!(f, "producers that stand still go on"),
            Op::Reserve { group, tasks, lane, lease_ms, consumer } => {
                let from = lane.map_or_else(String::new, |lane| format!(" from lane {lane}"));
                write!(f, "consumer {consumer} of group {group} reserves {tasks}{from} for {lease_ms} ms")
            }
            Op::Settle { group, pick, count, how, power } => {
                write!(f, "group {group} settles {count} from loan {pick} on: {how:?} at {}", at(power))
            }
            Op::AckAndReserve { group, pick, power } => {
                write!(f, "group {group} acks loan {pick} and takes the next task, at {}", at(power))
            }
            Op::Thin { lane, group, how, power } => {
                write!(
                    f,
                    "lane {lane} fills, and group {group} acks all but two, one of them {how:?}, at {}",
                    at(power)
                )
            }
            Op::Leave { group, consumer } => write!(f, "consumer {consumer} of group {group} leaves"),
            Op::Sweep { group } => write!(f, "group {group} takes everything that waits"),
            Op::CreateGroup { newest, power } => {
                let from = if newest { "newest" } else { "oldest" };
                write!(f, "create a group from the {from} task on at {}", at(power))
            }
            Op::RemoveGroup { group, power } => write!(f, "remove group {group} at {}", at(power)),
            Op::Retain { group, tasks, bytes, age_ms, policy, power } => {
                write!(
                    f,
                    "group {group} may have {tasks} tasks, {bytes} bytes, {age_ms} ms old: {policy:?} at {}",
                    at(power)
                )
            }
            Op::Pause { lane, group, resume, power } => {
                let how = if resume { "resume" } else { "pause" };
                match lane {
                    Some(lane) => write!(f, "{how} lane {lane} at {}", at(power)),
                    None => write!(f, "{how} group {group} at {}", at(power)),
                }
            }
            Op::Commit { lane: Some(lane) } => write!(f, "commit lane {lane}"),
            Op::Commit { lane: None } => write!(f, "commit the journal"),
            Op::Clock { boot_ms, wall_ms } => write!(f, "clocks move: boot {boot_ms} ms, wall {wall_ms} ms"),
            Op::Portions { seed, meanwhile } => {
                write!(f, "checkpoint, and up to {meanwhile} steps of others from seed {seed} between its portions")
            }
            Op::SyncAll | Op::MarkIdle | Op::Footers | Op::Checkpoint | Op::Recycle | Op::Evacuate | Op::Prepare => {
                write!(f, "{self:?}")
            }
            Op::FailSync { skipped } => write!(f, "a sync will fail, behind {skipped} others"),
            Op::Tick => write!(f, "tick"),
            Op::WriteBack => write!(f, "the kernel writes back"),
            Op::Reopen => write!(f, "close cleanly and open"),
            _ => self.tell_asking(f),
        }
    }
}

impl Op {
    /// Tasks that ask for something, workers, what is done by hand, and transactions.
    fn tell_asking(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Special { lane, bytes, power, delay_ms, ttl_ms, attempts } => write!(
                f,
                "enqueue {bytes} bytes into lane {lane} at {}, delay {delay_ms} ms, to live {ttl_ms} ms, {attempts} attempts",
                at(power)
            ),
            Op::Later { lane, tasks, delay_ms, step_ms, power } => write!(
                f,
                "enqueue {tasks} tasks into lane {lane} at {}, delays from {delay_ms} ms on by {step_ms} ms",
                at(power)
            ),
            Op::Park { group, pick } => write!(f, "group {group} parks task {pick}"),
            Op::Shelf { group, pick, how, power } => {
                write!(f, "group {group}: {how:?} dead letter {pick} at {}", at(power))
            }
            Op::Move { group, pick, lane, power } => {
                write!(f, "group {group}: dead letter {pick} goes to lane {lane} at {}", at(power))
            }
            Op::Cancel { pick, power } => write!(f, "cancel task {pick} at {}", at(power)),
            Op::Purge { lane, power } => write!(f, "purge lane {lane} at {}", at(power)),
            Op::Keyed { lane, bytes, key, power } => {
                write!(f, "enqueue {bytes} bytes with key {key} into lane {lane} at {}", at(power))
            }
            Op::Once { lane, tasks, bytes, id, window_ms, power, wait } => {
                let waits = if wait { ", wait" } else { "" };
                write!(f, "enqueue {tasks} of up to {bytes} bytes into lane {lane}, dedup ids from {id} on")?;
                write!(f, " for {window_ms} ms, at {}{waits}", at(power))
            }
            Op::Enlist { group, name } => write!(f, "worker {name} of group {group} registers"),
            Op::Beat { group, name } => write!(f, "worker {name} of group {group} lives"),
            Op::Work { group, name, tasks, lane, lease_ms } => {
                let from = lane.map_or_else(String::new, |lane| format!(" from lane {lane}"));
                write!(f, "worker {name} of group {group} reserves {tasks}{from} for {lease_ms} ms")
            }
            Op::Dismiss { group, name } => write!(f, "worker {name} of group {group} goes"),
            Op::Transaction { lane, tasks, bytes, id, group, pick, settles, how, power, stands } => {
                let ids = id.map_or_else(String::new, |id| format!(", dedup ids from {id} on"));
                write!(
                    f,
                    "a transaction enqueues {tasks} tasks of {bytes} bytes from lane {lane} on{ids}, and settles {settles} of"
                )?;
                write!(f, " group {group} from loan {pick} on: {how:?} at {}", at(power))?;
                match stands {
                    Some(Stands { step, commits }) => {
                        write!(f, "; it stands still after step {step}, commits {commits:b}")
                    }
                    None => Ok(()),
                }
            }
            other => write!(f, "{other:?}"),
        }
    }
}

fn at(power: bool) -> &'static str {
    if power { "Power" } else { "Process" }
}
