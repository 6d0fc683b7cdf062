//! Looking at a queue without opening it.
