//! `firstseen serve`: the sidecar.
//!
//! In: the command line. Out: log lines on standard error, and a process that ends when it is told to. Not here: everything that
//! it does in between ([`firstseen::serve`]).

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use firstseen::guest::Entry;
use firstseen::serve::access::Token;
use firstseen::serve::exchange::Limits;
use firstseen::serve::{self, receiver};
use firstseen::{configuration, module_file};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::{self, LogFormat, LogLevel};
use crate::commands;

const MIB: usize = 1 << 20;

/// The longest body, as it comes and unpacked, in MiB, where there is memory enough and nothing else is said.
const MAX_BODY: u32 = 32;
const MAX_UNPACKED: u32 = 128;
const KIB: usize = 1 << 10;

/// Sends log lines to standard error: each with its time, as text or as one JSON object.
pub(crate) fn log(args: &args::Serve) {
    let level = match args.log_level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
    };
    // What libraries say of each connection is of no use to anybody here.
    let targets = Targets::new().with_default(LevelFilter::WARN).with_target("firstseen", level);
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).log_internal_errors(false).with_target(false);
    let lines: Box<dyn tracing_subscriber::Layer<_> + Send + Sync> = match args.log_format {
        LogFormat::Text => Box::new(lines.with_ansi(false)),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_current_span(false)),
    };
    tracing_subscriber::registry().with(targets).with(lines).init();
}

pub(crate) fn run(args: &args::Serve) -> anyhow::Result<ExitCode> {
    if let Some(directory) = &args.dir {
        configuration::check_directory(directory)?;
    }
    commands::check_configuration(args.dir.as_deref())?;
    let forward = match &args.forward {
        None => None,
        Some(url) => {
            let receiver = receiver::Options {
                http2: args.forward_http2,
                token: args.forward_token_file.as_deref().map(Token::read).transpose()?,
                certificates: args.forward_certificates.clone(),
                timeout: Duration::from_secs_f64(args.forward_timeout),
            };
            Some((url.clone(), receiver))
        }
    };
    let options = serve::Options {
        directory: args.dir.clone(),
        asn: args.asn.clone(),
        listen: args.listen,
        health: args.health_listen,
        forward,
        entry: if args.alerts_only { Entry::Alerts } else { Entry::Firstseen },
        tag: args.tag.clone(),
        token_file: args.token_file.clone(),
        tls: args.tls_certificate.clone().zip(args.tls_key.clone()),
        limits: limits(args)?,
        ending: Duration::from_secs_f64(args.ending_timeout),
    };
    let bytes = module_file::read(args.module.as_deref())?;
    let module = module_file::compile(&bytes, args.module.as_deref(), false)?;
    serve::run(module, &bytes, &options)?;
    Ok(ExitCode::SUCCESS)
}

/// What a request may take. What is not said follows from the memory that there is.
fn limits(args: &args::Serve) -> anyhow::Result<Limits> {
    let memory = args.max_memory;
    let for_body = args.max_unpacked.map_or(memory / 2, |unpacked| memory.saturating_sub(2 * unpacked).min(memory / 2));
    let body = args.max_body.unwrap_or(MAX_BODY.min(for_body).max(1));
    let unpacked = args.max_unpacked.unwrap_or(MAX_UNPACKED.min(memory.saturating_sub(body) / 2).max(1));
    let limits = Limits {
        body: body as usize * MIB,
        unpacked: unpacked as usize * MIB,
        record: args.max_record as usize * KIB,
        memory: memory as usize * MIB,
        requests: args.max_requests as usize,
        body_time: Duration::from_secs_f64(args.body_timeout),
    };
    let least = limits.least_memory();
    ensure!(
        limits.memory >= least,
        "--max-memory {memory} is too small for one batch of --max-body {body} and --max-unpacked {unpacked}: the smallest value \
         that works is {}",
        least / MIB
    );
    Ok(limits)
}
