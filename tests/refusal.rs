//! Promise: refused means that nothing was written, and the error says what, where and what to do.

mod support;

use lanelog::{Error, LaneId, Options, Queue, Task, TaskId};
use support::{drain, place, small};

#[test]
fn a_task_up_to_the_maximum_is_accepted_and_a_larger_one_refused_with_both_sizes() {
    let place = place();
    let queue = small().task_bytes_max(1000).open(&place.path).unwrap();
    let most = vec![1; 1000 - 32];
    queue.enqueue(Task::new(&most)).unwrap();
    let refused = queue.enqueue(Task::new(&vec![1; 1000 - 31])).unwrap_err();
    assert!(matches!(refused, Error::TaskTooLarge { bytes: 1001, max: 1000 }), "{refused}");
    assert!(refused.is_refusal() && refused.to_string().contains("1001") && refused.to_string().contains("1000"));
    assert_eq!(drain(&queue), [most]);
}

#[test]
fn an_empty_payload_is_a_task() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("")).unwrap();
    queue.close().unwrap();
    assert_eq!(drain(&Queue::open(&place.path).unwrap()), [Vec::<u8>::new()]);
}

#[test]
fn a_batch_that_does_not_fit_one_segment_is_refused_whole() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let payload = vec![1; 900];
    let tasks: Vec<Task<'_>> = (0..5).map(|_| Task::new(&payload)).collect();
    assert!(matches!(queue.enqueue_batch(&tasks), Err(Error::BatchTooLarge { .. })));
    let mixed = [Task::new("a"), Task::new("b").lane(LaneId(1))];
    assert!(matches!(queue.enqueue_batch(&mixed), Err(Error::InvalidOption { option: "lane", .. })));
    assert!(drain(&queue).is_empty());
    assert_eq!(queue.enqueue_batch(&[]).unwrap(), []);
}

#[test]
fn a_lane_that_is_not_there_is_refused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let refused = queue.enqueue(Task::new("x").lane(LaneId(3))).unwrap_err();
    assert_eq!(refused.to_string(), "there is no lane 3: the queue has 3 lanes, numbered from 0");
}

#[test]
fn headers_come_back_and_too_many_are_refused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("x").header("tenant", "acme").header("empty", "").header("tenant", &[0, 255])).unwrap();
    let delivery = support::one(&queue.consumer());
    let headers: Vec<(String, Vec<u8>)> = delivery.headers().map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
    let expected = [("tenant", b"acme".to_vec()), ("empty", Vec::new()), ("tenant", vec![0, 255])];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
    let long = "v".repeat(66_000);
    assert!(matches!(queue.enqueue(Task::new("x").header("h", &long)), Err(Error::HeadersTooLarge { .. })));
    assert!(matches!(queue.enqueue(Task::new("x").header("", "v")), Err(Error::InvalidOption { .. })));
}

#[test]
fn options_out_of_bounds_are_refused_before_anything_is_made() {
    let place = place();
    let bad = [
        Options::new().lanes(0),
        Options::new().lanes(257),
        Options::new().segment_bytes(1000),
        Options::new().segment_bytes(2 << 30),
        small().task_bytes_max(1 << 20),
    ];
    for options in bad {
        let refused = options.open(&place.path).map(drop).unwrap_err();
        assert!(matches!(refused, Error::InvalidOption { .. }), "{refused}");
        assert!(!place.path.exists());
    }
}

#[test]
fn options_are_stored_and_lanes_that_hold_tasks_stay() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    queue.enqueue(Task::new("x").lane(LaneId(2))).unwrap();
    queue.close().unwrap();
    let queue = Queue::open(&place.path).unwrap();
    assert_eq!(queue.lanes(), 3);
    queue.close().unwrap();
    let refused = Options::new().lanes(2).open(&place.path).map(drop).unwrap_err();
    assert!(matches!(refused, Error::InvalidOption { option: "lanes", .. }), "{refused}");
    let queue = Options::new().lanes(5).segment_bytes(8192).open(&place.path).unwrap();
    assert_eq!((queue.lanes(), drain(&queue).len()), (5, 1));
}

#[test]
fn a_closed_queue_refuses() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let (producer, consumer) = (queue.producer(), queue.consumer());
    queue.close().unwrap();
    assert!(matches!(producer.enqueue("x"), Err(Error::Closed)));
    assert!(matches!(consumer.reserve(lanelog::Reserve::new()), Err(Error::Closed)));
}

#[test]
fn ids_have_a_stable_text_and_bad_ones_are_refused() {
    let place = place();
    let queue = small().open(&place.path).unwrap();
    let id = queue.enqueue(Task::new("x")).unwrap();
    assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
    for bad in ["", "x", "0-0-0", "00c0ffee00c0ffee-02-000000000000000g", "00c0ffee00c0ffee-02-0000000000000007-1"] {
        assert!(matches!(bad.parse::<TaskId>(), Err(Error::BadId { .. })), "{bad:?}");
    }
}
