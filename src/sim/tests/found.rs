//! The smallest schedules that showed a bug, each with what it was. The disk's choices are tried widely, because what a
//! schedule showed once depends on what happened to survive.

use crate::sim::disk::Loss;
use crate::sim::operation::{Crash, Fault, How, Hurt, Op, Stands};
use crate::sim::run::{Counts, run};
use crate::sim::schedule::{Keyed, Load, Order, Room, Schedule, Setting, Stretch};
use crate::types::Beyond;

const SETTING: Setting = Setting::plain(8192);
const KILLED: Crash = Crash { at: None, loss: Loss::Process };
const POWERLESS: Crash = Crash { at: None, loss: Loss::Power };

fn stretch(ops: &[Op], crash: Crash) -> Stretch {
    Stretch { ops: ops.to_vec(), fault: None, crash, recoveries: Vec::new(), hindrance: None }
}

fn enqueue(lane: u8, bytes: u16, power: bool) -> Op {
    Op::Enqueue { lane, bytes, power }
}

fn batch(tasks: u8, bytes: u16, power: bool, wait: bool) -> Op {
    Op::Batch { lane: 0, tasks, bytes, power, wait }
}

fn reserve(tasks: u8) -> Op {
    Op::Reserve { group: 0, tasks, lane: None, lease_ms: 500, consumer: 0 }
}

fn settle(how: How, count: u8, power: bool) -> Op {
    Op::Settle { group: 0, pick: 1, count, how, power }
}

/// Runs the schedule with many of the disk's choices.
fn keeps_its_promises(disks: u64, stretches: &[Stretch], hurt: Option<Hurt>) {
    keeps_its_promises_in(SETTING, disks, stretches, hurt);
}

fn keeps_its_promises_in(setting: Setting, disks: u64, stretches: &[Stretch], hurt: Option<Hurt>) {
    for disk_seed in 0..disks {
        let stretches = stretches.to_vec();
        let schedule = Schedule { disk_seed, setting, stretches, hurt, hurt_unsealed: false };
        if let Err(violation) = run(&schedule, &mut Counts::default(), None) {
            panic!("{violation:?}\n{schedule}");
        }
    }
}

#[test]
fn recovery_that_crashes_behind_its_seal_does_not_take_acks_of_what_it_dropped() {
    for at in 10..26 {
        let ops = [batch(5, 417, false, false), reserve(3), settle(How::Reject, 6, true)];
        let mut one = stretch(&ops, POWERLESS);
        one.recoveries.push(Crash { at: Some(at), loss: Loss::Process });
        keeps_its_promises(24, &[one], None);
    }
}

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
fn group_from_the_newest_task_on_does_not_see_what_could_not_be_read_as_it_began() {
    let first = stretch(&[batch(2, 279, false, false), enqueue(0, 364, true)], POWERLESS);
    for call in 0..40 {
        let mut second = stretch(&[Op::CreateGroup { newest: true, power: false }], KILLED);
        second.fault = Some(Fault::Fails { call, choice: 0, onwards: false });
        keeps_its_promises(2, &[first.clone(), second], None);
    }
}

#[test]
fn flipped_bit_in_padding_brings_no_dropped_batch_back() {
    let stalled = Op::Stall { lane: 0, bytes: 51, filled: false };
    let ops = [enqueue(0, 9, false), stalled, enqueue(0, 34, false), batch(5, 37, true, true)];
    for file in 0..5 {
        for bit in (0..2 * 4096).step_by(5) {
            keeps_its_promises(2, &[stretch(&ops, POWERLESS)], Some(Hurt::Flip { file, bit }));
        }
    }
}

#[test]
fn flipped_bit_in_the_checkpoint_takes_no_group() {
    let ops = [enqueue(0, 9, true), Op::Checkpoint, Op::CreateGroup { newest: false, power: true }];
    let both = [stretch(&ops, POWERLESS), stretch(&[], POWERLESS)];
    for bit in (0..16 * 4096).step_by(29) {
        keeps_its_promises(1, &both, Some(Hurt::Flip { file: u32::MAX, bit }));
    }
}

