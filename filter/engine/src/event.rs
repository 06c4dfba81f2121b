//! Events: what a record means, read to the extent that the loaded rules ask.
//!
//! In: a record's bytes. Out: the [`Events`] in it, each as an [`EventView`] that answers for the values of a field, whatever
//! the event's dialect. Bounds: a view borrows from the record and lives for one record. Not here: queries, history, alerts.
//!
//! A record is an event itself, or it holds events in envelopes ([`envelope`] has the table; the operator may add one), one or
//! many, as objects or as JSON text. Each is read by itself. Where an event is inside of what would be an event too, the
//! innermost counts. The dialect of an event is told by two keys ([`fields`] has them), and of ECS by the dataset that it names as
//! well; with several, the order is raw CloudTrail, Sentinel, ECS, so that a raw event which upstream enriched with ECS fields
//! is still a raw event. A record whose root says `eventVersion` is as CloudTrail writes it: unless the settings name ECS as
//! the dialect, it holds no event in ECS, and no envelope but the operator's. That spares a search in nearly every record.

use alloc::borrow::Cow;
use alloc::collections::BinaryHeap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::ops::ControlFlow;

use siphasher::sip128::SipHasher24;

use crate::rule::{Dialect, FieldRef, Settings};
use crate::words::first_word;

pub(crate) mod address;
pub mod as_lookup;
pub mod envelope;
pub mod fields;
pub(crate) mod json;
pub(crate) mod number;
mod paths;
mod per_request;
mod reader;
mod texts;
pub mod timestamp;
pub mod value;
mod values;

#[cfg(test)]
mod tests;

use address::Address;
use fields::{Account, FirstResource, Source};
use paths::{Paths, Slot};
use reader::{Scope, ScopeId, Scopes};
pub use texts::Texts;
use timestamp::Millis;
use value::Value;
use values::{Captured, Index, Values};

/// Which dialect an event is taken for if its keys fit several.
pub(crate) const DIALECTS: [Dialect; 3] = [Dialect::CloudTrail, Dialect::Sentinel, Dialect::Ecs];

/// How events are read: made once from the settings and the fields that rules name.
#[derive(Debug)]
pub struct Schema {
    paths: Paths,
    /// Those that are told apart, in the order of [`DIALECTS`].
    dialects: Vec<DialectSlots>,
    /// What a record as CloudTrail writes it says at its root; `None` if the settings name ECS as the dialect.
    event_version: Option<Slot>,
    as_organization: [Slot; 2],
    /// None, if no rule asks for it.
    as_number: Vec<Slot>,
    /// See [`as_lookup`].
    as_lookup: Slot,
    /// Set if the record has the alerts' key already; see [`Events::output_keys_taken`].
    output_keys: Vec<Slot>,
    /// Random, for hash tables of texts that an attacker may choose.
    hash_key: [u8; 16],
}

#[derive(Debug)]
struct DialectSlots {
    dialect: Dialect,
    markers: [Slot; 2],
    /// Where an event may name its dataset.
    datasets: Vec<Slot>,
    event_time: Slot,
    event_id: Slot,
    source_address: Slot,
    /// By what callers are told apart.
    caller: [Slot; 2],
    /// By [`FieldRef`].
    fields: Vec<Source<Slot>>,
}

