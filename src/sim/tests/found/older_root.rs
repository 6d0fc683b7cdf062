//! Opens that can't use the newest root, and what a newer one had let go.

use super::*;
use crate::engine::hand::Move;

#[test]
fn checkpoint_after_a_crash_writes_nowhere_where_a_root_may_come_back() {
    let ops = [enqueue(0, 9, true), Op::Reopen, reserve(1), settle(How::Ack, 1, true), Op::Checkpoint, Op::Reopen];
    for at in 30..75 {
        let mut one = stretch(&ops, Crash { at: Some(at), loss: Loss::Process });
        one.recoveries.push(Crash { at: Some(14), loss: Loss::Power });
        keeps_its_promises(12, &[one], None);
    }
}

#[test]
fn life_that_could_not_be_read_is_not_proven_durable_by_those_behind_it() {
    let stall = Op::Stall { lane: 0, bytes: 488, filled: false };
    let mut ops = vec![enqueue(0, 878, false), stall];
    ops.extend([enqueue(0, 937, false); 12]);
    ops.extend([reserve(3), Op::Checkpoint]);
    for call in 0..60 {
        let mut one = stretch(&ops, KILLED);
        one.hindrance = Some(Fault::Fails { call, choice: 0, onwards: false });
        keeps_its_promises(2, &[one], None);
    }
}

#[test]
fn checkpoint_that_is_used_again_misses_no_file_that_recovery_found_empty() {
    let group = 6;
    let ops = [
        Op::Batch { lane: 1, tasks: 2, bytes: 812, power: false, wait: true },
        Op::Reserve { group, tasks: 4, lane: None, lease_ms: 500, consumer: 0 },
        Op::Checkpoint,
    ];
    for call in 15..21 {
        let mut second = stretch(&[], Crash { at: Some(12), loss: Loss::Process });
        second.fault = Some(Fault::Fails { call, choice: 7, onwards: false });
        keeps_its_promises(60, &[stretch(&ops, POWERLESS), second], None);
    }
}

#[test]
fn segment_that_is_settled_and_used_again_is_not_looked_at() {
    let ops = [
        enqueue(0, 709, false),
        enqueue(0, 458, true),
        enqueue(0, 757, true),
        enqueue(0, 620, false),
        Op::Sweep { group: 0 },
        enqueue(1, 183, true),
        Op::Settle { group: 4, pick: 112, count: 3, how: How::Ack, power: false },
        enqueue(0, 716, false),
        Op::Settle { group: 1, pick: 119, count: 1, how: How::Ack, power: false },
        Op::Reopen,
    ];
    let more = [
        Op::Reserve { group: 2, tasks: 2, lane: None, lease_ms: 20, consumer: 2 },
        Op::Batch { lane: 0, tasks: 3, bytes: 445, power: false, wait: true },
        enqueue(0, 326, true),
        enqueue(0, 372, false),
        enqueue(1, 0, false),
        Op::Checkpoint,
        Op::Batch { lane: 0, tasks: 4, bytes: 813, power: false, wait: false },
    ];
    let small = Setting { segment_bytes: 4096, ..SETTING };
    for call in 20..32 {
        let mut second = stretch(&more, POWERLESS);
        second.hindrance = Some(Fault::Fails { call, choice: 8, onwards: false });
        keeps_its_promises_in(small, 24, &[stretch(&ops, KILLED), second], None);
    }
}

#[test]
fn id_of_a_task_that_did_not_survive_does_not_come_back_with_an_older_checkpoint() {
    let one = [
        batch(6, 49, true, true),
        enqueue(1, 22, true),
        Op::Purge { lane: 1, power: true },
        Op::Once { lane: 1, tasks: 1, bytes: 358, id: 5, window_ms: 100_000, power: true, wait: false },
        Op::Checkpoint,
        Op::Once { lane: 0, tasks: 6, bytes: 341, id: 3, window_ms: 888, power: false, wait: true },
        Op::Reserve { group: 2, tasks: 5, lane: Some(0), lease_ms: 500, consumer: 1 },
        Op::Checkpoint,
        Op::Checkpoint,
    ];
    for call in 16..28 {
        for at in 5..10 {
            let mut second = stretch(&[], Crash { at: Some(at), loss: Loss::Process });
            second.hindrance = Some(Fault::Fails { call, choice: 9, onwards: false });
            keeps_its_promises(4, &[stretch(&[], POWERLESS), stretch(&one, POWERLESS), second], None);
        }
    }
}

