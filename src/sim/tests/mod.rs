//! The simulator tested: its disk, its schedules; and what they found.

mod disk;
mod found;
mod schedules;
