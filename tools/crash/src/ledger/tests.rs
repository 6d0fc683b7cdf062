//! The oracle, shown histories that are wrong.