#[test]
fn what_one_recovery_dropped_may_come_back_with_an_older_checkpoint() {
    let stalled = Op::Stall { lane: 0, bytes: 493, filled: true };
    let once = Op::Once { lane: 1, tasks: 1, bytes: 2, id: 3, window_ms: 0, power: false, wait: true };
    let mut ops = vec![batch(3, 400, false, true), enqueue(0, 400, true), enqueue(0, 400, true), stalled];
    ops.extend([batch(4, 400, true, true), batch(4, 400, false, true), enqueue(0, 400, false)]);
    ops.extend([batch(5, 400, false, false), batch(3, 400, false, true), once, batch(4, 400, true, false)]);
    ops.extend([batch(4, 400, false, true), enqueue(0, 400, false), reserve(16), enqueue(0, 400, false)]);
    ops.extend([enqueue(0, 400, false), batch(2, 400, false, false), batch(5, 400, false, false)]);
    ops.extend([enqueue(0, 400, false), enqueue(0, 400, true), batch(3, 400, true, true), enqueue(0, 445, false)]);
    ops.extend([enqueue(0, 400, false), Op::Checkpoint]);
    let first = stretch(&ops, POWERLESS);
    let mut second = stretch(&[], POWERLESS);
    second.fault = Some(Fault::Fails { call: 15, choice: 10, onwards: true });
    for call in 15..32 {
        second.hindrance = Some(Fault::Fails { call, choice: 8, onwards: false });
        let setting = Setting { lanes: 2, attempts_max: 3, ids_max: 4, ..SETTING };
        keeps_its_promises_in(setting, 24, &[first.clone(), second.clone()], None);
    }
}

#[test]
fn life_that_a_recovery_made_durable_is_not_missed_for_one_that_it_did_not() {
    let transaction = Op::Transaction {
        lane: 0,
        tasks: 1,
        bytes: 48,
        id: None,
        group: 2,
        pick: 154,
        settles: 3,
        how: How::Nack { delay_ms: 15 },
        power: true,
        stands: None,
    };
    let once = Op::Once { lane: 0, tasks: 1, bytes: 160, id: 3, window_ms: 0, power: false, wait: true };
    let thin = Op::Thin { lane: 0, group: 7, how: How::Ack, power: false };
    let ops = [transaction, Op::Checkpoint, once, reserve(5), thin, Op::Checkpoint];
    let setting = Setting { lanes: 1, attempts_max: 3, keyed: Keyed::Sticky, ids_max: 4, ..Setting::plain(4096) };
    for at in 38..48 {
        for inner in 14..24 {
            let mut one = stretch(&ops, Crash { at: Some(at), loss: Loss::Process });
            one.recoveries.push(Crash { at: Some(inner), loss: Loss::Power });
            keeps_its_promises_in(setting, 8, &[one], None);
        }
    }
}

#[test]
fn nothing_durable_is_lost_where_an_older_checkpoint_knows_less() {
    let once = Op::Once { lane: 0, tasks: 1, bytes: 12, id: 2, window_ms: 30, power: false, wait: true };
    let thin = |group, how, power| Op::Thin { lane: 1, group, how, power };
    let ops = [once, thin(2, How::Ack, false), thin(3, How::Ack, false), Op::Checkpoint, thin(7, How::Backoff, true)];
    let room = Room { lane_tasks: 22, ..Room::ANY };
    let setting = Setting { lanes: 2, expired_are_dead: true, order: Order::Weighted, room, ..SETTING };
    for call in 16..30 {
        let mut one = stretch(&ops, POWERLESS);
        one.hindrance = Some(Fault::Fails { call, choice: 9, onwards: false });
        keeps_its_promises_in(setting, 12, &[one], None);
    }
}

