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
    /// Teaches the history from past logs, without alerting
    Baseline(Baseline),
    /// Looks into the history of a configuration directory, and tends it
    #[command(subcommand)]
    State(State),
    /// DIR/firstseen.toml and DIR/rules/*.toml to DIR/firstseen.pack, which the module loads
    Compile(Compile),
    /// Reads Fluent Bit's configurations and tells, before it starts, what would go wrong with firstseen's filters
    Check(CheckFilters),
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

#[derive(Debug, Subcommand)]
pub(crate) enum State {
    /// A summary: entries by rule, span, evictions, recoveries, size; or what it knows of given events
    Show(Show),
    /// Writes the history to standard output as NDJSON
    Export(Export),
    /// Takes in what other histories know: earliest first and latest last sightings
    Import(Import),
    /// Forgets all that belongs to a rule
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Configuration directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Says for each event of this file what the history knows of its tuples and groups
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub(crate) why: Option<PathBuf>,
    /// Prints one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Configuration directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Configuration directory; one without a history gets that of the first file, its key included
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Exports, or other configuration directories
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    /// Configuration directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The rule's id; may be given more than once
    #[arg(long = "rule", value_name = "ID", required = true)]
    pub(crate) rules: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Baseline {
    /// Configuration directory, whose history is taught
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// NDJSON or CloudTrail files, also gzipped, in any order; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
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
    /// Goes on with the directory's history and keeps what is learned, as the live filter would. Without it: an empty
    /// history, and the directory stays as it is
    #[arg(long, requires = "dir")]
    pub(crate) keep_history: bool,
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
pub(crate) struct CheckFilters {
    /// Configurations, each of one Fluent Bit: in YAML if the name ends in .yaml or .yml, else in the classic format. Relative
    /// paths in them are those of Fluent Bit's working directory: run this in the same
    #[arg(value_name = "FLUENT_BIT_CONFIG", required = true)]
    pub(crate) files: Vec<PathBuf>,
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