impl Schema {
    /// Reads events for these settings and fields; the key is random.
    ///
    /// # Errors
    /// The first field that a dialect has no source for.
    pub fn new(settings: &Settings, fields: &[String], hash_key: [u8; 16]) -> Result<Schema, UnknownField> {
        let mut paths = Paths::new(settings.event_root.as_deref());
        let mut dialects = Vec::new();
        let known: Vec<fields::Entry> = fields.iter().map(|name| fields::Entry::of(name)).collect();
        for dialect in told_apart(settings) {
            let mut sources = Vec::with_capacity(fields.len());
            for (name, known) in fields.iter().zip(&known) {
                let source = known.source(name, dialect).ok_or_else(|| UnknownField(name.clone()))?;
                sources.push(source.bind(&mut |path| paths.slot(path)));
            }
            dialects.push(DialectSlots {
                dialect,
                markers: fields::markers(dialect).map(|path| paths.slot(path)),
                datasets: fields::datasets(dialect).iter().map(|path| paths.slot(path)).collect(),
                event_time: paths.slot(fields::event_time(dialect)),
                event_id: paths.slot(fields::event_id(dialect)),
                source_address: paths.slot(fields::source_address(dialect)),
                caller: fields::caller(dialect).map(|path| paths.slot(path)),
                fields: sources,
            });
        }
        let is_raw_known = settings.dialect != Some(Dialect::Ecs);
        let event_version = is_raw_known.then(|| paths.slot(fields::EVENT_VERSION));
        let as_key = settings.as_organization_key.as_deref().unwrap_or(fields::AS_ORGANIZATION);
        let as_organization = [paths.slot(fields::AS_ORGANIZATION), paths.slot(as_key)];
        let asks_number = fields.iter().any(|name| name == fields::AS_NUMBER);
        let as_number = match asks_number {
            true => fields::as_number_paths(settings.as_organization_key.as_deref()),
            false => Vec::new(),
        };
        let as_number = as_number.iter().map(|path| paths.slot(path)).collect();
        let as_lookup = paths.slot(as_lookup::KEY);
        let output_keys = (1..MAX_OUTPUT_KEYS).map(|n| paths.slot(&output_key(&settings.output_key, n))).collect();
        Ok(Schema { paths, dialects, event_version, as_organization, as_number, as_lookup, output_keys, hash_key })
    }

    /// Reads events of which no field is asked for, for programs that look at their places and identities.
    fn without_fields(settings: &Settings) -> Schema {
        match Schema::new(settings, &[], [0; 16]) {
            Ok(schema) => schema,
            Err(UnknownField(name)) => unreachable!("{name} was not asked for"),
        }
    }

    /// Whether each of the fields is what stands in one place, whatever the dialect.
    ///
    /// # Errors
    /// The first field that a dialect has no source for: those of [`Schema::new`], without the work of making one.
    pub(crate) fn in_one_place(settings: &Settings, fields: &[String]) -> Result<Vec<bool>, UnknownField> {
        let in_one_place = |name: &String| {
            let known = fields::Entry::of(name);
            told_apart(settings).try_fold(true, |is_so_far, dialect| {
                let source = known.source(name, dialect).ok_or_else(|| UnknownField(name.clone()))?;
                Ok(is_so_far && matches!(source, Source::At(_)))
            })
        };
        fields.iter().map(in_one_place).collect()
    }
}

/// The dialects that events may be in, in the order of [`DIALECTS`].
fn told_apart(settings: &Settings) -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| settings.dialect.is_none_or(|only| only == *dialect))
}

/// How many alert keys one record can carry; the last is used again when all are taken.
const MAX_OUTPUT_KEYS: usize = 9;

/// The `n`-th key that alerts may be appended under, from 1: `firstseen`, `firstseen_2`, ...
pub(crate) fn output_key(base: &str, n: usize) -> Cow<'_, str> {
    match n {
        1 => Cow::Borrowed(base),
        n => Cow::Owned([base, "_", &(n as u64).to_string()].concat()),
    }
}

/// A rule names a field that this engine does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownField(pub String);

/// The events of a record.
#[derive(Debug)]
pub struct Events<'a> {
    schema: &'a Schema,
    scopes: Scopes<'a>,
    /// In the order in which they stand in the record.
    found: Order<'a>,
    /// Of the values of the scope that was looked at last.
    index: Index,
    indexed: Option<ScopeId>,
}

/// The scopes that are events. Nearly every record has one, for which no memory is asked for.
#[derive(Debug)]
enum Order<'a> {
    One(Found<'a>),
    Many(Vec<Found<'a>>),
}

/// A scope that is an event.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    scope: ScopeId,
    slots: &'a DialectSlots,
}

