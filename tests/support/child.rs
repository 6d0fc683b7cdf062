//! Scenes that a process of its own plays, because what they meet would hit the tests beside them or end the process;
//! and the account of what a scene was told, which the parent holds against the directory afterwards.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use lanelog::{Error, Queue, Reserve, Result, Task};

use crate::support::{drain, texts};

const SCENE: &str = "LANELOG_TEST_SCENE";
/// A scene takes far less than a second; one that takes this long hangs.
const WATCHDOG: Duration = Duration::from_secs(120);

/// The command that plays a scene over a path, by the test that is called `child_process`.
pub fn scene(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    dress(&mut command, name, path);
    command
}

/// The same under another command, which gets the scene's at its end.
pub fn scene_under(wrapper: &[&str], name: &str, path: &Path) -> Command {
    let mut command = Command::new(wrapper[0]);
    command.args(&wrapper[1..]).arg(std::env::current_exe().unwrap());
    dress(&mut command, name, path);
    command
}

fn dress(command: &mut Command, name: &str, path: &Path) {
    command.args(["--exact", "child_process", "--nocapture"]).env(SCENE, format!("{name}:{}", path.display()));
}

/// The scene that this process is to play, if it is a child.
pub fn asked() -> Option<(String, PathBuf)> {
    let spec = std::env::var(SCENE).ok()?;
    // The harness has begun a line of its own.
    println!();
    let (name, path) = spec.split_once(':')?;
    Some((name.to_owned(), PathBuf::from(path)))
}

/// How an operation of a scene ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Done,
    /// An error's name, and whether it is a refusal.
    Failed(String, bool),
}

/// One operation of a scene: what, of which task, and how it ended.
#[derive(Clone, Debug)]
pub struct Line {
    pub what: String,
    pub task: usize,
    pub answer: Answer,
    pub text: String,
}

/// What a scene said, and how its process ended.
pub struct Said {
    pub status: ExitStatus,
    pub lines: Vec<Line>,
}

/// Plays a scene to its end, or kills it and fails.
pub fn play(command: &mut Command) -> Said {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (send, receive) = mpsc::channel();
    let reader = std::thread::Builder::new().name("scene".to_owned());
    reader.spawn(move || send.send(stdout.lines().map_while(|line| line.ok()).collect::<Vec<_>>())).unwrap();
    let Ok(lines) = receive.recv_timeout(WATCHDOG) else {
        child.kill().unwrap();
        panic!("the scene hangs: {command:?}");
    };
    let status = child.wait().unwrap();
    Said { status, lines: lines.iter().filter_map(|line| parse(line)).collect() }
}

/// Says how an operation ended, and gives what it gave.
pub fn say<T>(what: &str, task: usize, outcome: Result<T>) -> Option<T> {
    match outcome {
        Ok(done) => {
            println!("said {what} {task} done");
            Some(done)
        }
        Err(error) => {
            println!("said {what} {task} {} {} {error}", name_of(&error), error.is_refusal());
            None
        }
    }
}

