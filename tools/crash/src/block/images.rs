//! What a power loss leaves of a recorded device.

use crate::rng::Rng;

use super::device::Event;

/// Walks through a log, and makes images of crashes on the way.
pub struct Cutter {
    /// What is on stable storage: everything before the last flush.
    durable: Vec<u8>,
    log: Vec<Event>,
    /// Events that are behind.
    at: usize,
    /// Of these, writes since the last flush: each may be there or not, in any part.
    pending: Vec<usize>,
}

/// The unit that a device writes whole.
const SECTOR_BYTES: usize = 512;

impl Cutter {
    pub fn new((base, log): (Vec<u8>, Vec<Event>)) -> Self {
        Cutter { durable: base, log, at: 0, pending: Vec::new() }
    }

    pub fn events(&self) -> usize {
        self.log.len()
    }

    /// How many of the events are flushes.
    pub fn flushes(&self) -> usize {
        self.log.iter().filter(|event| matches!(event, Event::Flush)).count()
    }

    /// Points of the log to crash at, ascending: `count` of them spread over the stretches between its flushes, each
    /// stretch in its turn, and a random place in it.
    pub fn points(&self, from: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
        let mut ends: Vec<usize> = (0..)
            .zip(&self.log)
            .filter(|(at, event)| *at >= from && matches!(event, Event::Flush))
            .map(|(at, _)| at)
            .collect();
        ends.push(self.log.len());
        let mut points = Vec::with_capacity(count);
        let skip = rng.index(ends.len());
        for number in 0..count {
            // Where there are more stretches than images, evenly spread ones.
            let stretch = (skip + number * ends.len().max(count) / count) % ends.len();
            let to = ends.get(stretch).copied().unwrap_or(from);
            let start = stretch.checked_sub(1).and_then(|before| ends.get(before)).map_or(from, |flush| flush + 1);
            points.push(start.min(to) + rng.index(to.saturating_sub(start) + 1));
        }
        points.sort_unstable();
        points
    }

    /// The device as a power loss leaves it after `at` events, which must not lie behind an earlier one.
    pub fn cut(&mut self, at: usize, rng: &mut Rng) -> Vec<u8> {
        while self.at < at {
            match self.log.get(self.at) {
                Some(Event::Write { .. }) => self.pending.push(self.at),
                Some(Event::Flush) => {
                    for number in std::mem::take(&mut self.pending) {
                        if let Some(Event::Write { at, bytes }) = self.log.get(number) {
                            put(&mut self.durable, *at, bytes);
                        }
                    }
                }
                None => break,
            }
            self.at += 1;
        }
        let mut image = self.durable.clone();
        let how = rng.below(8);
        for number in &self.pending {
            let Some(Event::Write { at, bytes }) = self.log.get(*number) else { continue };
            match how {
                0 => {}
                1 => put(&mut image, *at, bytes),
                // Whole writes, in any combination.
                2 | 3 if rng.chance(1, 2) => put(&mut image, *at, bytes),
                2 | 3 => {}
                // Single sectors, in any combination: few, half, or most of them.
                _ => {
                    for (sector, part) in (0..).zip(bytes.chunks(SECTOR_BYTES)) {
                        if rng.chance([1, 4, 4, 7].get(usize::try_from(how).unwrap_or(4) - 4).copied().unwrap_or(4), 8)
                        {
                            put(&mut image, at + sector * SECTOR_BYTES, part);
                        }
                    }
                }
            }
        }
        image
    }
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = image.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: usize, value: u8) -> Event {
        Event::Write { at, bytes: vec![value; SECTOR_BYTES * 2].into() }
    }

    #[test]
    fn what_was_flushed_is_in_every_image_and_what_was_not_yet_written_in_none() {
        for seed in 0..64 {
            let log = vec![write(0, 1), Event::Flush, write(1_024, 2), write(0, 3), Event::Flush, write(2_048, 4)];
            let mut cutter = Cutter::new((vec![0; 4_096], log));
            let mut rng = Rng::new(seed);
            let image = cutter.cut(3, &mut rng);
            assert!(image[..1_024].iter().all(|byte| *byte == 1));
            assert!(image[1_024..2_048].iter().all(|byte| *byte == 0 || *byte == 2));
            assert!(image[2_048..].iter().all(|byte| *byte == 0));
            let image = cutter.cut(5, &mut rng);
            assert!(image[..1_024].iter().all(|byte| *byte == 3) && image[1_024..2_048].iter().all(|byte| *byte == 2));
        }
    }

    #[test]
    fn sectors_of_one_write_are_lost_one_by_one() {
        let mut mixed = 0;
        for seed in 0..64 {
            let mut cutter = Cutter::new((vec![0; 1_024], vec![write(0, 1)]));
            let image = cutter.cut(1, &mut Rng::new(seed));
            mixed += usize::from(image[0] != image[512]);
        }
        assert!(mixed > 5, "{mixed} of 64");
    }

    #[test]
    fn points_ascend_and_reach_every_stretch() {
        let log = (0..40).map(|at| if at % 4 == 3 { Event::Flush } else { write(0, 1) }).collect();
        let cutter = Cutter::new((vec![0; 1_024], log));
        let points = cutter.points(0, 200, &mut Rng::new(1));
        assert!(points.is_sorted() && points.len() == 200);
        let reached: std::collections::BTreeSet<usize> = points.iter().map(|point| point.div_ceil(4)).collect();
        assert_eq!(reached.len(), 11, "{reached:?}");
    }
}
