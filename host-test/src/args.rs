//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
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
    /// DIR/firstseen.toml and DIR/rules/**/*.toml to DIR/firstseen.pack, which the module loads
    Compile(Compile),
    /// Reads Fluent Bit's configurations and tells, before it starts, what would go wrong with firstseen's filters
    Check(CheckFilters),
    /// Rule files
    #[command(subcommand)]
    Rules(Rules),
    /// The sidecar: batches of events in over HTTP, and on to a receiver whose answer is the sender's answer
    Serve(Box<Serve>),
    /// Speed and memory of the module, in one table
    Bench(Bench),
    /// A made-up week of CloudTrail events with an attack in it, as NDJSON
    Sample(Sample),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rules {
    /// Checks rule files, folders of rule files, or configuration directories, and writes nothing
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
    /// The longest record that is read of that file, in KiB; longer ones are left out
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_record: u32,
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
    /// A database of AS organisations in MaxMind's format, such as GeoLite2-ASN.mmdb, for events that have none. What upstream
    /// wrote stays
    #[arg(long, value_name = "FILE")]
    pub(crate) asn: Option<PathBuf>,
    /// The longest record that is examined, in KiB; longer ones are left out
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_record: u32,
    /// Files of JSON objects in any order: NDJSON, arrays, CloudTrail's files, also packed by gzip or zstd; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Configuration directory, with the pack. Without it: the built-in rules
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A database of AS organisations in MaxMind's format, such as GeoLite2-ASN.mmdb, for events that have none. What upstream
    /// wrote stays
    #[arg(long, value_name = "FILE")]
    pub(crate) asn: Option<PathBuf>,
    /// The tag that the module is told
    #[arg(long, default_value = "aws.cloudtrail")]
    pub(crate) tag: String,
    /// Passes only the records that raise alerts
    #[arg(long)]
    pub(crate) alerts_only: bool,
    /// The module to run in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
    /// The longest record that is examined, in KiB; longer ones pass unchanged
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_record: u32,
    /// Files of JSON objects: NDJSON, arrays, CloudTrail's files, also packed by gzip or zstd; `-` or none for standard input
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Configuration directory, with the pack. Without it: the built-in rules
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A database of AS organisations in MaxMind's format, such as GeoLite2-ASN.mmdb, for events that have none. What upstream
    /// wrote stays
    #[arg(long, value_name = "FILE")]
    pub(crate) asn: Option<PathBuf>,
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
    /// The longest record that is examined, in KiB; longer ones are left out
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_record: u32,
    /// The most memory that records are held in, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) max_memory: u32,
    /// Files of JSON objects: NDJSON, arrays, CloudTrail's files, also packed by gzip or zstd; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Compile {
    /// Configuration directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Writes no pack, but prints what tells the events that its rules can match from all others
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) print: Option<Language>,
    /// In which of Fluent Bit's formats; classic unless given
    #[arg(long, value_name = "FORMAT", requires = "print")]
    pub(crate) format: Option<Format>,
}

/// A format of Fluent Bit's configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A filter
    Classic,
    /// A processor of an input
    Yaml,
}

/// Which program is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Vector: a condition
    Vrl,
    /// Fluent Bit: a rewrite_tag, as a filter or a processor
    FluentBit,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Rule files (*.toml), folders with such files in them or below, configuration directories or folders of these, or a
    /// firstseen.toml with its directory's rules
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckFilters {
    /// Also checks that this user can read and write what it must: the one that runs Fluent Bit
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Configurations, each of one Fluent Bit: in YAML if the name ends in .yaml or .yml, else in the classic format. Relative
    /// paths in them are those of Fluent Bit's working directory: run this in the same
    #[arg(value_name = "FLUENT_BIT_CONFIG", required = true)]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Configuration directory, with the pack and the state. Without it: the built-in rules, and a history in memory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// A database of AS organisations in MaxMind's format, such as GeoLite2-ASN.mmdb, for events that have none. What upstream
    /// wrote stays
    #[arg(long, value_name = "FILE")]
    pub(crate) asn: Option<PathBuf>,
    /// Where to listen for POST / with NDJSON, a JSON array or concatenated JSON, also packed by gzip, zstd, snappy or deflate;
    /// GET /health and /metrics. Other than loopback addresses need a token and TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8687")]
    pub(crate) listen: SocketAddr,
    /// Where GET /health is answered without TLS and without a token, for probes; it says "ok" or "ending" and nothing else
    #[arg(long, value_name = "ADDR")]
    pub(crate) health_listen: Option<SocketAddr>,
    /// Where the events go, such as Vector's http_server source; its answer is the sender's answer
    #[arg(long, value_name = "URL", required_unless_present = "respond")]
    pub(crate) forward: Option<String>,
    /// Answers with the events themselves instead
    #[arg(long, conflicts_with = "forward")]
    pub(crate) respond: bool,
    /// Passes on only the events that raise alerts
    #[arg(long)]
    pub(crate) alerts_only: bool,
    /// How long the receiver's answer may take, in seconds; then the sender gets 504
    #[arg(long, value_name = "N", default_value_t = 55.0, value_parser = seconds)]
    pub(crate) forward_timeout: f64,
    /// HTTP/2 to the receiver from the first byte on
    #[arg(long, requires = "forward")]
    pub(crate) forward_http2: bool,
    /// A file with the token that the receiver is sent, as Authorization: Bearer
    #[arg(long, value_name = "FILE", requires = "forward")]
    pub(crate) forward_token_file: Option<PathBuf>,
    /// Certificates to believe of an https receiver, in PEM, instead of the system's
    #[arg(long, value_name = "FILE", requires = "forward")]
    pub(crate) forward_certificates: Option<PathBuf>,
    /// A file with the token that senders must send, as Authorization: Bearer
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The certificate chain for TLS, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// The longest body of a request, in MiB; then 413 [default: 32, or as much as --max-memory has room for]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) max_body: Option<u32>,
    /// The longest body when it is unpacked, in MiB; then 413 [default: 128, or as much as --max-memory has room for]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=2048))]
    pub(crate) max_unpacked: Option<u32>,
    /// The longest record that is looked at, in KiB; longer ones pass untouched
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_record: u32,
    /// How much all bodies and answers together may take, in MiB; then 503, or 413 for a batch that needs more by itself. At least
    /// twice --max-body, and --max-body with twice --max-unpacked
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_memory: u32,
    /// How many requests are under way at once; then 503
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub(crate) max_requests: u32,
    /// How long a body may take to come, in seconds; then 408. An answer is to be read in this time; then the connection is closed
    #[arg(long, value_name = "N", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) body_timeout: f64,
    /// How long requests that are under way at the end may take, in seconds
    #[arg(long, value_name = "N", default_value_t = 60.0, value_parser = seconds)]
    pub(crate) ending_timeout: f64,
    /// How log lines on standard error are written
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Which log lines are written; of refused requests `debug` has each, `warn` and `info` a line a minute for each status
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
    /// Tag that the module sees
    #[arg(long, value_name = "TAG", default_value = "firstseen")]
    pub(crate) tag: String,
    /// The module to run in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub(crate) module: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
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
    /// Adds the AS organisation to each event, for a pipeline without a GeoIP step. CloudTrail itself does not write it
    #[arg(long)]
    pub(crate) enriched: bool,
    /// Also writes a database in MaxMind's format (GeoLite2-ASN) that knows the addresses of the events, for the GeoIP step of a
    /// pipeline. They are documentation addresses, which no real database knows
    #[arg(long, value_name = "FILE")]
    pub(crate) asn_database: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, at most 3600".to_owned()),
    }
}
