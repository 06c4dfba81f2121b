//! What a running filter says of itself in numbers, for whoever watches it.
//!
//! In: an engine. Out: [`Status`], and the same as the numbers that the module's `firstseen_status` hands to its host. Bounds:
//! [`NUMBERS`] numbers; later versions may put more behind them, and never change what stands where. Not here: what the
//! history knows of a tuple.

/// How many numbers there are.
pub const NUMBERS: usize = 8;

/// The numbers at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Tuples and groups that the history holds.
    pub entries: u64,
    /// How many it may hold.
    pub capacity: u64,
    /// How many it has forgotten for lack of space while they were inside their window, as long as the history exists.
    pub evictions: u64,
    /// 1 if a restart keeps the history, else 0.
    pub durable: u64,
    /// How often the state file could not be written, since the filter started.
    pub storage_failures: u64,
    /// Events that a rule would match with the right AS organisation, since the filter started.
    pub organization_asked: u64,
    /// Those of them that had none.
    pub organization_lacking: u64,
    /// Candidates that held no event, since the filter started.
    pub candidates_without_event: u64,
}

impl Status {
    /// In their order in memory.
    pub fn to_numbers(self) -> [u64; NUMBERS] {
        let Status {
            entries,
            capacity,
            evictions,
            durable,
            storage_failures,
            organization_asked,
            organization_lacking,
            candidates_without_event,
        } = self;
        [
            entries,
            capacity,
            evictions,
            durable,
            storage_failures,
            organization_asked,
            organization_lacking,
            candidates_without_event,
        ]
    }

    /// The reverse.
    pub fn from_numbers(numbers: [u64; NUMBERS]) -> Status {
        let [
            entries,
            capacity,
            evictions,
            durable,
            storage_failures,
            organization_asked,
            organization_lacking,
            candidates_without_event,
        ] = numbers;
        Status {
            entries,
            capacity,
            evictions,
            durable,
            storage_failures,
            organization_asked,
            organization_lacking,
            candidates_without_event,
        }
    }
}
