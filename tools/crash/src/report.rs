//! What a worker tells the process that watches it: one line for each thing, in one write to a pipe.
//!
//! The pipe outlives the worker, so what it said before it was killed is read to the last whole line. Of every call the
//! worker says the *intent* before it makes it, and the *answer* after it got it. So at any instant
//!
//! - an answer that was read is known: the call returned before it was written;
//! - an intent without its answer is in doubt: the call may not have begun, be halfway, or have returned;
//! - what has no intent was never asked for.
//!
//! If one answer comes before another intent, the first call returned before the second began. The opposite is not
//! known: a thread may be slow to say what it got.
//!
//! Each line begins with how many events the recorded block device had logged: of an intent, read before the call; of an
//! answer, read after it. A power loss after event `c` therefore finds every call answered whose answer says at most
//! `c`, and nothing of a call whose intent says more.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::payload::Tag;

/// Groups of the queue under test: the one that is always there, and another.
pub const GROUPS: [&str; 2] = ["default", "other"];
/// Lanes of the queue under test.
pub const LANES: u8 = 3;
/// Attempts after which a task is a dead letter there.
pub const ATTEMPTS_MAX: u32 = 4;

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Events of the block device, or 0 without one.
    pub at: u64,
    pub said: Said,
}

/// How long an acknowledgement is promised to hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Until {
    /// Over the death of the process.
    PowerLoss,
    /// Over a power loss too.
    Ever,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// It may have taken effect or not.
    InDoubt,
    /// It did nothing.
    Refused,
    /// The lease is not the caller's any more, so it did nothing.
    LeaseLost,
}

/// How a consumer ends a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Ack,
    Nack,
    Release,
    Reject,
    /// Keeps the lease for longer.
    Extend,
    /// Lets the lease run out at once, as a worker that hangs does.
    Abandon,
}

/// A task on loan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Got {
    pub lane: u8,
    pub seq: u64,
    /// `None` if the payload is not what was enqueued.
    pub tag: Option<Tag>,
    pub attempt: u32,
}

/// What a group makes of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// To be delivered; so many attempts began.
    Open(u32),
    Acked,
    Dead(u32),
    /// The group does not know it.
    NoGroup,
}

/// A record as recovery found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub lane: u8,
    pub seq: u64,
    pub tag: Option<Tag>,
    pub states: [State; 2],
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// A new process works on the directory.
    Began,
    /// Recovery is through; what it found damaged.
    Damage(String),
    /// Recovery is through; one of the records that there are.
    Found(Record),
    /// That were all of them.
    Pictured,
    Enqueue {
        op: u64,
        unit: u64,
        lane: u8,
        count: u16,
        until: Until,
    },
    Enqueued {
        op: u64,
        answer: Answer,
        first: u64,
    },
    Reserve {
        op: u64,
        group: usize,
        tasks: u32,
    },
    Reserved {
        op: u64,
        answer: Answer,
        got: Vec<Got>,
    },
    Settle {
        op: u64,
        group: usize,
        how: How,
        until: Until,
        tasks: Vec<(u8, u64)>,
    },
    Settled {
        op: u64,
        answers: Vec<Answer>,
    },
    Sync {
        op: u64,
    },
    Synced {
        op: u64,
        answer: Answer,
    },
    /// A checkpoint was written.
    Checkpointed,
    /// Every task of every group was delivered that can be.
    Drained,
    /// The queue is being closed; it was.
    Closing,
    Closed,
    /// A failed sync ended the work.
    Poisoned(String),
    /// The worker saw what must not be.
    Complaint(String),
}

impl Said {
    /// True of what is said before the work begins.
    pub fn is_of_recovery(&self) -> bool {
        matches!(self, Said::Began | Said::Damage(_) | Said::Found(_) | Said::Pictured)
    }
}

/// Letters of a few choices.
macro_rules! letters {
    ($($type:ident { $($variant:ident = $letter:literal),+ })+) => { $(
        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($type::$variant => $letter),+ })
            }
        }
        impl FromStr for $type {
            type Err = ();
            fn from_str(text: &str) -> Result<Self, ()> {
                match text { $($letter => Ok($type::$variant),)+ _ => Err(()) }
            }
        }
    )+ };
}