fn name_of(error: &Error) -> String {
    format!("{error:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.strip_prefix("said ")?.splitn(5, ' ');
    let (what, task) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
    let answer = match words.next()? {
        "done" => Answer::Done,
        name => Answer::Failed(name.to_owned(), words.next()?.parse().ok()?),
    };
    Some(Line { what, task, answer, text: words.next().unwrap_or_default().to_owned() })
}

/// A thousand bytes, so that four tasks fill a small segment.
pub fn text(task: usize) -> String {
    format!("task {task:<995}")
}

/// Enqueues these tasks at `Power`, and acks one for every two, going on whatever is answered.
pub fn work(queue: &Queue, tasks: std::ops::Range<usize>) {
    for task in tasks {
        say("enqueue", task, queue.enqueue(Task::new(&text(task))));
        if task % 2 == 1 {
            settle_one(queue);
        }
    }
}

/// Enqueues in batches until one is refused, and gives the number of the next task.
pub fn fill(queue: &Queue, from: usize, batch: usize) -> usize {
    for first in (from..from + 200_000).step_by(batch) {
        let texts: Vec<String> = (first..first + batch).map(text).collect();
        let tasks: Vec<Task<'_>> = texts.iter().map(Task::new).collect();
        let outcome = queue.enqueue_batch(&tasks);
        let is_over = outcome.is_err();
        (first..first + batch).for_each(|task| drop(say("enqueue", task, outcome.clone())));
        if is_over {
            return first + batch;
        }
    }
    panic!("nothing was refused");
}

/// Takes a task and acks it.
pub fn settle_one(queue: &Queue) {
    settle(queue, 1);
}

/// Takes tasks and acks them with one wait; gives how many there were.
pub fn settle(queue: &Queue, tasks: usize) -> usize {
    let consumer = queue.consumer();
    let taken = say("reserve", 0, consumer.reserve(Reserve::new().tasks(tasks))).unwrap_or_default();
    let numbers: Vec<usize> = taken.iter().map(|delivery| number_of(delivery.payload())).collect();
    let answers = match consumer.ack_batch(taken) {
        Ok(answers) => answers,
        Err(error) => numbers.iter().map(|_| Err(error.clone())).collect(),
    };
    for (task, answer) in numbers.iter().zip(answers) {
        say("ack", *task, answer);
    }
    numbers.len()
}

fn number_of(payload: &[u8]) -> usize {
    String::from_utf8_lossy(payload).trim_start_matches("task ").trim_end().parse().unwrap()
}

impl Said {
    /// The tasks of the operations that were answered so.
    pub fn tasks(&self, what: &str, wanted: impl Fn(&Answer) -> bool) -> BTreeSet<String> {
        let lines = self.lines.iter().filter(|line| line.what == what && wanted(&line.answer));
        lines.map(|line| text(line.task)).collect()
    }

    /// The names of the errors that operations ended with, and whether any was done.
    pub fn answers(&self, what: &str) -> BTreeSet<&str> {
        let lines = self.lines.iter().filter(|line| line.what == what);
        lines.map(|line| if let Answer::Failed(name, _) = &line.answer { name } else { "done" }).collect()
    }

    /// The text of the first error that an operation ended with.
    pub fn first_error(&self, what: &str) -> &str {
        let failed = self.lines.iter().find(|line| line.what == what && line.answer != Answer::Done);
        failed.map_or("", |line| &line.text)
    }

    /// The process lived to its end, and what it was told is true of the queue, opened once more without damage. Gives
    /// how many tasks are left.
    pub fn holds(&self, path: &Path, what: &str) -> usize {
        assert!(self.status.success(), "{what}: {}", self.status);
        let queue = Queue::open(path).unwrap_or_else(|error| panic!("{what}: {error}"));
        let left = drain(&queue);
        let served = texts(&left);
        assert_eq!(served.len(), left.len(), "{what}: nothing twice");
        assert_eq!(queue.damage(), [], "{what}");
        self.is_true_of(&served, what);
        left.len()
    }

    /// What was accepted is left unless its ack was asked for, what was acked or refused is not.
    pub fn is_true_of(&self, left: &BTreeSet<String>, what: &str) {
        let is_done = |answer: &Answer| *answer == Answer::Done;
        let is_refused = |answer: &Answer| matches!(answer, Answer::Failed(_, true));
        let due = &self.tasks("enqueue", is_done) - &self.tasks("ack", |_| true);
        let over = &self.tasks("ack", is_done) | &self.tasks("enqueue", is_refused);
        let names = |tasks: &BTreeSet<String>| tasks.iter().map(|task| task.trim().to_owned()).collect::<Vec<_>>();
        let (lost, back) = (names(&(&due - left)), names(&(&over & left)));
        assert!(lost.is_empty(), "{what}: lost: {lost:?}");
        assert!(back.is_empty(), "{what}: acked or refused, and there: {back:?}");
        assert!(left.is_subset(&self.tasks("enqueue", |_| true)), "{what}: nobody enqueued that");
    }
}
