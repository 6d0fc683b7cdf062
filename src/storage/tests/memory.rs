//! Memory that a simulated disk maps: a file's writes and a region's bytes are the same bytes.

use std::sync::Arc;

use super::super::memory::HeapMemory;

#[test]
fn bytes_come_back_padded_to_whole_words() {
    for count in 0..40_u8 {
        let bytes: Vec<u8> = (1..=count).collect();
        let mut expected = bytes.clone();
        expected.resize(bytes.len().next_multiple_of(8), 0);
        assert_eq!(HeapMemory::from_bytes(&bytes).to_bytes(), expected);
    }
}

#[test]
fn write_changes_its_bytes_alone_and_ends_where_the_memory_ends() {
    for offset in 0..24 {
        for count in 0..24 - offset {
            let memory = HeapMemory::from_bytes(&[0xAA; 24]);
            memory.write(offset, &vec![0x55; count]);
            let mut expected = vec![0xAA; 24];
            expected[offset..offset + count].fill(0x55);
            assert_eq!(memory.to_bytes(), expected);
        }
    }
    let memory = HeapMemory::from_bytes(&[0; 8]);
    memory.write(6, &[1; 100]);
    assert_eq!(memory.to_bytes(), [0, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn read_gives_the_bytes_of_any_range() {
    let bytes: Vec<u8> = (0..24).collect();
    let memory = HeapMemory::from_bytes(&bytes);
    for offset in 0..24 {
        for count in 0..24 - offset {
            let mut read = vec![0xAA; count];
            memory.read(offset, &mut read);
            assert_eq!(read, bytes[offset..offset + count]);
        }
    }
}

#[test]
fn region_and_memory_are_the_same_bytes_and_either_keeps_them() {
    let memory = Arc::new(HeapMemory::from_bytes(&[0; 64]));
    let frontier = memory.region().begin(&[7; 16]);
    assert_eq!(memory.to_bytes()[..17], [[7; 16].as_slice(), &[0]].concat());
    drop(memory);
    assert_eq!(frontier.region().slice(0..16), Some(&[7; 16][..]));
}