letters! {
    Until { PowerLoss = "p", Ever = "e" }
    Answer { Done = "d", InDoubt = "i", Refused = "r", LeaseLost = "l" }
    How { Ack = "a", Nack = "n", Release = "r", Reject = "j", Extend = "x", Abandon = "b" }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at)?;
        match &self.said {
            Said::Began => f.write_str("began"),
            Said::Damage(what) => write!(f, "damage {}", one_line(what)),
            Said::Found(Record { lane, seq, tag, states: [a, b] }) => {
                write!(f, "found {lane} {seq} ")?;
                write_tag(f, *tag)?;
                write!(f, " {a} {b}")
            }
            Said::Pictured => f.write_str("pictured"),
            Said::Enqueue { op, unit, lane, count, until } => write!(f, "enqueue {op} {unit} {lane} {count} {until}"),
            Said::Enqueued { op, answer, first } => write!(f, "enqueued {op} {answer} {first}"),
            Said::Reserve { op, group, tasks } => write!(f, "reserve {op} {group} {tasks}"),
            Said::Reserved { op, answer, got } => {
                write!(f, "reserved {op} {answer}")?;
                for Got { lane, seq, tag, attempt } in got {
                    write!(f, " {lane} {seq} ")?;
                    write_tag(f, *tag)?;
                    write!(f, " {attempt}")?;
                }
                Ok(())
            }
            Said::Settle { op, group, how, until, tasks } => {
                write!(f, "settle {op} {group} {how} {until}")?;
                tasks.iter().try_for_each(|(lane, seq)| write!(f, " {lane} {seq}"))
            }
            Said::Settled { op, answers } => {
                write!(f, "settled {op}")?;
                answers.iter().try_for_each(|answer| write!(f, " {answer}"))
            }
            Said::Sync { op } => write!(f, "sync {op}"),
            Said::Synced { op, answer } => write!(f, "synced {op} {answer}"),
            Said::Checkpointed => f.write_str("checkpointed"),
            Said::Drained => f.write_str("drained"),
            Said::Closing => f.write_str("closing"),
            Said::Closed => f.write_str("closed"),
            Said::Poisoned(why) => write!(f, "poisoned {}", one_line(why)),
            Said::Complaint(what) => write!(f, "complaint {}", one_line(what)),
        }
    }
}

fn write_tag(f: &mut fmt::Formatter<'_>, tag: Option<Tag>) -> fmt::Result {
    match tag {
        Some(Tag { unit, index, count }) => write!(f, "{unit} {index} {count}"),
        None => f.write_str("damaged 0 0"),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ").chars().take(1_000).collect()
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Open(attempts) => write!(f, "o{attempts}"),
            State::Acked => f.write_str("a"),
            State::Dead(attempts) => write!(f, "d{attempts}"),
            State::NoGroup => f.write_str("n"),
        }
    }
}

impl FromStr for State {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.parse().map_err(|_| ());
        match text.split_at_checked(1) {
            Some(("o", attempts)) => Ok(State::Open(number(attempts)?)),
            Some(("a", "")) => Ok(State::Acked),
            Some(("d", attempts)) => Ok(State::Dead(number(attempts)?)),
            Some(("n", "")) => Ok(State::NoGroup),
            _ => Err(()),
        }
    }
}

/// The words of a line, one after the other.
struct Words<'a>(std::str::Split<'a, char>);

impl Words<'_> {
    fn next<T: FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    fn tag(&mut self) -> Option<Option<Tag>> {
        let (unit, index, count) = (self.next::<String>()?, self.next()?, self.next()?);
        if unit == "damaged" {
            return Some(None);
        }
        Some(Some(Tag { unit: unit.parse().ok()?, index, count }))
    }

    fn rest(self) -> String {
        self.0.collect::<Vec<_>>().join(" ")
    }

    fn all<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Vec<T> {
        std::iter::from_fn(|| one(self)).collect()
    }
}

