//! What Fluent Bit as a host does not do for a filter: run it in an output's threads, and keep what it says.

use firstseen::fluent_bit::{Configuration, Stage, Step};

use super::Check;

/// How many workers outputs have unless they are told otherwise, as Fluent Bit 5.1 has them; all others have none.
const WORKERS: [(&str, u32); 19] = [
    ("azure_blob", 1),
    ("cloudwatch_logs", 1),
    ("es", 2),
    ("file", 1),
    ("forward", 2),
    ("gcs", 1),
    ("http", 2),
    ("kinesis_firehose", 1),
    ("kinesis_streams", 1),
    ("null", 1),
    ("oracle_log_analytics", 1),
    ("prometheus_remote_write", 2),
    ("s3", 1),
    ("splunk", 2),
    ("stackdriver", 1),
    ("stdout", 1),
    ("tcp", 2),
    ("udp", 2),
    ("vivo_exporter", 1),
];

impl Check {
    /// A wasm filter runs in the engine's thread, where its instance was made, and in no other.
    pub(super) fn check_workers(&mut self, configuration: &Configuration, step: &Step) {
        let Stage::Output(output) = step.stage else { return };
        let output = &configuration.outputs[output];
        let by_default = WORKERS.iter().find(|(plugin, _)| output.plugin.eq_ignore_ascii_case(plugin));
        let workers = match output.value("workers") {
            Some(workers) => workers.trim().parse().unwrap_or(0),
            None => by_default.map_or(0, |(_, workers)| *workers),
        };
        if workers > 0 {
            let what = format!(
                "the filter is a processor of the output {}, which has workers ({workers}): there Fluent Bit 5.1 loses every record \
                 of a wasm filter",
                output.plugin
            );
            self.find(
                &step.place,
                what,
                "set workers: 0 for the output, or make it a processor of the input or a filter",
            );
        }
    }

    /// What the module says goes to standard error.
    pub(super) fn check_service(&mut self, configuration: &Configuration) {
        let service = &configuration.service;
        if service.is_on("daemon") {
            let what = "with Daemon On Fluent Bit closes standard error, so nothing that firstseen says is seen";
            self.find(service.place_of("daemon"), what, "leave it out, and have systemd run Fluent Bit");
        }
    }
}
