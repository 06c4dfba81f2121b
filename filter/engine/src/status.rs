//! What a running filter says of itself in numbers, for whoever watches it.
//!
//! In: an engine. Out: [`Status`], and the same as the numbers that the module's `firstseen_status` hands to its host. Bounds:
//! [`NUMBERS`] numbers; later versions may put more behind them, and never change what stands where. Not here: what the
//! history knows of a tuple.

/// How many numbers there are.
pub const NUMBERS: usize = 8 + MAX_USED_ONCE;

/// Of how many rules it is told that nearly all their groups or tuples are used once.
pub const MAX_USED_ONCE: usize = 4;

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
    /// Rules of which nearly all recent groups or tuples were used once ([`UsedOnce`]); 0 where there is none.
    pub used_once: [u64; MAX_USED_ONCE],
}

/// A rule of which nearly all recent groups or tuples were used once, and the fields whose values differ each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedOnce {
    /// The rule's place in the pack.
    pub rule: usize,
    /// Whether it is about groups, and not tuples.
    pub is_of_groups: bool,
    /// Which of the rule's fields, one bit each.
    pub fields: u16,
}

impl UsedOnce {
    /// As one number, which is not 0: from the lowest bit on 16 of fields, 1 for groups, and the rule's place from 1 on.
    pub fn to_number(self) -> u64 {
        (self.rule as u64 + 1) << 17 | u64::from(self.is_of_groups) << 16 | u64::from(self.fields)
    }

    /// The reverse; `None` for 0.
    pub fn from_number(number: u64) -> Option<UsedOnce> {
        let rule = usize::try_from((number >> 17).checked_sub(1)?).ok()?;
        Some(UsedOnce { rule, is_of_groups: number >> 16 & 1 == 1, fields: number as u16 })
    }
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
            used_once: [a, b, c, d],
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
            a,
            b,
            c,
            d,
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
            used_once @ ..,
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
            used_once,
        }
    }
}
