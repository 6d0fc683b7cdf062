//! Which measurements a run is made of.

use crate::args::Args;
use crate::engine::{Durability, Engine};
use crate::engines;
use crate::job::{Job, Workload};
use crate::limit;

/// A measurement without its engine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// What is done.
    pub workload: Workload,
    /// See [`Job`], as for all that follow.
    pub durability: Durability,
    /// Bytes.
    pub payload: usize,
    /// Threads.
    pub producers: usize,
    /// Threads.
    pub consumers: usize,
    /// Tasks.
    pub batch: usize,
    /// Tasks.
    pub outstanding: usize,
}

use Durability::{Power, Process};
use Workload::{
    Append, BacklogBuild, BacklogDrain, CopyCrc, Flow, Handoff, IdleLanes, Lanes, MemoryCopy, OpenLoop, PageCacheWrite,
    PingPong, Reopen, Stragglers,
};

const fn cell(
    workload: Workload,
    durability: Durability,
    payload: usize,
    (producers, consumers): (usize, usize),
    batch: usize,
) -> Cell {
    Cell { workload, durability, payload, producers, consumers, batch, outstanding: 1 }
}

/// All of it. What comes first is needed by what comes later: rates of flows set those of open loops.
const WHOLE: [Cell; 36] = [
    cell(MemoryCopy, Process, 1024, (1, 0), 1),
    cell(CopyCrc, Process, 1024, (1, 0), 1),
    cell(PageCacheWrite, Process, 1 << 20, (1, 0), 1),
    cell(Append, Process, 100, (1, 0), 1),
    cell(Append, Process, 100, (1, 0), 64),
    cell(Append, Process, 1024, (1, 0), 1),
    cell(Append, Process, 1024, (1, 0), 64),
    cell(Append, Process, 65_536, (1, 0), 1),
    cell(Append, Process, 1024, (4, 0), 1),
    cell(Append, Power, 512, (1, 0), 1),
    cell(Append, Power, 1024, (1, 0), 1),
    cell(Append, Power, 1024, (1, 0), 64),
    cell(Append, Power, 65_536, (1, 0), 1),
    cell(Append, Power, 1024, (4, 0), 1),
    cell(Append, Power, 1024, (16, 0), 1),
    cell(Append, Power, 1024, (64, 0), 1),
    cell(Append, Power, 512, (64, 0), 1),
    Cell { outstanding: 16, ..cell(Append, Power, 512, (64, 0), 1) },
    cell(Flow, Process, 1024, (1, 1), 1),
    cell(Flow, Process, 1024, (1, 1), 64),
    cell(Flow, Process, 1024, (2, 2), 1),
    cell(Flow, Process, 1024, (4, 4), 1),
    cell(Flow, Power, 1024, (1, 1), 1),
    cell(Flow, Power, 1024, (1, 1), 64),
    cell(Flow, Power, 1024, (64, 64), 1),
    cell(IdleLanes, Process, 1024, (1, 1), 1),
    cell(Lanes, Process, 1024, (1, 1), 1),
    cell(Flow, Power, 1024, (8, 8), 1),
    cell(Lanes, Power, 1024, (8, 8), 1),
    cell(Handoff, Process, 128, (1, 1), 1),
    cell(PingPong, Process, 128, (1, 1), 1),
    cell(OpenLoop, Process, 1024, (1, 1), 1),
    cell(BacklogBuild, Process, 1024, (1, 1), 64),
    cell(BacklogDrain, Process, 1024, (1, 1), 64),
    cell(Stragglers, Process, 1024, (1, 1), 64),
    cell(Reopen, Process, 1024, (1, 1), 64),
];

/// Two minutes of it.
const QUICK: [Cell; 5] = [
    cell(Append, Process, 1024, (1, 0), 1),
    cell(Append, Power, 1024, (1, 0), 1),
    cell(Flow, Process, 1024, (1, 1), 1),
    cell(Flow, Process, 1024, (1, 1), 64),
    cell(Handoff, Process, 128, (1, 1), 1),
];

/// Peers of a quick run, as far as they are built in, three of them.
const QUICK_PEERS: [&str; 5] = ["rocksdb", "lmdb", "yaque", "redb", "fjall"];

