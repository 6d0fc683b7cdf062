//! Redis streams: one stream per lane, one consumer group over them.
//!
//! What is acked is deleted too, so a stream holds what is not settled and nothing else. A store that is opened again
//! makes the group anew at the streams' beginning, and all that is left comes in its order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::{Cmd, Connection, ConnectionAddr, IntoConnectionInfo, Value, cmd};
use anyhow::{Context, anyhow, bail};

use super::server::{Log, Program, Server, bound_to_harness, free_port};
use crate::engine::{Consumer, Durability, Engine, Need, Producer, Settle, Setup, Store};

pub struct Redis;

static PROGRAM: Program = Program::new("redis-server", &[], "--version");

impl Engine for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn version(&self) -> String {
        PROGRAM.version()
    }

    fn settings(&self, durability: Durability) -> String {
        format!("streams, XADD / XREADGROUP BLOCK / XACK + XDEL, appendonly yes, appendfsync {}", fsync(durability))
    }

    fn can(&self, _durability: Durability, _needs: &[Need]) -> Result<(), String> {
        PROGRAM.path().map(|_| ())
    }

    fn open(&self, setup: &Setup) -> anyhow::Result<Box<dyn Store>> {
        let (log, port) = (Log::claim(&setup.dir)?, free_port()?);
        let mut command = bound_to_harness(PROGRAM.path().map_err(|reason| anyhow!(reason))?);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", fsync(setup.durability), "--dir"]).arg(&setup.dir);
        let server = Server::start(command, port, log)?;
        let streams = (0..setup.lanes).map(|lane| format!("lane{lane}")).collect();
        let store = Opened { server, streams, consumers: AtomicU64::new(0) };
        let mut connection = store.connect()?;
        for stream in &store.streams {
            let _was_none = cmd("XGROUP").arg("DESTROY").arg(stream).arg(GROUP).query::<Value>(&mut connection);
            let made = cmd("XGROUP").arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM").clone();
            made.query::<()>(&mut connection)?;
        }
        Ok(Box::new(store))
    }
}

/// Redis writes its log before it answers, whatever this says; it says when the log is synced.
fn fsync(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "no",
        Durability::Power => "always",
    }
}

const GROUP: &str = "group";

struct Opened {
    server: Server,
    /// By lane.
    streams: Vec<String>,
    /// How many were ever made, since each must have a name of its own.
    consumers: AtomicU64,
}

impl Opened {
    /// Redis listens before it has read its log, and refuses everything until it has.
    fn connect(&self) -> anyhow::Result<Connection> {
        let (host, port) = (self.server.address.ip().to_string(), self.server.address.port());
        let address = ConnectionAddr::Tcp(host, port).into_connection_info()?;
        let nodelay = address.tcp_settings().clone().set_nodelay(true);
        let client = ::redis::Client::open(address.set_tcp_settings(nodelay))?;
        let mut connection = client.get_connection()?;
        while let Err(error) = cmd("PING").query::<()>(&mut connection) {
            if error.code() != Some("LOADING") {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(connection)
    }

    fn stream(&self, lane: u8) -> anyhow::Result<&str> {
        self.streams.get(usize::from(lane)).map(String::as_str).context("no such lane")
    }
}

impl Store for Opened {
    fn producer(&self) -> anyhow::Result<Box<dyn Producer + '_>> {
        Ok(Box::new(Sending { store: self, pipe: Pipe::new(self.connect()?) }))
    }

    fn consumer(&self) -> anyhow::Result<Box<dyn Consumer + '_>> {
        let name = format!("consumer{}", self.consumers.fetch_add(1, Ordering::Relaxed));
        let mut connection = self.connect()?;
        let urgent = cmd("SCRIPT").arg("LOAD").arg(TAKE_URGENT).query(&mut connection)?;
        Ok(Box::new(Taking { store: self, pipe: Pipe::new(connection), name, urgent }))
    }

    fn processes(&self) -> Vec<u32> {
        self.server.processes()
    }

    fn close(self: Box<Self>) -> anyhow::Result<()> {
        self.server.stop()
    }
}

/// Commands that go out before the answers of earlier ones are read.
struct Pipe {
    connection: Connection,
    packed: Vec<u8>,
    /// Commands sent whose answers were not read.
    unanswered: usize,
}

impl Pipe {
    fn new(connection: Connection) -> Pipe {
        Pipe { connection, packed: Vec::new(), unanswered: 0 }
    }

    fn add(&mut self, command: &Cmd) {
        command.write_packed_command(&mut self.packed);
        self.unanswered += 1;
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if !self.packed.is_empty() {
            self.connection.send_packed_command(&self.packed)?;
            self.packed.clear();
        }
        Ok(())
    }

    fn answer(&mut self) -> anyhow::Result<Value> {
        let answer = self.connection.recv_response()?.extract_error()?;
        self.unanswered -= 1;
        Ok(answer)
    }

    fn ask(&mut self, command: &Cmd) -> anyhow::Result<Value> {
        self.add(command);
        self.flush()?;
        self.answer()
    }

    fn answers_until(&mut self, unanswered_max: usize) -> anyhow::Result<()> {
        while self.unanswered > unanswered_max {
            self.answer()?;
        }
        Ok(())
    }
}