/// The fields of one event.
#[derive(Debug)]
pub struct EventView<'a> {
    schema: &'a Schema,
    slots: &'a DialectSlots,
    scopes: &'a Scopes<'a>,
    scope: ScopeId,
    values: Values<'a>,
    /// The event's number among those of its record, from 0, if it is one of several.
    number: Option<usize>,
    /// Whether it is the record's only event.
    is_alone: bool,
}

impl DialectSlots {
    /// Whether what was found in a scope is an event of this dialect: it has a value at each marker, or it names CloudTrail's
    /// dataset and has a value at one of them.
    fn fit(&self, values: Values<'_>) -> bool {
        let mut marked = self.markers.iter().map(|marker| values.at(*marker).any(Captured::has_value));
        let datasets = || self.datasets.iter().flat_map(|slot| values.at(*slot));
        if datasets().any(Captured::has_value) {
            let is_cloudtrail = |value: Value<'_>| value.as_text() == fields::DATASET;
            return datasets().any(|found| found.each(&mut |value| break_if(is_cloudtrail(value))).is_break())
                && marked.any(|is_marked| is_marked);
        }
        marked.all(|is_marked| is_marked)
    }
}

impl<'a> Events<'a> {
    /// Reads a record; `texts` keep what is decoded of it. `None` if the record is not a JSON object or holds no CloudTrail
    /// event.
    pub fn read(schema: &'a Schema, record: &'a str, texts: &'a Texts) -> Option<Events<'a>> {
        let scopes = Scopes::read(&schema.paths, record, texts)?;
        let says_version = |slot| scopes.at(0, slot).any(Captured::has_value);
        let is_raw = schema.event_version.is_some_and(says_version);
        let found = Order::Many(Vec::new());
        let mut events = Events { schema, scopes, found, index: Index::default(), indexed: None };
        events.found = match events.scopes.len() {
            1 => Order::One(Found { scope: 0, slots: events.dialect_of(0, is_raw)? }),
            _ => Order::Many(events.find(is_raw)),
        };
        if events.len() == 0 { None } else { Some(events) }
    }

    /// The events among the scopes: those that are in no scope with an event inside.
    #[inline(never)]
    fn find(&mut self, is_raw: bool) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        let mut holds_event = vec![false; self.scopes.len()];
        for number in (0..holds_event.len()).rev() {
            let scope = self.scopes.inner(number);
            if is_raw && scope.is_some_and(|scope| !scope.is_in_event_root) {
                continue;
            }
            let around = scope.map_or(0, |scope| scope.around);
            if holds_event.get(number) == Some(&false) {
                let Some(slots) = self.dialect_of(number, is_raw) else { continue };
                found.push(Found { scope: number, slots });
            }
            if let Some(holds_event) = holds_event.get_mut(around) {
                *holds_event = true;
            }
        }
        let position = |found: &Found<'a>| self.scopes.inner(found.scope).map_or(0, |scope| scope.position);
        // A heap is a tenth of the code of `sort`, and is as fast for as many as there are.
        let order = found.iter().enumerate().map(|(at, found)| (position(found), found.scope, at));
        let order = order.collect::<BinaryHeap<_>>().into_sorted_vec();
        order.into_iter().filter_map(|(.., at)| found.get(at).copied()).collect()
    }