#[test]
fn removed_group_is_gone_wholly_or_not_wherever_the_machine_stops() {
    let create = Op::CreateGroup { newest: false, power: true };
    let remove = |group, power| Op::RemoveGroup { group, power };
    let ops = [
        create,
        enqueue(0, 9, true),
        Op::Reserve { group: 1, tasks: 1, lane: None, lease_ms: 500, consumer: 0 },
        Op::Checkpoint,
        remove(1, true),
        create,
        remove(0, false),
        Op::Checkpoint,
        create,
        enqueue(0, 9, true),
    ];
    for at in 0..90 {
        for loss in [Loss::Process, Loss::Power] {
            let one = stretch(&ops, Crash { at: Some(at), loss });
            keeps_its_promises(3, &[one, stretch(&ops, KILLED)], None);
        }
    }
}

#[test]
fn acks_of_records_that_did_not_survive_do_not_hide_that_a_segment_is_missing() {
    let ops = [
        enqueue(0, 48, true),
        enqueue(0, 523, false),
        Op::SyncAll,
        enqueue(0, 1, false),
        reserve(3),
        Op::Settle { group: 0, pick: 0, count: 1, how: How::Ack, power: false },
        Op::Settle { group: 0, pick: 1, count: 1, how: How::Ack, power: false },
        Op::Checkpoint,
    ];
    for file in 0..3 {
        keeps_its_promises(40, &[stretch(&ops, POWERLESS)], Some(Hurt::Remove { file }));
    }
}

#[test]
fn lease_that_ran_out_is_not_given_back_by_a_consumer_that_leaves() {
    let later = Op::Clock { boot_ms: 498, wall_ms: 0 };
    let ops = [enqueue(0, 487, true), reserve(6), later, Op::Leave { group: 0, consumer: 0 }, reserve(5)];
    keeps_its_promises(2, &[stretch(&ops, KILLED)], None);
}

#[test]
fn recovery_that_can_not_read_forgets_nothing() {
    let ops = [enqueue(0, 9, true), enqueue(1, 6, false), reserve(2), Op::Checkpoint, settle(How::Ack, 1, false)];
    for call in 0..60 {
        let mut one = stretch(&ops, KILLED);
        one.hindrance = Some(Fault::Fails { call, choice: 0, onwards: false });
        keeps_its_promises(2, &[one], None);
    }
}

#[test]
fn log_ends_where_a_life_ends_early_and_the_next_one_proves_nothing() {
    let stall = Op::Stall { lane: 0, bytes: 802, filled: false };
    let ops = [
        enqueue(0, 876, true),
        batch(5, 900, true, true),
        batch(5, 900, true, false),
        stall,
        batch(6, 900, true, false),
        batch(6, 900, false, true),
        batch(6, 900, true, false),
    ];
    for at in (16..40).step_by(2) {
        let mut one = stretch(&ops, POWERLESS);
        one.recoveries = vec![Crash { at: Some(at), loss: Loss::Power }, Crash { at: Some(34), loss: Loss::Process }];
        keeps_its_promises(16, &[one], None);
    }
}

