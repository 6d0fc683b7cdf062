//! Each mode of the command, a few rounds of it, as CI runs many. Where a machine lacks the means a mode says so.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Runs the command to its end, which must come; gives what it printed and whether it succeeded.
fn run(arguments: &[&str]) -> (String, bool) {
    const LIMIT: Duration = Duration::from_secs(120);
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanelog-crash"));
    let child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (done, ended) = channel::<()>();
    let watchdog = std::thread::Builder::new().spawn(move || {
        if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            // It has children and mounts, which it takes down when it is asked to end.
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watchdog.unwrap().join().unwrap();
    let text = format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    (text, output.status.success())
}

/// The mode did what it was asked for, or said why it can't here.
#[track_caller]
fn holds(arguments: &[&str], expected: &[&str]) {
    let (text, succeeded) = run(arguments);
    assert!(succeeded, "{text}");
    if text.lines().last().is_some_and(|line| line.starts_with("skipped: ")) {
        return;
    }
    let last = text.lines().last().unwrap_or_default();
    for words in expected {
        assert!(last.contains(words), "no {words:?} in {last:?}:\n{text}");
    }
}

#[test]
fn processes_that_are_killed_keep_every_promise() {
    holds(&["kill", "--rounds", "12", "--seed", "5"], &["rounds=12 ", "violations=0 seed=5"]);
}

#[test]
fn power_lost_at_any_write_keeps_what_was_promised_for_ever() {
    holds(&["power", "--images", "12", "--seed", "5"], &["images=12 ", "violations=0 seed=5"]);
}

#[test]
fn file_system_that_is_shut_down_keeps_what_was_promised_for_ever() {
    holds(&["shutdown", "--cuts", "4", "--seed", "5"], &["cuts=4 ", "violations=0 seed=5"]);
}

#[test]
fn what_is_served_after_a_failed_sync_survives_a_loss_of_power() {
    holds(&["failed-sync", "--rounds", "2", "--images", "4", "--seed", "5"], &["rounds=2 ", "violations=0 seed=5"]);
}

#[test]
fn without_syncs_losses_are_seen() {
    holds(&["power", "--images", "6", "--seed", "5", "--syncs-off"], &["expected losses, saw ", "as it must"]);
    holds(&["shutdown", "--cuts", "3", "--seed", "5", "--syncs-off"], &["expected losses, saw ", "as it must"]);
}
