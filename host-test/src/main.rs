//! The command line program: reads its arguments, runs one command, reports its error.
//!
//! Exit codes: 0 well, 1 an expectation did not hold, 2 an error. A reader that went away ends the program quietly.

mod args;
mod commands;
mod warning;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command, Rules};
use crate::commands::standard_output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Command::Serve(args) => commands::serve::log(args),
        _ => warning::init(),
    }
    match run(cli.command) {
        Ok(code) => code,
        Err(error) if standard_output::failure(&error) == Some(ErrorKind::BrokenPipe) => ExitCode::SUCCESS,
        Err(error) => {
            warning::tell(&error);
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => commands::run::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Baseline(args) => commands::baseline::run(&args),
        Command::State(command) => commands::state::run(&command),
        Command::Compile(args) => commands::compile::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Rules(Rules::Check(args)) => commands::compile::check(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Sample(args) => commands::sample::run(&args),
    }
}
