//! The oracle, shown histories that are wrong: it must complain of each, and of nothing in one that is right.

use crate::payload::Tag;
use crate::report::{Answer, Got, How, Record, Report, Said, State, Until};

use super::{Ledger, Loss};

/// No complaint.
const NOTHING: [String; 0] = [];

/// A unit's records as recovery would find them, open in both groups.
fn records(unit: u64, lane: u8, first: u64, count: u16) -> Vec<Record> {
    let record = |index: u16| Record {
        lane,
        seq: first + u64::from(index),
        tag: Some(Tag { unit, index, count }),
        states: [State::Open(0); 2],
    };
    (0..count).map(record).collect()
}

fn got(unit: u64, seq: u64, attempt: u32) -> Got {
    Got { lane: 0, seq, tag: Some(Tag { unit, index: 0, count: 1 }), attempt }
}

/// A history in the making.
#[derive(Default)]
struct History {
    ledger: Ledger,
    ops: u64,
}

impl History {
    fn say(&mut self, said: Said) {
        self.ledger.feed(&Report { at: 0, said });
    }

    fn intend(&mut self, unit: u64, count: u16, until: Until) -> u64 {
        self.ops += 1;
        self.say(Said::Enqueue { op: self.ops, unit, lane: 0, count, until });
        self.ops
    }

    fn enqueue(&mut self, unit: u64, first: u64, count: u16, until: Until) {
        let op = self.intend(unit, count, until);
        self.say(Said::Enqueued { op, answer: Answer::Done, first });
    }

    fn reserve(&mut self, got: Vec<Got>) {
        self.ops += 1;
        self.say(Said::Reserve { op: self.ops, group: 0, tasks: 10 });
        self.say(Said::Reserved { op: self.ops, answer: Answer::Done, got });
    }

    fn settle(&mut self, how: How, until: Until, seq: u64, answer: Answer) {
        self.ops += 1;
        self.say(Said::Settle { op: self.ops, group: 0, how, until, tasks: vec![(0, seq)] });
        self.say(Said::Settled { op: self.ops, answers: vec![answer] });
    }

    /// A crash, and what recovery found.
    fn find(&mut self, picture: &[Record]) {
        self.say(Said::Began);
        picture.iter().for_each(|record| self.say(Said::Found(*record)));
        self.say(Said::Pictured);
    }

    #[track_caller]
    fn complains(&self, of: &str) {
        let all = &self.ledger.violations;
        assert!(all.iter().any(|what| what.contains(of)), "no complaint of {of:?} among {all:?}");
    }

    #[track_caller]
    fn is_content(&self) {
        assert_eq!(self.ledger.violations, NOTHING);
    }
}

/// Tasks 1 (for ever), 2 (until a power loss) and a batch 3 of three (for ever), in this order.
fn three() -> History {
    let mut history = History::default();
    history.enqueue(1, 10, 1, Until::Ever);
    history.enqueue(2, 11, 1, Until::PowerLoss);
    history.enqueue(3, 12, 3, Until::Ever);
    history
}

fn three_records() -> Vec<Record> {
    [records(1, 0, 10, 1), records(2, 0, 11, 1), records(3, 0, 12, 3)].concat()
}

#[test]
fn history_that_keeps_every_promise_is_no_cause_for_complaint() {
    let mut history = three();
    history.reserve(vec![got(1, 10, 1)]);
    history.settle(How::Nack, Until::Ever, 10, Answer::Done);
    history.reserve(vec![got(1, 10, 2), got(2, 11, 1)]);
    history.settle(How::Ack, Until::PowerLoss, 10, Answer::Done);
    history.settle(How::Release, Until::PowerLoss, 11, Answer::Done);
    let mut picture = three_records();
    picture[0].states = [State::Acked, State::Open(0)];
    history.find(&picture);
    history.is_content();
    history.reserve(vec![got(2, 11, 1)]);
    history.is_content();
}

