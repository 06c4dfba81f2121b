//! What the module asks of its host, and what it offers.
//!
//! In: the built module. Out: that its imports, exports, size and WebAssembly features are the ones that Fluent Bit's
//! runtime has. Not here: what the functions do.

use std::collections::BTreeSet;
use std::path::PathBuf;

use firstseen::guest::{Module, Options};

use wasmparser::types::EntityType;
use wasmparser::{BlockType, Operator, Parser, Payload, ValType, Validator, WasmFeatures};

use crate::subjects::{module, module_file, portable_module_file};

/// The module's largest size, in bytes.
const MAX_SIZE: usize = 200_000;

fn bytes() -> Vec<u8> {
    read(module_file())
}

fn read(file: PathBuf) -> Vec<u8> {
    std::fs::read(&file).unwrap_or_else(|error| panic!("{} cannot be read: {error}", file.display()))
}

/// The module's file and that of the portable build.
fn both() -> [Vec<u8>; 2] {
    [bytes(), read(portable_module_file())]
}

#[test]
fn exports_are_these() {
    let mut exports = module().exports();
    exports.sort();
    // The first two are constants that the linker adds.
    let expected = [
        "__data_end",
        "__heap_base",
        "_initialize",
        "firstseen",
        "firstseen_alerts",
        "firstseen_status",
        "free",
        "malloc",
        "memory",
    ];
    assert_eq!(exports, expected);
}

#[test]
fn imports_are_native_search_and_wasi() {
    let [with_search, portable] = both().map(|bytes| {
        let module = Module::compile(&bytes, &Options::default()).expect("the module compiles");
        let mut imports = module.imports();
        imports.sort();
        imports
    });
    let wasi = [
        "fd_close",
        "fd_datasync",
        "fd_filestat_get",
        "fd_prestat_dir_name",
        "fd_read",
        "fd_write",
        "path_open",
        "path_rename",
        "random_get",
    ];
    let wasi = wasi.map(|name| format!("wasi_snapshot_preview1.{name}"));
    assert_eq!(portable, wasi);
    let expected: Vec<String> = ["env.memchr", "env.strstr"].map(String::from).into_iter().chain(wasi).collect();
    assert_eq!(with_search, expected);
}

/// WAMR lets a module start whose imports it has not, and ends the first call that needs one. So the module must call each
/// before it says that it has started: then such a host ends with one line, and no record is lost.
#[test]
fn every_import_is_called_at_the_start() {
    for bytes in both() {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, &bytes).expect("the module compiles");
        let imports: Vec<_> = module.imports().collect();
        let start = |lacking: Option<&str>| {
            let mut store = wasmtime::Store::new(&engine, BTreeSet::<String>::new());
            let mut linker = wasmtime::Linker::new(&engine);
            for import in &imports {
                let name = import.name().to_owned();
                let ty = import.ty().func().expect("imports are functions").clone();
                let is_lacking = lacking == Some(import.name());
                let function = move |mut caller: wasmtime::Caller<'_, BTreeSet<String>>,
                                     _: &[wasmtime::Val],
                                     results: &mut [wasmtime::Val]| {
                    if is_lacking {
                        return Err(wasmtime::Error::msg("failed to call unlinked import function"));
                    }
                    caller.data_mut().insert(name.clone());
                    // Of WASI's functions: bad file descriptor, but random bytes there are.
                    let result = if name == "random_get" || !name.contains('_') { 0 } else { 8 };
                    results.iter_mut().for_each(|place| *place = wasmtime::Val::I32(result));
                    Ok(())
                };
                linker.func_new(import.module(), import.name(), ty, function).expect("a function is defined");
            }
            let instance = linker.instantiate(&mut store, &module).expect("the module is instantiated");
            let initialize = instance.get_typed_func::<(), ()>(&mut store, "_initialize").expect("it is exported");
            let started = initialize.call(&mut store, ());
            (started.is_ok(), store.into_data())
        };
        let (started, called) = start(None);
        assert!(started, "with all imports the module starts");
        assert_eq!(called.len(), imports.len(), "{called:?}");
        for import in &imports {
            assert!(!start(Some(import.name())).0, "the module starts without {}", import.name());
        }
    }
}

