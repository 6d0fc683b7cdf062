//! A walk over a sealed life: every task in order, and what may have been where nothing verifies.

use super::*;
use crate::log::walk::Met;

/// What a walk is shown until it has seen enough.
#[derive(PartialEq, Eq, Debug)]
enum Shown {
    Task(u32, Vec<u8>),
    Lost(u32, u32),
}

fn walked(segment: &Segment, most: usize) -> std::io::Result<Vec<Shown>> {
    let (mut shown, region) = (Vec::new(), segment.region().unwrap());
    segment.each_task(&region, |met| {
        shown.push(match met {
            Met::Task(header, extent) => {
                let body = record::verify(segment.life(), header, extent);
                Shown::Task(header.index, body.map_or(Vec::new(), |body| body.payload.to_vec()))
            }
            Met::Lost(first, last) => Shown::Lost(first, last),
        });
        shown.len() < most
    })?;
    Ok(shown)
}

fn task(index: u32, payload: &[u8]) -> Shown {
    Shown::Task(index, payload.to_vec())
}

/// A life with a task, a batch, a mark, a claim that became padding, and another task; the places of the four tasks.
fn life() -> (OneLog, Vec<u32>) {
    let mut made = OneLog::new(8192);
    let one = made.append(b"one").first;
    let two = made.batch(&[b"two", b"three"]).first;
    made.commit();
    drop(made.log.claim(40, 1, 1, Kind::Task).unwrap());
    let four = made.append(b"four").first;
    let seqs = [one, two, Seq(two.0 + 1), four];
    let places = seqs.map(|seq| made.log.find(seq).unwrap().unwrap().1.offset).to_vec();
    (made, places)
}

fn sealed(made: &OneLog) -> Arc<Segment> {
    made.found_on(&made.disk).segments().remove(0)
}

fn damage(made: &OneLog, at: u32) {
    let file = made.disk.open(&made.active().file_name()).unwrap();
    file.write_at(u64::from(at), &[0xFF; 8]).unwrap();
}

#[test]
fn every_task_is_shown_in_order_until_it_is_enough() {
    let (made, _) = life();
    assert_eq!(walked(&made.active(), 9).unwrap(), [], "it is not sealed");
    let segment = sealed(&made);
    let whole = walked(&segment, 9).unwrap();
    assert_eq!(whole, [task(0, b"one"), task(1, b"two"), task(2, b"three"), task(4, b"four")]);
    assert_eq!(walked(&segment, 2).unwrap(), [task(0, b"one"), task(1, b"two")]);
}

#[test]
fn where_nothing_verifies_the_indices_between_may_be_lost() {
    let (made, places) = life();
    damage(&made, places[1]);
    let whole = walked(&sealed(&made), 9).unwrap();
    assert_eq!(whole, [task(0, b"one"), Shown::Lost(1, 1), task(2, b"three"), task(4, b"four")]);
    assert_eq!(walked(&sealed(&made), 2).unwrap(), [task(0, b"one"), Shown::Lost(1, 1)], "that is enough, too");
    damage(&made, places[3]);
    let whole = walked(&sealed(&made), 9).unwrap();
    assert_eq!(whole, [task(0, b"one"), Shown::Lost(1, 1), task(2, b"three"), Shown::Lost(3, 4)]);
    damage(&made, places[0]);
    assert_eq!(walked(&sealed(&made), 9).unwrap(), [Shown::Lost(0, 1), task(2, b"three"), Shown::Lost(3, 4)]);
}

#[test]
fn record_that_ends_behind_its_life_is_none() {
    let (made, places) = life();
    let (whole, file) = (sealed(&made), made.disk.open(&made.active().file_name()).unwrap());
    let cut = Sealed { end: places[3] + 32, records: 5 };
    let segment = Segment::found(*whole.header(), file, 0, made.maker.bytes, cut, 4, Vec::new());
    let shown = walked(&segment, 9).unwrap();
    assert_eq!(shown, [task(0, b"one"), task(1, b"two"), task(2, b"three"), Shown::Lost(3, 4)]);
}

#[test]
fn life_that_can_not_be_read_shows_nothing_that_counts() {
    let (made, _) = life();
    let segment = sealed(&made);
    segment.region().unwrap().mark_failed();
    assert!(walked(&segment, 9).is_err(), "zeros in a failed map are no end");
    let file = made.disk.open(&made.active().file_name()).unwrap();
    let beyond = Sealed { end: u32::try_from(made.maker.bytes).unwrap() + 8, records: 5 };
    let segment = Segment::found(*segment.header(), file, 0, made.maker.bytes, beyond, 4, Vec::new());
    assert!(walked(&segment, 9).is_err(), "it was cut");
}
