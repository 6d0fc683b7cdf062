//! A peer's server: found on this machine, started on a free loopback port with a directory of its own, ended with the
//! store, and with the harness, however that ends.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A server's program, looked for once.
pub struct Program {
    name: &'static str,
    /// Where it may be besides PATH.
    elsewhere: &'static [&'static str],
    /// What makes it print its version.
    version_argument: &'static str,
    path: OnceLock<Option<PathBuf>>,
    version: OnceLock<String>,
}

impl Program {
    pub const fn new(
        name: &'static str,
        elsewhere: &'static [&'static str],
        version_argument: &'static str,
    ) -> Program {
        Program { name, elsewhere, version_argument, path: OnceLock::new(), version: OnceLock::new() }
    }

    /// Where it is, or that it is nowhere, in the words of [`crate::engine::Engine::can`].
    ///
    /// # Errors
    /// It is not installed.
    pub fn path(&self) -> Result<&Path, String> {
        let found = self.path.get_or_init(|| {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let dirs = std::env::split_paths(&path).chain(self.elsewhere.iter().map(PathBuf::from));
            dirs.map(|dir| dir.join(self.name)).find(|file| file.is_file())
        });
        found.as_deref().ok_or_else(|| format!("{} is not installed", self.name))
    }

    /// As the program itself says: `v=7.0.15` gives `7.0.15`.
    pub fn version(&self) -> String {
        let ask = || {
            let said = Command::new(self.path().ok()?).arg(self.version_argument).stdin(Stdio::null()).output().ok()?;
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let word = said.split_whitespace().find(|word| word.contains('.') && word.contains(is_digit))?;
            Some(word.trim_start_matches(|c| !is_digit(c)).to_owned())
        };
        self.version.get_or_init(|| ask().unwrap_or_else(|| "?".to_owned())).clone()
    }
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// A port of the loopback interface that nobody listened on a moment ago.
///
/// # Errors
/// No port is free.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs the program so that the kernel kills it when the harness dies.
pub fn bound_to_harness(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The same for a program that refuses to be run by root: as this user. A run's directory is of no access to others, so
/// the program keeps the one right of root's that leads it there.
pub fn bound_to_harness_as(user: &str, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--reuid", user, "--regid", user, "--init-groups"]);
    command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override", "--"]).arg(program);
    command
}

/// What a server prints. It and all that descend from it inherit the file and with it a lock, which is free when the last
/// of them is gone.
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// The log of the directory's next server. Waits for an earlier one that was killed and is not quite dead.
    ///
    /// # Errors
    /// It can't be written, or an earlier server is still there after a minute.
    pub fn claim(dir: &Path) -> anyhow::Result<Log> {
        let path = dir.join("server.log");
        let file = File::options().create(true).append(true).open(&path)?;
        let end = Instant::now() + Duration::from_secs(60);
        while let Err(error) = file.try_lock() {
            if matches!(error, TryLockError::Error(_)) || Instant::now() > end {
                return Err(error).with_context(|| format!("{}, which an earlier server has", path.display()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        file.set_len(0)?;
        Ok(Log { file, path })
    }
}

/// A server that runs until this is dropped.
pub struct Server {
    child: Child,
    /// What it listens on.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it, and returns once it accepts connections. `command` must make it listen on the port, and is best made by
    /// [`bound_to_harness`]; what it prints goes to the log.
    ///
    /// # Errors
    /// It could not be started, ended at once, or did not listen within a minute.
    pub fn start(mut command: Command, port: u16, log: Log) -> anyhow::Result<Server> {
        command.stdin(Stdio::null()).stdout(log.file.try_clone()?).stderr(log.file);
        let shown = format!("{command:?}");
        let child = spawn(command)?.with_context(|| shown.clone())?;
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect_timeout(&server.address, Duration::from_secs(1)).is_err() {
            if let Some(status) = server.child.try_wait()? {
                bail!("{shown} ended with {status}: {}", std::fs::read_to_string(log.path).unwrap_or_default());
            }
            if Instant::now() > end {
                bail!("{shown} did not listen on {} within a minute", server.address);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Its process, and all that descend from it now.
    pub fn processes(&self) -> Vec<u32> {
        let mut family = BTreeSet::from([self.child.id()]);
        let parents = parents().unwrap_or_default();
        loop {
            let before = family.len();
            family.extend(
                parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
            );
            if family.len() == before {
                return family.into_iter().collect();
            }
        }
    }

    /// Asks it to end (SIGTERM), and waits for that.
    ///
    /// # Errors
    /// It did not end by itself within 20 seconds, and was killed.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let end = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait()?.is_none() {
            if Instant::now() > end {
                bail!("process {} did not end when asked to", self.child.id());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The kernel kills a child when the *thread* that started it ends; so one thread that never does starts them all.
fn spawn(command: Command) -> anyhow::Result<std::io::Result<Child>> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (starter, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _nobody_waits = answer.send(command.spawn());
            }
        });
        starter
    });
    let (answer, answered) = mpsc::channel();
    starter.send((command, answer))?;
    Ok(answered.recv()?)
}

/// Every process of the machine with its parent.
fn parents() -> std::io::Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // "pid (name) state parent …", and a name may hold anything.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        found.extend(parent.map(|parent| (pid, parent)));
    }
    Ok(found)
}
