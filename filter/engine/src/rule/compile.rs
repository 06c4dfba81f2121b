//! Rule files and settings to a [`Pack`].
//!
//! In: the texts of the settings, of the built-in rules and of the operator's own, each with a label for messages. Out:
//! the pack, or every refusal there is, each with file, line and column. The order of the pack's rules is that of the
//! built-in rules as given, then that of the own rules' labels.
//! A rule that is switched off is read and checked all the same, but is not in the pack. An own rule takes the place of
//! a built-in one of the same id. Not here: files and directories, the bytes of a pack.

mod fields;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use self::fields::Fields;
use super::diagnostic::{Diagnostic, listed, nearest};
use super::rule_file::{self, Reading, RuleFile};
use super::settings_file::{self, RuleSettings, SettingsFile};
use super::toml_source::{Source, Text};
use super::{
    AlertTexts, Comparison, Entity, FieldRef, MAX_NESTING, MAX_RULES, NewTerms, Pack, Predicate, Rule, Suppression,
    Template, TemplatePart, Test, kql, threat, warnings,
};

/// A file: the label that messages call it by, and its text.
pub type File<'a> = (&'a str, &'a str);

/// A pack, and what its author should know of it.
#[derive(Debug)]
pub struct Compiled {
    /// The pack.
    pub pack: Pack,
    /// What compiles but is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// The built-in rules whose place an own rule takes.
    pub replaced: Vec<Replaced>,
}

/// A built-in rule whose place an own rule takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The id of both.
    pub id: String,
    /// The name of the built-in rule.
    pub builtin_name: String,
    /// The file of the own rule, as the caller labelled it.
    pub own_file: String,
}

