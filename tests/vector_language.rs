//! Programs in VRL, Vector's language, compiled and run as Vector does it.
//!
//! In: a program's source, then events. Out: whether a condition holds; what becomes of an event in a `remap`. Not here:
//! Vector's components around a program.

use std::sync::OnceLock;

use serde_json::{Value, json};
use vrl::compiler::runtime::{Runtime, Terminate};
use vrl::compiler::{CompilationResult, CompileConfig, Function, Program, TargetValue, TimeZone, TypeState};
use vrl::value::Secrets;

/// The lookup that Vector adds to the language.
mod enrichment_table;

/// What may stand in a `route` or a `filter`: it changes nothing, cannot fail, and is true or false.
pub(crate) struct Condition(Program);

impl Condition {
    /// Compiles a condition; what Vector would refuse, warn of, or fail on with some event is a panic.
    pub(crate) fn new(source: &str) -> Condition {
        let mut config = CompileConfig::default();
        config.set_read_only();
        let program = compiled(source, config);
        assert!(program.final_type_info().result.is_boolean(), "no boolean:\n{source}");
        assert!(!program.info().fallible && !program.info().abortable, "it can fail:\n{source}");
        Condition(program)
    }

    pub(crate) fn holds(&self, event: &Value) -> bool {
        let value = Runtime::default().resolve(&mut target(event), &self.0, &TimeZone::default());
        value.expect("a condition that cannot fail").as_boolean().expect("a boolean")
    }
}

/// The program of a `remap`.
pub(crate) struct Remap(Program);

impl Remap {
    pub(crate) fn new(source: &str) -> Remap {
        Remap(compiled(source, CompileConfig::default()))
    }

    /// The events that come of one. An array makes one of each of its elements; what fails leaves the event as it came.
    pub(crate) fn run(&self, event: &Value) -> Vec<Value> {
        let mut target = target(event);
        match Runtime::default().resolve(&mut target, &self.0, &TimeZone::default()) {
            Ok(_) => {}
            Err(Terminate::Error(_)) => return vec![event.clone()],
            Err(other) => panic!("the event would be dropped: {other:?}"),
        }
        let events = match serde_json::to_value(target.value).expect("JSON") {
            Value::Array(events) => events,
            event => vec![event],
        };
        let wrapped = |event: Value| if event.is_object() { event } else { json!({ "message": event }) };
        events.into_iter().map(wrapped).collect()
    }
}

fn compiled(source: &str, config: CompileConfig) -> Program {
    static FUNCTIONS: OnceLock<Vec<Box<dyn Function>>> = OnceLock::new();
    let functions = FUNCTIONS.get_or_init(|| {
        let mut functions = vrl::stdlib::all();
        functions.push(Box::new(enrichment_table::GetEnrichmentTableRecord));
        functions
    });
    match vrl::compiler::compile_with_state(source, functions, &TypeState::default(), config) {
        Ok(CompilationResult { program, warnings, .. }) => {
            assert!(warnings.is_empty(), "{warnings:?}\n{source}");
            program
        }
        Err(errors) => panic!("{errors:?}\n{source}"),
    }
}

fn target(event: &Value) -> TargetValue {
    TargetValue {
        value: event.into(),
        metadata: vrl::value::Value::Object(Default::default()),
        secrets: Secrets::default(),
    }
}
