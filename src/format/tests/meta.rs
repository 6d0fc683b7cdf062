//! Meta bytes and blobs of a checkpoint.

use super::super::meta::{
    GROUP_IDS_END, ListedGroup, ListedLife, ListedNote, Meta, Paused, StoredOptions, decode_done, decode_next_group,
    decode_notes, encode_done, encode_next_group, encode_notes,
};
use super::each_harm;
use crate::types::{Backoff, Beyond, Curve, LaneId, LogId, Retention, Seq, Timestamp};

/// The last number that a sequence or an epoch can have.
pub(super) const LAST: u64 = (1 << 62) - 1;

pub(super) fn meta() -> Meta {
    Meta {
        epoch: 0x0101,
        next_base: 0x0202,
        ceiling: 0x0303,
        journal_base: 0x0404,
        journal_offset: 0x0505,
        clean: true,
        is_older: true,
        options: StoredOptions {
            lanes: 256,
            max_attempts: 0x0606,
            segment_bytes: 0x0707,
            task_bytes_max: 0x0808,
            lease_ms: 0x0909,
            backoff: Backoff { curve: Curve::Linear, first_ms: 0x0A0A, max_ms: 0x0B0B, jitter_percent: 7 },
            checkpoint_bytes: 0x0C0C,
            checkpoint_interval_ms: 0x0D0D,
            sync_interval_ms: 0x0E0E,
            further: [(1000, 1), (u16::MAX, u64::MAX)].into(),
        },
        last_bases: vec![(LogId(0), 1), (LogId(255), LAST), (LogId::JOURNAL, 3)],
    }
}

fn life() -> ListedLife {
    ListedLife {
        file: 1,
        log: LogId::JOURNAL,
        base: LAST,
        block: 1 << 25,
        salt: 2,
        offset: 1 << 30,
        records: 1 << 25,
        tasks: 1 << 25,
        sealed: true,
        has_ids: true,
        cold: true,
        left_at: 0,
        seek: vec![512, 0, u32::MAX],
    }
}

fn group() -> ListedGroup {
    ListedGroup {
        name: "größe".to_owned(),
        starts: vec![(LaneId(0), Seq(1)), (LaneId(255), Seq(u64::MAX))],
        acked_gone: vec![(LaneId(7), 8)],
        retention: Retention::default(),
    }
}

fn notes() -> Vec<ListedNote> {
    let note = ListedNote {
        lane: LaneId(1),
        seq: Seq(2),
        attempts: 3,
        time: Some(Timestamp(4)),
        detail: 5,
        reason: "why".to_owned(),
    };
    let bare = ListedNote { time: None, reason: String::new(), ..note.clone() };
    vec![note.clone(), bare, ListedNote { seq: Seq(u64::MAX), ..note }]
}

#[test]
fn meta_comes_back_as_it_was_written() {
    let bare = Meta { clean: false, is_older: false, last_bases: Vec::new(), ..meta() };
    for meta in [meta(), bare] {
        assert_eq!(Meta::decode(&meta.encode()), Some(meta));
    }
}

#[test]
fn pauses_come_back_and_a_cut_blob_says_nothing_more() {
    let paused = Paused { lanes: [LaneId(0), LaneId(255)].into(), groups: [0, 7, u32::MAX].into() };
    assert_eq!(Paused::decode(&paused.encode()), Some(paused.clone()));
    assert_eq!(Paused::decode(&Paused::default().encode()), Some(Paused::default()));
    let bytes = paused.encode();
    for end in 0..bytes.len() {
        assert_ne!(Paused::decode(&bytes[..end]), Some(paused.clone()), "cut at {end}");
    }
}

#[test]
fn lives_groups_notes_and_done_lives_come_back() {
    let open = ListedLife { sealed: false, seek: Vec::new(), ..life() };
    for life in [life(), open] {
        assert_eq!(ListedLife::decode(&life.encode()), Some(life));
    }
    let retention = Retention { tasks: 1, bytes: 2, age_ms: u64::MAX, beyond: Beyond::Drop };
    let bounded = ListedGroup { retention, ..group() };
    let bare = ListedGroup { name: String::new(), starts: Vec::new(), acked_gone: Vec::new(), retention };
    for group in [group(), bounded, bare] {
        assert_eq!(ListedGroup::decode(&group.encode()), Some(group));
    }
    assert_eq!(decode_notes(&encode_notes(notes().iter())), Some(notes()));
    let done = vec![(LaneId(0), 0), (LaneId(255), u64::MAX)];
    assert_eq!(decode_done(&encode_done(done.iter().copied())), Some(done));
    assert_eq!((decode_notes(&[]), decode_done(&[])), (Some(Vec::new()), Some(Vec::new())));
}

