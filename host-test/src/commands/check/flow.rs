//! Which way records take through a configuration: from which inputs and steps they come to a filter, and to which outputs they go.
//!
//! Bounds: tags decide; a tag that nobody can tell may be any.

use std::collections::BTreeSet;

use firstseen::fluent_bit::{Configuration, Section, Stage, Step, Tagged, Tags};

/// What records come from before they come to a step.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    /// Numbers of inputs.
    pub(super) inputs: BTreeSet<usize>,
    /// Numbers of steps.
    pub(super) steps: BTreeSet<usize>,
}

/// Whether a section is of this plugin.
pub(super) fn is(section: &Section, plugin: &str) -> bool {
    section.plugin.eq_ignore_ascii_case(plugin)
}

/// The tags that a `rewrite_tag` gives; none for another step.
pub(super) fn new_tags(step: &Step) -> impl Iterator<Item = Tags> {
    let rules = if is(step, "rewrite_tag") { step.values("rule").collect() } else { Vec::new() };
    rules.into_iter().map(tags_of_rule)
}

/// The tags that a rule of `rewrite_tag` gives: `KEY REGEX TAG KEEP`. Quotation marks hold words with blanks together.
fn tags_of_rule(rule: &str) -> Tags {
    let mut words = Vec::new();
    let mut rest = rule.trim_start();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"').and_then(|quoted| quoted.find('"')) {
            Some(quote) => quote + 2,
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(end);
        words.push(word.trim_matches('"'));
        rest = behind.trim_start();
    }
    words.get(2).map_or(Tags::None, |template| Tags::of_template(template))
}

/// Inputs that measure this machine, and bring no events of another one.
pub(super) const MEASURES: [&str; 9] = ["cpu", "disk", "docker", "health", "kmsg", "mem", "netif", "proc", "thermal"];

/// The tags that events may have in the filters: those of inputs, and those that `rewrite_tag` gives records that reach it.
pub(super) fn all_tags(configuration: &Configuration) -> Vec<Tags> {
    let events = configuration.inputs.iter().filter(|input| !MEASURES.iter().any(|plugin| is(input, plugin)));
    let mut all: Vec<Tags> = events.map(|input| input.tags.clone()).collect();
    if configuration.has_other_sources || configuration.inputs.is_empty() {
        all.push(Tags::Any);
    }
    let mut rest: Vec<&Step> = configuration.steps.iter().filter(|step| is(step, "rewrite_tag")).collect();
    loop {
        let (reached, others): (Vec<&Step>, Vec<&Step>) =
            rest.into_iter().partition(|step| all.iter().any(|tags| tags.overlap(&step.tags)));
        if reached.is_empty() {
            return all;
        }
        all.extend(reached.into_iter().flat_map(new_tags));
        rest = others;
    }
}

/// Where the records of a step come from.
pub(super) fn upstream(configuration: &Configuration, at: usize) -> Upstream {
    let mut upstream = Upstream::default();
    let (mut next, mut seen) = (vec![at], BTreeSet::from([at]));
    while let Some(at) = next.pop() {
        let step = &configuration.steps[at];
        upstream.steps.extend((0..configuration.steps.len()).filter(|before| configuration.comes_before(*before, at)));
        if let Stage::Input(owner) = step.stage {
            upstream.inputs.insert(owner);
            continue;
        }
        let meets = |input: &Tagged| input.tags.overlap(&step.tags);
        upstream.inputs.extend((0..configuration.inputs.len()).filter(|input| meets(&configuration.inputs[*input])));
        for rewriter in 0..configuration.steps.len() {
            let gives = new_tags(&configuration.steps[rewriter]).any(|tags| tags.overlap(&step.tags));
            if gives && seen.insert(rewriter) {
                upstream.steps.insert(rewriter);
                next.push(rewriter);
            }
        }
    }
    upstream
}

/// The tags of records behind a step, and the `rewrite_tag` filters that they go through there.
pub(super) fn downstream(configuration: &Configuration, at: usize) -> (Vec<Tags>, BTreeSet<usize>) {
    let step = &configuration.steps[at];
    let mut tags: Vec<Tags> = Vec::new();
    for source in all_tags(configuration).into_iter().filter(|source| source.overlap(&step.tags)) {
        // One tag for certain; or any that the step takes.
        let own = if matches!(&source, Tags::Pattern(tag) if !tag.contains('*')) { source } else { step.tags.clone() };
        if !tags.contains(&own) {
            tags.push(own);
        }
    }
    let first = tags.len();
    let mut rewriters = BTreeSet::new();
    let mut done = 0;
    while done < tags.len() {
        for rewriter in 0..configuration.steps.len() {
            let step = &configuration.steps[rewriter];
            // What has another tag already goes through all filters.
            let is_behind =
                step.tags.overlap(&tags[done]) && (done >= first || configuration.comes_before(at, rewriter));
            let mut given = new_tags(step).peekable();
            if given.peek().is_some() && is_behind && rewriters.insert(rewriter) {
                tags.extend(given);
            }
        }
        done += 1;
    }
    (tags, rewriters)
}