#[test]
fn id_comes_back_with_its_task_where_an_older_checkpoint_does() {
    let thin = |lane, group, power| Op::Thin { lane, group, how: How::Ack, power };
    let once =
        |lane, tasks, bytes, id, window_ms, power, wait| Op::Once { lane, tasks, bytes, id, window_ms, power, wait };
    let ops = vec![
        thin(1, 7, true),
        Op::Checkpoint,
        Op::Settle { group: 2, pick: 213, count: 1, how: How::Ack, power: false },
        enqueue(0, 1, false),
        thin(1, 6, false),
        Op::Reopen,
        once(0, 3, 6, 3, 0, true, true),
        Op::Checkpoint,
        enqueue(1, 30, false),
        Op::Park { group: 2, pick: 97 },
        once(1, 3, 595, 4, 6, true, false),
        enqueue(0, 11, false),
        Op::Footers,
        Op::Recycle,
        Op::Stall { lane: 1, bytes: 30, filled: false },
        Op::Checkpoint,
        once(1, 1, 2, 4, 1028, false, false),
        thin(0, 4, true),
    ];
    let setting = Setting {
        lanes: 2,
        load: Load::Sparse,
        order: Order::Weighted,
        room: Room { lane_tasks: 8, queue_bytes: 0 },
        ids_max: 3,
        ..SETTING
    };
    let mut first = stretch(&ops, POWERLESS);
    first.recoveries.push(Crash { at: Some(31), loss: Loss::Power });
    let mut second = stretch(&[], KILLED);
    second.fault = Some(Fault::SyncFails { call: 18, choice: 2 });
    second.hindrance = Some(Fault::Fails { call: 25, choice: 6, onwards: false });
    let schedule = Schedule { disk_seed: 7, setting, stretches: vec![first, second], hurt: None, hurt_unsealed: false };
    if let Err(violation) = run(&schedule, &mut Counts::default(), None) {
        panic!("{violation:?}\n{schedule}");
    }
}

#[test]
fn dead_letter_whose_record_did_not_survive_is_not_expected_again() {
    let ops = [
        Op::Thin { lane: 1, group: 3, how: How::Ack, power: false },
        Op::CreateGroup { newest: false, power: false },
        Op::Retain { group: 5, tasks: 1, bytes: 0, age_ms: 256, policy: Beyond::DeadLetter, power: true },
    ];
    let setting = Setting {
        attempts_max: 3,
        expired_are_dead: true,
        load: Load::Sparse,
        order: Order::Weighted,
        loans_max: 5,
        ..SETTING
    };
    keeps_its_promises_in(setting, 1, &[stretch(&ops, POWERLESS)], None);
}

/// Twice in a row the newest root can't be read.
#[test]
fn what_a_crash_cut_is_no_damage_for_an_open_with_the_older_root() {
    let once = |bytes, id, window_ms, wait| Op::Once { lane: 0, tasks: 1, bytes, id, window_ms, power: false, wait };
    let setting =
        Setting { lanes: 1, expired_are_dead: true, load: Load::Bulky, order: Order::Weighted, ..Setting::plain(4096) };
    let ops = [
        enqueue(0, 54, true),
        Op::Later { lane: 0, tasks: 5, delay_ms: 1450, step_ms: 140, power: true },
        once(16, 0, 0, true),
        Op::Reserve { group: 6, tasks: 4, lane: None, lease_ms: 20, consumer: 1 },
        batch(5, 104, false, false),
        enqueue(0, 382, false),
        once(339, 2, 100_000, true),
        Op::SyncAll,
        once(48, 1, 4, false),
        Op::Stall { lane: 0, bytes: 526, filled: false },
        enqueue(0, 373, false),
        Op::MarkIdle,
        Op::Settle { group: 5, pick: 1, count: 40, how: How::Ack, power: true },
        once(28, 0, 14, true),
        Op::Settle { group: 7, pick: 244, count: 1, how: How::Ack, power: true },
        enqueue(0, 255, true),
        Op::MarkIdle,
        Op::WriteBack,
        Op::Later { lane: 0, tasks: 4, delay_ms: 1276, step_ms: 63, power: true },
        Op::Snapshot { seed: 3_651_061_558, meanwhile: 0, fault: None, stops: Some(9) },
        batch(6, 689, false, true),
        batch(2, 642, true, true),
        Op::Checkpoint,
    ];
    let mut second = stretch(&[], POWERLESS);
    second.fault = Some(Fault::Fails { call: 21, choice: 10, onwards: false });
    second.hindrance = Some(Fault::Fails { call: 24, choice: 11, onwards: false });
    keeps_its_promises_in(setting, 24, &[stretch(&ops, POWERLESS), second], None);
}

