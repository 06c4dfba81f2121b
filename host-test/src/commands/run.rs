//! `firstseen run`: records in, records out, exactly what the pipeline would get.
//!
//! In: files or standard input. Out: on standard output, one record a line; lines that are no record pass unchanged, with
//! a warning. What is written so far is flushed before the program waits for more input. Not here: order; records go through
//! as they come, with the present as their arrival time.

use std::cell::RefCell;
use std::io::{self, BufWriter, Read, Stdout, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use firstseen::guest::{Answer, Entry, Instance, Options};
use firstseen::{configuration, input, module_file};

use crate::args;

/// How many bytes are written at once, where nothing waits for them earlier.
const WRITE_SIZE: usize = 128 * 1024;

type Output = Rc<RefCell<BufWriter<Stdout>>>;

pub(crate) fn run(args: &args::Run) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &args.dir {
        configuration::check_directory(dir)?;
    }
    let module = module_file::load(args.module.as_deref(), &Options::default())?;
    let mut instance = module.instantiate(args.dir.as_deref())?;
    let output = Rc::new(RefCell::new(BufWriter::with_capacity(WRITE_SIZE, io::stdout())));
    let stdin = [PathBuf::from(input::STDIN)];
    let files = if args.files.is_empty() { stdin.as_slice() } else { &args.files };
    let mut outcome = Ok(());
    for file in files {
        outcome = pass(args, file, &mut instance, &output);
        if outcome.is_err() {
            break;
        }
    }
    // What came before an error is out before the error is told.
    let flushed = output.borrow_mut().flush();
    outcome?;
    flushed?;
    Ok(ExitCode::SUCCESS)
}

/// Gives each record of one file to the module and writes the answer.
fn pass(args: &args::Run, file: &Path, instance: &mut Instance, output: &Output) -> anyhow::Result<()> {
    let name = file.display();
    let cannot = || format!("cannot read {name}");
    let source = FlushFirst { source: input::open(file).with_context(cannot)?, output: Rc::clone(output) };
    let mut records = input::Records::new(source).with_context(cannot)?;
    let entry = if args.alerts_only { Entry::Alerts } else { Entry::Firstseen };
    while let Some(record) = records.next().with_context(cannot)? {
        if let Some(reason) = record.fault {
            if args.alerts_only {
                tracing::warn!("{name}:{}: {reason}; the line is left out", record.line);
                continue;
            }
            tracing::warn!("{name}:{}: {reason}; the line passes unchanged", record.line);
            write_line(output, record.text)?;
            continue;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Seconds since 1970 are an unsigned 32-bit number in the module's interface: enough until 2106.
        let sec = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let answer = instance
            .call(entry, args.tag.as_bytes(), sec, now.subsec_nanos(), record.text)
            .with_context(|| format!("{name}:{}", record.line))?;
        match answer {
            Answer::Untouched => write_line(output, record.text)?,
            Answer::Changed(changed) => write_line(output, &changed)?,
            Answer::Dropped => {}
        }
    }
    Ok(())
}

fn write_line(output: &Output, line: &[u8]) -> io::Result<()> {
    let mut output = output.borrow_mut();
    output.write_all(line)?;
    output.write_all(b"\n")
}

/// A source before whose every read the output is flushed: nothing waits in it while the program waits for input.
struct FlushFirst {
    source: Box<dyn Read>,
    output: Output,
}

impl Read for FlushFirst {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.borrow_mut().flush()?;
        self.source.read(buffer)
    }
}
