//! What a recovery keeps, cuts and makes padding.

use super::*;

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
