//! What the tests of the command share: a place for a queue, calls of the command, gates that a task waits at.
#![expect(dead_code, reason = "each test file uses a part")]
#![expect(clippy::unwrap_used, reason = "helpers fail as tests do")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A directory that goes when the test ends, with a queue in it.
pub struct Place {
    dir: tempfile::TempDir,
}

pub fn place() -> Place {
    Place { dir: tempfile::tempdir().unwrap() }
}

/// What a call of the command gave.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Place {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A call of the command: the first word of `args` is the subcommand, and `--queue` is put behind it. What
    /// stands behind ` -- ` is one shell script, to which the task is `$1` if it is not its input.
    pub fn command(&self, args: &str) -> Command {
        let (ours, script) = args.split_once(" -- ").map_or((args, None), |(ours, script)| (ours, Some(script)));
        let mut words = ours.split_whitespace();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lanelog"));
        command.arg(words.next().unwrap()).arg("--queue").arg(self.path("queue")).args(words).current_dir(&self.dir);
        match script {
            Some(script) if script.contains("$1") => command.args(["--", "sh", "-c", script, "sh", "{}"]),
            Some(script) => command.args(["--", "sh", "-c", script]),
            None => &mut command,
        };
        command
    }

    /// Calls the command with `input` and waits for its end.
    pub fn lanelog(&self, args: &str, input: impl AsRef<[u8]>) -> Said {
        say(self.command(args), input.as_ref())
    }

    /// The command refuses each of these with exit status 2, in one line that holds the text beside it.
    pub fn refuses(&self, calls: &[(&str, &str)], input: &str) {
        for (args, told) in calls {
            let said = self.lanelog(args, input).ends_with(2);
            assert!(said.err.contains(told) && said.err.trim().lines().count() == 1, "{args}: {}", said.err);
        }
    }

    /// Starts the command and leaves its input open.
    pub fn start(&self, args: &str) -> Running {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (input, out) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        Running { child, input, out }
    }

    /// What `dump --json` says of every record.
    pub fn records(&self) -> Vec<Value> {
        let said = self.lanelog("dump --json", "");
        assert_eq!(said.code, 0, "{said:?}");
        said.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The states of all records, in order.
    pub fn states(&self) -> Vec<String> {
        self.records().iter().map(|record| record["state"].as_str().unwrap().to_owned()).collect()
    }

    /// A task that runs `$(gate)` says that it began and goes on when the gate is opened.
    pub fn gate(&self) -> String {
        let (began, open) = (self.path("began"), self.path("open"));
        let (began, open) = (began.display(), open.display());
        format!("echo $$ >> {began}; until [ -e {open} ]; do sleep 0.01; done")
    }

    pub fn open_gate(&self) {
        std::fs::write(self.path("open"), "").unwrap();
    }

    /// Waits until `count` tasks stand at the gate; gives their process ids.
    pub fn wait_at_gate(&self, count: usize) -> Vec<i32> {
        let began = || {
            let text = std::fs::read_to_string(self.path("began")).unwrap_or_default();
            text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()
        };
        until("tasks stand at the gate", || Some(began()).filter(|pids| pids.len() >= count))
    }
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).unwrap()
    }

    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The lines of its output, in the order of their text.
    pub fn sorted(&self) -> Vec<String> {
        let mut lines = self.lines();
        lines.sort_unstable();
        lines
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap()
    }

    /// Asserts the exit status, and gives it back for more.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// A command that runs.
pub struct Running {
    pub child: Child,
    pub input: Option<ChildStdin>,
    pub out: Option<BufReader<ChildStdout>>,
}

impl Running {
    pub fn write(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next line of its output; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Closes its input, if it is open, and waits for its end.
    pub fn end(mut self) -> Said {
        drop(self.input.take());
        self.end_with_open_input()
    }

    /// Waits for its end, whatever becomes of its input.
    pub fn end_with_open_input(mut self) -> Said {
        let mut out = Vec::new();
        if let Some(mut rest) = self.out.take() {
            rest.read_to_end(&mut out).unwrap();
        }
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Said { code: code(self.child.wait().unwrap()), out, err }
    }
}

pub fn send(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Runs `command` with `input`.
pub fn say(mut command: Command, input: &[u8]) -> Said {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It may end without having read everything.
        scope.spawn(move || stdin.write_all(input).is_ok());
        child.wait_with_output().unwrap()
    });
    Said { code: code(output.status), out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// Asks until the answer is there. Fails after a time that no machine needs.
#[expect(clippy::disallowed_methods, reason = "polls for a condition of another process; how often is no matter")]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < Duration::from_secs(120), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Numbers as a test's input.
pub fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}