    /// The dialect that a scope is an event of, if it is one.
    #[inline]
    fn dialect_of(&mut self, scope: ScopeId, is_raw: bool) -> Option<&'a DialectSlots> {
        self.look_at(scope);
        let values = self.index.values(self.scopes.captured(scope));
        let may_be = |slots: &&DialectSlots| !(is_raw && slots.dialect == Dialect::Ecs);
        self.schema.dialects.iter().filter(may_be).find(|slots| slots.fit(values))
    }

    fn look_at(&mut self, scope: ScopeId) {
        if self.indexed != Some(scope) {
            self.index.set(self.scopes.captured(scope), self.schema.paths.slots());
            self.indexed = Some(scope);
        }
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is one at least")]
    pub fn len(&self) -> usize {
        match &self.found {
            Order::One(_) => 1,
            Order::Many(found) => found.len(),
        }
    }

    /// The event of a number below [`Events::len`].
    pub fn view(&mut self, number: usize) -> Option<EventView<'_>> {
        let Found { scope, slots } = match &self.found {
            Order::One(found) if number == 0 => *found,
            Order::One(_) => return None,
            Order::Many(found) => *found.get(number)?,
        };
        self.look_at(scope);
        let values = self.index.values(self.scopes.captured(scope));
        let is_alone = self.len() == 1;
        let is_listed = !is_alone || self.scopes.inner(scope).is_some_and(|scope| scope.is_listed);
        let number = is_listed.then_some(number);
        Some(EventView { schema: self.schema, slots, scopes: &self.scopes, scope, values, number, is_alone })
    }

    /// How many of the keys that alerts may be appended under are in the record already, counted from the first.
    pub(crate) fn output_keys_taken(&self) -> usize {
        let captured = self.scopes.captured(0);
        let taken = |slot: &Slot| match self.indexed {
            Some(0) => self.index.values(captured).at(*slot).next().is_some(),
            _ => self.scopes.at(0, *slot).next().is_some(),
        };
        self.schema.output_keys.iter().take_while(|slot| taken(slot)).count()
    }
}

impl<'a> EventView<'a> {
    /// The event's number among those of its record, from 0, if it is one of several or stands in a list.
    pub fn number(&self) -> Option<usize> {
        self.number
    }

