//! The `lanelog` command: a thin shell over the library.

mod args;
mod child;
mod crew;
mod feed;
mod group;
mod hand;
mod input;
mod leases;
mod look;
mod output;
mod print;
mod queue;
mod signals;
mod tally;
mod work;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use clap::error::ErrorKind;

/// An error, as an exit status.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return ExitCode::from(refuse(&error)),
    };
    let outcome = match args.command {
        Command::Run(run) => work::run(&run),
        Command::Work(work) if work.print => print::print(&work),
        Command::Work(work) => work::work(&work),
        Command::Enqueue(enqueue) => feed::enqueue(&enqueue),
        Command::Stats(stats) => look::stats(&stats),
        Command::Verify(look) => look::verify(&look),
        Command::Dump(dump) => look::dump(&dump),
        Command::Peek(peek) => look::peek(&peek),
        Command::Pause(of) => hand::pause(&of),
        Command::Resume(of) => hand::resume(&of),
        Command::Purge(of) => hand::purge(&of),
        Command::Dead(dead) => hand::dead(&dead),
        Command::Park(park) => hand::park(&park),
        Command::Kick(which) => hand::kick(&which),
        Command::Group(group) => group::group(&group),
        Command::Snapshot(snapshot) => hand::snapshot(&snapshot),
        Command::Cancel(of) => hand::cancel(&of),
        Command::Explain(of) => hand::explain(&of),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        // Whoever read our output has seen enough; that is no error to tell them of.
        Err(error) if error.is::<output::Closed>() => ExitCode::from(output::CLOSED),
        Err(error) => {
            output::tell(&reasons(&error));
            ExitCode::from(FAILED)
        }
    }
}

/// Help and version are no errors and go to standard output; a wrong argument is one line.
fn refuse(error: &clap::Error) -> u8 {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _closed = error.print();
        return 0;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::tell("no command given: try 'lanelog --help'");
        return FAILED;
    }
    let text = error.render().to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<&str> = said.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    let said = said.join(" ");
    let usage = text.lines().find_map(|line| line.trim().strip_prefix("Usage:"));
    let usage = usage.map(|usage| format!("; usage: {}", usage.trim())).unwrap_or_default();
    output::tell(&format!("{}{usage}", said.strip_prefix("error: ").unwrap_or(&said)));
    FAILED
}

/// The error and its causes, each said once.
fn reasons(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::reasons;

    #[test]
    fn a_cause_that_its_error_names_already_is_said_once() {
        let disk = || std::io::Error::other("disk on fire");
        let named = lanelog::Error::Io { file: "x".to_owned(), call: "read", source: std::sync::Arc::new(disk()) };
        let error = Err::<(), _>(named).context("can't open").unwrap_err();
        assert_eq!(reasons(&error), "can't open: x: read failed: disk on fire");
        assert_eq!(reasons(&anyhow::Error::from(disk()).context("outer")), "outer: disk on fire");
    }
}
