//! Journal entries: every kind comes back, and no payload, however hostile, does more than end the list.

use super::super::journal::{
    BadEntry, DeadCause, Entry, Named, Of, Pausable, REASON_BYTES_MAX, ROOM_BYTES_MIN, Run, cut_reason, decision,
    decision_bytes, entries, put_acked, put_cancelled, put_dead, put_decision, put_group_created, put_group_removed,
    put_group_retains, put_paused, put_released, put_reserved, put_resumed, put_retry, put_room, put_started,
    settle_bytes_max,
};
use super::each_harm;
use crate::sim::Rng;
use crate::types::{Beyond, LaneId, Retention, Seq, Timestamp};

/// An entry that owns what it says.
#[derive(Clone, PartialEq, Debug)]
enum Said {
    Reserved(u32, u32, Vec<Run>),
    Acked(u32, Vec<Run>),
    Released(u32, u32, Vec<Run>),
    Retry((u32, LaneId, Seq, u32), Timestamp, u64, String),
    Dead((u32, LaneId, Seq, u32), DeadCause, Timestamp, u32, String),
    GroupCreated(u32, String, Vec<(LaneId, Seq)>),
    Started(u32, LaneId, Seq),
    GroupRemoved(u32),
    Retains(u32, Retention),
    Paused(Pausable),
    Resumed(Pausable),
    Decision(Vec<Named>),
    Room,
    Cancelled(Vec<Run>),
}

impl Said {
    fn put(&self, out: &mut Vec<u8>) {
        let of = |of: &(u32, LaneId, Seq, u32)| Of { group: of.0, lane: of.1, seq: of.2, attempts: of.3 };
        match self {
            Said::Reserved(group, attempt, runs) => put_reserved(out, *group, *attempt, runs),
            Said::Acked(group, runs) => put_acked(out, *group, runs),
            Said::Released(group, attempts, runs) => put_released(out, *group, *attempts, runs),
            Said::Retry(about, due, delay, reason) => put_retry(out, of(about), *due, *delay, reason),
            Said::Dead(about, cause, at, bytes, reason) => put_dead(out, of(about), *cause, *at, *bytes, reason),
            Said::GroupCreated(group, name, starts) => put_group_created(out, *group, name, starts),
            Said::Started(group, lane, seq) => put_started(out, *group, *lane, *seq),
            Said::GroupRemoved(group) => put_group_removed(out, *group),
            Said::Retains(group, retention) => put_group_retains(out, *group, retention),
            Said::Paused(what) => put_paused(out, *what),
            Said::Resumed(what) => put_resumed(out, *what),
            Said::Decision(named) => put_decision(out, named),
            Said::Room => put_room(out, out.len() + ROOM_BYTES_MIN),
            Said::Cancelled(runs) => put_cancelled(out, runs),
        }
    }

    fn of(entry: Entry<'_>) -> Said {
        match entry {
            Entry::Reserved { group, attempt, runs } => Said::Reserved(group, attempt, runs.collect()),
            Entry::Acked { group, runs } => Said::Acked(group, runs.collect()),
            Entry::Released { group, attempts, runs } => Said::Released(group, attempts, runs.collect()),
            Entry::Retry { group, lane, seq, attempts, due, delay_ms, reason } => {
                Said::Retry((group, lane, seq, attempts), due, delay_ms, reason.to_owned())
            }
            Entry::Dead { group, lane, seq, attempts, cause, at, bytes, reason } => {
                Said::Dead((group, lane, seq, attempts), cause, at, bytes, reason.to_owned())
            }
            Entry::GroupCreated { group, name, starts } => Said::GroupCreated(group, name.to_owned(), starts.collect()),
            Entry::Started { group, lane, seq } => Said::Started(group, lane, seq),
            Entry::GroupRemoved { group } => Said::GroupRemoved(group),
            Entry::Retains { group, retention } => Said::Retains(group, retention),
            Entry::Paused(what) => Said::Paused(what),
            Entry::Resumed(what) => Said::Resumed(what),
            Entry::Decision { named } => Said::Decision(named.collect()),
            Entry::Room => Said::Room,
            Entry::Cancelled { runs } => Said::Cancelled(runs.collect()),
        }
    }
}