#[test]
fn life_that_a_newer_checkpoint_gave_up_half_synced_takes_nothing_along() {
    let room = Room { lane_tasks: 4, queue_bytes: 0 };
    let plain = Setting { lanes: 1, attempts_max: 3, load: Load::Sparse, ..Setting::plain(8192) };
    let ops = [
        Op::Once { lane: 0, tasks: 1, bytes: 31, id: 5, window_ms: 100_000, power: true, wait: false },
        Op::Portions { seed: 300_558_181, meanwhile: 38 },
        Op::Portions { seed: 1_275_907_848, meanwhile: 13 },
        enqueue(0, 25, true),
    ];
    let mut one = stretch(&ops, POWERLESS);
    one.hindrance = Some(Fault::Fails { call: 22, choice: 0, onwards: false });
    keeps_its_promises_in(Setting { order: Order::Aging, room, loans_max: 2, ..plain }, 24, &[one], None);
}

#[test]
fn life_that_a_newer_checkpoint_gave_up_half_synced_is_no_damage() {
    let once = |tasks, bytes, window_ms| Op::Once { lane: 0, tasks, bytes, id: 2, window_ms, power: false, wait: true };
    let pair = batch(2, 400, false, true);
    let reserve = Op::Reserve { group: 0, tasks: 16, lane: None, lease_ms: 500, consumer: 0 };
    let settle = |group, pick, count, power| Op::Settle { group, pick, count, how: How::Ack, power };
    let portions = |seed, meanwhile| Op::Portions { seed, meanwhile };
    let ops = [
        pair,
        reserve,
        portions(3_440_758_214, 7),
        once(1, 342, 0),
        Op::Checkpoint,
        settle(0, 1, 40, true),
        portions(2_581_656_875, 25),
        pair,
        reserve,
        pair,
        settle(7, 229, 2, false),
        enqueue(1, 55, true),
        batch(2, 459, true, false),
        portions(1_382_910_012, 7),
        settle(0, 1, 40, true),
        portions(3_617_451_838, 39),
    ];
    let room = Room { lane_tasks: 20, queue_bytes: 0 };
    let setting = Setting { lanes: 2, load: Load::Turning, room, ids_max: 2, ..Setting::plain(4096) };
    let mut one = stretch(&ops, Crash { at: Some(107), loss: Loss::Power });
    one.hindrance = Some(Fault::Fails { call: 25, choice: 6, onwards: false });
    keeps_its_promises_in(setting, 4, &[one], None);
}

/// Its file is in part another life's: what stood there was settled, and the rest of its transaction still counts.
#[test]
fn transaction_of_which_a_part_was_given_up_is_whole_for_an_older_root() {
    let portions = |seed, meanwhile| Op::Portions { seed, meanwhile };
    let ops = [
        Op::Once { lane: 1, tasks: 6, bytes: 307, id: 0, window_ms: 1344, power: true, wait: true },
        enqueue(0, 18, true),
        Op::Stall { lane: 0, bytes: 8, filled: true },
        Op::Prepare,
        portions(3_756_726_619, 25),
        enqueue(1, 19, false),
        portions(1_788_679_319, 21),
        portions(3_870_368_311, 20),
    ];
    let mut one = stretch(&ops, POWERLESS);
    one.hindrance = Some(Fault::ReadsFail { skipped: 5, times: 3 });
    let setting = Setting { lanes: 2, order: Order::Weighted, ids_max: 2, ..Setting::plain(4096) };
    keeps_its_promises_in(setting, 8, &[one], None);
}

#[test]
fn id_that_one_recovery_dropped_comes_back_with_its_task_and_an_older_root() {
    let ops = [
        Op::Later { lane: 1, tasks: 4, delay_ms: 1396, step_ms: 83, power: false },
        Op::Special { lane: 1, bytes: 453, power: false, delay_ms: 0, ttl_ms: 5646, attempts: 3 },
        Op::Once { lane: 0, tasks: 5, bytes: 18, id: 3, window_ms: 0, power: false, wait: true },
        Op::Portions { seed: 3_907_554_500, meanwhile: 17 },
        Op::Checkpoint,
    ];
    let mut second = stretch(&[], Crash { at: Some(7), loss: Loss::Power });
    second.hindrance = Some(Fault::ReadsFail { skipped: 8, times: 3 });
    let setting = Setting { lanes: 2, attempts_max: 3, expired_are_dead: true, ..Setting::plain(4096) };
    keeps_its_promises_in(setting, 8, &[stretch(&ops, POWERLESS), second], None);
}