/// What is encoded, whether bytes decode, and whether a cut leaves a whole list.
type Cut = (&'static str, Vec<u8>, fn(&[u8]) -> bool, fn(usize) -> bool);

#[test]
fn what_is_cut_is_refused() {
    let note_ends: Vec<usize> = (0..3).map(|count| encode_notes(notes()[..count].iter()).len()).collect();
    let cases: [Cut; 4] = [
        ("meta", meta().encode(), |bytes| Meta::decode(bytes).is_some(), |_| false),
        ("life", life().encode(), |bytes| ListedLife::decode(bytes).is_some(), |_| false),
        ("group", group().encode(), |bytes| ListedGroup::decode(bytes).is_some(), |_| false),
        (
            "done",
            encode_done([(LaneId(1), 2), (LaneId(3), 4)].into_iter()),
            |bytes| decode_done(bytes).is_some(),
            |end| end.is_multiple_of(9),
        ),
    ];
    for (what, bytes, decodes, is_whole) in cases {
        for end in 0..bytes.len() {
            assert_eq!(decodes(&bytes[..end]), is_whole(end), "{what} cut at {end}");
        }
    }
    let bytes = encode_notes(notes().iter());
    for end in 0..bytes.len() {
        assert_eq!(decode_notes(&bytes[..end]).is_some(), note_ends.contains(&end), "notes cut at {end}");
    }
}

#[test]
fn listing_that_counts_more_than_fits_is_refused() {
    let lies = [
        ListedLife { base: LAST + 1, ..life() },
        ListedLife { offset: (1 << 30) + 32, ..life() },
        ListedLife { records: (1 << 25) + 1, ..life() },
        ListedLife { records: (1 << 25) - 1, ..life() },
    ];
    for lie in lies {
        assert_eq!(ListedLife::decode(&lie.encode()), None, "{lie:?}");
    }
}

#[test]
fn meta_with_a_number_that_nothing_reaches_is_refused() {
    let most = Meta { epoch: LAST, next_base: LAST, ceiling: LAST, journal_base: LAST, ..meta() };
    let lies = [
        Meta { epoch: LAST + 1, ..meta() },
        Meta { next_base: LAST + 1, ..meta() },
        Meta { ceiling: u64::MAX, ..meta() },
        Meta { journal_base: LAST + 1, ..meta() },
        Meta { last_bases: vec![(LogId(0), LAST + 1), (LogId(1), 1)], ..meta() },
    ];
    assert_eq!(Meta::decode(&most.encode()), Some(most));
    for lie in lies {
        assert_eq!(Meta::decode(&lie.encode()), None, "{lie:?}");
    }
}

#[test]
fn hostile_bytes_are_survived() {
    each_harm(&meta().encode(), |bytes| drop(Meta::decode(bytes)));
    each_harm(&life().encode(), |bytes| drop(ListedLife::decode(bytes)));
    each_harm(&group().encode(), |bytes| drop(ListedGroup::decode(bytes)));
    let paused = Paused { lanes: [LaneId(1), LaneId(9)].into(), groups: [3, 4].into() };
    each_harm(&paused.encode(), |bytes| drop(Paused::decode(bytes)));
    each_harm(&encode_notes(notes().iter()), |bytes| drop(decode_notes(bytes)));
}

#[test]
fn count_beyond_the_bytes_allocates_nothing() {
    let mut listed = life().encode();
    listed[36..40].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(ListedLife::decode(&listed), None);
    let mut bytes = meta().encode();
    bytes[112..114].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(Meta::decode(&bytes), None);
}

#[test]
fn name_that_is_no_text_is_refused() {
    let mut bytes = group().encode();
    bytes[2] = 0xFF;
    assert_eq!(ListedGroup::decode(&bytes), None);
}

#[test]
fn number_of_the_next_group_comes_back_and_is_in_its_bounds() {
    for number in [0, 7, GROUP_IDS_END] {
        assert_eq!(encode_next_group(number), number.to_le_bytes());
        assert_eq!(decode_next_group(&encode_next_group(number)), Some(number));
    }
    assert_eq!(decode_next_group(&encode_next_group(GROUP_IDS_END + 1)), None);
    assert_eq!((decode_next_group(&[1, 2, 3]), decode_next_group(&[0; 5])), (None, None));
}