#[test]
fn functions_have_the_types_that_fluent_bit_calls() {
    let bytes = bytes();
    let types = Validator::new().validate_all(&bytes).expect("the module is valid");
    let types = types.as_ref();
    let mut seen = Vec::new();
    for payload in Parser::new(0).parse_all(&bytes) {
        let Payload::ExportSection(exports) = payload.expect("the module is valid") else {
            continue;
        };
        for export in exports {
            let export = export.expect("an export");
            if let Some(EntityType::Func(id)) = types.entity_type_from_export(&export) {
                let function = types[id].unwrap_func();
                let mut all = function.params().iter().chain(function.results());
                assert!(all.all(|value| *value == ValType::I32), "{}", export.name);
                seen.push((export.name, function.params().len(), function.results().len()));
            }
        }
    }
    seen.sort_unstable();
    let expected = [
        ("_initialize", 0, 0),
        ("firstseen", 6, 1),
        ("firstseen_alerts", 6, 1),
        ("firstseen_status", 0, 1),
        ("free", 1, 0),
        ("malloc", 1, 1),
    ];
    assert_eq!(seen, expected);
}

macro_rules! define_proposal_of {
    ($( @$proposal:ident $operator:ident $({ $($argument:ident: $type:ty),* })? => $visit:ident ($($rest:tt)*) )*) => {
        /// The WebAssembly proposal that an instruction came with.
        fn proposal_of(operator: &Operator<'_>) -> &'static str {
            match operator {
                $( Operator::$operator { .. } => stringify!($proposal), )*
                _ => "unknown",
            }
        }
    };
}
wasmparser::for_each_operator!(define_proposal_of);

#[test]
fn features_are_the_ones_of_the_oldest_runtime() {
    both().iter().for_each(|bytes| assert_old_features(bytes));
}

fn assert_old_features(bytes: &[u8]) {
    let features =
        WasmFeatures::MVP | WasmFeatures::BULK_MEMORY | WasmFeatures::SIGN_EXTENSION | WasmFeatures::MUTABLE_GLOBAL;
    Validator::new_with_features(features).validate_all(bytes).expect("MVP and three proposals are enough");
    let mut proposals = BTreeSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.expect("the module is valid") {
            Payload::TypeSection(types) => {
                for function in types.into_iter_err_on_gc_types() {
                    let results = function.expect("a function's type").results().len();
                    assert!(results <= 1, "a function with {results} results needs multi-value");
                }
            }
            Payload::TableSection(tables) => {
                assert_eq!(tables.count(), 1, "several tables need reference types");
            }
            Payload::MemorySection(memories) => {
                assert_eq!(memories.count(), 1);
                for memory in memories {
                    let memory = memory.expect("a memory");
                    assert!(!memory.memory64 && !memory.shared, "{memory:?}");
                }
            }
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().expect("instructions") {
                    let operator = operator.expect("an instruction");
                    if let Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } =
                        &operator
                    {
                        let is_plain = !matches!(blockty, BlockType::FuncType(_));
                        assert!(is_plain, "a block with parameters needs multi-value");
                    }
                    proposals.insert(proposal_of(&operator));
                }
            }
            _ => {}
        }
    }
    assert!(proposals.contains("mvp") && proposals.contains("bulk_memory"), "{proposals:?}");
    for proposal in &proposals {
        let is_there = ["mvp", "bulk_memory", "sign_extension"].contains(proposal);
        assert!(is_there, "instructions of {proposal}");
    }
}

#[test]
fn size_is_within_bounds() {
    for bytes in both() {
        let size = bytes.len();
        assert!(size <= MAX_SIZE, "the module has {size} bytes, more than {MAX_SIZE}");
    }
}