    /// The event's own text, if it is one of several.
    pub(crate) fn own_text(&self) -> Option<&'a str> {
        self.number?;
        self.scopes.inner(self.scope).map(|scope| scope.text)
    }

    /// When the event happened, if it says so in a way that can be read.
    pub fn event_time(&self) -> Option<Millis> {
        self.first_value(self.slots.event_time).as_ref().and_then(timestamp::from_value)
    }

    /// What the event says of its time, where [`EventView::event_time`] cannot read it.
    fn unreadable_time(&self) -> Option<String> {
        self.first_value(self.slots.event_time).map(|value| value.as_text().to_string())
    }

    /// The event's own id.
    pub fn event_id(&self) -> Option<Cow<'a, str>> {
        self.first(self.slots.event_id)
    }

    /// The address that the AS organisation is looked up by.
    pub(crate) fn source_address(&self) -> Option<Cow<'a, str>> {
        self.first(self.slots.source_address)
    }

    /// A number, other than 0, for who made the call: the same for the same credentials. Nothing hangs on it but what people are
    /// told, so an attacker who finds two callers with one number gains nothing.
    pub(crate) fn caller(&self) -> Option<u32> {
        let caller = self.slots.caller.iter().find_map(|slot| self.values.only(*slot)?.plain_text())?;
        let bytes = caller.as_bytes();
        // What is shorter than eight bytes, or stands between these, tells no credentials apart.
        let last = bytes.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        let hash = (first_word(bytes) ^ last.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Some(((hash >> 32) as u32 ^ bytes.len() as u32).max(1))
    }

    /// The first AS organisation, or else the first number of an AS.
    pub(crate) fn first_as_organization(&self) -> Option<String> {
        let mut first = None;
        let mut keep = |value: Value<'_>| {
            first = Some(value.as_text().to_string());
            ControlFlow::Break(())
        };
        if self.as_organization(&mut keep).is_continue() {
            let _ = self.as_number(&mut keep);
        }
        first
    }

    /// Whether the event comes from an address that databases of AS organisations may have.
    pub(crate) fn has_public_address(&self) -> bool {
        let address = self.source_address();
        address.as_deref().and_then(Address::parse).is_some_and(|address| address.is_public())
    }

    /// The field's value, if it stands in one place, is the only one there, and is text without escapes: so most are. What
    /// else the field may be, [`EventView::any`] tells.
    #[inline]
    pub(crate) fn only_text(&self, field: FieldRef) -> Option<&'a str> {
        match self.slots.fields[usize::from(field.0)] {
            Source::At(slot) => self.values.only(slot)?.plain_text(),
            Source::Constant(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the field has no other values than addresses, so that none needs to be read as one again.
    pub(crate) fn holds_addresses_only(&self, field: FieldRef) -> bool {
        matches!(self.slots.fields[usize::from(field.0)], Source::IpAddress(_))
    }

    /// Whether one of the field's values passes the test.
    pub fn any(&self, field: FieldRef, test: &mut dyn FnMut(&Value<'_>) -> bool) -> bool {
        if let Some(text) = self.only_text(field) {
            return test(&Value::Text(Cow::Borrowed(text)));
        }
        self.each(field, &mut |value| break_if(test(&value))).is_break()
    }

    /// The field's first value as text.
    pub fn first_text(&self, field: FieldRef) -> Option<String> {
        let mut first = None;
        self.any(field, &mut |value| {
            first = Some(value.as_text().to_string());
            true
        });
        first
    }

    /// The field's values as groups and tuples compare them: as text, each once, in the order of the event, the first
    /// [`MAX_VALUES`] of them, and without what AWS writes anew for each request ([`per_request`]).
    pub fn terms(&self, field: FieldRef) -> Vec<String> {
        let mut terms = DistinctTexts::default();
        let mut add = |text: &str| {
            terms.add(text, &self.schema.hash_key);
            break_if(terms.kept.len() == MAX_VALUES)
        };
        let _ = match self.slots.fields[usize::from(field.0)] {
            Source::JsonText(slot) => self.at(slot).try_for_each(|found| match found.decoded() {
                Err(json) => add_with_content(&per_request::without(json).0, &mut add),
                Ok(text) => add_lasting(&text, &mut add),
            }),
            Source::WrittenByAws(slot) => self.each_at(slot, &mut |value| add_lasting(value.as_text(), &mut add)),
            _ => break_if(self.any(field, &mut |value| add(value.as_text()).is_break())),
        };
        terms.kept
    }

    fn each(&self, field: FieldRef, visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut text = |text: Option<Cow<'_, str>>| match text {
            Some(text) if !text.is_empty() => visit(Value::Text(text)),
            _ => ControlFlow::Continue(()),
        };
        match self.slots.fields[usize::from(field.0)] {
            Source::Constant(constant) => text(Some(Cow::Borrowed(constant))),
            Source::At(slot) | Source::WrittenByAws(slot) => self.each_at(slot, visit),
            Source::FirstOf(first, second) => {
                let slot = if self.first_value(first).is_some() { first } else { second };
                self.each_at(slot, visit)
            }
            Source::IpAddress(slot) => self.each_at(slot, &mut |value| match Address::parse(value.as_text()) {
                Some(_) => visit(value),
                None => ControlFlow::Continue(()),
            }),
            Source::Outcome { code, message, event_name, response } => {
                text(Some(self.outcome(code, message, event_name, response)))
            }
            Source::UserName { user_name, identity_type, issuer_name, event_name, additional } => {
                if self.is_session(identity_type) && self.first_value(issuer_name).is_some() {
                    self.each_at(issuer_name, visit)
                } else if self.first_value(user_name).is_none() && self.is(event_name, "UserAuthentication") {
                    text(self.member_text(additional, "UserName").map(Cow::Owned))
                } else {
                    self.each_at(user_name, visit)
                }
            }
            Source::UserId { principal_id, identity_type, on_behalf_of } => {
                let foreign = self.first_value(principal_id).is_none() && self.is(identity_type, "IdentityCenterUser");
                self.each_at(if foreign { on_behalf_of } else { principal_id }, visit)
            }
            Source::OwnUserName { identity_type, .. } if self.is_session(identity_type) => ControlFlow::Continue(()),
            Source::OwnUserName { user_name, .. } => self.each_at(user_name, visit),
            Source::JsonText(slot) => self.at(slot).try_for_each(|found| match found.decoded() {
                Err(json) if has_content(json) => visit(Value::Text(Cow::Owned(value::compact(json)))),
                Ok(text) if !text.is_empty() => visit(Value::Text(text)),
                _ => ControlFlow::Continue(()),
            }),
            Source::MemberOfEach(slot, name) => self.member_of_each(slot, name, visit),
            Source::AsOrganization => self.as_organization(visit),
            Source::AsNumber => self.as_number(visit),
            Source::AccountName(account) => text(self.account(account).and_then(|full| at_part(&full, false))),
            Source::AccountUpnSuffix(account) => text(self.account(account).and_then(|full| at_part(&full, true))),
        }
    }

    /// What stands at a slot of the event.
    fn at(&self, slot: Slot) -> impl Iterator<Item = &'a Captured<'a>> + use<'a> {
        self.values.at(slot)
    }

    fn each_at(&self, slot: Slot, visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        self.at(slot).try_for_each(|found| found.each(&mut |value| visit(value)))
    }

    fn first_value(&self, slot: Slot) -> Option<Value<'a>> {
        if let Some(text) = self.values.only(slot).and_then(Captured::plain_text) {
            return Some(Value::Text(Cow::Borrowed(text)));
        }
        let mut first = None;
        let _ = self.at(slot).try_for_each(|found| {
            found.each(&mut |value| {
                first = Some(value);
                ControlFlow::Break(())
            })
        });
        first
    }

    /// The first value at a slot, as text.
    fn first(&self, slot: Slot) -> Option<Cow<'a, str>> {
        self.first_value(slot).map(|value| match value {
            Value::Text(text) => text,
            Value::Number(text) => Cow::Borrowed(text),
            Value::Bool(bool) => Cow::Borrowed(if bool { "true" } else { "false" }),
        })
    }

    /// The JSON text at a slot: of an object or array itself, or of the text that holds one.
    fn structure(&self, slot: Slot) -> Option<Cow<'a, str>> {
        self.at(slot).map(Captured::structure).find(|json| matches!(json.as_bytes(), [b'{' | b'[', ..]))
    }

    fn member_text(&self, slot: Slot, name: &str) -> Option<String> {
        let json = self.structure(slot)?;
        first_text(value::member(&json, name)?)
    }

    fn outcome(&self, code: Slot, message: Slot, event_name: Slot, response: Slot) -> Cow<'static, str> {
        if self.is(event_name, "ConsoleLogin")
            && let Some(login) = self.member_text(response, "ConsoleLogin")
        {
            return Cow::Owned(login.to_ascii_lowercase());
        }
        let failed = self.first_value(code).is_some() || self.first_value(message).is_some();
        Cow::Borrowed(if failed { "failure" } else { "success" })
    }

    /// Whether the identity is a session, whose `user.name` is that of who opened it.
    fn is_session(&self, identity_type: Slot) -> bool {
        self.is(identity_type, "AssumedRole") || self.is(identity_type, "FederatedUser")
    }

    /// Whether the first value at a slot is this.
    fn is(&self, slot: Slot, text: &str) -> bool {
        self.first(slot).is_some_and(|value| value == text)
    }

    fn member_of_each(
        &self,
        slot: Slot,
        name: &str,
        visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.at(slot).try_for_each(|found| {
            let json = found.structure();
            value::elements(&json)
                .into_iter()
                .filter_map(|element| value::member(element, name))
                .try_for_each(|member| value::each(member, &mut |value| visit(value)))
        })
    }

    fn as_organization(&self, visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        match self.nearest(self.as_organization_slots()) {
            Some(scope) => self.each_of(self.as_organization_slots(), scope, visit),
            None => self.looked_up(as_lookup::ORGANIZATION, visit),
        }
    }

    fn as_organization_slots(&self) -> &[Slot] {
        match &self.schema.as_organization {
            [own, configured] if own == configured => core::slice::from_ref(own),
            both => both,
        }
    }

    fn as_number(&self, visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut visit = |value: Value<'_>| match &value {
            Value::Text(text) => visit(Value::Text(Cow::Borrowed(as_lookup::without_prefix(text)))),
            _ => visit(value),
        };
        match self.nearest(&self.schema.as_number) {
            Some(scope) => self.each_of(&self.schema.as_number, scope, &mut visit),
            None if self.nearest(self.as_organization_slots()).is_some() => ControlFlow::Continue(()),
            None => self.looked_up(as_lookup::NUMBER, &mut visit),
        }
    }

    /// The event's own scope, or else the nearest one around it, in which one of the slots has a value: enrichment writes to the
    /// record's root. Where a record holds several events, what is around them says nothing of any of them.
    fn nearest(&self, slots: &[Slot]) -> Option<ScopeId> {
        if slots.iter().flat_map(|slot| self.values.at(*slot)).any(Captured::has_value) {
            return Some(self.scope);
        }
        let mut scope = self.scope;
        while let Some(Scope { around, .. }) = self.scopes.inner(scope).filter(|_| self.is_alone) {
            scope = *around;
            if slots.iter().flat_map(|slot| self.scopes.at(scope, *slot)).any(Captured::has_value) {
                return Some(scope);
            }
        }
        None
    }

    fn each_of(
        &self,
        slots: &[Slot],
        scope: ScopeId,
        visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut found = slots.iter().flat_map(|slot| self.scopes.at(scope, *slot));
        found.try_for_each(|found| found.each(&mut |value| visit(value)))
    }

    /// What the host program looked up for the event's address; see [`as_lookup`].
    fn looked_up(&self, member: &str, visit: &mut dyn FnMut(Value<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        let Some(table) = self.scopes.at(0, self.schema.as_lookup).next() else { return ControlFlow::Continue(()) };
        let table = table.structure();
        let found = self.source_address().and_then(|address| value::member(value::member(&table, &address)?, member));
        found.map_or(ControlFlow::Continue(()), |found| value::each(found, &mut |value| visit(value)))
    }

    /// The Sentinel detection's account name before it is cut at the `@`.
    fn account(&self, account: Account<Slot>) -> Option<Cow<'a, str>> {
        if self.is(account.principal_id, "Anonymous") {
            return Some(Cow::Borrowed("Anonymous"));
        }
        let foreign = account.identity_type.is_some_and(|identity_type| self.is_session(identity_type));
        let own_name = if foreign { None } else { self.first(account.user_name) };
        own_name.or_else(|| {
            let arn = self.first(account.arn).or_else(|| self.first_resource_arn(account.resources))?;
            let last = arn.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1);
            arn.get(last..).map(|last| Cow::Owned(last.to_string()))
        })
    }

    fn first_resource_arn(&self, resources: FirstResource<Slot>) -> Option<Cow<'a, str>> {
        match resources {
            FirstResource::FirstValue(slot) => self.first(slot),
            FirstResource::InArray(slot) => {
                let json = self.structure(slot)?;
                let first = *value::elements(&json).first()?;
                first_text(value::member(first, "ARN")?).map(Cow::Owned)
            }
        }
    }
}