#[test]
fn task_that_was_accepted_and_is_not_there_is_lost() {
    for missing in 0..2 {
        let mut history = three();
        let mut picture = three_records();
        picture.remove(missing);
        history.find(&picture);
        history.complains("LOST: unit");
    }
}

#[test]
fn power_loss_may_take_what_was_accepted_until_then_and_nothing_else() {
    let mut history = History::default();
    history.enqueue(1, 10, 1, Until::Ever);
    history.enqueue(2, 11, 1, Until::PowerLoss);
    assert_eq!(history.ledger.judge(&records(1, 0, 10, 1), &[], Loss::Power), NOTHING);
    assert_eq!(history.ledger.judge(&records(2, 0, 11, 1), &[], Loss::Power).len(), 1);
    assert_eq!(history.ledger.judge(&records(1, 0, 10, 1), &[], Loss::Process).len(), 1);
    // Durable with what was committed behind it.
    history.enqueue(3, 12, 1, Until::Ever);
    let picture = [records(1, 0, 10, 1), records(3, 0, 12, 1)].concat();
    assert_eq!(history.ledger.judge(&picture, &[], Loss::Power).len(), 1);
}

#[test]
fn sync_promises_for_ever_what_was_accepted_before_it() {
    let mut history = History::default();
    history.enqueue(1, 10, 1, Until::PowerLoss);
    history.say(Said::Sync { op: 99 });
    history.enqueue(2, 11, 1, Until::PowerLoss);
    history.say(Said::Synced { op: 99, answer: Answer::Done });
    assert_eq!(history.ledger.judge(&[], &[], Loss::Power).len(), 1);
}

#[test]
fn batch_of_which_a_part_is_there_is_torn() {
    let mut history = three();
    let mut picture = three_records();
    picture.pop();
    history.find(&picture);
    history.complains("is a batch of 3 of which 2 are there");

    let mut history = History::default();
    history.intend(1, 3, Until::Ever);
    history.find(&records(1, 0, 10, 3)[1..]);
    history.complains("is a batch of 3 of which 2 are there");
}

#[test]
fn what_is_in_doubt_is_there_or_not_and_stays_so() {
    let mut history = History::default();
    history.intend(1, 2, Until::Ever);
    history.find(&records(1, 0, 10, 2));
    history.is_content();
    // From here on it is promised, over any crash.
    assert_eq!(history.ledger.judge(&[], &[], Loss::Power).len(), 1);

    let mut history = History::default();
    history.intend(1, 1, Until::Ever);
    history.find(&[]);
    history.is_content();
    history.find(&records(1, 0, 10, 1));
    history.complains("nobody enqueued it, or it was lost before");
}

#[test]
fn task_that_nobody_enqueued_or_that_was_refused_must_not_be_there() {
    let mut history = three();
    history.find(&[three_records(), records(7, 0, 20, 1)].concat());
    history.complains("nobody enqueued it");

    let mut history = History::default();
    let op = history.intend(1, 1, Until::Ever);
    history.say(Said::Enqueued { op, answer: Answer::Refused, first: 0 });
    history.find(&records(1, 0, 10, 1));
    history.complains("refused");
}

#[test]
fn task_that_is_there_twice_or_damaged_is_noticed() {
    let mut history = three();
    history.find(&[three_records(), records(1, 0, 10, 1)].concat());
    history.complains("twice");

    let mut history = three();
    let mut picture = three_records();
    picture[0].tag = None;
    history.find(&picture);
    history.complains("not what was enqueued");
}

#[test]
fn sequence_is_not_given_out_again() {
    for first in [11, 14, 3] {
        let mut history = three();
        history.enqueue(4, first, 1, Until::Ever);
        history.complains("was given to unit 4, but 14 had been given out");
    }
    // Nor after a crash that lost its first owner.
    let mut history = History::default();
    history.enqueue(1, 10, 1, Until::PowerLoss);
    history.ledger.power_lost();
    history.find(&[]);
    history.is_content();
    history.enqueue(2, 10, 1, Until::Ever);
    history.complains("was given to unit 2");
}

