//! What the subcommands say at length, each with examples.

pub const RUN_HELP: &str = "\
Exit status 0 of CMD acks the task. Anything else is retried with backoff, up to --max-attempts, and then
becomes a dead letter, which `lanelog dump` shows. What CMD prints is kept together and written before the ack.

Killed at any moment and started again, with no input or with new input, it finishes what is left. A task that ran
when lanelog was killed runs again, so CMD must bear running twice; what CMD itself started may still be running
then, for kill -9 of lanelog does not reach it. SIGINT and SIGTERM let running commands finish and leave the rest in
the queue; a second SIGINT does not wait for them.

Every line is a task, an empty one too. A task with a NUL byte, or one too long for an argument, becomes a dead
letter if {} is used.

Exit status: 0 all acked, 1 something became a dead letter, 2 an error or a damaged queue, 128 + n stopped by
signal n.

Examples:
  find /usr/share -type f | lanelog run --queue jobs --concurrency 4 -- sha256sum {}
  cat urls | lanelog run --queue jobs --retry exponential:1s..5m --max-attempts 8 -- curl -fsSO {}
  tail -f names | lanelog run --queue jobs --max-waiting 1000 -- ./index {}
  lanelog run --queue jobs --lanes 3 --lane 2 --priority weighted:6,3,1 -- ./resize {} < names";

pub const WORK_HELP: &str = "\
Tasks are run as `lanelog run` runs them; see its help. With --print no command runs: every task is written to
standard output as a line, and acked once it is written.

Exit status: 0 all acked, 1 something became a dead letter, 2 an error or a damaged queue, 128 + n stopped by
signal n.

Examples:
  lanelog work --queue jobs --until-empty --concurrency 4 -- ./resize {}
  lanelog work --queue jobs --until-empty --print > tasks.txt";

pub const DEAD_HELP: &str = "\
Without a filter all of them are meant. A redriven task comes again before what was never handed out, with all its
attempts before it; with --to-lane it becomes a new task, with a new id, at the end of that lane. `redrive` and `drop`
need the queue for themselves; `list` needs no lock.

Examples:
  lanelog dead list --queue jobs
  lanelog dead redrive --queue jobs --lane 0 --reason timeout --limit 100
  lanelog dead redrive --queue jobs --reason timeout --to-lane 2
  lanelog dead drop --queue jobs --id 00c0ffee00c0ffee-02-0000000000000007";

pub const PARK_HELP: &str = "\
A task that somebody works on, that is settled or that is a dead letter is not parked. Durable: it holds over any crash.

Exit status: 0 parked, 1 it is none that could be.

Example:
  lanelog park --queue jobs 00c0ffee00c0ffee-02-0000000000000007 --reason 'asked the customer'";

pub const KICK_HELP: &str = "\
Without a filter all parked tasks are meant. They keep the attempts that they had.

Examples:
  lanelog kick --queue jobs
  lanelog kick --queue jobs --reason customer --limit 10";

pub const GROUP_HELP: &str = "\
Every group gets every task. One that nobody reads keeps every segment on disk: remove it, or bound what it may have
left to do. What a group alone had left to do goes with it, its dead letters too; a group that is made later under its
name is another one. The last group of a queue stays.

Bounds hold as long as a process has the queue open: beyond them the oldest tasks are dropped for that group, or become
its dead letters; what is on loan, or waits for its time, stays. `list` needs no lock, all else the queue for itself.

Examples:
  lanelog group list --queue jobs
  lanelog group create --queue jobs audit --start newest --keep-for 7d --beyond drop
  lanelog group retain --queue jobs default --keep-tasks 1000000 --keep-bytes 1000000000 --beyond dead
  lanelog group remove --queue jobs audit";

pub const SNAPSHOT_HELP: &str = "\
The copy is a queue like any other, with the same id: `lanelog verify --queue` it, or work from it. The directory is
made, or is there and empty. One that was not finished is refused by every command; remove it and take another.

It needs the queue for itself. A process that has it open takes snapshots of it without stopping, by the library's
Queue::snapshot.

Example:
  lanelog snapshot --queue jobs --to backup/jobs-1 && lanelog verify --queue backup/jobs-1";

pub const ENQUEUE_HELP: &str = "\
Every line is a task, an empty one too. Whatever ends the input early, the items before that are in the queue, and
an item that was read only in part is not.

Exit status: 0 all enqueued, 2 an error, 128 + n stopped by signal n.

Examples:
  ls *.jpg | lanelog enqueue --queue jobs --lanes 3 --lane 1
  ls *.jpg | lanelog enqueue --queue jobs --max-waiting 1000000
  echo remind | lanelog enqueue --queue jobs --delay 10m --ttl 1h
  cat orders | lanelog enqueue --queue jobs --key customer-7
  echo nightly | lanelog enqueue --queue jobs --dedup-id \"report $(date +%F)\" --dedup-for 1d
  ls *.jpg | lanelog enqueue --queue jobs --dedup-id {} --dedup-until-settled";