fn break_if(found: bool) -> ControlFlow<()> {
    if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// How many values of one field are told apart: one more than makes too many tuples.
pub(crate) const MAX_VALUES: usize = 4097;
const _: () = assert!(MAX_VALUES <= u16::MAX as usize, "a place of DistinctTexts is a u16");

/// What comes before the first `@` of a name; or, if that is `behind`, what comes behind it, up to a second.
fn at_part(full: &str, behind: bool) -> Option<Cow<'static, str>> {
    let up_to_at = |text: &str| text.bytes().position(|byte| byte == b'@').unwrap_or(text.len());
    let (from, to) = match up_to_at(full) {
        at if behind => (at + 1, at + 1 + up_to_at(full.get(at + 1..)?)),
        at => (0, at),
    };
    full.get(from..to).map(|part| Cow::Owned(part.to_string()))
}

/// Texts, each once, told apart in time that does not grow with the square of their number: there may be thousands.
#[derive(Default)]
struct DistinctTexts {
    kept: Vec<String>,
    /// By hash, each text's place in `kept` from 1 on, there or at the next place that was free; 0 is free, as half of
    /// them are. Empty while there are few texts.
    table: Vec<u16>,
}

impl DistinctTexts {
    /// Up to so many texts are just compared.
    const FEW: usize = 8;

