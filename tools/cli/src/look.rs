//! Looking at a queue: counts, damage, records. Takes no lock and changes nothing.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use lanelog::{Beyond, Damage, DamageKind, GroupPin, GroupStats, LaneId, Stats, TaskRecord, TaskState, inspect};
use serde_json::{Value, json};

use crate::args::{self, Dump, Look, Peek};
use crate::output;

/// `lanelog stats`.
pub fn stats(args: &args::Stats) -> Result<u8> {
    let inspection = inspect(&args.look.queue)?;
    let stats = inspection.stats();
    let pins = if args.pins { inspection.group_pins() } else { Vec::new() };
    if args.look.json {
        let mut told = stats_json(&stats);
        if let Some(object) = told.as_object_mut().filter(|_| args.pins) {
            object.insert("pins".to_owned(), pins.iter().map(pin_json).collect());
        }
        print(&format!("{told}\n"))?;
    } else {
        let pins: String = pins.iter().map(pin_text).collect();
        print(&(stats_text(&stats) + if args.pins { "\n" } else { "" } + &pins))?;
    }
    Ok(0)
}

fn pin_text(pin: &GroupPin) -> String {
    let GroupPin { group, lane, segments, bytes, alone_bytes, .. } = pin;
    let oldest = pin.oldest.as_ref().map_or_else(
        || "of which nothing can be read".to_owned(),
        |oldest| {
            let (age, state) = (oldest.age_ms / 1000, state_name(&oldest.state));
            format!("from {} on, {age} s old, {state}", oldest.id)
        },
    );
    format!(
        "group {group}, lane {lane} keeps {bytes} bytes in {segments} segments, {alone_bytes} of them alone, {oldest}\n"
    )
}

fn pin_json(pin: &GroupPin) -> Value {
    let oldest = pin.oldest.as_ref().map(
        |oldest| json!({ "id": oldest.id.to_string(), "age_ms": oldest.age_ms, "state": state_json(&oldest.state) }),
    );
    json!({
        "group": pin.group, "lane": pin.lane.0, "segments": pin.segments, "bytes": pin.bytes,
        "alone_bytes": pin.alone_bytes, "oldest": oldest,
    })
}

/// `lanelog verify`.
pub fn verify(args: &Look) -> Result<u8> {
    let damage = inspect(&args.queue)?.verify();
    let serious = damage.iter().filter(|found| found.kind != DamageKind::Torn).count();
    if args.json {
        let list: Vec<Value> = damage.iter().map(damage_json).collect();
        print(&format!("{}\n", json!({ "clean": serious == 0, "damage": list })))?;
    } else {
        let mut text = String::new();
        for found in &damage {
            text += &format!("{found}\n");
        }
        text += &match serious {
            0 => "clean\n".to_owned(),
            1 => "damaged: 1 place\n".to_owned(),
            count => format!("damaged: {count} places\n"),
        };
        print(&text)?;
    }
    Ok(if serious == 0 { 0 } else { 2 })
}

/// `lanelog dump`.
pub fn dump(args: &Dump) -> Result<u8> {
    let inspection = inspect(&args.look.queue)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut outcome = Ok(());
    inspection.for_each_task(|task| {
        let wanted = args.lane.is_none_or(|lane| task.id.lane() == LaneId(lane));
        if wanted && outcome.is_ok() {
            let line = if args.look.json { record_json(&task).to_string() } else { record_text(&task) };
            outcome = writeln!(out, "{line}");
            if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
                // `| head`: the rest of a large queue need not be read, and there is nothing to put in order.
                std::process::exit(i32::from(output::CLOSED));
            }
        }
    });
    output::written(outcome.and_then(|()| out.flush()))?;
    Ok(0)
}

/// `lanelog peek`.
pub fn peek(args: &Peek) -> Result<u8> {
    let mut left = args.tasks;
    let mut lines = String::new();
    inspect(&args.look.queue)?.for_each_task(|task| {
        let is_open = |state: &TaskState| {
            matches!(state, TaskState::Waiting | TaskState::Attempted { .. } | TaskState::Delayed { .. })
        };
        let open = task.states.iter().any(|(group, state)| group == "default" && is_open(state));
        if left > 0 && open && task.id.lane() == LaneId(args.lane) {
            left -= 1;
            lines += &if args.look.json { record_json(&task).to_string() } else { record_text(&task) };
            lines.push('\n');
        }
    });
    say(&lines)
}

