//! What past events taught each rule, and what they could not teach it.
//!
//! In: the rules, and past events one by one. Out: for each rule, how many events it asks about, how many of them lacked a field
//! that it needs, and so whether its history [covers](Learned::covers) the time that the events are of. Bounds: a few numbers a rule.
//! Not here: what an event teaches, and what a history that covers its window is worth.
//!
//! An event teaches a rule nothing if one of its new-terms fields has no value, or if the rule would match but for a field that
//! something upstream looks up, such as the AS organisation. Logs that were exported before the look-up lack it in every event, and
//! a live filter behind the look-up would take all that it sees for new. Events from private addresses and services lack it live as
//! well, so they are not counted.

use alloc::string::String;
use alloc::vec::Vec;

use crate::event::EventView;
use crate::event::fields::is_enrichment;
use crate::predicate;
use crate::rule::{FieldRef, Rule};

/// What past events taught a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The rule's id.
    pub rule_id: String,
    /// Events that the rule matches, or would match with other values of the fields that are looked up.
    pub asked: u64,
    /// How many of them taught nothing, by the name of the first field that they lacked.
    pub lacking: Vec<(String, u64)>,
}

impl Learned {
    /// Of `n` events that a rule asks about, so many may lack a field that is looked up: `n` divided by this. Databases do not have
    /// every address.
    const TOLERANCE: u64 = 100;

    pub(crate) fn of(rule: &Rule, learning: Option<&Learning>, at: usize, fields: &[String]) -> Learned {
        let learned = learning.and_then(|learning| learning.rules.get(at));
        let name = |field: FieldRef| fields.get(usize::from(field.0)).cloned().unwrap_or_default();
        let lacking = learned.map_or(&[][..], |learned| &learned.lacking);
        Learned {
            rule_id: rule.id.clone(),
            asked: learned.map_or(0, |learned| learned.asked),
            lacking: lacking.iter().map(|(field, count)| (name(*field), *count)).collect(),
        }
    }

    /// Whether what was learned is what a live filter would have learned: no more than one event in a hundred lacked a field that is
    /// looked up, and not every one lacked some field of its own.
    pub fn covers(&self) -> bool {
        let sum = |looked_up: bool| -> u64 {
            let counts = self.lacking.iter().filter(|(name, _)| !looked_up || is_enrichment(name));
            counts.map(|(_, count)| count).sum()
        };
        sum(true).saturating_mul(Self::TOLERANCE) <= self.asked && (self.asked == 0 || sum(false) < self.asked)
    }
}

/// What all rules were taught.
#[derive(Debug)]
pub(crate) struct Learning {
    /// The fields that are looked up.
    looked_up: Vec<FieldRef>,
    /// By the rule's place.
    rules: Vec<RuleLearning>,
}

#[derive(Debug)]
struct RuleLearning {
    /// The fields that are looked up and that the rule's query names.
    queried: Vec<FieldRef>,
    asked: u64,
    lacking: Vec<(FieldRef, u64)>,
}

impl Learning {
    /// Nothing yet.
    pub(crate) fn of<'r>(rules: impl Iterator<Item = &'r Rule>, fields: &[String]) -> Learning {
        let looked_up = fields.iter().enumerate().filter(|(_, name)| is_enrichment(name));
        let looked_up: Vec<FieldRef> = looked_up.filter_map(|(at, _)| u16::try_from(at).ok().map(FieldRef)).collect();
        let rules = rules.map(|rule| RuleLearning {
            queried: looked_up.iter().copied().filter(|field| predicate::names(&rule.query, *field)).collect(),
            asked: 0,
            lacking: Vec::new(),
        });
        let rules = rules.collect();
        Learning { looked_up, rules }
    }

    /// Takes note of an event, given the rules in the order in which they were given before.
    pub(crate) fn note<'r>(&mut self, rules: impl Iterator<Item = &'r Rule>, event: &EventView<'_>) {
        for (rule, learning) in rules.zip(&mut self.rules) {
            if (rule.new_terms.is_some() || rule.suppression.is_some())
                && predicate::may_match(&rule.query, event, &|field| learning.queried.contains(&field))
            {
                learning.note(rule, event, &self.looked_up);
            }
        }
    }
}

impl RuleLearning {
    fn note(&mut self, rule: &Rule, event: &EventView<'_>, looked_up: &[FieldRef]) {
        let lacks = |field: &&FieldRef| !event.any(**field, &mut |_| true);
        let lacking = if predicate::matches(&rule.query, event) {
            let new_terms = rule.new_terms.iter().flat_map(|terms| &terms.fields);
            let groups = rule.suppression.iter().flat_map(|groups| &groups.group_by);
            new_terms.chain(groups.filter(|field| looked_up.contains(field))).find(lacks)
        } else {
            self.queried.iter().find(lacks)
        };
        let Some(lacking) = lacking.copied() else {
            self.asked += 1;
            return;
        };
        if looked_up.contains(&lacking) && !event.has_public_address() {
            return;
        }
        self.asked += 1;
        match self.lacking.iter_mut().find(|(field, _)| *field == lacking) {
            Some((_, count)) => *count += 1,
            None => self.lacking.push((lacking, 1)),
        }
    }
}
