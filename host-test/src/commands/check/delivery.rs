//! What is lost between the history, which knows an alert's tuple from then on, and an output.
//!
//! Not here: whether an output takes what it is sent; limits on what waits for it.

use std::collections::BTreeSet;
use std::path::Path;

use firstseen::fluent_bit::{Configuration, Section, Stage};

use super::access::Want;
use super::{Check, flow};

/// Outputs that send nothing anywhere, so that nothing can be away.
const LOCAL: [&str; 10] =
    ["counter", "exit", "file", "flowcounter", "lib", "null", "plot", "prometheus_exporter", "stdout", "vivo_exporter"];

impl Check {
    /// Checks the inputs, branches and outputs of these filters.
    pub(super) fn check_delivery(&mut self, configuration: &Configuration, filters: &[usize]) {
        let (mut inputs, mut branches) = (BTreeSet::new(), BTreeSet::new());
        let mut outputs: BTreeSet<usize> = BTreeSet::new();
        for at in filters {
            let upstream = flow::upstream(configuration, *at);
            inputs.extend(upstream.inputs);
            branches
                .extend(upstream.steps.into_iter().filter(|step| flow::is(&configuration.steps[*step], "rewrite_tag")));
            let (tags, rewriters) = flow::downstream(configuration, *at);
            branches.extend(rewriters);
            outputs.extend(match configuration.steps[*at].stage {
                Stage::Output(output) => vec![output],
                _ => (0..configuration.outputs.len())
                    .filter(|output| tags.iter().any(|tags| tags.overlap(&configuration.outputs[*output].tags)))
                    .collect(),
            });
        }
        if let Some(path) = configuration.service.property("storage.path") {
            self.check_access(&path.place, "storage.path", Path::new(&path.value), Want::CHANGE);
        }
        for input in inputs {
            self.check_input(&configuration.service, &configuration.inputs[input]);
        }
        for branch in branches {
            let step = &configuration.steps[branch];
            // As a processor of an input it has no use for its emitter.
            if step.stage == Stage::Filter {
                self.check_emitter(&configuration.service, step);
            }
        }
        for output in outputs {
            self.check_retries(&configuration.outputs[output]);
        }
    }

    fn check_input(&mut self, service: &Section, input: &Section) {
        if let Some(db) = input.property("db")
            && let Some(directory) = Path::new(&db.value).parent().filter(|directory| directory.is_dir())
        {
            self.check_access(&db.place, "the directory of DB", directory, Want::CHANGE);
        }
        let inherited = service.value("storage.type").filter(|_| service.is_on("storage.inherit"));
        if input.is_unknown("storage.type") {
            return;
        }
        let storage = input.value("storage.type").or(inherited).unwrap_or("memory");
        if storage.eq_ignore_ascii_case("filesystem") {
            self.check_storage_path(service, input, "storage.type");
        } else if flow::is(input, "tail") && input.property("db").is_some() {
            let what = "with DB, what this input has read and no output has taken yet is lost when Fluent Bit ends, for it is in memory";
            self.find(input.place_of("db"), what, "set storage.type filesystem here, and storage.path in the service");
        }
    }

    fn check_emitter(&mut self, service: &Section, step: &Section) {
        if step.value("emitter_storage.type").is_some_and(|kind| kind.eq_ignore_ascii_case("filesystem")) {
            self.check_storage_path(service, step, "emitter_storage.type");
            return;
        }
        let what = "rewrite_tag keeps the records of its branch in memory: what is over its limit is dropped, and what no output has \
                    taken yet is lost when Fluent Bit ends";
        let to_do = "set Emitter_Storage.type filesystem here, and storage.path in the service";
        self.find(step.place_of("emitter_storage.type"), what, to_do);
    }

    fn check_storage_path(&mut self, service: &Section, section: &Section, key: &str) {
        if service.value("storage.path").is_none_or(str::is_empty) {
            let what = "filesystem storage without storage.path in the service: Fluent Bit would not start";
            self.find(section.place_of(key), what, "set storage.path in the service");
        }
    }

    fn check_retries(&mut self, output: &Section) {
        if LOCAL.iter().any(|plugin| flow::is(output, plugin)) || output.is_unknown("retry_limit") {
            return;
        }
        let limit = output.value("retry_limit").unwrap_or_default();
        if ["no_limits", "false", "off"].iter().any(|unlimited| limit.eq_ignore_ascii_case(unlimited)) {
            return;
        }
        let times = match limit {
            _ if limit.eq_ignore_ascii_case("no_retries") => "no retry".to_owned(),
            _ => match limit.parse().unwrap_or(1).max(1) {
                1 => "1 retry".to_owned(),
                more => format!("{more} retries"),
            },
        };
        let what = format!(
            "the output {} gives alerts up after {times} (Retry_Limit), and firstseen does not raise them again",
            output.plugin
        );
        let to_do = "set Retry_Limit no_limits, and storage.total_limit_size to what may wait meanwhile";
        self.find(output.place_of("retry_limit"), what, to_do);
    }
}
