//! `firstseen sample`: made-up CloudTrail events as NDJSON on standard output, and a database of their AS organisations.

use std::fs;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use firstseen::sample;

use crate::args;
use crate::commands::standard_output::StandardOutput;

pub(crate) fn run(args: &args::Sample) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.asn_database {
        fs::write(file, sample::asn_database()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let events = match args.enriched {
        true => sample::enriched_events(args.events, args.seed),
        false => sample::events(args.events, args.seed),
    };
    let mut out = StandardOutput::new();
    for event in events {
        out.write_all(event.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
