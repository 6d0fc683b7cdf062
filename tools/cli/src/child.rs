//! Running the command for one task.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, ErrorKind, PipeReader, Read, Seek, Write, pipe};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::Builder;

use anyhow::{Result, bail};

/// Bytes of output that are held in memory; more goes to a file without a name.
const HELD_MAX: u64 = 1 << 20;

/// A command in which `{}` stands for the task.
pub struct Template {
    words: Vec<OsString>,
    in_program: bool,
    in_arguments: bool,
}

/// How a command ended.
pub enum Ended {
    /// Exit status 0.
    Well(Output),
    /// Anything else, with what it was.
    Badly(Output, String),
    /// This task can't be given to the command, now or later, and why.
    Unfit(&'static str),
    /// The system has no room for a command now.
    NoRoom(io::Error),
    /// No task can be given to the command.
    NotStarted(io::Error),
}

/// What a command printed.
pub struct Output {
    pub out: Spool,
    pub err: Spool,
}

impl Template {
    /// Fails if the program is not there, before anything is enqueued for it.
    pub fn new(words: &[OsString]) -> Result<Template> {
        let Some(program) = words.first() else { bail!("no command given: put it behind --") };
        let in_program = contains(program);
        if !in_program && !is_runnable(program) {
            bail!("the command {:?} was not found or can't be executed", program.to_string_lossy());
        }
        let in_arguments = words.iter().any(|word| contains(word));
        Ok(Template { words: words.to_vec(), in_program, in_arguments })
    }

    /// Runs the command for `task`, taking up what it prints.
    pub fn run(&self, task: &[u8]) -> Ended {
        if self.in_arguments && task.contains(&0) {
            return Ended::Unfit("the task contains a NUL byte and can't be an argument; without {} it is input");
        }
        match self.finish(task) {
            Ok((status, output)) if status.success() => Ended::Well(output),
            Ok((status, output)) => Ended::Badly(output, describe(status)),
            Err(error) if is_passing(&error) => Ended::NoRoom(error),
            Err(error) if error.kind() == ErrorKind::ArgumentListTooLong => {
                Ended::Unfit("the task is too long for an argument; without {} it is input")
            }
            Err(error) if self.in_program => Ended::Badly(Output::none(), format!("could not start: {error}")),
            Err(error) => Ended::NotStarted(error),
        }
    }

    /// Everything that can fail for want of room happens before the command runs.
    fn finish(&self, task: &[u8]) -> io::Result<(ExitStatus, Output)> {
        let (out, out_end) = pipe()?;
        let (err, err_end) = pipe()?;
        let mut command = self.fill(task);
        command.stdin(Stdio::null()).stdout(out_end).stderr(err_end);
        // The closure owns the ends of pipes that are not its own, so that however it ends its threads end too.
        std::thread::scope(move |scope| {
            if !self.in_arguments {
                let (task_end, mut input) = pipe()?;
                command.stdin(task_end);
                // A command that does not read its input is no error.
                Builder::new().spawn_scoped(scope, move || input.write_all(task).is_ok())?;
            }
            let errors = Builder::new().spawn_scoped(scope, move || Spool::fill(err))?;
            let mut child = command.spawn()?;
            drop(command);
            let out = Spool::fill(out);
            let err = errors.join().unwrap_or_else(|_| Spool::broken(io::Error::other("a thread panicked")));
            Ok((child.wait()?, Output { out, err }))
        })
    }

    fn fill(&self, task: &[u8]) -> Command {
        let mut words = self.words.iter().map(|word| fill(word, task));
        let mut command = Command::new(words.next().unwrap_or_default());
        // A group of its own: an interrupt from the terminal is for us, and running tasks finish.
        command.args(words).process_group(0);
        command
    }
}

impl Output {
    fn none() -> Output {
        Output { out: Spool::default(), err: Spool::default() }
    }
}

/// What came out of a pipe, whole.
#[derive(Default)]
pub struct Spool {
    head: Vec<u8>,
    tail: Option<File>,
    broken: Option<io::Error>,
}

impl Spool {
    fn fill(mut pipe: PipeReader) -> Spool {
        let mut spool = Spool::default();
        if let Err(error) = spool.take(&mut pipe) {
            // The command is not left to wait for a reader.
            let _drained = io::copy(&mut pipe, &mut io::sink());
            spool.broken = Some(error);
        }
        spool
    }

    fn broken(error: io::Error) -> Spool {
        Spool { broken: Some(error), ..Spool::default() }
    }

    fn take(&mut self, pipe: &mut PipeReader) -> io::Result<()> {
        let held = pipe.take(HELD_MAX).read_to_end(&mut self.head)?;
        if held as u64 == HELD_MAX {
            let mut file = tempfile::tempfile()?;
            io::copy(pipe, &mut file)?;
            file.rewind()?;
            self.tail = Some(file);
        }
        Ok(())
    }

    /// Why it is not whole, if it is not.
    pub fn fault(&self) -> Option<&io::Error> {
        self.broken.as_ref()
    }

    /// Writes all of it.
    pub fn write_to(self, to: &mut File) -> io::Result<()> {
        to.write_all(&self.head)?;
        match self.tail {
            Some(mut file) => io::copy(&mut file, to).map(|_| ()),
            None => Ok(()),
        }
    }
}

/// Errors that other commands' ending or a little time may mend.
fn is_passing(error: &io::Error) -> bool {
    const TOO_MANY_FILES: [i32; 2] = [23, 24];
    let by_kind =
        matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory | ErrorKind::ExecutableFileBusy);
    by_kind || error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended for an unknown reason".to_owned(),
    }
}

fn contains(word: &OsStr) -> bool {
    word.as_bytes().windows(2).any(|pair| pair == b"{}")
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

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::fill;

    #[test]
    fn every_pair_of_braces_is_the_task_and_the_task_is_not_looked_into() {
        for (word, task, filled) in [
            ("{}", "a b", "a b"),
            ("--in={} --out={}.png", "x", "--in=x --out=x.png"),
            ("{", "x", "{"),
            ("}{", "x", "}{"),
            ("{{}}", "x", "{x}"),
            ("{}{}", "{}", "{}{}"),
            ("none", "x", "none"),
            ("{}", "", ""),
        ] {
            assert_eq!(fill(OsStr::new(word), task.as_bytes()), filled, "{word} for {task}");
        }
        assert_eq!(fill(OsStr::new("<{}>"), b"\xff").as_bytes(), b"<\xff>");
    }
}