struct Sending<'a> {
    store: &'a Opened,
    pipe: Pipe,
}

impl Sending<'_> {
    fn add(&mut self, lane: u8, task: &[u8]) -> anyhow::Result<()> {
        self.pipe.add(cmd("XADD").arg(self.store.stream(lane)?).arg("*").arg("task").arg(task));
        Ok(())
    }
}

impl Producer for Sending<'_> {
    fn send(&mut self, lane: u8, tasks: &[&[u8]]) -> anyhow::Result<()> {
        for task in tasks {
            self.add(lane, task)?;
        }
        self.pipe.flush()?;
        self.pipe.answers_until(0)
    }

    fn submit(&mut self, lane: u8, task: &[u8]) -> anyhow::Result<()> {
        self.add(lane, task)?;
        self.pipe.flush()
    }

    fn confirm(&mut self, outstanding_max: usize) -> anyhow::Result<()> {
        self.pipe.answers_until(outstanding_max)
    }
}

/// Takes from the streams in their order. If there is nothing, gives their last ids instead: what to wait behind.
///
/// XREADGROUP alone would take the same count from each stream, and none of them first.
const TAKE_URGENT: &str = "
local left, found = tonumber(ARGV[3]), {}
for _, stream in ipairs(KEYS) do
    local taken = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', stream, '>')
    if taken then
        found[#found + 1] = taken[1]
        left = left - #taken[1][2]
        if left <= 0 then break end
    end
end
if #found > 0 then return {found, {}} end
local last = {}
for lane, stream in ipairs(KEYS) do
    local about = redis.call('XINFO', 'STREAM', stream)
    for field = 1, #about, 2 do
        if about[field] == 'last-generated-id' then last[lane] = about[field + 1] end
    end
end
return {found, last}";

struct Taking<'a> {
    store: &'a Opened,
    pipe: Pipe,
    name: String,
    /// What [`TAKE_URGENT`] is called by.
    urgent: String,
}

impl Taking<'_> {
    /// From the only stream.
    fn take_next(&mut self, tasks: usize, wait: Duration) -> anyhow::Result<Value> {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(tasks);
        if !wait.is_zero() {
            read.arg("BLOCK").arg(millis(wait));
        }
        self.pipe.ask(read.arg("STREAMS").arg(self.store.stream(0)?).arg(">"))
    }

    /// From the streams of the most urgent lanes.
    fn take_urgent(&mut self, tasks: usize, wait: Duration) -> anyhow::Result<Value> {
        let streams = &self.store.streams;
        let mut script = cmd("EVALSHA");
        script.arg(&self.urgent).arg(streams.len()).arg(streams).arg(GROUP).arg(&self.name).arg(tasks);
        for waited in [false, true] {
            let [found, last] = <[Value; 2]>::try_from(array(self.pipe.ask(&script)?)?)
                .map_err(|answer| anyhow!("the script gave {answer:?}"))?;
            if waited || wait.is_zero() || found != Value::Array(Vec::new()) {
                return Ok(found);
            }
            let mut look = cmd("XREAD");
            look.arg("COUNT").arg(1).arg("BLOCK").arg(millis(wait)).arg("STREAMS").arg(streams);
            for id in array(last)? {
                look.arg(bytes(&id)?);
            }
            self.pipe.ask(&look)?;
        }
        Ok(Value::Nil)
    }
}

impl Consumer for Taking<'_> {
    fn take(&mut self, tasks: usize, wait: Duration, see: &mut dyn FnMut(&[u8]) -> Settle) -> anyhow::Result<usize> {
        let single = self.store.streams.len() == 1;
        let found = if single { self.take_next(tasks, wait)? } else { self.take_urgent(tasks, wait)? };
        if found == Value::Nil {
            return Ok(0);
        }
        let mut count = 0;
        for stream in array(found)? {
            let [stream, entries] =
                <[Value; 2]>::try_from(array(stream)?).map_err(|answer| anyhow!("not a stream: {answer:?}"))?;
            let (mut ack, mut delete) = (cmd("XACK"), cmd("XDEL"));
            ack.arg(bytes(&stream)?).arg(GROUP);
            delete.arg(bytes(&stream)?);
            let mut acked = false;
            for entry in array(entries)? {
                let (id, payload) = task(&entry)?;
                count += 1;
                if see(payload) == Settle::Ack {
                    ack.arg(id);
                    delete.arg(id);
                    acked = true;
                }
            }
            if acked {
                self.pipe.add(&ack);
                self.pipe.add(&delete);
            }
        }
        self.pipe.flush()?;
        self.pipe.answers_until(0)?;
        Ok(count)
    }
}

/// For BLOCK, which takes 0 as "for ever".
fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn array(value: Value) -> anyhow::Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        other => bail!("not an array: {other:?}"),
    }
}

fn bytes(value: &Value) -> anyhow::Result<&[u8]> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => bail!("not a string: {other:?}"),
    }
}

/// The id and the payload of a stream's entry.
fn task(entry: &Value) -> anyhow::Result<(&[u8], &[u8])> {
    if let Value::Array(parts) = entry
        && let [id, Value::Array(fields)] = parts.as_slice()
        && let [_, payload] = fields.as_slice()
    {
        return Ok((bytes(id)?, bytes(payload)?));
    }
    bail!("not an entry: {entry:?}")
}