fn read(payload: &[u8]) -> Vec<Result<Said, BadEntry>> {
    entries(payload).map(|entry| entry.map(Said::of)).collect()
}

/// What a payload says, and the offset behind each entry.
fn written(said: &[Said]) -> (Vec<u8>, Vec<usize>) {
    let (mut out, mut ends) = (Vec::new(), Vec::new());
    for one in said {
        one.put(&mut out);
        ends.push(out.len());
    }
    (out, ends)
}

fn run(lane: u8, first: u64, count: u32) -> Run {
    Run { lane: LaneId(lane), first: Seq(first), count }
}

fn named(lane: u8, base: u64, first: u64, count: u32) -> Named {
    Named { lane: LaneId(lane), base, first: Seq(first), count }
}

/// One of each, with values at the edges of their fields.
fn one_of_each() -> Vec<Said> {
    let most = (u32::MAX, LaneId(255), Seq(u64::MAX), u32::MAX);
    vec![
        Said::Started(most.0, most.1, most.2),
        Said::Reserved(0, 1, vec![run(0, 0, 0), run(255, u64::MAX, u32::MAX)]),
        Said::Reserved(u32::MAX, u32::MAX, Vec::new()),
        Said::Acked(7, vec![run(3, 1 << 40, 1)]),
        Said::Released(1, 0, vec![run(1, 2, 3)]),
        Said::Retry((1, LaneId(2), Seq(3), 4), Timestamp(5), 6, "it said \u{201E}no\u{201C}".to_owned()),
        Said::Retry(most, Timestamp(u64::MAX), u64::MAX, String::new()),
        Said::Dead(
            (1, LaneId(2), Seq(3), 4),
            DeadCause::MaxAttempts,
            Timestamp(5),
            0x0BAD_CAFE,
            "x".repeat(REASON_BYTES_MAX),
        ),
        Said::Dead(most, DeadCause::Rejected, Timestamp(0), 0x0BAD_CAFE, String::new()),
        Said::GroupCreated(9, "mailers".to_owned(), vec![(LaneId(0), Seq(0)), (LaneId(255), Seq(u64::MAX))]),
        Said::GroupCreated(0, String::new(), Vec::new()),
        Said::GroupRemoved(u32::MAX),
        Said::Retains(7, Retention { tasks: 1, bytes: 2, age_ms: 3, beyond: Beyond::Drop }),
        Said::Retains(
            u32::MAX,
            Retention { tasks: u64::MAX, bytes: u64::MAX, age_ms: u64::MAX, beyond: Beyond::DeadLetter },
        ),
        Said::Paused(Pausable::Lane(LaneId(255))),
        Said::Paused(Pausable::Group(u32::MAX)),
        Said::Resumed(Pausable::Lane(LaneId(0))),
        Said::Resumed(Pausable::Group(0)),
        Said::Decision(vec![named(0, 1, 2, 3), named(255, u64::MAX, u64::MAX, u32::MAX)]),
        Said::Decision(Vec::new()),
        Said::Room,
        Said::Cancelled(vec![run(0, 1, 1), run(255, u64::MAX, u32::MAX)]),
        Said::Cancelled(Vec::new()),
    ]
}