/// Nothing of it was left, and the later one was kept: its footer does not prove it durable for the next open.
#[test]
fn life_that_is_torn_at_its_first_record_stays_so_behind_a_recovery_that_kept_the_next_one() {
    let single = Op::Once { lane: 0, tasks: 1, bytes: 37, id: 4, window_ms: 0, power: true, wait: true };
    let ops = [
        single,
        enqueue(0, 400, false),
        Op::Portions { seed: 28, meanwhile: 7 },
        batch(2, 400, false, true),
        Op::Settle { group: 0, pick: 1, count: 40, how: How::Ack, power: true },
        batch(4, 700, false, false),
        batch(4, 700, false, false),
        Op::Portions { seed: 147, meanwhile: 3 },
        Op::Prepare,
    ];
    let mut one = stretch(&ops, POWERLESS);
    one.recoveries.push(Crash { at: Some(43), loss: Loss::Power });
    one.hindrance = Some(Fault::ReadsFail { skipped: 11, times: 3 });
    let setting =
        Setting { lanes: 2, expired_are_dead: true, load: Load::Turning, keyed: Keyed::Keys, ..Setting::plain(4096) };
    keeps_its_promises_in(setting, 24, &[one], None);
}

/// The next life's first records survived, and its first sector did not. What they lie over is settled, as the root that
/// can't be read knew: it is told of as corrupt, in every open until it goes, and nothing is lost.
#[test]
fn file_that_the_next_life_overwrote_in_part_is_told_of_and_costs_nothing() {
    let ops = [
        enqueue(0, 8, true),
        batch(3, 400, false, false),
        enqueue(0, 400, false),
        batch(6, 400, false, true),
        Op::Portions { seed: 1_667_324_630, meanwhile: 37 },
        enqueue(0, 400, false),
        batch(5, 400, true, false),
        Op::Batch { lane: 1, tasks: 3, bytes: 700, power: false, wait: false },
        Op::Checkpoint,
        Op::Batch { lane: 1, tasks: 1, bytes: 700, power: false, wait: false },
        Op::Batch { lane: 1, tasks: 4, bytes: 700, power: false, wait: false },
        reserve(16),
        settle(How::Ack, 40, true),
        Op::Portions { seed: 125, meanwhile: 2 },
        Op::Prepare,
        enqueue(1, 40, true),
        enqueue(1, 40, true),
        enqueue(1, 40, true),
    ];
    let mut one = stretch(&ops, POWERLESS);
    one.hindrance = Some(Fault::ReadsFail { skipped: 6, times: 2 });
    let setting = Setting { lanes: 2, attempts_max: 3, load: Load::Turning, loans_max: 6, ..Setting::plain(8192) };
    keeps_its_promises_in(setting, 120, &[one], None);
}

/// Nothing of the life before the task's survived, so the first recovery cut the log there. The next one could not read the
/// root that knew that: the task came back, whole, and so did what was told of it, that it was parked, or dead, or handed out
/// as often as it may be.
#[test]
fn task_that_one_recovery_cut_comes_back_as_it_was_told_with_an_older_root() {
    let (park, commit) = (Op::Park { group: 0, pick: 7 }, Op::Commit { lane: None });
    let dropped = Op::Shelf { group: 0, pick: 0, how: Move::Drop, power: false };
    let any = Setting { lanes: 1, ..Setting::plain(4096) };
    let one = Setting { attempts_max: 1, ..any };
    for (setting, said) in [
        (any, &[park, Op::Checkpoint][..]),
        (any, &[Op::Checkpoint, park, commit]),
        (any, &[Op::Checkpoint, park, commit, dropped]),
        (any, &[Op::Checkpoint, reserve(9), settle(How::Reject, 9, true)]),
        (one, &[reserve(9), Op::Checkpoint]),
        (one, &[Op::Checkpoint, reserve(9), commit]),
    ] {
        let fills = [batch(6, 900, false, false), enqueue(0, 900, false), enqueue(0, 200, false)];
        let first = stretch(&[&fills[..], said].concat(), POWERLESS);
        for skipped in 0..5 {
            let mut second = stretch(&[], POWERLESS);
            second.fault = Some(Fault::ReadsFail { skipped, times: 2 });
            keeps_its_promises_in(setting, 60, &[first.clone(), second], None);
        }
    }
}
