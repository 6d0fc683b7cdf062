//! Producers: single tasks, batches, and several in flight, at both durabilities, into all lanes.

use lanelog::{Durability, Error, LaneId, Pending, Task, TaskId};

use crate::payload::Tag;
use crate::report::{Answer, GROUPS, LANES, Said, Until};
use crate::rng::Rng;

use super::Shop;

pub fn produce(shop: &Shop, mut rng: Rng) {
    while shop.go_on() {
        shop.wait_for_room();
        match rng.below(8) {
            0 | 1 => batch(shop, &mut rng),
            2 => flight(shop, &mut rng),
            _ => {
                let one = Ask::new(shop, &mut rng, 1);
                let payload = one.tag(0).payload();
                one.intend(shop);
                let outcome = shop.queue.enqueue(one.task(&payload));
                one.answer(shop, outcome.map(|id| vec![id]));
            }
        }
    }
}

/// One task for each lane, when a queue that was recovered shows that it takes tasks.
pub fn one_in_each_lane(shop: &Shop) {
    for lane in 0..LANES {
        let one = Ask { op: shop.tell.number(), unit: shop.unit(), lane, count: 1, until: Until::Ever };
        let payload = one.tag(0).payload();
        one.intend(shop);
        let outcome = shop.queue.enqueue(one.task(&payload));
        one.answer(shop, outcome.map(|id| vec![id]));
    }
}

fn batch(shop: &Shop, rng: &mut Rng) {
    let count = u16::try_from(2 + rng.below(7)).unwrap_or(2);
    let ask = Ask::new(shop, rng, count);
    let payloads: Vec<Vec<u8>> = (0..count).map(|index| ask.tag(index).payload()).collect();
    let tasks: Vec<Task<'_>> = payloads.iter().map(|payload| ask.task(payload)).collect();
    ask.intend(shop);
    let outcome = shop.queue.enqueue_batch(&tasks);
    match outcome {
        // Small segments can't hold every batch.
        Err(Error::BatchTooLarge { .. }) => ask.say(shop, Answer::Refused, 0),
        outcome => ask.answer(shop, outcome),
    }
}

/// Several tasks in flight, whose durability is waited for afterwards.
fn flight(shop: &Shop, rng: &mut Rng) {
    let mut flying: Vec<(Ask, Pending<TaskId>)> = Vec::new();
    for _ in 0..2 + rng.below(8) {
        let ask = Ask::new(shop, rng, 1);
        let payload = ask.tag(0).payload();
        ask.intend(shop);
        match shop.queue.submit(ask.task(&payload)) {
            Ok(pending) => flying.push((ask, pending)),
            Err(error) => ask.answer(shop, Err(error)),
        }
    }
    for (ask, pending) in flying {
        ask.answer(shop, pending.wait().map(|id| vec![id]));
    }
}

/// One call.
struct Ask {
    op: u64,
    unit: u64,
    lane: u8,
    count: u16,
    until: Until,
}

impl Ask {
    fn new(shop: &Shop, rng: &mut Rng, count: u16) -> Self {
        let lane = u8::try_from(rng.below(u64::from(LANES))).unwrap_or(0);
        let until = rng.pick(Until::Ever, &[Until::PowerLoss]);
        Ask { op: shop.tell.number(), unit: shop.unit(), lane, count, until }
    }

    fn tag(&self, index: u16) -> Tag {
        Tag { unit: self.unit, index, count: self.count }
    }

    fn task<'a>(&self, payload: &'a [u8]) -> Task<'a> {
        Task::new(payload).lane(LaneId(self.lane)).durability(durability(self.until))
    }

    fn intend(&self, shop: &Shop) {
        let Ask { op, unit, lane, count, until } = *self;
        shop.tell.say(Said::Enqueue { op, unit, lane, count, until });
        shop.add_backlog(u64::from(count) * GROUPS.len() as u64);
    }

    fn answer(&self, shop: &Shop, outcome: Result<Vec<TaskId>, Error>) {
        let first = match &outcome {
            Ok(ids) => {
                let first = ids.first().map_or(0, |id| id.seq().0);
                if (first..).zip(ids).any(|(seq, id)| id.seq().0 != seq || id.lane().0 != self.lane) {
                    shop.tell.say(Said::Complaint(format!("the ids of a batch don't follow one another: {ids:?}")));
                }
                first
            }
            Err(_) => 0,
        };
        let answer = shop.ask(outcome);
        self.say(shop, answer, first);
    }

    fn say(&self, shop: &Shop, answer: Answer, first: u64) {
        shop.tell.say(Said::Enqueued { op: self.op, answer, first });
        if answer == Answer::Refused {
            shop.take_backlog(u64::from(self.count) * GROUPS.len() as u64);
        }
    }
}

pub fn durability(until: Until) -> Durability {
    match until {
        Until::PowerLoss => Durability::Process,
        Until::Ever => Durability::Power,
    }
}
