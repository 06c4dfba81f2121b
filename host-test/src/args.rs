//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use firstseen::sample::STORY_EVENTS;

/// First-seen detections on CloudTrail events, with the module that log shippers load.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Records in, records out: exactly what the pipeline would get
    Run(Run),
    /// Past logs in the order of their event times: prints the alerts and a summary
    Replay(Replay),
    /// DIR/firstseen.toml and DIR/rules/*.toml to DIR/firstseen.pack, which the module loads
    Compile(Compile),
    /// Rule files
    #[command(subcommand)]
    Rules(Rules),
    /// Speed and memory of the module, in one table
    Bench(Bench),
    /// A made-up week of CloudTrail events with an attack in it, as NDJSON
    Sample(Sample),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Checks rule files, directories of rule files, or configuration directories, and writes nothing
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Configuration directory, with the pack. Without it: the built-in rules
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The tag that the module is told
    #[arg(long, default_value = "aws.cloudtrail")]
    pub(crate) tag: String,
    /// Passes only the records that raise alerts
    #[arg(long)]
    pub(crate) alerts_only: bool,
    /// The module to run in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
    /// NDJSON or CloudTrail files, also gzipped; `-` or none for standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Configuration directory, with the pack. Without it: the built-in rules
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The module to run in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
    /// Prints one JSON object per alert and nothing else
    #[arg(long)]
    pub(crate) json: bool,
    /// NDJSON or CloudTrail files, also gzipped; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// Configuration directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Rule files (*.toml), directories of them, configuration directories, or a firstseen.toml with its directory's rules
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The module to run in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
    /// About how long the speed measurements take together
    #[arg(long, value_name = "N", default_value_t = 6.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Prints one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sample {
    #[arg(
        long,
        value_name = "N",
        default_value_t = 20_000,
        help = format!("How many events; the story alone has {STORY_EVENTS}, so there are never fewer")
    )]
    pub(crate) events: usize,
    /// The same seed makes the same events
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, at most 3600".to_owned()),
    }
}