    fn add(&mut self, text: &str, hash_key: &[u8; 16]) {
        let count = self.kept.len();
        if count < Self::FEW {
            if !self.kept.iter().any(|known| known == text) {
                self.kept.push(text.to_string());
            }
            return;
        }
        if self.table.len() < 2 * (count + 1) {
            self.table = vec![0; (4 * count).next_power_of_two()];
            for at in 0..count {
                let place = self.place(&self.kept[at], hash_key);
                self.table[place] = at as u16 + 1;
            }
        }
        let place = self.place(text, hash_key);
        if self.table[place] == 0 {
            self.kept.push(text.to_string());
            self.table[place] = count as u16 + 1;
        }
    }

    /// Where in the table the text is, or would be.
    fn place(&self, text: &str, hash_key: &[u8; 16]) -> usize {
        let mut hasher = SipHasher24::new_with_key(hash_key);
        hasher.write(text.as_bytes());
        let last = self.table.len() - 1;
        let mut place = hasher.finish() as usize & last;
        while let Some(at) = self.table[place].checked_sub(1)
            && self.kept[usize::from(at)] != text
        {
            place = (place + 1) & last;
        }
        place
    }
}

fn first_text(json: &str) -> Option<String> {
    let mut first = None;
    let _ = value::each(json, &mut |value| {
        first = Some(value.as_text().to_string());
        ControlFlow::Break(())
    });
    first
}