/// Compiles the built-in rules alone, with default settings.
///
/// # Errors
/// Every refusal.
pub fn builtin(files: &[File<'_>]) -> Result<Pack, Vec<Diagnostic>> {
    compile(None, files, &[])
}

/// Compiles an operator's directory: `firstseen.toml` if there is one, the built-in rules, and the own ones.
///
/// # Errors
/// Every refusal, those of the settings first, then those of each rule's file.
pub fn compile(settings: Option<File<'_>>, builtin: &[File<'_>], own: &[File<'_>]) -> Result<Pack, Vec<Diagnostic>> {
    compile_with_warnings(settings, builtin, own).map(|compiled| compiled.pack)
}

/// Compiles like [`compile`], and says what the author should know besides.
///
/// # Errors
/// Those of [`compile`].
pub fn compile_with_warnings(
    settings: Option<File<'_>>,
    builtin: &[File<'_>],
    own: &[File<'_>],
) -> Result<Compiled, Vec<Diagnostic>> {
    let (label, text) = settings.unwrap_or(("firstseen.toml", ""));
    let settings_source = Source::new(label, text);
    let settings = settings_file::read(&settings_source);

    let mut own: Vec<File<'_>> = own.to_vec();
    own.sort_unstable();
    let mut sources: Vec<Source<'_>> = Vec::new();
    sources.extend(builtin.iter().chain(&own).map(|(label, text)| Source::new(label, text)));
    let readings: Vec<Reading> = sources.iter().map(rule_file::read).collect();

    refuse_unknown_ids(&settings_source, &settings, &readings);
    let replacements = resolve_same_ids(&sources, &readings, builtin.len());

    let mut fields = Fields::new(&settings);
    let mut rules = Vec::new();
    for (at, (source, reading)) in sources.iter().zip(&readings).enumerate() {
        let Some(file) = &reading.rule else { continue };
        let is_replaced = replacements.iter().any(|(builtin, _)| *builtin == at);
        let replaces = replacements.iter().any(|(_, own)| *own == at);
        let operator = settings.rules.iter().find(|rule| rule.id == file.id.value);
        if let Some(operator) = operator
            && replaces
            && !operator.enabled
        {
            settings_source.warn(
                operator.offset,
                format!(
                    "enabled = false switches off the built-in rule {:?}, whose place {} takes, and that one stays on",
                    operator.id,
                    source.label()
                ),
                format!("remove enabled = false, or {} if no rule of this id is to run", source.label()),
            );
        }
        // What is switched off is the built-in rule, not the one that took its place.
        let is_on = !is_replaced && (replaces || operator.is_none_or(|rule| rule.enabled));
        let known_before = fields.len();
        let operator = operator.filter(|_| !is_replaced);
        let rule = lower(source, file, &settings_source, operator, &mut fields, is_on);
        if !is_on {
            fields.truncate(known_before);
        } else {
            rules.extend(rule);
            if rules.len() == MAX_RULES + 1 {
                source.refuse(0, format!("this is rule {}", rules.len()), format!("expected at most {MAX_RULES}"));
            }
        }
    }

    let replaced = replacements.iter().filter_map(|(builtin, own)| {
        let replaced = readings.get(*builtin)?.rule.as_ref()?;
        Some(Replaced {
            id: replaced.id.value.clone(),
            builtin_name: replaced.name.clone(),
            own_file: String::from(sources.get(*own)?.label()),
        })
    });
    let replaced = replaced.collect();
    let (mut refused, mut warnings) = (Vec::new(), Vec::new());
    for source in core::iter::once(settings_source).chain(sources) {
        let (refused_here, warned_here) = source.into_diagnostics();
        refused.extend(refused_here);
        warnings.extend(warned_here);
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    let pack = Pack { settings: settings.settings, fields: fields.into_names(), rules };
    Ok(Compiled { pack, warnings, replaced })
}

/// Refuses settings for rules that do not exist.
fn refuse_unknown_ids(source: &Source<'_>, settings: &SettingsFile, readings: &[Reading]) {
    // A file without a readable id is refused already, and could be the one that is meant.
    let Some(ids) =
        readings.iter().map(|reading| Some(reading.id.as_ref()?.value.as_str())).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    for RuleSettings { id, offset, .. } in &settings.rules {
        if ids.contains(&id.as_str()) {
            continue;
        }
        let right = match nearest(id, ids.iter().copied()) {
            Some(nearest) => format!("the nearest id is {nearest:?}"),
            None => format!("expected {}", listed(ids.iter().copied())),
        };
        source.refuse(*offset, format!("no rule has the id {id:?}"), right);
    }
}

/// Refuses rules of the same id; returns the built-in rules whose place an own one takes, each with that one.
fn resolve_same_ids(sources: &[Source<'_>], readings: &[Reading], builtins: usize) -> Vec<(usize, usize)> {
    let mut replacements = Vec::new();
    for (at, reading) in readings.iter().enumerate() {
        let Some(id) = &reading.id else { continue };
        let is_same = |other: &Reading| other.id.as_ref().is_some_and(|other| other.value == id.value);
        // The latest before it: an own rule, if there is one, stands for the built-in rule that it replaced.
        let Some(before) = readings[..at].iter().rposition(is_same) else { continue };
        if before < builtins && at >= builtins {
            replacements.push((before, at));
        } else {
            sources[at].refuse(
                id.span.start,
                format!("rule_id {:?} is that of {} as well", id.value, sources[before].label()),
                "give each rule an id of its own",
            );
        }
    }
    replacements
}

/// Turns names into references and texts into predicates and templates. What is refused is noted in the sources, and for a
/// rule that will run also what it is warned of.
fn lower(
    source: &Source<'_>,
    file: &RuleFile,
    settings_source: &Source<'_>,
    operator: Option<&RuleSettings>,
    fields: &mut Fields,
    is_on: bool,
) -> Option<Rule> {
    let query = parse_query(source, "the query", &file.query, fields);
    if is_on {
        warn(source, file, query.as_ref(), fields);
    }
    let query = query.map(|(query, _)| query);
    let ignore_case = query.as_ref().and_then(|query| ignored_cases(source, file, query, fields));
    let mut query = with_exceptions(settings_source, query, operator, fields, is_on);
    if let (Some(query), Some(ignore_case)) = (&mut query, &ignore_case) {
        set_ignore_case(query, ignore_case);
    }

    let mut references = |what: &str, names: &[Text]| -> Option<Vec<FieldRef>> {
        let found: Vec<_> = names.iter().map(|name| fields.of(source, what, name)).collect();
        found.into_iter().collect()
    };
    let new_terms = file.new_terms.as_ref().map(|table| (table, references("new_terms", &table.fields)));
    let group_by = file.suppression.as_ref().map(|table| (table, references("group_by", &table.group_by)));
    let mut named = |what: &str, pairs: &[(String, Text)]| -> Option<Vec<(String, FieldRef)>> {
        let found: Vec<_> =
            pairs.iter().map(|(name, field)| Some((name.clone(), fields.of(source, what, field)?))).collect();
        found.into_iter().collect()
    };
    let details = named("details", &file.details);
    let entities: Vec<_> = file
        .entities
        .iter()
        .map(|(kind, attributes)| Some(Entity { kind: kind.clone(), attributes: named("entities", attributes)? }))
        .collect();
    let mut template = |text: &Option<Text>| match text {
        Some(text) => parse_template(source, text, fields).map(Some),
        None => Some(None),
    };
    let (title, description) = (template(&file.title), template(&file.description));

    let window = operator.and_then(|rule| rule.history_window.as_ref());
    if let (Some((_, offset)), None, 0) = (window, &file.new_terms, source.refused()) {
        settings_source.refuse(
            *offset,
            format!("history_window is set for the rule {:?}, which is not of type new_terms", file.id.value),
            "remove it",
        );
    }
    Some(Rule {
        id: file.id.value.clone(),
        name: file.name.clone(),
        version: file.version,
        severity: file.severity,
        risk_score: file.risk_score,
        query: query?,
        new_terms: match new_terms {
            Some((table, fields)) => {
                let window = window.map_or(&table.window, |(window, _)| window);
                Some(NewTerms { fields: fields?, window_ms: window.ms, window: window.text.clone() })
            }
            None => None,
        },
        suppression: match group_by {
            Some((table, group_by)) => {
                Some(Suppression { group_by: group_by?, duration_ms: table.duration.ms, missing: table.missing })
            }
            None => None,
        },
        alert: AlertTexts {
            title: title?,
            description: description?,
            entities: entities.into_iter().collect::<Option<_>>()?,
            details: details?,
            threat: threat::to_json(&file.threat),
        },
        building_block: file.building_block,
    })
}

/// Warns of what compiles but is probably not meant.
fn warn(source: &Source<'_>, file: &RuleFile, query: Option<&(Predicate, Vec<usize>)>, fields: &Fields) {
    if let Some((predicate, offsets)) = query {
        let query = warnings::Query { text: &file.query, predicate, offsets, names: fields.names() };
        warnings::warn_of_forgeable_nots(source, &query);
    }
    if let Some(new_terms) = &file.new_terms {
        warnings::warn_of_per_request_fields(source, "new_terms", &new_terms.fields);
    }
    if let Some(suppression) = &file.suppression {
        warnings::warn_of_per_request_fields(source, "group_by", &suppression.group_by);
    }
}

/// The query, and the byte of its text at which each of its comparisons names the field.
fn parse_query(source: &Source<'_>, what: &str, text: &Text, fields: &mut Fields) -> Option<(Predicate, Vec<usize>)> {
    kql::parse_with_offsets(&text.value, &mut |name| fields.reference(name))
        .map_err(|error| source.refuse_mismatch(source.inside(text, error.offset), what, error.mismatch))
        .ok()
}

/// The query, and none of the operator's exceptions. Reads the exceptions even if there is no query.
fn with_exceptions(
    source: &Source<'_>,
    query: Option<Predicate>,
    operator: Option<&RuleSettings>,
    fields: &mut Fields,
    is_on: bool,
) -> Option<Predicate> {
    let mut refusals = Vec::new();
    for text in operator.map_or(&[][..], |rule| &rule.exceptions) {
        let Some((exception, offsets)) = parse_query(source, "the exception", text, fields) else { continue };
        if is_on {
            let query = warnings::Query { text, predicate: &exception, offsets: &offsets, names: fields.names() };
            warnings::warn_of_forgeable_exception(source, &query);
        }
        if exception == Predicate::All(Vec::new()) {
            source.refuse(
                text.span.start,
                "the exception matches every event",
                "write enabled = false to switch the rule off",
            );
        } else if exception.nesting() + 2 > MAX_NESTING {
            source.refuse(
                text.span.start,
                format!("the exception nests {} deep", exception.nesting()),
                format!("expected at most {}", MAX_NESTING - 2),
            );
        }
        refusals.push(Predicate::Not(Box::new(exception)));
    }
    let query = query?;
    if refusals.is_empty() {
        return Some(query);
    }
    let mut parts = match query {
        Predicate::All(parts) => parts,
        query => {
            if query.nesting() + 1 > MAX_NESTING {
                let offset = operator.map_or(0, |rule| rule.offset);
                source.refuse(
                    offset,
                    format!("the rule's query nests {} deep, which leaves no room for exceptions", query.nesting()),
                    "remove the exceptions, or write them into a rule of your own",
                );
            }
            Vec::from([query])
        }
    };
    parts.extend(refusals);
    Some(Predicate::All(parts))
}

/// The fields of `ignore_case`, each of which the query must compare.
fn ignored_cases(
    source: &Source<'_>,
    file: &RuleFile,
    query: &Predicate,
    fields: &mut Fields,
) -> Option<Vec<FieldRef>> {
    let mut ignored = Vec::new();
    for name in &file.ignore_case {
        let field = fields.of(source, "ignore_case", name)?;
        if !compares(query, field) {
            source.refuse(
                name.span.start,
                format!("ignore_case names {:?}, which the query compares with no text", name.value),
                "name fields of the query",
            );
        }
        ignored.push(field);
    }
    Some(ignored)
}

/// Whether case makes a difference to a comparison.
fn compares_text(comparison: &Comparison) -> bool {
    matches!(comparison.test, Test::Equals(_) | Test::Wildcard(_))
}

fn compares(predicate: &Predicate, field: FieldRef) -> bool {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => parts.iter().any(|part| compares(part, field)),
        Predicate::Not(part) => compares(part, field),
        Predicate::Is(comparison) => comparison.field == field && compares_text(comparison),
    }
}

fn set_ignore_case(predicate: &mut Predicate, fields: &[FieldRef]) {
    match predicate {
        Predicate::All(parts) | Predicate::Any(parts) => {
            parts.iter_mut().for_each(|part| set_ignore_case(part, fields));
        }
        Predicate::Not(part) => set_ignore_case(part, fields),
        Predicate::Is(comparison) => {
            comparison.ignore_case = compares_text(comparison) && fields.contains(&comparison.field);
        }
    }
}

/// Cuts a template at its `{{field}}`s.
fn parse_template(source: &Source<'_>, text: &Text, fields: &mut Fields) -> Option<Template> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(open) = text.value[at..].find("{{") {
        let open = at + open;
        let place = source.inside(text, open);
        let inner = &text.value[open + 2..];
        let Some(length) = inner.find("}}") else {
            source.refuse(place, "a `{{` is never closed", "write {{field}}");
            return None;
        };
        if open > at {
            parts.push(TemplatePart::Text(text.value[at..open].into()));
        }
        let field = Text { value: inner[..length].trim().into(), span: place..place };
        parts.push(TemplatePart::Field(fields.of(source, "the template", &field)?));
        at = open + 2 + length + 2;
    }
    if at < text.value.len() {
        parts.push(TemplatePart::Text(text.value[at..].into()));
    }
    Some(Template(parts))
}
