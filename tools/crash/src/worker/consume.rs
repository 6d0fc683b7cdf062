//! Consumers: reserve, check, and end each lease in one of the ways there are.

use std::time::{Duration, Instant};

use lanelog::{Consumer, ConsumerOptions, Delivery, Error, Pending, Reserve};

use crate::payload::Tag;
use crate::report::{Answer, GROUPS, Got, How, Said, Until};
use crate::rng::Rng;

use super::Shop;
use super::produce::{durability, one_in_each_lane};

pub fn consume(shop: &Shop, group: usize, mut rng: Rng) {
    // Two consumers, for what a lease's end promises is the consumer's choice.
    let sides = [Until::Ever, Until::PowerLoss].map(|until| Side::new(shop, group, until));
    while shop.go_on() {
        let [ever, process] = &sides;
        let (Some(ever), Some(process)) = (ever, process) else { return };
        let side = if rng.chance(1, 2) { ever } else { process };
        let most = u32::try_from(1 + rng.below(10)).unwrap_or(1);
        let deliveries = side.reserve(shop, most, Duration::from_millis(2));
        side.settle(shop, deliveries, &mut rng);
    }
}

/// Delivers and acks all there is, and shows that the queue takes new tasks.
pub fn drain(shop: &Shop) {
    const LIMIT: Duration = Duration::from_secs(60);
    one_in_each_lane(shop);
    let until = Instant::now() + LIMIT;
    for group in 0..GROUPS.len() {
        let Some(side) = Side::new(shop, group, Until::PowerLoss) else { return };
        while shop.go_on() {
            let deliveries = side.reserve(shop, 64, Duration::from_millis(2));
            let was_empty = deliveries.is_empty();
            side.ack_all(shop, deliveries);
            if was_empty && side.depth(shop) == 0 {
                break;
            }
            if Instant::now() > until {
                let left = side.depth(shop);
                shop.tell.say(Said::Complaint(format!("{left} tasks can't be had within {LIMIT:?}")));
                return;
            }
        }
    }
    shop.tell.say(Said::Drained);
}

/// One consumer.
struct Side {
    consumer: Consumer,
    group: usize,
    until: Until,
}

impl Side {
    fn new(shop: &Shop, group: usize, until: Until) -> Option<Side> {
        let name = GROUPS.get(group)?;
        let options = ConsumerOptions::new().durability(durability(until));
        match shop.queue.consumer_of(name, options) {
            Ok(consumer) => Some(Side { consumer, group, until }),
            Err(error) => {
                shop.tell.say(Said::Complaint(format!("no consumer of {name}: {error}")));
                None
            }
        }
    }

    fn depth(&self, shop: &Shop) -> u64 {
        let stats = shop.queue.stats();
        let own = stats.groups.iter().filter(|group| Some(&group.name.as_str()) == GROUPS.get(self.group));
        own.flat_map(|group| &group.lanes).map(|lane| lane.depth).sum()
    }

    fn reserve(&self, shop: &Shop, tasks: u32, wait: Duration) -> Vec<Delivery> {
        let op = shop.tell.number();
        shop.tell.say(Said::Reserve { op, group: self.group, tasks });
        let outcome = self.consumer.reserve(Reserve::new().tasks(tasks as usize).wait(wait));
        let (answer, deliveries) = match outcome {
            Ok(deliveries) => (Answer::Done, deliveries),
            Err(error) => (shop.ask::<()>(Err(error)), Vec::new()),
        };
        let got = deliveries.iter().map(|delivery| Got {
            lane: delivery.lane().0,
            seq: delivery.id().seq().0,
            tag: Tag::read(delivery.payload()),
            attempt: delivery.attempt(),
        });
        shop.tell.say(Said::Reserved { op, answer, got: got.collect() });
        deliveries
    }

    /// Ends the leases, each or all together.
    fn settle(&self, shop: &Shop, mut deliveries: Vec<Delivery>, rng: &mut Rng) {
        match rng.below(6) {
            0 => self.ack_all(shop, deliveries),
            1 => self.ack_in_flight(shop, deliveries),
            _ => {
                while let Some(delivery) = deliveries.pop() {
                    self.settle_one(shop, delivery, rng);
                }
            }
        }
    }

    fn settle_one(&self, shop: &Shop, delivery: Delivery, rng: &mut Rng) {
        let how = match rng.below(100) {
            0..=69 => How::Ack,
            70..=79 => How::Nack,
            80..=87 => How::Release,
            88..=93 => How::Extend,
            94..=97 => How::Abandon,
            _ => How::Reject,
        };
        let op = self.intend(shop, how, std::slice::from_ref(&delivery));
        let outcome = match how {
            How::Ack => delivery.ack(),
            How::Nack => delivery.nack(Some(Duration::from_millis(rng.below(3))), "not now"),
            How::Release => delivery.release(),
            How::Reject => delivery.reject("never"),
            How::Extend => {
                let outcome = delivery.extend(Duration::from_secs(900));
                self.answer(shop, op, how, vec![outcome]);
                // Held on: acked in a call of its own.
                let op = self.intend(shop, How::Ack, std::slice::from_ref(&delivery));
                self.answer(shop, op, How::Ack, vec![delivery.ack()]);
                return;
            }
            How::Abandon => {
                let outcome = delivery.extend(Duration::from_millis(1));
                let _receipt = delivery.detach();
                outcome
            }
        };
        self.answer(shop, op, how, vec![outcome]);
    }

    fn ack_all(&self, shop: &Shop, deliveries: Vec<Delivery>) {
        if deliveries.is_empty() {
            return;
        }
        let (op, count) = (self.intend(shop, How::Ack, &deliveries), deliveries.len());
        let answers = self.consumer.ack_batch(deliveries).unwrap_or_else(|error| vec![Err(error); count]);
        self.answer(shop, op, How::Ack, answers);
    }

    fn ack_in_flight(&self, shop: &Shop, deliveries: Vec<Delivery>) {
        let mut flying: Vec<(u64, Result<Pending<()>, Error>)> = Vec::new();
        for delivery in deliveries {
            let op = self.intend(shop, How::Ack, std::slice::from_ref(&delivery));
            flying.push((op, delivery.submit_ack()));
        }
        for (op, pending) in flying {
            self.answer(shop, op, How::Ack, vec![pending.and_then(Pending::wait)]);
        }
    }

    fn intend(&self, shop: &Shop, how: How, deliveries: &[Delivery]) -> u64 {
        let op = shop.tell.number();
        let tasks = deliveries.iter().map(|delivery| (delivery.lane().0, delivery.id().seq().0)).collect();
        shop.tell.say(Said::Settle { op, group: self.group, how, until: self.until, tasks });
        op
    }

    fn answer(&self, shop: &Shop, op: u64, how: How, outcomes: Vec<Result<(), Error>>) {
        let answers: Vec<Answer> = outcomes.into_iter().map(|outcome| shop.ask(outcome)).collect();
        let done = answers.iter().filter(|answer| **answer == Answer::Done).count() as u64;
        shop.tell.say(Said::Settled { op, answers });
        if matches!(how, How::Ack | How::Reject) {
            shop.take_backlog(done);
        }
    }
}