/// The cells that were asked for: those of the workloads, in which each list that was given replaces what stands there.
pub fn cells(args: &Args) -> Vec<Cell> {
    let base: &[Cell] = if args.quick { &QUICK } else { &WHOLE };
    let mut cells: Vec<Cell> = Vec::new();
    // A workload that a quick run has not is taken from the whole.
    let wanted: Vec<&Cell> = if args.workload.is_empty() {
        base.iter().collect()
    } else {
        let of = |cells: &'static [Cell]| cells.iter().filter(|cell| args.workload.contains(&cell.workload));
        let quick: Vec<_> = if args.quick { of(&QUICK).collect() } else { Vec::new() };
        if quick.is_empty() { of(&WHOLE).collect() } else { quick }
    };
    for &cell in wanted {
        let mut wider = spread(vec![cell], &args.durability, |cell, durability| cell.durability = durability);
        wider = spread(wider, &args.payload, |cell, payload| cell.payload = payload);
        wider = spread(wider, &args.producers, |cell, producers| cell.producers = producers);
        if cell.consumers > 0 {
            wider = spread(wider, &args.consumers, |cell, consumers| cell.consumers = consumers);
        }
        wider = spread(wider, &args.batch, |cell, batch| cell.batch = batch);
        wider = spread(wider, &args.outstanding, |cell, outstanding| cell.outstanding = outstanding);
        for cell in wider {
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
    }
    cells
}

/// Each cell with each of the values, or as it is where none was given.
fn spread<T: Copy>(cells: Vec<Cell>, given: &[T], set: impl Fn(&mut Cell, T)) -> Vec<Cell> {
    if given.is_empty() {
        return cells;
    }
    let with = |cell: &Cell, value| {
        let mut cell = *cell;
        set(&mut cell, value);
        cell
    };
    cells.iter().flat_map(|cell| given.iter().map(|value| with(cell, *value)).collect::<Vec<_>>()).collect()
}

/// The engines that were asked for, the limit first.
///
/// # Errors
/// A name that no engine has.
pub fn engines(args: &Args) -> anyhow::Result<Vec<&'static dyn Engine>> {
    let mut all: Vec<&'static dyn Engine> = vec![&limit::Limit];
    all.extend(engines::all());
    let names: Vec<&str> = all.iter().map(|engine| engine.name()).collect();
    if let Some(unknown) = args.engine.iter().find(|name| !names.contains(&name.as_str())) {
        anyhow::bail!("no engine is called {unknown:?}: this program was built with {}", names.join(", "));
    }
    let quick: Vec<&str> = QUICK_PEERS.into_iter().filter(|name| names.contains(name)).take(3).collect();
    all.retain(|engine| {
        let name = engine.name();
        if !args.engine.is_empty() {
            return args.engine.iter().any(|wanted| wanted == name);
        }
        !args.quick || quick.contains(&name) || name == "lanelog" || engine.is_limit()
    });
    Ok(all)
}

/// Whether the engine takes part: what the machine alone does has no engine, and some cells have no limit.
pub fn takes_part(engine: &dyn Engine, cell: &Cell) -> bool {
    let alone = matches!(cell.workload, CopyCrc | MemoryCopy | PageCacheWrite);
    let floor = match cell.workload {
        Append => cell.producers == 1 && (cell.durability == Process || cell.batch == 1),
        Flow | OpenLoop => cell.durability == Process && (cell.producers, cell.consumers) == (1, 1),
        Handoff | PingPong => cell.durability == Process,
        _ => alone,
    };
    if engine.is_limit() { floor } else { !alone }
}

/// The measurement of an engine.
pub fn job(args: &Args, cell: &Cell, engine: &dyn Engine) -> Job {
    Job {
        workload: cell.workload,
        engine: engine.name().to_owned(),
        durability: cell.durability,
        payload_bytes: cell.payload,
        producers: cell.producers,
        consumers: cell.consumers,
        batch: cell.batch,
        outstanding: cell.outstanding,
        seconds: args.seconds(),
        bytes_max: args.bytes_max(cell.workload),
        rate: args.rate.unwrap_or(0.0),
        dir: std::path::PathBuf::new(),
    }
}
