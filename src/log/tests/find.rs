//! Finding a record by its sequence, past whatever became of those before it.

use super::*;
use crate::log::body_of;

fn payload_of(log: &Log, seq: Seq) -> Option<Vec<u8>> {
    let (source, header) = log.find(seq).expect("the segment can be read")?;
    body_of(&source, &header).map(|(_, payload)| payload)
}

#[test]
fn record_is_found_by_its_sequence_and_another_is_not_taken_for_it() {
    let mut made = OneLog::new(8192);
    let texts: Vec<String> = (0..40).map(|number| format!("{number:0300}")).collect();
    let firsts: Vec<Seq> = texts.iter().map(|text| made.append(text.as_bytes()).first).collect();
    for (seq, text) in firsts.iter().zip(&texts) {
        assert_eq!(payload_of(&made.log, *seq).as_deref(), Some(text.as_bytes()));
    }
    let last = firsts.last().unwrap().0;
    assert_eq!(payload_of(&made.log, Seq(last + 1)), None, "not published yet");
    assert_eq!(payload_of(&made.log, Seq(0)), None, "before the first life");
}

#[test]
fn record_behind_damaged_ones_is_found_and_a_damaged_one_is_not() {
    let mut made = OneLog::new(8192);
    let [first, second, third] = [b"first", b"secnd", b"third"].map(|text| made.append(text));
    let file = made.disk.open(&made.active().file_name()).unwrap();
    let place = |appended: &Appended| made.log.find(appended.first).unwrap().unwrap().1.offset;
    let (at_first, at_second, at_third) = (place(&first), place(&second), place(&third));
    file.write_at(u64::from(at_second), &[0xFF; 8]).unwrap();
    assert_eq!(payload_of(&made.log, second.first), None, "the next one is behind it");
    assert_eq!(payload_of(&made.log, third.first).as_deref(), Some(b"third".as_slice()));
    file.write_at(u64::from(at_third), &[0xFF; 8]).unwrap();
    assert_eq!(payload_of(&made.log, third.first), None, "nothing verifies behind");
    file.write_at(u64::from(at_first) + 32, b"F").unwrap();
    let (source, header) = made.log.find(first.first).unwrap().unwrap();
    assert_eq!(body_of(&source, &header), None, "the header verifies, the body does not");
}