fn some(rng: &mut Rng) -> Said {
    let small = |rng: &mut Rng| u32::try_from(rng.below(1000)).unwrap();
    let lane = |rng: &mut Rng| LaneId(u8::try_from(rng.below(256)).unwrap());
    let text = |rng: &mut Rng| "ä€x\0".repeat(usize::try_from(rng.below(20)).unwrap());
    let about = (small(rng), lane(rng), Seq(rng.next()), small(rng));
    let count = rng.below(6);
    let runs: Vec<Run> =
        (0..count).map(|_| Run { lane: lane(rng), first: Seq(rng.next()), count: small(rng) }).collect();
    match rng.below(10) {
        6 => Said::Paused(Pausable::Lane(about.1)),
        7 => Said::Resumed(Pausable::Group(about.0)),
        0 => Said::Reserved(about.0, about.3, runs),
        1 => Said::Acked(about.0, runs),
        2 => Said::Released(about.0, about.3, runs),
        3 => Said::Retry(about, Timestamp(rng.next()), rng.next(), text(rng)),
        4 => Said::Dead(about, DeadCause::MaxAttempts, Timestamp(rng.next()), 7, text(rng)),
        5 => Said::Decision(runs.iter().map(|run| named(run.lane.0, rng.next(), run.first.0, run.count)).collect()),
        8 => Said::Room,
        9 => Said::Cancelled(runs),
        _ => Said::GroupCreated(about.0, text(rng), runs.iter().map(|run| (run.lane, run.first)).collect()),
    }
}

#[test]
fn every_entry_comes_back_alone_and_in_a_row() {
    for said in one_of_each() {
        let (payload, _) = written(std::slice::from_ref(&said));
        assert_eq!(read(&payload), [Ok(said)]);
    }
    let (payload, _) = written(&one_of_each());
    assert_eq!(read(&payload), one_of_each().into_iter().map(Ok).collect::<Vec<_>>());
    assert!(read(&[]).is_empty(), "an empty payload says nothing");
}

#[test]
fn any_list_of_entries_comes_back() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let count = rng.below(12);
        let said: Vec<Said> = (0..count).map(|_| some(&mut rng)).collect();
        let (payload, _) = written(&said);
        assert_eq!(read(&payload), said.into_iter().map(Ok).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn payload_that_is_cut_gives_the_whole_entries_before_the_cut() {
    let (payload, ends) = written(&one_of_each());
    for end in 0..payload.len() {
        let whole = ends.iter().filter(|at| **at <= end).count();
        let mut expected: Vec<_> = one_of_each().into_iter().take(whole).map(Ok).collect();
        if whole.checked_sub(1).map_or(0, |last| ends[last]) < end {
            expected.push(Err(BadEntry));
        }
        assert_eq!(read(&payload[..end]), expected, "cut at {end}");
    }
}

#[test]
fn any_changed_byte_is_survived_and_ends_the_list_at_most_once() {
    let (payload, _) = written(&one_of_each());
    each_harm(&payload, |harmed| {
        let read = read(harmed);
        let bad = read.iter().position(Result::is_err);
        assert!(bad.is_none_or(|at| at + 1 == read.len()), "nothing is read behind a malformed entry");
    });
}

#[test]
fn entry_whose_length_or_fields_lie_is_refused() {
    let (acked, _) = written(&[Said::Acked(7, vec![run(3, 5, 1)])]);
    let (retry, _) = written(&[Said::Retry((1, LaneId(2), Seq(3), 4), Timestamp(5), 6, "why".to_owned())]);
    let (dead, _) = written(&[Said::Dead(
        (1, LaneId(2), Seq(3), 4),
        DeadCause::Rejected,
        Timestamp(5),
        0x0BAD_CAFE,
        String::new(),
    )]);
    let (group, _) = written(&[Said::GroupCreated(9, "name".to_owned(), vec![(LaneId(1), Seq(2))])]);
    let (decision, _) = written(&[Said::Decision(vec![named(1, 2, 3, 4)])]);
    let changed = |bytes: &[u8], at: usize, value: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        // Enough behind it that a length which reaches too far reaches something.
        bytes.extend_from_slice(&[0xFF; 64]);
        bytes
    };
    let cases = [
        ("a length beyond everything", changed(&acked, 1, &u32::MAX.to_le_bytes())),
        ("a length of nothing", changed(&acked, 1, &0_u32.to_le_bytes())),
        ("a length without its group", changed(&acked, 1, &3_u32.to_le_bytes())),
        ("half a run", changed(&acked, 1, &10_u32.to_le_bytes())),
        ("a run and a half", changed(&acked, 1, &24_u32.to_le_bytes())),
        ("half a named record", changed(&decision, 1, &20_u32.to_le_bytes())),
        ("tag zero", changed(&acked, 0, &[0])),
        ("a tag that is not known", changed(&acked, 0, &[200])),
        ("a run for a text", changed(&acked, 0, &[6])),
        ("a cause that is not known", changed(&dead, 5 + 17, &[200])),
        ("cause zero", changed(&dead, 5 + 17, &[0])),
        ("a text beyond its body", changed(&retry, 5 + 33, &4_u16.to_le_bytes())),
        ("a text that leaves a rest", changed(&retry, 5 + 33, &2_u16.to_le_bytes())),
        ("a text that is none", changed(&retry, 5 + 35, &[0xFF])),
        ("a name that eats half a start", changed(&group, 5 + 4, &5_u16.to_le_bytes())),
    ];
    for (what, payload) in cases {
        assert_eq!(read(&payload), [Err(BadEntry)], "{what}");
    }
}

