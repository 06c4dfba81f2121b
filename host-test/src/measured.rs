//! The records that speed and fuel are measured with, and the fuel that one takes, a start, and the first alert.
//!
//! In: a compiled module and a kind of record. Out: records of [`RECORD_SIZE`] bytes, each of its own, an instance that has been
//! given two of them, and the steps that one more takes it. Bounds: what is counted is the same in every run, for one module.
//! Not here: time, and what the numbers ought to be.

use std::hint::black_box;
use std::path::Path;

use crate::guest::{Answer, Entry, Error, Instance, Module};
use crate::sample::{self, Call, Caller, Random};

/// The tag of every record.
pub const TAG: &[u8] = b"aws.cloudtrail";

/// What records are filled up to, in bytes.
pub const RECORD_SIZE: usize = 1500;

/// Records that fuel is counted over, after as many to warm up.
const FUEL_RECORDS: u64 = 1000;

/// The digits in a record that are counted up: in the event's id, so that no record is taken for a redelivery, and in an
/// alerting record's identity.
const DIGITS: &str = "00000000";

/// A kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No rule asks for it.
    Uninteresting,
    /// A rule matches, and the tuple is known.
    Known,
    /// A rule matches, and the identity is a new one.
    Alerting,
}

/// A way to call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// Fluent Bit's five calls a record.
    FluentBit,
    /// One call a record, in a buffer that is kept.
    Lean,
}

impl Kind {
    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Uninteresting => "uninteresting",
            Kind::Known => "matching, known",
            Kind::Alerting => "alerting",
        }
    }
}

impl Calls {
    /// What the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Calls::FluentBit => "Fluent Bit's",
            Calls::Lean => "lean",
        }
    }
}

/// Records of one kind: a text, and the places of the digits that are counted up.
#[derive(Debug)]
pub struct Records {
    text: Vec<u8>,
    counters: Vec<usize>,
    next: u64,
}

/// The kinds, in the table's order.
pub const KINDS: [Kind; 3] = [Kind::Uninteresting, Kind::Known, Kind::Alerting];

/// The ways to call, in the table's order.
pub const WAYS: [Calls; 2] = [Calls::FluentBit, Calls::Lean];

impl Records {
    /// Records of a kind.
    pub fn new(kind: Kind) -> Self {
        let name = match kind {
            Kind::Alerting => format!("user-{DIGITS}"),
            _ => "ci-deploy".to_owned(),
        };
        let mut call = Call {
            time: sample::START,
            caller: &Caller::User { name },
            service: if kind == Kind::Uninteresting { "ec2" } else { "sts" },
            name: if kind == Kind::Uninteresting { "DescribeInstances" } else { "GetCallerIdentity" },
            address: "198.51.100.20",
            organization: Some("Example Broadband"),
            user_agent: "Boto3/1.36.3 md/Botocore#1.36.3 ua/2.0 os/linux#6.1.119 lang/python#3.11.6",
            request: r#"{"padding":""}"#.to_owned(),
            response: "null".to_owned(),
            error: None,
            read_only: true,
        };
        let bare = sample::record(&call, &mut Random::new(1)).len();
        let padding = "instance ".repeat(RECORD_SIZE / 9 + 1);
        call.request = format!(r#"{{"padding":"{}"}}"#, &padding[..RECORD_SIZE.saturating_sub(bare)]);
        let text = sample::record(&call, &mut Random::new(1)).into_bytes();
        let mut counters: Vec<usize> =
            memchr::memmem::find_iter(&text, &format!("user-{DIGITS}")).map(|at| at + "user-".len()).collect();
        let id = "\"eventID\":\"";
        counters.extend(memchr::memmem::find(&text, id.as_bytes()).map(|at| at + id.len()));
        Records { text, counters, next: 0 }
    }

    /// The next record.
    #[expect(clippy::should_implement_trait, reason = "it lends the record")]
    pub fn next(&mut self) -> &[u8] {
        self.next += 1;
        let mut rest = self.next;
        let mut digits = [0; DIGITS.len()];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        for &at in &self.counters {
            self.text[at..at + DIGITS.len()].copy_from_slice(&digits);
        }
        &self.text
    }
}

/// Gives the module one record; whether it came back changed.
///
/// # Errors
/// The module fails on the record.
pub fn call(instance: &mut Instance, calls: Calls, record: &[u8]) -> Result<bool, Error> {
    // The event's own time as the arrival time.
    let sec = (sample::START / 1000) as u32;
    Ok(match calls {
        Calls::FluentBit => {
            matches!(black_box(instance.call(Entry::Firstseen, TAG, sec, 0, record)?), Answer::Changed(_))
        }
        Calls::Lean => {
            matches!(black_box(instance.call_lean(Entry::Firstseen, TAG, sec, 0, record)?), Answer::Changed(_))
        }
    })
}

/// An instance with its history in `directory` that knows the identity of [`Kind::Known`], and the records to give it.
///
/// # Errors
/// The module does not start or fails on a record.
pub fn prepared(module: &Module, kind: Kind, calls: Calls, directory: &Path) -> Result<(Instance, Records), Error> {
    let mut instance = module.instantiate_captured(Some(directory))?;
    let mut records = Records::new(kind);
    let first = call(&mut instance, calls, records.next())?;
    let second = call(&mut instance, calls, records.next())?;
    let expected = match kind {
        Kind::Uninteresting => [false, false],
        Kind::Known => [true, false],
        Kind::Alerting => [true, true],
    };
    if [first, second] != expected {
        tracing::warn!(
            "{}: this module tags the first two records {:?}, where the built-in rules would {:?}",
            kind.name(),
            [first, second],
            expected
        );
    }
    Ok((instance, records))
}

/// The fuel that a start takes, of a module that counts it, with the built-in rules and no history in `directory` yet; and what its
/// first record takes, which alerts: some of what a start could do is left to that.
///
/// # Errors
/// The module does not start, or fails on the record.
pub fn fuel_of_start(counting: &Module, directory: &Path) -> Result<(u64, u64), Error> {
    let mut instance = counting.instantiate(Some(directory))?;
    let start = instance.fuel_consumed().unwrap_or(0);
    call(&mut instance, Calls::FluentBit, Records::new(Kind::Alerting).next())?;
    Ok((start, instance.fuel_consumed().unwrap_or(0) - start))
}

/// The fuel that a record takes, of a module that counts it, on average over a thousand records; its history is in `directory`,
/// which is empty before.
///
/// # Errors
/// The module does not start or fails on a record.
pub fn fuel_per_record(counting: &Module, kind: Kind, calls: Calls, directory: &Path) -> Result<u64, Error> {
    let (mut instance, mut records) = prepared(counting, kind, calls, directory)?;
    let mut run = |instance: &mut Instance| -> Result<u64, Error> {
        for _ in 0..FUEL_RECORDS {
            call(instance, calls, records.next())?;
        }
        Ok(instance.fuel_consumed().unwrap_or(0))
    };
    let before = run(&mut instance)?;
    let after = run(&mut instance)?;
    Ok((after - before) / FUEL_RECORDS)
}