impl Report {
    /// Reads a line back; `None` if it is not a whole one.
    pub fn parse(line: &str) -> Option<Report> {
        let mut words = Words(line.split(' '));
        let at = words.next()?;
        let kind: String = words.next()?;
        let w = &mut words;
        let said = match kind.as_str() {
            "began" => Said::Began,
            "damage" => Said::Damage(words.rest()),
            "found" => {
                let (lane, seq, tag) = (w.next()?, w.next()?, w.tag()?);
                Said::Found(Record { lane, seq, tag, states: [w.next()?, w.next()?] })
            }
            "pictured" => Said::Pictured,
            "enqueue" => {
                let (op, unit, lane, count) = (w.next()?, w.next()?, w.next()?, w.next()?);
                Said::Enqueue { op, unit, lane, count, until: w.next()? }
            }
            "enqueued" => Said::Enqueued { op: w.next()?, answer: w.next()?, first: w.next()? },
            "reserve" => Said::Reserve { op: w.next()?, group: w.next()?, tasks: w.next()? },
            "reserved" => {
                let (op, answer) = (w.next()?, w.next()?);
                let one = |w: &mut Words<'_>| {
                    let (lane, seq) = (w.next()?, w.next()?);
                    Some(Got { lane, seq, tag: w.tag()?, attempt: w.next()? })
                };
                Said::Reserved { op, answer, got: w.all(one) }
            }
            "settle" => {
                let (op, group, how, until) = (w.next()?, w.next()?, w.next()?, w.next()?);
                Said::Settle { op, group, how, until, tasks: w.all(|w| Some((w.next()?, w.next()?))) }
            }
            "settled" => Said::Settled { op: w.next()?, answers: w.all(Words::next) },
            "sync" => Said::Sync { op: w.next()? },
            "synced" => Said::Synced { op: w.next()?, answer: w.next()? },
            "checkpointed" => Said::Checkpointed,
            "drained" => Said::Drained,
            "closing" => Said::Closing,
            "closed" => Said::Closed,
            "poisoned" => Said::Poisoned(words.rest()),
            "complaint" => Said::Complaint(words.rest()),
            _ => return None,
        };
        Some(Report { at, said })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_back() {
        let tag = Some(Tag { unit: 77, index: 1, count: 2 });
        let all = [
            Said::Began,
            Said::Damage("torn: x at byte 7".to_owned()),
            Said::Found(Record { lane: 1, seq: 9, tag, states: [State::Open(3), State::Acked] }),
            Said::Found(Record { lane: 1, seq: 9, tag: None, states: [State::Dead(4), State::NoGroup] }),
            Said::Enqueue { op: 1, unit: 2, lane: 0, count: 3, until: Until::Ever },
            Said::Enqueued { op: 1, answer: Answer::Done, first: 8 },
            Said::Reserve { op: 1, group: 1, tasks: 4 },
            Said::Reserved { op: 1, answer: Answer::Done, got: vec![Got { lane: 0, seq: 1, tag, attempt: 2 }; 3] },
            Said::Reserved { op: 1, answer: Answer::Done, got: vec![] },
            Said::Settle { op: 1, group: 0, how: How::Nack, until: Until::PowerLoss, tasks: vec![(0, 1), (2, 3)] },
            Said::Settled { op: 1, answers: vec![Answer::Done, Answer::LeaseLost] },
            Said::Poisoned("the disk\nfailed".to_owned()),
        ];
        for said in all {
            let line = Report { at: 5, said: said.clone() }.to_string();
            let said = match said {
                Said::Poisoned(why) => Said::Poisoned(why.replace('\n', " ")),
                other => other,
            };
            assert_eq!(Report::parse(&line), Some(Report { at: 5, said }), "{line}");
        }
    }

    #[test]
    fn half_a_line_is_not_a_report() {
        for line in ["", "5", "5 enq", "5 enqueue 1 2", "5 found 1 9 77 1 2 o3"] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }
}
