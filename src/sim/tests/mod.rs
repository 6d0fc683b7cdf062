//! The simulator tested: its disk, its schedules, its oracle.

mod disk;
mod schedules;
