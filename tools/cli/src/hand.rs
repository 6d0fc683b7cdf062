//! What is done by hand: pausing, purging, dead letters, single tasks. What changes anything needs the queue for itself.

use anyhow::{Context, Result};
use lanelog::{DeadFilter, LaneId, Options, Queue, TaskState, inspect};

use crate::args::{Dead, DeadMove, Letters, OfLane, OfTask, Park, Snapshot};
use crate::look;
use crate::queue;

/// The group that the command works for.
const GROUP: &str = "default";

/// `lanelog pause`.
pub fn pause(args: &OfLane) -> Result<u8> {
    change(&args.queue, |queue| match args.lane {
        Some(lane) => queue.pause_lane(LaneId(lane)),
        None => queue.pause_group(GROUP),
    })
    .map(|()| 0)
}

/// `lanelog resume`.
pub fn resume(args: &OfLane) -> Result<u8> {
    change(&args.queue, |queue| match args.lane {
        Some(lane) => queue.resume_lane(LaneId(lane)),
        None => queue.resume_group(GROUP),
    })
    .map(|()| 0)
}

/// `lanelog purge`.
pub fn purge(args: &OfLane) -> Result<u8> {
    change(&args.queue, |queue| match args.lane {
        Some(lane) => queue.purge_lane(LaneId(lane)),
        None => queue.purge(),
    })
    .map(|()| 0)
}

/// `lanelog dead`.
pub fn dead(args: &Dead) -> Result<u8> {
    let letters = &args.letters;
    let is_redrive = matches!(args.what, DeadMove::Redrive);
    anyhow::ensure!(args.to_lane.is_none() || is_redrive, "--to-lane goes with `dead redrive` alone");
    match args.what {
        DeadMove::List => list(letters),
        DeadMove::Redrive => {
            let moved = change(&letters.queue, |queue| match args.to_lane {
                Some(lane) => Ok(queue.redrive_to(GROUP, &filter(letters), LaneId(lane))?.len() as u64),
                None => queue.redrive(GROUP, &filter(letters)),
            })?;
            look::say(&format!("redrove {moved}\n"))
        }
        DeadMove::Drop => {
            let moved = change(&letters.queue, |queue| queue.drop_dead_letters(GROUP, &filter(letters)))?;
            look::say(&format!("dropped {moved}\n"))
        }
    }
}

/// `lanelog park`.
pub fn park(args: &Park) -> Result<u8> {
    let parked = change(&args.task.queue, |queue| queue.park(GROUP, args.task.id, &args.reason))?;
    Ok(u8::from(!parked))
}

/// `lanelog kick`.
pub fn kick(which: &Letters) -> Result<u8> {
    let kicked = change(&which.queue, |queue| queue.kick(GROUP, &filter(which)))?;
    look::say(&format!("kicked {kicked}\n"))
}

/// `lanelog snapshot`.
pub fn snapshot(args: &Snapshot) -> Result<u8> {
    change(&args.queue, |queue| queue.snapshot(&args.to)).map(|()| 0).map_err(|error| match error.downcast_ref() {
        Some(lanelog::Error::Locked { .. }) => {
            error.context("only the process that has the queue open can take a snapshot of it (Queue::snapshot)")
        }
        _ => error,
    })
}

/// `lanelog cancel`.
pub fn cancel(args: &OfTask) -> Result<u8> {
    let was_there = change(&args.queue, |queue| queue.cancel(args.id))?;
    Ok(u8::from(!was_there))
}

/// `lanelog explain`.
pub fn explain(args: &OfTask) -> Result<u8> {
    let explained = change(&args.queue, |queue| queue.explain(GROUP, args.id))?;
    let Some(explained) = explained else {
        look::say("it is not there: it never was, or it is settled and its segment was given back\n")?;
        return Ok(1);
    };
    let mut text = format!("{}\n", look::state_name(&explained.state));
    for reason in &explained.reasons {
        text += &format!("  {reason}\n");
    }
    if explained.reasons.is_empty() {
        text += "  nothing keeps it: the next worker takes it\n";
    }
    look::say(&text)
}

fn list(letters: &Letters) -> Result<u8> {
    let mut lines = String::new();
    let mut left = letters.limit.unwrap_or(usize::MAX);
    inspect(&letters.queue)?.for_each_task(|task| {
        let wanted = letters.lane.is_none_or(|lane| task.id.lane() == LaneId(lane))
            && (letters.id.is_empty() || letters.id.contains(&task.id));
        let state = task.states.iter().find(|(group, _)| group == GROUP).map(|(_, state)| state);
        if let Some(TaskState::Dead { reason, .. }) = state
            && wanted
            && left > 0
            && letters.reason.as_ref().is_none_or(|part| reason.contains(part))
        {
            left -= 1;
            lines += &look::record_text(&task);
            lines.push('\n');
        }
    });
    look::say(&lines)
}

fn filter(letters: &Letters) -> DeadFilter {
    let mut filter = DeadFilter::new();
    if let Some(lane) = letters.lane {
        filter = filter.lane(LaneId(lane));
    }
    if let Some(reason) = &letters.reason {
        filter = filter.reason(reason);
    }
    if !letters.id.is_empty() {
        filter = filter.ids(letters.id.iter().copied());
    }
    match letters.limit {
        Some(limit) => filter.limit(limit),
        None => filter,
    }
}

/// Opens a queue that must be there, takes a step, and closes it.
pub fn change<T>(path: &std::path::Path, step: impl FnOnce(&Queue) -> Result<T, lanelog::Error>) -> Result<T> {
    // Without a lock, and so without making a queue where there is none.
    drop(inspect(path)?);
    let queue = Options::new().sigbus_guard(true).open(path)?;
    queue::warn_of(&queue.damage());
    let done = step(&queue);
    let closed = queue.close();
    let done = done?;
    closed.context("it is done, but closing the queue failed")?;
    Ok(done)
}
