//! What waits for what, of decisions that are not durable yet.

use super::*;
use crate::log::Place;
use crate::log::undecided::Undecided;

#[test]
fn decision_at_power_waits_for_its_own_ends_and_others_for_the_furthest() {
    let (open, lane, journal) = (Undecided::default(), LogId(1), LogId::JOURNAL);
    let (first, second) = (Place { base: 1, offset: 512 }, Place { base: 1, offset: 600 });
    open.note(first, &vec![(lane, 700), (journal, 600)], true);
    open.note(second, &vec![(lane, 900), (journal, 560)], false);
    assert_eq!(open.furthest(), [(lane, 900), (journal, 600)]);
    assert!(open.contains(first) && !open.contains(second), "nobody waits for one at Process");
    assert_eq!(open.waits_for(first, true), [(lane, 700), (journal, 600)]);
    assert_eq!(open.waits_for(second, true), []);
    assert_eq!(open.waits_for(second, false), open.furthest());
    let durable = |upto: u64| move |log: LogId| if log == LogId(1) { upto } else { 600 };
    assert!(!open.settle(durable(699)), "one of its ends is not durable");
    assert!(open.contains(first));
    assert!(open.settle(durable(700)));
    assert!(!open.contains(first) && !open.settle(durable(700)), "once");
}