#[test]
fn dead_letters_of_records_that_did_not_survive_leave_the_checkpoint_too() {
    let ops = [batch(4, 419, false, false), reserve(2), settle(How::Reject, 1, true), Op::Checkpoint];
    keeps_its_promises(60, &[stretch(&ops, POWERLESS), stretch(&[reserve(4)], POWERLESS)], None);
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
fn dead_letters_of_a_batch_that_one_recovery_dropped_do_not_come_back_in_the_next() {
    let ops = [
        enqueue(1, 321, true),
        Op::Batch { lane: 1, tasks: 4, bytes: 883, power: false, wait: false },
        enqueue(1, 124, false),
        reserve(4),
        Op::Settle { group: 0, pick: 2, count: 3, how: How::Reject, power: false },
        enqueue(0, 191, true),
        settle(How::Ack, 1, true),
    ];
    for at in 6..14 {
        let mut one = stretch(&ops, POWERLESS);
        one.recoveries.push(Crash { at: Some(at), loss: Loss::Power });
        keeps_its_promises(24, &[one], None);
    }
}

#[test]
fn ack_of_a_claim_that_a_power_loss_left_open_does_not_hide_that_a_segment_is_missing() {
    let sweep = Op::Sweep { group: 3 };
    let ops = [
        enqueue(0, 852, false),
        enqueue(1, 239, true),
        Op::Stall { lane: 1, bytes: 19, filled: true },
        reserve(6),
        sweep,
        enqueue(0, 240, false),
        sweep,
        Op::Settle { group: 3, pick: 156, count: 1, how: How::Ack, power: true },
        enqueue(0, 813, true),
        Op::GoOn,
        reserve(6),
        settle(How::Ack, 40, true),
    ];
    let three = Setting { attempts_max: 3, ..SETTING };
    for file in 0..4 {
        keeps_its_promises_in(three, 60, &[stretch(&ops, POWERLESS)], Some(Hurt::Remove { file }));
    }
}

#[test]
fn group_that_began_behind_a_segment_does_not_miss_it() {
    let first = stretch(&[enqueue(0, 115, true), reserve(2)], POWERLESS);
    let ops = [
        reserve(6),
        enqueue(0, 887, false),
        enqueue(1, 99, true),
        Op::Settle { group: 4, pick: 187, count: 1, how: How::Ack, power: true },
        Op::CreateGroup { newest: true, power: true },
        enqueue(0, 180, true),
        enqueue(1, 837, false),
        Op::Sweep { group: 6 },
        Op::Settle { group: 4, pick: 1, count: 40, how: How::Ack, power: false },
        Op::Reserve { group: 1, tasks: 3, lane: None, lease_ms: 20, consumer: 0 },
        Op::Reopen,
    ];
    let three = Setting { attempts_max: 3, ..SETTING };
    for call in 125..130 {
        let mut second = stretch(&ops, Crash { at: Some(88), loss: Loss::Power });
        second.fault = Some(Fault::Fails { call, choice: 9, onwards: false });
        keeps_its_promises_in(three, 12, &[first.clone(), second], None);
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
fn segment_behind_a_listed_one_that_did_not_survive_proves_nothing() {
    let ops = [
        batch(3, 812, false, false),
        batch(4, 895, true, false),
        batch(5, 245, false, false),
        reserve(1),
        enqueue(0, 338, false),
        Op::WriteBack,
        settle(How::Ack, 40, true),
        batch(4, 153, false, false),
        Op::Checkpoint,
    ];
    let one_lane = Setting { lanes: 1, segment_bytes: 4096, ..SETTING };
    for (first, second) in [(8, 3), (9, 4), (10, 5), (11, 6), (12, 3), (13, 4)] {
        let mut one = stretch(&ops, POWERLESS);
        one.recoveries.push(Crash { at: Some(first), loss: Loss::Process });
        one.recoveries.push(Crash { at: Some(second), loss: Loss::Power });
        keeps_its_promises_in(one_lane, 400, &[one], None);
    }
}

#[test]
fn cancelled_task_of_a_segment_that_can_not_be_read_takes_no_other_along() {
    let one = [
        enqueue(0, 38, false),
        Op::Cancel { pick: 29, power: true },
        batch(6, 15, false, false),
        enqueue(1, 3, false),
        Op::Park { group: 6, pick: 129 },
        Op::CreateGroup { newest: false, power: true },
    ];
    let two = [
        Op::Checkpoint,
        Op::Reserve { group: 7, tasks: 4, lane: None, lease_ms: 20, consumer: 2 },
        Op::Cancel { pick: 14, power: true },
        Op::Checkpoint,
    ];
    let small = Setting { segment_bytes: 4096, attempts_max: 3, ..SETTING };
    for call in 64..84 {
        let mut second = stretch(&two, KILLED);
        second.fault = Some(Fault::Fails { call, choice: 4, onwards: false });
        keeps_its_promises_in(small, 2, &[stretch(&one, KILLED), second], None);
    }
}

#[test]
fn lane_that_is_purged_again_after_its_segments_went_brings_nothing_back() {
    let purge = Op::Purge { lane: 0, power: true };
    let one = [enqueue(0, 53, true), enqueue(0, 31, true)];
    let two = [reserve(1), purge, Op::Checkpoint, purge, reserve(1)];
    let one_lane = Setting { lanes: 1, ..SETTING };
    keeps_its_promises_in(one_lane, 12, &[stretch(&one, POWERLESS), stretch(&two, POWERLESS)], None);
}

#[test]
fn cancelled_task_that_an_undone_transaction_settled_stays_settled() {
    let ops = [
        Op::CreateGroup { newest: false, power: false },
        enqueue(0, 49, true),
        Op::Reserve { group: 1, tasks: 1, lane: None, lease_ms: 500, consumer: 1 },
        Op::Transaction {
            lane: 0,
            tasks: 2,
            bytes: 15,
            group: 1,
            pick: 1,
            settles: 1,
            how: How::Ack,
            power: false,
            id: None,
            stands: None,
        },
        Op::Cancel { pick: 0, power: true },
    ];
    keeps_its_promises(12, &[stretch(&ops, POWERLESS)], None);
}

#[test]
fn void_record_whose_padding_did_not_reach_the_disk_stays_void() {
    let transaction = |lane, tasks, bytes| Op::Transaction {
        lane,
        tasks,
        bytes,
        group: 0,
        pick: 1,
        settles: 0,
        how: How::Ack,
        power: true,
        id: None,
        stands: None,
    };
    let ops = [
        enqueue(1, 605, true),
        Op::Stall { lane: 1, bytes: 106, filled: true },
        enqueue(0, 415, false),
        transaction(0, 3, 178),
        transaction(0, 1, 820),
    ];
    for call in 10..20 {
        let mut one = stretch(&ops, POWERLESS);
        one.hindrance = Some(Fault::SyncFails { call, choice: 0 });
        keeps_its_promises_in(Setting { segment_bytes: 4096, ..SETTING }, 24, &[one], None);
    }
}

#[test]
fn void_batch_whose_recovery_crashed_does_not_come_back_when_its_padding_is_damaged() {
    let ops = [
        enqueue(1, 362, false),
        Op::Transaction {
            lane: 1,
            tasks: 3,
            bytes: 14,
            group: 7,
            pick: 19,
            settles: 0,
            how: How::Ack,
            power: false,
            id: None,
            stands: None,
        },
        Op::Prepare,
    ];
    let small = Setting { segment_bytes: 4096, ..SETTING };
    let mut one = stretch(&ops, POWERLESS);
    one.recoveries.push(Crash { at: Some(5), loss: Loss::Power });
    // A bit of the padding's first word.
    let hurt = Some(Hurt::Flip { file: 2_341_363_704, bit: 4_292_451_490 });
    keeps_its_promises_in(small, 400, &[one], hurt);
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
fn file_that_was_cut_in_its_first_sector_is_not_used_again() {
    let once = Op::Once { lane: 1, tasks: 1, bytes: 54, id: 0, window_ms: 0, power: false, wait: true };
    let ops = [enqueue(0, 154, true), once, Op::Cancel { pick: 213, power: false }, Op::Reopen];
    let room = Room { lane_tasks: 5, queue_bytes: 5518 };
    let setting = Setting { lanes: 2, attempts_max: 3, room, ..Setting::plain(4096) };
    for at in 30..60 {
        for file in 0..2 {
            for bytes in [0, 9, 80, 100] {
                let one = stretch(&ops, Crash { at: Some(at), loss: Loss::Power });
                keeps_its_promises_in(setting, 2, &[one], Some(Hurt::Cut { file, bytes }));
            }
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
fn letter_whose_record_would_be_too_large_is_not_moved() {
    for bytes in 900..975 {
        let asking = Op::Special { lane: 0, bytes, power: true, delay_ms: 1, ttl_ms: 0, attempts: 1 };
        let ops = [asking, Op::Clock { boot_ms: 9, wall_ms: 9 }, reserve(3), settle(How::Reject, 3, true)];
        let moved = Op::Move { group: 0, pick: 0, lane: 0, power: true };
        keeps_its_promises(1, &[stretch(&[&ops[..], &[moved]].concat(), POWERLESS)], None);
    }
}

#[test]
fn task_that_waits_for_its_bucket_is_found_where_it_was_moved_to() {
    let key = |key, bytes| Op::Keyed { lane: 0, bytes, key, power: false };
    let thin = |how, power| Op::Thin { lane: 0, group: 0, how, power };
    let ops = [batch(4, 58, false, true), key(3, 11), key(1, 90), thin(How::Ack, true), thin(How::Release, false)];
    let ops = [&ops[..], &[Op::Evacuate, Op::Sweep { group: 0 }]].concat();
    let setting = Setting { lanes: 1, keyed: Keyed::Sticky, ..SETTING };
    keeps_its_promises_in(setting, 4, &[stretch(&ops, POWERLESS)], None);
}

#[test]
fn hits_of_a_transaction_behind_a_producer_that_stands_still() {
    let stalled = Op::Stall { lane: 0, bytes: 42, filled: true };
    let once = Op::Once { lane: 0, tasks: 5, bytes: 52, id: 0, window_ms: 0, power: true, wait: true };
    let transaction = Op::Transaction {
        lane: 0,
        tasks: 2,
        bytes: 15,
        id: Some(0),
        group: 1,
        pick: 174,
        settles: 1,
        how: How::Backoff,
        power: true,
        stands: None,
    };
    let ops = [enqueue(0, 33, true), stalled, once, transaction, reserve(2)];
    let setting = Setting { lanes: 2, ..Setting::plain(4096) };
    keeps_its_promises_in(setting, 4, &[stretch(&ops, KILLED)], None);
}

#[test]
fn cold_life_and_what_is_not_proven_yet_survive_two_recoveries_that_crash() {
    let once =
        |tasks, bytes, id, window_ms, wait| Op::Once { lane: 0, tasks, bytes, id, window_ms, power: false, wait };
    let thin = |group, how, power| Op::Thin { lane: 0, group, how, power };
    let ops = [once(1, 107, 4, 11, false), Op::Checkpoint, thin(4, How::Ack, true), settle(How::Ack, 1, false)];
    let ops =
        [&ops[..], &[Op::Checkpoint, once(1, 221, 1, 7, true), thin(1, How::Nack { delay_ms: 0 }, false)]].concat();
    let ops = [&ops[..], &[Op::Checkpoint, settle(How::Backoff, 3, true)]].concat();
    let room = Room { lane_tasks: 19, ..Room::ANY };
    let setting =
        Setting { lanes: 1, attempts_max: 3, expired_are_dead: true, room, ids_max: 4, ..Setting::plain(4096) };
    for at in 10..30 {
        let mut one = stretch(&ops, POWERLESS);
        one.recoveries.push(Crash { at: Some(at), loss: Loss::Power });
        one.recoveries.push(Crash { at: Some(9), loss: Loss::Process });
        keeps_its_promises_in(setting, 24, &[one], None);
    }
}

#[test]
fn space_is_bounded_behind_a_transaction_that_stood_still() {
    let once = Op::Once { lane: 0, tasks: 5, bytes: 567, id: 5, window_ms: 100_000, power: true, wait: true };
    let transaction = Op::Transaction {
        lane: 0,
        tasks: 3,
        bytes: 542,
        id: None,
        group: 2,
        pick: 131,
        settles: 2,
        how: How::Ack,
        power: false,
        stands: Some(Stands { step: 0, commits: 10 }),
    };
    let key = Op::Keyed { lane: 0, bytes: 13, key: 3, power: false };
    let two = [stretch(&[key, transaction], POWERLESS), stretch(&[Op::Park { group: 1, pick: 48 }, once], KILLED)];
    let setting = Setting { lanes: 1, attempts_max: 3, keyed: Keyed::Keys, ..SETTING };
    keeps_its_promises_in(setting, 24, &two, None);
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
fn nobody_is_passed_over_where_all_groups_together_are_bounded() {
    let keyed = |lane, bytes, key, power| Op::Keyed { lane, bytes, key, power };
    let later = |lane, tasks, delay_ms, step_ms| Op::Later { lane, tasks, delay_ms, step_ms, power: false };
    let works = |group, tasks| Op::Work { group, name: 0, tasks, lane: None, lease_ms: 900 };
    let once = Op::Once { lane: 0, tasks: 1, bytes: 314, id: 5, window_ms: 0, power: true, wait: true };
    let settles = |group, pick, how| Op::Settle { group, pick, count: 1, how, power: true };
    let creates = |newest| Op::CreateGroup { newest, power: true };
    let mut first = vec![enqueue(0, 49, false), keyed(1, 668, 0, false), later(1, 6, 1135, 73), works(1, 2)];
    first.extend([keyed(0, 156, 2, true), later(0, 4, 690, 96), works(2, 3), settles(4, 103, How::Ack)]);
    first.extend([settles(3, 210, How::Park), once, creates(false)]);
    let second = [creates(true), Op::Sweep { group: 6 }, Op::Purge { lane: 1, power: false }, Op::Sweep { group: 4 }];
    let room = Room { lane_tasks: 4, queue_bytes: 5712 };
    let setting =
        Setting { lanes: 2, room, order: Order::Aging, keyed: Keyed::Keys, ids_max: 4, loans_max: 3, ..SETTING };
    keeps_its_promises_in(setting, 12, &[stretch(&first, POWERLESS), stretch(&second, POWERLESS)], None);
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

#[test]
fn claim_of_which_every_group_is_gone_is_for_none_that_begins_later() {
    let once = Op::Once { lane: 0, tasks: 1, bytes: 51, id: 1, window_ms: 0, power: true, wait: true };
    let stalled = Op::Stall { lane: 0, bytes: 16, filled: true };
    let creates = |newest| Op::CreateGroup { newest, power: true };
    for removed in 0..3 {
        let ops = [
            once,
            stalled,
            creates(true),
            Op::RemoveGroup { group: removed, power: false },
            creates(false),
            Op::Reopen,
        ];
        let setting = Setting { lanes: 1, order: Order::Aging, ..Setting::plain(4096) };
        keeps_its_promises_in(setting, 4, &[stretch(&ops, KILLED)], None);
    }
}

#[test]
fn task_that_came_back_while_a_copy_was_made_may_be_dead_in_it() {
    let once =
        |lane, tasks, bytes, id, window_ms, power| Op::Once { lane, tasks, bytes, id, window_ms, power, wait: true };
    let later = Op::Special { lane: 0, bytes: 18, power: true, delay_ms: 2911, ttl_ms: 3246, attempts: 3 };
    let mut first = vec![batch(3, 19, true, false), once(1, 4, 29, 3, 100_000, true)];
    first.extend([58, 28, 351, 0].map(|bytes| enqueue(0, bytes, false)));
    first.extend([later, Op::Park { group: 1, pick: 245 }]);
    let fault = Some(Fault::Fails { call: 31, choice: 9, onwards: true });
    let snapshot = Op::Snapshot { seed: 1_551_368_414, meanwhile: 43, fault, stops: None };
    let second = [once(0, 3, 11, 5, 25, false), snapshot];
    let setting = Setting {
        lanes: 2,
        attempts_max: 3,
        expired_are_dead: true,
        order: Order::Aging,
        ids_max: 5,
        ..Setting::plain(4096)
    };
    keeps_its_promises_in(setting, 4, &[stretch(&first, POWERLESS), stretch(&second, KILLED)], None);
}

/// Twice in a row the newest root can't be read: what a crash cut is reported as damage then, and no more than that.
#[test]
fn damage_in_what_a_crash_cut_is_all_that_blind_opens_say_too_much() {
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
