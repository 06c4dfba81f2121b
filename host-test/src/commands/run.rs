//! `firstseen run`: records in, records out, exactly what the pipeline would get.
//!
//! In: files or standard input. Out: on standard output, one record a line; lines that are no record, and records that the
//! module fails on, pass unchanged, with a warning. What is written so far is flushed before the program waits for more
//! input. A file that cannot be read does not keep the next one from being read. Not here: order; records go through as they
//! come, with the present as their arrival time.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use firstseen::asn::{self, AsLookup};
use firstseen::guest::{Answer, Entry, Instance};
use firstseen::{configuration, input, module_file};
use firstseen_engine::event::IdentityReader;

use crate::args;
use crate::commands::standard_output::{self, StandardOutput};
use crate::commands::{self, NO_EVENT};
use crate::warning::{self, LineWarnings};

type Output = Rc<RefCell<StandardOutput>>;

pub(crate) fn run(args: &args::Run) -> anyhow::Result<ExitCode> {
    commands::check_configuration(args.dir.as_deref())?;
    let module = module_file::load(args.module.as_deref(), false)?;
    let instance = module.instantiate(args.dir.as_deref())?;
    let settings = configuration::settings(args.dir.as_deref())?;
    let mut pipe = Pipe {
        args,
        instance,
        lookup: commands::as_lookup(args.asn.as_deref(), args.dir.as_deref(), args.module.is_none())?,
        output: Rc::new(RefCell::new(StandardOutput::new())),
        identities: IdentityReader::new(&settings),
        records: 0,
        found_event: false,
        failed: false,
    };
    let stdin = [PathBuf::from(input::STDIN)];
    let files = if args.files.is_empty() { stdin.as_slice() } else { &args.files };
    let passed = pipe.pass_all(files);
    if passed.is_ok() && pipe.records > 0 && !pipe.found_event {
        tracing::warn!("{NO_EVENT}");
    }
    commands::exit_code(if pipe.failed { 2 } else { 0 }, passed)
}

/// What records go through, and what is known of those that went.
struct Pipe<'a> {
    args: &'a args::Run,
    instance: Instance,
    lookup: Option<AsLookup>,
    output: Output,
    identities: IdentityReader,
    records: u64,
    /// Whether one of the records held a CloudTrail event.
    found_event: bool,
    /// Whether a file could not be read or the module failed on a record.
    failed: bool,
}

impl Pipe<'_> {
    /// Passes the files in their order; an error is one of standard output.
    fn pass_all(&mut self, files: &[PathBuf]) -> anyhow::Result<()> {
        for file in files {
            let passed = self.pass(file);
            // What came before an error is out before the error is told.
            self.output.borrow_mut().flush()?;
            match passed {
                Err(error) if standard_output::failure(&error).is_none() => {
                    self.failed = true;
                    warning::tell(&error);
                }
                passed => passed?,
            }
        }
        Ok(())
    }

    /// Gives each record of one file to the module and writes the answer.
    fn pass(&mut self, file: &Path) -> anyhow::Result<()> {
        let name = file.display();
        let cannot = || format!("cannot read {name}");
        let unwritten = Rc::<Cell<Option<io::Error>>>::default();
        let source = FlushFirst {
            source: input::open(file).with_context(cannot)?,
            output: Rc::clone(&self.output),
            unwritten: Rc::clone(&unwritten),
        };
        let mut records = input::Records::new(source).with_context(cannot)?;
        let entry = if self.args.alerts_only { Entry::Alerts } else { Entry::Firstseen };
        let (mut bad_lines, mut failures) = (LineWarnings::new(file), LineWarnings::new(file));
        loop {
            let record = records.next();
            if let Some(error) = unwritten.take() {
                return Err(error.into());
            }
            let Some(record) = record.with_context(cannot)? else {
                return Ok(());
            };
            if let Some(reason) = record.fault {
                if self.args.alerts_only {
                    bad_lines.tell(record.line, format_args!("{reason}; the line is left out"));
                    continue;
                }
                bad_lines.tell(record.line, format_args!("{reason}; the line passes unchanged"));
                self.write_line(record.text)?;
                continue;
            }
            self.records += 1;
            self.found_event = self.found_event || !self.identities.read(record.text).is_empty();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // Seconds since 1970 are an unsigned 32-bit number in the module's interface: enough until 2106.
            let sec = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
            let (lookup, arrival) = (self.lookup.as_ref(), (sec, now.subsec_nanos()));
            match asn::call(lookup, &mut self.instance, entry, self.args.tag.as_bytes(), arrival, record.text) {
                Ok(Answer::Untouched) => self.write_line(record.text)?,
                Ok(Answer::Changed(changed)) => self.write_line(&changed)?,
                Ok(Answer::Dropped) => {}
                Err(error) => {
                    self.failed = true;
                    failures.tell(
                        record.line,
                        format_args!(
                            "{error}; the record passes unchanged, and the module starts anew with the history of its state file"
                        ),
                    );
                    self.write_line(record.text)?;
                }
            }
        }
    }

    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        let mut output = self.output.borrow_mut();
        output.write_all(line)?;
        output.write_all(b"\n")
    }
}

/// A source before whose every read the output is flushed: nothing waits in it while the program waits for input.
struct FlushFirst {
    source: Box<dyn Read>,
    output: Output,
    /// Why the output could not be flushed; the source then ends, but what ended is not the input.
    unwritten: Rc<Cell<Option<io::Error>>>,
}

impl Read for FlushFirst {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Err(error) = self.output.borrow_mut().flush() {
            self.unwritten.set(Some(error));
            return Ok(0);
        }
        self.source.read(buffer)
    }
}
