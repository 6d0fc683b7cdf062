//! Promises: within a lane first deliveries follow append order; a more urgent lane goes first.

mod support;

use lanelog::{LaneId, LaneSet, Queue, Reserve, Task};
use support::{drain, place, small};

#[test]
fn a_lane_is_delivered_in_append_order_over_rolls_and_reopens() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let texts: Vec<String> = (0..300).map(|n| format!("{n:04}")).collect();
    for text in &texts[..150] {
        queue.submit(Task::new(text)).unwrap().wait().unwrap();
    }
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    for text in &texts[150..] {
        queue.submit(Task::new(text)).unwrap().wait().unwrap();
    }
    assert_eq!(drain(&queue), texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>());
}

#[test]
fn one_worker_sees_the_most_urgent_lane_first_whatever_came_first() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for lane in [2, 1, 0] {
        for number in 0..1000 {
            let text = format!("{lane}/{number:04}");
            let task = Task::new(&text).lane(LaneId(lane)).durability(lanelog::Durability::Process);
            queue.enqueue(task).unwrap();
        }
    }
    let seen: Vec<String> = drain(&queue).into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
    let expected: Vec<String> = (0..3).flat_map(|lane| (0..1000).map(move |n| format!("{lane}/{n:04}"))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_reserve_takes_only_from_the_lanes_it_names() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("urgent")).unwrap();
    queue.enqueue(Task::new("patient").lane(LaneId(2))).unwrap();
    let patient: LaneSet = [LaneId(1), LaneId(2)].into_iter().collect();
    let taken = queue.consumer().reserve(Reserve::new().tasks(9).lanes(patient)).unwrap();
    assert_eq!(taken.iter().map(|d| d.payload().to_vec()).collect::<Vec<_>>(), [b"patient".to_vec()]);
}

#[test]
fn a_reserve_keeps_to_its_bytes_but_for_a_first_task_that_is_larger() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    for bytes in [300, 300, 300, 900] {
        queue.enqueue(Task::new(&vec![b'x'; bytes])).unwrap();
    }
    let consumer = queue.consumer();
    let mut sizes = Vec::new();
    loop {
        let taken = consumer.reserve(Reserve::new().tasks(9).bytes(700)).unwrap();
        if taken.is_empty() {
            break;
        }
        sizes.push(taken.iter().map(|d| d.payload().len()).collect::<Vec<_>>());
        for delivery in taken {
            delivery.ack().unwrap();
        }
    }
    assert_eq!(sizes, [vec![300, 300], vec![300], vec![900]]);
}