/// Prints, and that is all.
pub fn say(text: &str) -> Result<u8> {
    print(text).map(|()| 0)
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    output::written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn stats_text(stats: &Stats) -> String {
    let mut text = String::new();
    text += &format!(
        "{:<6}{:>10}{:>12}{:>14}{:>14}{:>14}{:>14}{:>14}\n",
        "lane", "segments", "tasks", "published", "durable", "bytes", "live", "dead"
    );
    for lane in &stats.lanes {
        text += &format!(
            "{:<6}{:>10}{:>12}{:>14}{:>14}{:>14}{:>14}{:>14}\n",
            lane.lane.to_string(),
            lane.segments,
            lane.tasks,
            lane.published,
            lane.durable,
            lane.disk_bytes,
            lane.live_bytes,
            lane.dead_bytes
        );
    }
    text += &format!(
        "\n{:<20}{:<6}{:>10}{:>10}{:>10}{:>12}{:>8}{:>14}\n",
        "group", "lane", "depth", "in flight", "delayed", "acked", "dead", "oldest"
    );
    for group in &stats.groups {
        for lane in &group.lanes {
            let oldest = lane.oldest_ms.map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100));
            text += &format!(
                "{:<20}{:<6}{:>10}{:>10}{:>10}{:>12}{:>8}{:>14}\n",
                group.name,
                lane.lane.to_string(),
                lane.depth,
                lane.in_flight,
                lane.delayed,
                lane.acked,
                lane.dead,
                oldest
            );
        }
    }
    let lanes = stats.paused_lanes.iter().map(|lane| format!("lane {lane}"));
    let groups = stats.groups.iter().filter(|group| group.paused).map(|group| format!("group {}", group.name));
    let paused: Vec<String> = lanes.chain(groups).collect();
    if !paused.is_empty() {
        text += &format!("\npaused: {}\n", paused.join(", "));
    }
    for group in stats.groups.iter().filter(|group| group.retention.is_bounded()) {
        text += &retention_text(group);
    }
    if stats.dedup_ids > 0 {
        text += &format!("\ndedup ids: {}\n", stats.dedup_ids);
    }
    text += &format!(
        "\non disk {} bytes: journal {}, checkpoint {}, ready {} in {} segments\n",
        stats.disk_bytes, stats.journal_bytes, stats.checkpoint_bytes, stats.ready_bytes, stats.ready_segments
    );
    text
}

fn retention_text(group: &GroupStats) -> String {
    let (tasks, bytes, age_ms) = group.retention.bounds();
    let bounds = [(tasks, "tasks"), (bytes, "bytes"), (age_ms, "ms old")];
    let bounds = bounds.iter().filter(|(max, _)| *max > 0).map(|(max, of)| format!("{max} {of}"));
    let bounds: Vec<String> = bounds.collect();
    let (tasks, bytes) = group.left;
    let (name, policy) = (&group.name, beyond_word(group.retention.policy()));
    format!(
        "\ngroup {name} has {tasks} tasks of {bytes} bytes left, and may have {}; beyond: {policy}\n",
        bounds.join(", ")
    )
}

fn beyond_word(beyond: Beyond) -> &'static str {
    match beyond {
        Beyond::Report => "report",
        Beyond::Drop => "drop",
        Beyond::DeadLetter => "dead",
        _ => "other",
    }
}

fn stats_json(stats: &Stats) -> Value {
    let lanes: Vec<Value> = stats
        .lanes
        .iter()
        .map(|lane| {
            json!({
                "lane": lane.lane.0, "segments": lane.segments, "tasks": lane.tasks,
                "published": lane.published, "durable": lane.durable, "disk_bytes": lane.disk_bytes,
                "live_bytes": lane.live_bytes, "dead_bytes": lane.dead_bytes,
            })
        })
        .collect();
    let group = |group: &lanelog::GroupStats| {
        let lanes: Vec<Value> = group
            .lanes
            .iter()
            .map(|lane| {
                json!({
                    "lane": lane.lane.0, "depth": lane.depth, "in_flight": lane.in_flight, "delayed": lane.delayed,
                    "acked": lane.acked, "dead": lane.dead, "oldest_ms": lane.oldest_ms,
                })
            })
            .collect();
        let (tasks, bytes, age_ms) = group.retention.bounds();
        json!({
            "name": group.name, "paused": group.paused, "lanes": lanes,
            "left": { "tasks": group.left.0, "bytes": group.left.1 },
            "retention": {
                "tasks": tasks, "bytes": bytes, "age_ms": age_ms, "beyond": beyond_word(group.retention.policy()),
            },
        })
    };
    json!({
        "queue": stats.queue.map(|id| id.to_string()),
        "lanes": lanes,
        "paused_lanes": stats.paused_lanes.iter().map(|lane| lane.0).collect::<Vec<_>>(),
        "groups": stats.groups.iter().map(group).collect::<Vec<_>>(),
        "disk_bytes": stats.disk_bytes,
        "journal_bytes": stats.journal_bytes,
        "checkpoint_bytes": stats.checkpoint_bytes,
        "ready_bytes": stats.ready_bytes,
        "ready_segments": stats.ready_segments,
        "dedup_ids": stats.dedup_ids,
    })
}