#[test]
fn reason_is_cut_at_a_character() {
    assert_eq!(cut_reason("short"), "short");
    let long = format!("{}ä rest", "x".repeat(REASON_BYTES_MAX - 1));
    assert_eq!(cut_reason(&long), "x".repeat(REASON_BYTES_MAX - 1));
    let about = (1, LaneId(0), Seq(1), 1);
    let (payload, _) = written(&[Said::Retry(about, Timestamp(0), 0, long)]);
    assert_eq!(read(&payload), [Ok(Said::Retry(about, Timestamp(0), 0, "x".repeat(REASON_BYTES_MAX - 1)))]);
}

#[test]
fn name_longer_than_its_length_field_is_cut_and_what_follows_is_whole() {
    let starts = vec![(LaneId(1), Seq(2))];
    let (payload, _) = written(&[Said::GroupCreated(1, "ä".repeat(40_000), starts.clone())]);
    assert_eq!(read(&payload), [Ok(Said::GroupCreated(1, "ä".repeat(32_767), starts))]);
}

#[test]
fn entries_are_appended_to_what_is_there() {
    let mut out = b"before".to_vec();
    put_acked(&mut out, 1, &[run(1, 2, 3)]);
    assert_eq!(&out[..6], b"before");
    assert_eq!(read(&out[6..]), [Ok(Said::Acked(1, vec![run(1, 2, 3)]))]);
}

#[test]
fn decision_is_found_only_at_the_front_of_its_record() {
    let (acks, _) = written(&[Said::Acked(1, vec![run(1, 2, 3)])]);
    let (named_one, _) = written(&[Said::Decision(vec![named(1, 2, 3, 4)])]);
    assert_eq!(named_one.len(), decision_bytes(1));
    let front = decision(&[named_one.clone(), acks.clone()].concat()).map(Iterator::collect::<Vec<_>>);
    assert_eq!(front, Some(vec![named(1, 2, 3, 4)]));
    assert!(decision(&[acks, named_one].concat()).is_none());
    assert!(decision(&[]).is_none());
}

#[test]
fn settles_and_room_fill_what_was_set_aside_to_the_byte() {
    let about = (1, LaneId(2), Seq(3), 4);
    let long = "x".repeat(2 * REASON_BYTES_MAX);
    for reason in ["", "why", &long] {
        let kinds = [
            Said::Acked(1, vec![run(1, 2, 3)]),
            Said::Released(1, 0, vec![run(1, 2, 3)]),
            Said::Retry(about, Timestamp(5), 6, reason.to_owned()),
            Said::Dead(about, DeadCause::MaxAttempts, Timestamp(5), 7, reason.to_owned()),
        ];
        for said in kinds {
            let bytes = settle_bytes_max(reason) + ROOM_BYTES_MIN;
            let (mut payload, _) = written(std::slice::from_ref(&said));
            put_room(&mut payload, bytes);
            assert_eq!(payload.len(), bytes, "{said:?}");
            assert_eq!(read(&payload).len(), 2);
        }
    }
}
