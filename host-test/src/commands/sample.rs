//! `firstseen sample`: made-up CloudTrail events as NDJSON on standard output.

use std::io::Write;
use std::process::ExitCode;

use firstseen::sample;

use crate::args;
use crate::commands::standard_output::StandardOutput;

pub(crate) fn run(args: &args::Sample) -> anyhow::Result<ExitCode> {
    let mut out = StandardOutput::new();
    for event in sample::events(args.events, args.seed) {
        out.write_all(event.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
