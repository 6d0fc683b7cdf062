//! beanstalkd, by its text protocol: one tube, and a lane is a priority. Commands are pipelined; it answers in order.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};

use super::server::{Log, Program, Server, bound_to_harness, free_port};
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Beanstalkd;

static PROGRAM: Program = Program::new("beanstalkd", &["/usr/bin", "/usr/sbin"], "-v");

impl Engine for Beanstalkd {
    fn name(&self) -> &'static str {
        "beanstalkd"
    }

    fn version(&self) -> String {
        PROGRAM.version()
    }

    fn settings(&self, durability: Durability) -> String {
        format!("-b (binlog) {}, pipelined put / reserve / delete, lanes as priorities", fsync(durability))
    }

    fn can(&self, _durability: Durability, _needs: &[Need]) -> Result<(), String> {
        PROGRAM.path().map(|_| ())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let (log, port) = (Log::claim(&setup.dir)?, free_port()?);
        // A job and its header must fit into a binlog file.
        let (job, file) = (setup.payload_bytes.max(JOB_BYTES), (2 * setup.payload_bytes).max(BINLOG_BYTES));
        let mut command = bound_to_harness(PROGRAM.path().map_err(|reason| anyhow!(reason))?);
        command.args(["-l", "127.0.0.1", "-p", &port.to_string(), fsync(setup.durability)]);
        command.args(["-z", &job.to_string(), "-s", &file.to_string(), "-b"]).arg(&setup.dir);
        Ok(Box::new(Opened { server: Server::start(command, port, log)? }))
    }
}

/// Every put and delete is written to the binlog before it is answered; this says whether it is synced then.
fn fsync(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "-F",
        Durability::Power => "-f0",
    }
}

/// The server's defaults.
const JOB_BYTES: usize = 65_535;
const BINLOG_BYTES: usize = 10 << 20;

/// Seconds that a job may stay reserved. No run takes longer.
const RESERVED_S: u32 = 86_400;

struct Opened {
    server: Server,
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { line: Line::to(self.server.address)?, unanswered: 0 }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        Ok(Box::new(Taking { line: Line::to(self.server.address)?, waiting: false }))
    }

    fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.server.stop()
    }
}

/// A connection.
struct Line {
    answers: BufReader<TcpStream>,
    /// Commands that were not sent yet.
    commands: Vec<u8>,
}

impl Line {
    fn to(address: SocketAddr) -> anyhow::Result<Line> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Line { answers: BufReader::with_capacity(1 << 16, stream), commands: Vec::new() })
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.answers.get_mut().write_all(&self.commands)?;
        self.commands.clear();
        Ok(())
    }

    /// Whether an answer begins to arrive within the time.
    fn answers_within(&mut self, wait: Duration) -> anyhow::Result<bool> {
        if self.answers.buffer().is_empty() {
            // No timeout at all is what zero would mean.
            self.answers.get_ref().set_read_timeout(Some(wait.max(Duration::from_micros(1))))?;
            let came = self.answers.fill_buf().map(<[u8]>::len);
            self.answers.get_ref().set_read_timeout(None)?;
            match came {
                Ok(0) => bail!("beanstalkd closed the connection"),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The next answer's first line, without its end.
    fn answer(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.strip_suffix("\r\n").map(str::to_owned).context("beanstalkd closed the connection")
    }

    /// The answer to a `reserve`: none if it timed out.
    fn job(&mut self) -> anyhow::Result<Option<Job>> {
        let answer = self.answer()?;
        if answer == "TIMED_OUT" {
            return Ok(None);
        }
        let about = answer.strip_prefix("RESERVED ").and_then(|about| about.split_once(' '));
        let (id, bytes) = about.with_context(|| format!("beanstalkd answered {answer}"))?;
        let bytes: usize = bytes.parse()?;
        let mut payload = vec![0; bytes + LINE_END.len()];
        self.answers.read_exact(&mut payload)?;
        payload.truncate(bytes);
        Ok(Some(Job { id: id.parse()?, payload }))
    }
}

const LINE_END: &str = "\r\n";

struct Job {
    id: u64,
    payload: Vec<u8>,
}

struct Sending {
    line: Line,
    /// Jobs put whose answers were not read.
    unanswered: usize,
}

impl Sending {
    fn put(&mut self, lane: u8, task: &[u8]) -> anyhow::Result<()> {
        let commands = &mut self.line.commands;
        write!(commands, "put {lane} 0 {RESERVED_S} {}{LINE_END}", task.len())?;
        commands.extend_from_slice(task);
        commands.extend_from_slice(LINE_END.as_bytes());
        self.unanswered += 1;
        Ok(())
    }
}

impl Producer for Sending {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        for task in tasks {
            self.put(lane, task)?;
        }
        self.line.flush()?;
        self.confirm(0)
    }

    fn submit(&mut self, lane: u8, task: &[u8]) -> anyhow::Result<()> {
        self.put(lane, task)?;
        self.line.flush()
    }

    fn confirm(&mut self, outstanding_max: usize) -> anyhow::Result<()> {
        while self.unanswered > outstanding_max {
            let answer = self.line.answer()?;
            if !answer.starts_with("INSERTED ") {
                bail!("beanstalkd answered {answer}");
            }
            self.unanswered -= 1;
        }
        Ok(())
    }
}

struct Taking {
    line: Line,
    /// A `reserve` without timeout was sent and not answered. The server's timeouts are whole seconds, so the waiting is
    /// given up on this side only, and the next `take` goes on with it.
    waiting: bool,
}

impl Taking {
    /// So many jobs of those that are ready.
    fn reserve_ready(&mut self, jobs: usize, into: &mut Vec<Job>) -> anyhow::Result<()> {
        for _ in 0..jobs {
            self.line.commands.extend_from_slice(b"reserve-with-timeout 0\r\n");
        }
        self.line.flush()?;
        for _ in 0..jobs {
            into.extend(self.line.job()?);
        }
        Ok(())
    }

    fn reserve(&mut self, jobs: usize, wait: Duration) -> anyhow::Result<Vec<Job>> {
        let end = Instant::now() + wait;
        let mut reserved = Vec::new();
        if !self.waiting {
            self.reserve_ready(jobs, &mut reserved)?;
            if !reserved.is_empty() || wait.is_zero() {
                return Ok(reserved);
            }
            self.line.commands.extend_from_slice(b"reserve\r\n");
            self.line.flush()?;
            self.waiting = true;
        }
        if self.line.answers_within(end.saturating_duration_since(Instant::now()))? {
            self.waiting = false;
            reserved.extend(self.line.job()?);
            self.reserve_ready(jobs.saturating_sub(1), &mut reserved)?;
        }
        Ok(reserved)
    }
}

impl Consumer for Taking {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let reserved = self.reserve(tasks, wait)?;
        let mut deleted = 0;
        for job in &reserved {
            if see(&job.payload) == Settle::Ack {
                write!(self.line.commands, "delete {}{LINE_END}", job.id)?;
                deleted += 1;
            }
        }
        self.line.flush()?;
        for _ in 0..deleted {
            let answer = self.line.answer()?;
            if answer != "DELETED" {
                bail!("beanstalkd answered {answer}");
            }
        }
        Ok(reserved.len())
    }
}