#[test]
fn acked_task_must_not_come_back() {
    for (until, loss, holds) in [
        (Until::Ever, Loss::Power, true),
        (Until::Ever, Loss::Process, true),
        (Until::PowerLoss, Loss::Process, true),
        (Until::PowerLoss, Loss::Power, false),
    ] {
        let mut history = three();
        history.reserve(vec![got(1, 10, 1)]);
        history.settle(How::Ack, until, 10, Answer::Done);
        let mut picture = three_records();
        picture[0].states[0] = State::Open(1);
        let broken = history.ledger.judge(&picture, &[], loss);
        assert_eq!(broken.iter().any(|what| what.contains("ACK LOST")), holds, "{until:?} {loss:?}: {broken:?}");
    }
    let mut history = three();
    history.reserve(vec![got(1, 10, 1)]);
    history.settle(How::Ack, Until::PowerLoss, 10, Answer::Done);
    history.reserve(vec![got(1, 10, 2)]);
    history.complains("was acked, and was delivered again");
}

#[test]
fn ack_that_nobody_made_is_noticed() {
    let mut history = three();
    let mut picture = three_records();
    picture[1].states[1] = State::Acked;
    history.find(&picture);
    history.complains("nobody acked it");
}

#[test]
fn attempts_are_exact_over_the_death_of_a_process() {
    for (counted, is_right) in [(0, false), (1, true), (2, false)] {
        let mut history = three();
        history.reserve(vec![got(1, 10, 1)]);
        let mut picture = three_records();
        picture[0].states[0] = State::Open(counted);
        history.find(&picture);
        assert_eq!(
            history.ledger.violations.is_empty(),
            is_right,
            "{counted} counted: {:?}",
            history.ledger.violations
        );
    }
    // A reserve in doubt may have counted one, where nobody has the task.
    let mut history = three();
    history.say(Said::Reserve { op: 50, group: 0, tasks: 1 });
    let mut picture = three_records();
    picture[0].states[0] = State::Open(1);
    history.find(&picture);
    history.is_content();
    let mut history = three();
    history.say(Said::Reserve { op: 50, group: 0, tasks: 1 });
    (picture[0].states[0], picture[1].states[0]) = (State::Open(1), State::Open(1));
    history.find(&picture);
    history.complains("2 attempts of group default were counted that nobody was told of");
}

#[test]
fn power_loss_makes_attempts_too_low_and_never_too_high() {
    for (counted, is_right) in [(0, true), (1, true), (2, false)] {
        let mut history = three();
        history.reserve(vec![got(1, 10, 1)]);
        let mut picture = three_records();
        picture[0].states[0] = State::Open(counted);
        let broken = history.ledger.judge(&picture, &[], Loss::Power);
        assert_eq!(broken.is_empty(), is_right, "{counted} counted: {broken:?}");
    }
}

#[test]
fn task_is_on_loan_to_one_consumer_at_a_time_and_comes_in_order() {
    let mut history = three();
    history.reserve(vec![got(1, 10, 1)]);
    history.reserve(vec![got(1, 10, 2)]);
    history.complains("two consumers");

    let mut history = three();
    history.reserve(vec![got(2, 11, 1), got(1, 10, 1)]);
    history.complains("came for the first time after sequence 11");

    let mut history = three();
    history.reserve(vec![got(1, 10, 2)]);
    history.complains("came as attempt 2, and 0 were counted before");
}

#[test]
fn order_is_judged_over_a_crash_where_no_reserve_was_in_doubt() {
    for in_doubt in [false, true] {
        let mut history = three();
        if in_doubt {
            // It got task 1, and did not live to say so; the power took the attempt.
            history.say(Said::Reserve { op: 50, group: 0, tasks: 1 });
        }
        history.reserve(vec![got(2, 11, 1)]);
        history.ledger.power_lost();
        history.find(&three_records());
        history.is_content();
        history.reserve(vec![got(1, 10, 1)]);
        match in_doubt {
            true => history.is_content(),
            false => history.complains("came for the first time after sequence 11"),
        }
    }
}

