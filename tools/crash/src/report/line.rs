//! A report as a line of text, there and back.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::payload::Tag;

use super::{Answer, Got, How, Record, Report, Said, State, Until};

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
