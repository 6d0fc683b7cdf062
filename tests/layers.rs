//! The house rule on imports: a room uses only rooms below it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper fails the test that called it")]

use std::path::Path;

/// Rooms from the ground up; those with the same number don't know each other.
const ROOMS: &[(&str, u8)] = &[
    ("sabotage", 0),
    ("types", 1),
    ("error", 1),
    ("sync", 1),
    ("format", 2),
    ("storage", 2),
    ("log", 4),
    ("checkpoint", 3),
    ("delivery", 5),
    ("engine", 6),
    ("queue", 7),
    ("sim", 8),
    ("doors", 9),
];

/// Where the table's strictness gives way, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    // The entry of an index names a key and a place; both are the checkpoint's own types.
    ("format", "checkpoint"),
    // Ids parse into errors and errors carry ids: one layer, two files.
    ("types", "error"),
    ("error", "types"),
];

fn level(room: &str) -> u8 {
    ROOMS.iter().find(|(name, _)| *name == room).unwrap_or_else(|| panic!("{room} has no place in the table")).1
}

fn check(path: &Path, room: &str, wrong: &mut Vec<String>) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.file_name().is_some_and(|name| name != "tests" && name != "tests.rs") {
                check(&entry, room, wrong);
            }
        }
        return;
    }
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let Some((_, used)) = line.split_once("crate::") else { continue };
        let used: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_room = ROOMS.iter().any(|(name, _)| *name == used);
        let comment = line.trim_start().starts_with("//");
        let allowed = used == room || EXCEPTIONS.contains(&(room, used.as_str()));
        if is_room && !comment && !allowed && level(&used) >= level(room) {
            wrong.push(format!("{}: {}", path.display(), line.trim()));
        }
    }
}

#[test]
fn imports_run_downward_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let room = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if room != "lib" {
            check(&path, &room, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