#[test]
fn what_a_queue_could_not_read_comes_late_without_complaint() {
    for is_lost in [false, true] {
        let mut history = three();
        if is_lost {
            history.ledger.device_lost();
        }
        history.reserve(vec![got(2, 11, 1)]);
        history.ledger.power_lost();
        history.find(&three_records());
        history.reserve(vec![got(1, 10, 1)]);
        match is_lost {
            true => history.is_content(),
            false => history.complains("came for the first time after sequence 11"),
        }
    }
}

#[test]
fn lease_that_had_not_run_out_must_not_be_lost() {
    let mut history = three();
    history.reserve(vec![got(1, 10, 1)]);
    history.settle(How::Ack, Until::Ever, 10, Answer::LeaseLost);
    history.complains("a lease that had not run out was lost");

    let mut history = three();
    history.reserve(vec![got(1, 10, 1)]);
    history.settle(How::Abandon, Until::Ever, 10, Answer::Done);
    history.reserve(vec![got(1, 10, 2)]);
    history.is_content();
}

#[test]
fn dead_letter_stays_dead_and_needs_a_reason() {
    let mut history = three();
    history.reserve(vec![got(1, 10, 1)]);
    history.settle(How::Reject, Until::Ever, 10, Answer::Done);
    let mut picture = three_records();
    picture[0].states[0] = State::Open(1);
    assert_eq!(history.ledger.judge(&picture, &[], Loss::Power).len(), 1);
    picture[0].states[0] = State::Dead(1);
    assert_eq!(history.ledger.judge(&picture, &[], Loss::Power), NOTHING);
    picture[1].states[1] = State::Dead(0);
    assert_eq!(history.ledger.judge(&picture, &[], Loss::Power).len(), 1);
}

#[test]
fn damage_is_noticed_but_for_the_torn_end_that_a_power_loss_leaves() {
    let history = three();
    let judge = |what: &str, loss| history.ledger.judge(&three_records(), &[what.to_owned()], loss).len();
    assert_eq!(judge("torn: 00000001.seg at byte 7", Loss::Power), 0);
    assert_eq!(judge("torn: 00000001.seg at byte 7", Loss::Process), 1);
    assert_eq!(judge("corrupt: 00000001.seg at byte 7", Loss::Power), 1);
}

#[test]
fn recovered_task_that_a_drain_does_not_deliver_is_noticed() {
    let mut history = three();
    history.find(&three_records());
    history.say(Said::Drained);
    history.complains("was never delivered to group default");
}

#[test]
fn task_that_all_groups_acked_in_doubt_and_that_was_left_behind_is_not_waited_for() {
    let mut history = History::default();
    history.enqueue(3, 12, 2, Until::Ever);
    for group in 0..2 {
        let got = Got { lane: 0, seq: 13, tag: Some(Tag { unit: 3, index: 1, count: 2 }), attempt: 1 };
        history.ops += 1;
        history.say(Said::Reserve { op: history.ops, group, tasks: 10 });
        history.say(Said::Reserved { op: history.ops, answer: Answer::Done, got: vec![got] });
        // The process dies before it says what came of it.
        history.ops += 1;
        let (op, how, until) = (history.ops, How::Ack, Until::Ever);
        history.say(Said::Settle { op, group, how, until, tasks: vec![(0, 13)] });
    }
    let mut picture = records(3, 0, 12, 2);
    picture.truncate(1);
    history.find(&picture);
    history.is_content();
    history.say(Said::Drained);
    history.complains("task 0 of unit 3 was never delivered");
    assert!(history.ledger.violations.iter().all(|what| !what.contains("task 1 of")));
}
