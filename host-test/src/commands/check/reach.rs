//! Filters that no record reaches, and outputs.

use firstseen::fluent_bit::{Configuration, Place, Section, Stage, Step, Tagged, Tags};

use super::{Check, flow};

impl Check {
    /// Whether a record may reach a filter; if none does, that is found.
    pub(super) fn check_reach(&mut self, configuration: &Configuration, step: &Step) -> bool {
        if flow::all_tags(configuration).iter().any(|tags| tags.overlap(&step.tags)) {
            return true;
        }
        let (place, what) = unmet(step);
        self.find(place, format!("{what}, so the filter sees no record"), to_do(configuration));
        false
    }

    /// Checks that each output may get records, and that some output gets those of each filter.
    pub(super) fn check_outputs(&mut self, configuration: &Configuration, filters: &[usize]) {
        // Records may go to outputs by routes of the inputs, or to those of another file.
        let has_routes = configuration.inputs.iter().any(|input| input.property("routes").is_some());
        if has_routes || configuration.inputs.is_empty() {
            return;
        }
        let mut tags = flow::all_tags(configuration);
        tags.extend(configuration.inputs.iter().map(|input| input.tags.clone()));
        // These come as metrics, under a tag of their own.
        let metrics = configuration.steps.iter().filter(|step| flow::is(step, "log_to_metrics"));
        tags.extend(metrics.filter_map(|step| step.value("tag")).map(|tag| Tags::Pattern(tag.to_owned())));
        let mut unmet_output = false;
        for output in &configuration.outputs {
            if !tags.iter().any(|tags| tags.overlap(&output.tags)) {
                let (place, what) = unmet(&output.section);
                self.find(place, format!("{what}, so the output gets no record"), to_do(configuration));
                unmet_output = true;
            }
        }
        let sources = flow::all_tags(configuration);
        for at in filters {
            let step = &configuration.steps[*at];
            let (tags, _) = flow::downstream(configuration, *at);
            let is_taken = |output: &Tagged| tags.iter().any(|tags| tags.overlap(&output.tags));
            if unmet_output
                || !sources.iter().any(|tags| tags.overlap(&step.tags))
                || matches!(step.stage, Stage::Output(_))
                || configuration.outputs.is_empty()
                || configuration.outputs.iter().any(is_taken)
            {
                continue;
            }
            let tag = step.value("match").unwrap_or("of its input");
            let what = format!("no output takes the tag {tag} of this filter, so its alerts go nowhere");
            self.find(step.place_of("match"), what, "add it to the Match of an output");
        }
    }
}

/// Where a section says which records it takes, and that there are none of them.
pub(super) fn unmet(section: &Section) -> (&Place, String) {
    let key = if section.property("match_regex").is_some() { "match_regex" } else { "match" };
    let shown = if key == "match" { "Match" } else { "Match_Regex" };
    (
        section.place_of(key),
        format!("no input gives a tag that {shown} {} takes", section.value(key).unwrap_or_default()),
    )
}

pub(super) fn to_do(configuration: &Configuration) -> String {
    let tags = configuration.inputs.iter().filter_map(|input| input.value("tag"));
    match tags.collect::<Vec<_>>()[..] {
        [] => "write the tag of the events' input".to_owned(),
        ref tags => format!("write the tag of the events' input: {}", tags.join(" or ")),
    }
}