/// Whether an object or array has anything in it, or a scalar is not null.
fn has_content(json: &str) -> bool {
    is_content(&value::compact(json))
}

fn is_content(compact: &str) -> bool {
    !matches!(compact, "null" | "{}" | "[]")
}

/// Adds compact JSON if anything is in it.
fn add_with_content(compact: &str, add: &mut dyn FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
    if is_content(compact) { add(compact) } else { ControlFlow::Continue(()) }
}

/// Adds text without per-request members. Text that has none of them is compared as it is.
fn add_lasting(text: &str, add: &mut dyn FnMut(&str) -> ControlFlow<()>) -> ControlFlow<()> {
    match per_request::of_text(text) {
        Some(other) => add_with_content(&other, add),
        None if text.is_empty() => ControlFlow::Continue(()),
        None => add(text),
    }
}

/// What tells events apart and puts them in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The event's own id, if it has one.
    pub event_id: Option<String>,
    /// When it happened, in milliseconds since 1970 UTC, if that can be read.
    pub event_time: Option<Millis>,
    /// What it says of its time, if that cannot be read.
    pub unreadable_time: Option<String>,
}

/// Reads only the [`Identity`] of events, for programs that sort or list them.
#[derive(Debug)]
pub struct IdentityReader(Schema);

impl IdentityReader {
    /// Reads events as the settings say where they stand.
    pub fn new(settings: &Settings) -> IdentityReader {
        IdentityReader(Schema::without_fields(settings))
    }

    /// The identities of a record's events, in their order; none if the record holds no CloudTrail event.
    pub fn read(&self, record: &[u8]) -> Vec<Identity> {
        let record = String::from_utf8_lossy(record);
        let texts = Texts::default();
        let Some(mut events) = Events::read(&self.0, &record, &texts) else { return Vec::new() };
        let mut identities = Vec::with_capacity(events.len());
        for number in 0..events.len() {
            let Some(event) = events.view(number) else { break };
            let event_time = event.event_time();
            let unreadable_time = if event_time.is_none() { event.unreadable_time() } else { None };
            let event_id = event.event_id().map(Cow::into_owned);
            identities.push(Identity { event_id, event_time, unreadable_time });
        }
        identities
    }
}