fn damage_json(damage: &Damage) -> Value {
    let kind = match damage.kind {
        DamageKind::Corrupt => "corrupt",
        DamageKind::Torn => "torn",
        DamageKind::Missing => "missing",
        DamageKind::Unreadable => "unreadable",
        _ => "other",
    };
    json!({
        "kind": kind, "file": damage.file, "offset": damage.offset, "bytes": damage.bytes,
        "lane": damage.lane.map(|lane| lane.0),
        "first_sequence": damage.lost.map(|(first, _)| first.0),
        "last_sequence": damage.lost.map(|(_, last)| last.0),
        "what": damage.what,
    })
}

/// A state in words.
pub fn state_name(state: &TaskState) -> String {
    match state {
        TaskState::Attempted { attempts } => format!("attempted {attempts}"),
        TaskState::Leased { attempts } => format!("on loan, attempt {attempts}"),
        TaskState::Parked { reason, .. } => format!("parked: {reason}"),
        TaskState::Delayed { attempts, due } => format!("delayed until {} after {attempts}", due.0),
        TaskState::Dead { attempts, reason, .. } => format!("dead after {attempts}: {reason}"),
        _ => state_word(state).to_owned(),
    }
}

fn state_word(state: &TaskState) -> &'static str {
    match state {
        TaskState::Waiting => "waiting",
        TaskState::Attempted { .. } => "attempted",
        TaskState::Delayed { .. } => "delayed",
        TaskState::Acked => "acked",
        TaskState::Leased { .. } => "leased",
        TaskState::Parked { .. } => "parked",
        TaskState::Dead { .. } => "dead",
        _ => "unknown",
    }
}

fn state_json(state: &TaskState) -> Value {
    let word = state_word(state);
    match state {
        TaskState::Attempted { attempts } => json!({ "state": word, "attempts": attempts }),
        TaskState::Delayed { attempts, due } => json!({ "state": word, "attempts": attempts, "due_ms": due.0 }),
        TaskState::Dead { attempts, reason, at, .. } => {
            json!({ "state": word, "attempts": attempts, "reason": reason, "at_ms": at.0 })
        }
        _ => json!({ "state": word }),
    }
}

/// A record on one line.
pub fn record_text(task: &TaskRecord) -> String {
    let states: Vec<String> =
        task.states.iter().map(|(name, state)| format!("{name}: {}", state_name(state))).collect();
    let text: String = String::from_utf8_lossy(&task.payload).chars().take(80).collect();
    format!(
        "{} {}:{} {} bytes [{}] {}",
        task.id,
        task.file,
        task.offset,
        task.payload.len(),
        states.join(", "),
        text.escape_debug()
    )
}

fn record_json(task: &TaskRecord) -> Value {
    let states: serde_json::Map<String, Value> =
        task.states.iter().map(|(name, state)| (name.clone(), state_json(state))).collect();
    let headers: serde_json::Map<String, Value> = task
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(String::from_utf8_lossy(value).into_owned())))
        .collect();
    let mut record = json!({
        "id": task.id.to_string(), "lane": task.id.lane().0, "sequence": task.id.seq().0,
        "file": task.file, "offset": task.offset, "bytes": task.bytes, "enqueued_ms": task.enqueued.0,
        "headers": headers, "groups": states,
    });
    if let Some(object) = record.as_object_mut() {
        // The group that every queue has, at hand for the usual case.
        let default = task.states.iter().find(|(name, _)| name == "default");
        object.insert("state".to_owned(), default.map_or(Value::Null, |(_, state)| state_word(state).into()));
        match std::str::from_utf8(&task.payload) {
            Ok(text) => object.insert("payload".to_owned(), Value::from(text)),
            Err(_) => object.insert("payload_hex".to_owned(), Value::from(hex(&task.payload))),
        };
    }
    record
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
