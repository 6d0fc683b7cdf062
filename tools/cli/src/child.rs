//! Running the command for one task.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Result, bail};

/// A command in which `{}` stands for the task.
pub struct Template {
    words: Vec<OsString>,
    in_arguments: bool,
}

/// How a command ended.
pub enum Ended {
    /// Exit status 0.
    Well(Output),
    /// Anything else, with what it was.
    Badly(Output, String),
    /// It did not even start; the task can't be blamed if it is the system.
    NotStarted(String),
    /// The task can't be an argument: it contains a NUL byte.
    NotAnArgument,
}

impl Template {
    /// Fails if the program is not there, before anything is enqueued for it.
    pub fn new(words: &[OsString]) -> Result<Template> {
        let Some(program) = words.first() else { bail!("no command given: put it behind --") };
        let in_program = contains(program.as_bytes());
        if !in_program && !is_runnable(program) {
            bail!("the command {:?} was not found or can't be executed", program.to_string_lossy());
        }
        let in_arguments = words.iter().any(|word| contains(word.as_bytes()));
        Ok(Template { words: words.to_vec(), in_arguments })
    }

    /// Runs the command for `task`, taking up what it prints.
    pub fn run(&self, task: &[u8]) -> Ended {
        if self.in_arguments && task.contains(&0) {
            return Ended::NotAnArgument;
        }
        let words: Vec<OsString> = self.words.iter().map(|word| fill(word, task)).collect();
        let Some((program, arguments)) = words.split_first() else { return Ended::NotAnArgument };
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.in_arguments { Stdio::null() } else { Stdio::piped() });
        // Its own group: an interrupt from the terminal is for us, and running tasks finish.
        command.process_group(0);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Ended::NotStarted(format!("could not start: {error}")),
        };
        let output = std::thread::scope(|scope| {
            if let Some(mut stdin) = child.stdin.take() {
                // A command that does not read its input is no error.
                scope.spawn(move || stdin.write_all(task).ok());
            }
            child.wait_with_output()
        });
        match output {
            Ok(output) if output.status.success() => Ended::Well(output),
            Ok(output) => {
                let reason = describe(&output);
                Ended::Badly(output, reason)
            }
            Err(error) => Ended::NotStarted(format!("could not be waited for: {error}")),
        }
    }
}

fn describe(output: &Output) -> String {
    match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended for an unknown reason".to_owned(),
    }
}

fn contains(word: &[u8]) -> bool {
    word.windows(2).any(|pair| pair == b"{}")
}

/// Every `{}` of `word` replaced by the task.
fn fill(word: &OsStr, task: &[u8]) -> OsString {
    let mut filled = Vec::new();
    let mut rest = word.as_bytes();
    while let Some(at) = rest.windows(2).position(|pair| pair == b"{}") {
        let (before, behind) = rest.split_at(at);
        filled.extend_from_slice(before);
        filled.extend_from_slice(task);
        rest = behind.get(2..).unwrap_or_default();
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

fn is_runnable(program: &OsStr) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let fits = |path: &Path| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if program.as_bytes().contains(&b'/') {
        return fits(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| fits(&directory.join(program)))
}
