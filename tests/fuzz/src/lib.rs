//! What is fuzzed, as functions of bytes that panic when something does not hold.
//!
//! In: any bytes. Out: nothing, or a panic. `scripts/fuzz` runs them under libFuzzer; the tests here replay the seeds and
//! what was ever found (`tests/crashes/TARGET/*`). Not here: the module itself, which the tests of the whole call.

use std::cell::RefCell;

use firstseen_engine::event::timestamp::Millis;
use firstseen_engine::event::{Events, Schema, Texts};
use firstseen_engine::rule::{Dialect, FieldRef, Pack, Settings, builtin, compile, kql, pack as pack_file};
use firstseen_engine::{Engine, Outcome};

mod state_file;

pub use state_file::state_file;

/// The arrival time of fuzzed records: any will do.
const ARRIVAL: Millis = 1_760_000_000_000;

/// The built-in rules, reading events in JSON text too.
fn fuzzed_pack() -> Pack {
    let mut pack = compile::builtin(&builtin::FILES).expect("the built-in rules compile");
    pack.settings.event_root = Some(String::from("log"));
    pack.settings.capacity = 64;
    pack
}

/// Reading an event's fields ends, and each dialect says the same twice.
pub fn event_reader(data: &[u8]) {
    thread_local! {
        static SCHEMAS: Vec<(Schema, u16)> = [None, Some(Dialect::CloudTrail), Some(Dialect::Ecs), Some(Dialect::Sentinel)]
            .into_iter()
            .map(|dialect| {
                let fields: Vec<String> = firstseen_engine::event::fields::names().map(String::from).collect();
                let settings = Settings { dialect, event_root: Some(String::from("log")), ..Settings::default() };
                let schema = Schema::new(&settings, &fields, [1; 16]).expect("every name of the table is known");
                (schema, u16::try_from(fields.len()).expect("a short table"))
            })
            .collect();
    }
    let record = String::from_utf8_lossy(data);
    let is_written_by_aws = |FieldRef(at): FieldRef| {
        let name = firstseen_engine::event::fields::names().nth(usize::from(at)).expect("a name of the table");
        name.contains("additional_event") || name.contains("response_elements")
    };
    SCHEMAS.with(|schemas| {
        for (schema, fields) in schemas {
            let texts = Texts::default();
            let Some(mut events) = Events::read(schema, &record, &texts) else { continue };
            for number in 0..events.len() {
                let event = events.view(number).expect("an event");
                let _ = (event.event_time(), event.event_id());
                for field in (0..*fields).map(FieldRef) {
                    let (terms, first) = (event.terms(field), event.first_text(field));
                    // What AWS writes anew for each request is left out of terms, and nothing else is.
                    match is_written_by_aws(field) {
                        true => assert!(terms.is_empty() || first.is_some(), "terms without a value"),
                        false => assert_eq!(terms.first(), first.as_ref()),
                    }
                    assert!(terms.iter().all(|text| !text.is_empty()), "an empty value");
                }
            }
        }
    });
}

/// Any text is a query or an error that points into it.
pub fn kql(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let lines = text.split('\n').count();
    if let Err(error) = kql::parse(&text, &mut |_| Ok(FieldRef(0))) {
        assert!((1..=lines).contains(&error.line), "line {} of {lines}", error.line);
        assert!(error.column >= 1);
        assert!(!error.to_string().is_empty());
    }
}

/// Any bytes are a pack that can be run, or an error.
pub fn pack(data: &[u8]) {
    let with_header = pack_file::with_header(data);
    for bytes in [data, &with_header] {
        match pack_file::decode(bytes) {
            Ok(pack) => {
                // A pack may name fields that this version does not know: that is the engine's to refuse.
                if let Ok(mut engine) = Engine::new(pack, [1; 16]) {
                    let record = br#"{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity"}"#;
                    let _ = engine.process(record, ARRIVAL, &mut Vec::new());
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// Any record is handed back or annotated: a valid one stays valid and keeps its bytes, and what the prefilter rejects
/// raises nothing.
pub fn process(data: &[u8]) {
    thread_local! {
        static PACK: Pack = fuzzed_pack();
        static ENGINES: RefCell<Option<(Engine, Engine)>> = const { RefCell::new(None) };
    }
    let new = || PACK.with(|pack| Engine::new(pack.clone(), [1; 16]).expect("the fields are known"));
    ENGINES.with_borrow_mut(|engines| {
        let (filtered, unfiltered) = engines.get_or_insert_with(|| (new(), new()));
        let (mut out, mut expected) = (Vec::new(), Vec::new());
        let outcome = filtered.process(data, ARRIVAL, &mut out);
        assert_eq!(outcome, unfiltered.process_unfiltered(data, ARRIVAL, &mut expected));
        assert!(out == expected, "the prefilter changes the answer");
        if let Outcome::Annotated { .. } = outcome {
            let end = data.iter().rposition(|byte| *byte == b'}').expect("an object ends");
            assert!(out.starts_with(&data[..end]) && out.ends_with(&data[end..]), "the record's bytes changed");
            assert!(
                serde_json::from_slice::<serde_json::Value>(&out[end + 1..out.len() - (data.len() - end)]).is_err()
            );
            let appended = [b"{", &out[end + 1..out.len() - (data.len() - end)], b"}"].concat();
            serde_json::from_slice::<serde_json::Value>(&appended).expect("what is appended is valid");
        }
    });
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs a target over its seeds and findings, each in a file.
    fn replay(target: &str, run: fn(&[u8])) {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = 0;
        for directory in [tests.join("seeds").join(target), tests.join("../crashes").join(target)] {
            for file in fs::read_dir(directory).into_iter().flatten() {
                run(&fs::read(file.expect("a file of the list").path()).expect("a readable file"));
                files += 1;
            }
        }
        assert!(files > 0, "{target} has neither seeds nor findings");
    }

    #[test]
    fn event_reader() {
        replay("event_reader", super::event_reader);
    }

    #[test]
    fn kql() {
        replay("kql", super::kql);
    }

    #[test]
    fn pack() {
        replay("pack", super::pack);
    }

    #[test]
    fn process() {
        replay("process", super::process);
    }

    #[test]
    fn state_file() {
        replay("state_file", super::state_file);
    }
}
