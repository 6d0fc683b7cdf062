//! What groups are owed, and what there is room for.

use super::*;
use crate::engine::hand::Move;

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
fn lease_that_ran_out_is_not_given_back_by_a_consumer_that_leaves() {
    let later = Op::Clock { boot_ms: 498, wall_ms: 0 };
    let ops = [enqueue(0, 487, true), reserve(6), later, Op::Leave { group: 0, consumer: 0 }, reserve(5)];
    keeps_its_promises(2, &[stretch(&ops, KILLED)], None);
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

/// Both were over before the clock jumped back. The queue gave the older one then, for it had forgotten the newer; a restart
/// met that in its segment.
#[test]
fn of_two_tasks_of_an_id_that_are_over_either_may_count_once_the_clock_jumped_back() {
    let once =
        |lane, tasks, bytes, id, window_ms, power, wait| Op::Once { lane, tasks, bytes, id, window_ms, power, wait };
    let ops = [
        Op::Portions { seed: 374_532_610, meanwhile: 13 },
        once(1, 6, 1, 5, 19, false, true),
        once(1, 3, 561, 2, 892, true, false),
        Op::Clock { boot_ms: 120, wall_ms: 120 },
        Op::Settle { group: 1, pick: 30, count: 3, how: How::Extend { lease_ms: 700 }, power: true },
        once(0, 6, 659, 4, 7, false, true),
        Op::Portions { seed: 383_721_255, meanwhile: 5 },
        Op::Portions { seed: 1_375_261_993, meanwhile: 2 },
        Op::Clock { boot_ms: 34, wall_ms: -589 },
        once(0, 1, 45, 5, 100_000, false, true),
    ];
    let setting = Setting { keyed: Keyed::Keys, loans_max: 1, ..Setting::plain(8192) };
    keeps_its_promises_in(setting, 4, &[stretch(&ops, KILLED)], None);
}

/// The machine stopped before the rejection was answered, and it survived: the queue that opened showed a dead letter, and had
/// forgotten the id. That it comes back then gives it no id again.
#[test]
fn id_of_a_dead_letter_that_a_restart_showed_may_be_free_once_it_comes_back() {
    let once = Op::Once { lane: 0, tasks: 1, bytes: 18, id: 4, window_ms: 0, power: true, wait: true };
    let ops = [once, reserve(1), settle(How::Reject, 1, true)];
    for how in [Move::Kick, Move::Redrive] {
        let back = Op::Shelf { group: 0, pick: 0, how, power: true };
        for at in 8..24 {
            let first = stretch(&ops, Crash { at: Some(at), loss: Loss::Power });
            keeps_its_promises(12, &[first, stretch(&[back], POWERLESS)], None);
        }
    }
}
