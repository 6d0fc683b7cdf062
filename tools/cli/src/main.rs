//! The `lanelog` command: a thin shell over the library.

mod args;
mod child;
mod feed;
mod look;
mod signals;
mod tally;
mod work;

use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors; clap knows where each goes.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _closed = error.print();
            return ExitCode::from(code);
        }
    };
    let outcome = match args.command {
        Command::Run(run) => work::run(&run),
        Command::Work(work) => work::work(&work),
        Command::Enqueue(enqueue) => feed::enqueue(&enqueue),
        Command::Stats(look) => look::stats(&look),
        Command::Verify(look) => look::verify(&look),
        Command::Dump(dump) => look::dump(&dump),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("lanelog: {error:#}");
            ExitCode::from(2)
        }
    }
}
