//! The file of a `wasm_path`, the function in it, and the format of the calls.

use std::fs;
use std::path::Path;

use firstseen::fluent_bit::Step;
use memchr::memmem;
use wasmparser::{Parser, Payload};

use super::access::Want;
use super::{Check, FUNCTIONS};

/// What else Fluent Bit calls or reads in the module.
const EXPORTS: [&str; 3] = ["malloc", "free", "memory"];

/// What stands in the file of a `wasm_path`.
#[derive(Debug, Clone)]
pub(super) enum ModuleFile {
    /// Nothing that can be read, and why.
    Unreadable(String),
    /// No WebAssembly, and why.
    NotWebAssembly(String),
    /// A module, and the names of its exports.
    Module(Vec<String>),
    /// A module compiled ahead of time, whose exports are not read, and whether it has the name of one of ours in it.
    Compiled(bool),
}

impl ModuleFile {
    pub(super) fn read(path: &Path) -> ModuleFile {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return ModuleFile::Unreadable(error.to_string()),
        };
        // The header of what flb-wamrc makes.
        if bytes.starts_with(b"\0aot") {
            return ModuleFile::Compiled(memmem::find(&bytes, FUNCTIONS[1].as_bytes()).is_some());
        }
        if !bytes.starts_with(b"\0asm") {
            return ModuleFile::NotWebAssembly("it does not begin with \\0asm".to_owned());
        }
        let mut exports = Vec::new();
        for payload in Parser::new(0).parse_all(&bytes) {
            let names = payload.and_then(|payload| match payload {
                Payload::ExportSection(section) => {
                    section.into_iter().map(|export| Ok(export?.name.to_owned())).collect()
                }
                _ => Ok(Vec::new()),
            });
            match names {
                Ok(names) => exports.extend(names),
                Err(error) => return ModuleFile::NotWebAssembly(error.message().to_owned()),
            }
        }
        ModuleFile::Module(exports)
    }

    /// Whether this is firstseen's, however little of it is there.
    pub(super) fn is_ours(&self) -> bool {
        match self {
            ModuleFile::Module(exports) => exports.iter().any(|export| FUNCTIONS.contains(&export.as_str())),
            ModuleFile::Compiled(named) => *named,
            ModuleFile::Unreadable(_) | ModuleFile::NotWebAssembly(_) => false,
        }
    }
}

impl Check {
    pub(super) fn module(&mut self, step: &Step) -> Option<&ModuleFile> {
        let path = &step.property("wasm_path")?.value;
        Some(self.modules.entry(path.clone()).or_insert_with(|| ModuleFile::read(Path::new(path))))
    }

    /// Whether a wasm filter is firstseen's, or is meant to be. One that cannot be read may be.
    pub(super) fn is_ours(&mut self, step: &Step) -> bool {
        let named = step.property("function_name").is_some_and(|name| FUNCTIONS.contains(&name.value.as_str()));
        let module = self.module(step);
        named || module.is_some_and(|module| module.is_ours() || matches!(module, ModuleFile::Unreadable(_)))
    }

    pub(super) fn check_module(&mut self, step: &Step) {
        const TAKE: &str = "name the module that came with this program";
        let Some(path) = step.property("wasm_path") else {
            self.find(&step.place, "the filter has no WASM_Path", TAKE);
            return;
        };
        let file = &path.value;
        self.check_access(&path.place, "WASM_Path", Path::new(file), Want::READ);
        let what = match self.module(step) {
            Some(ModuleFile::Unreadable(reason)) => format!("WASM_Path {file} cannot be read ({reason})"),
            Some(ModuleFile::NotWebAssembly(reason)) => format!("WASM_Path {file} is no WebAssembly module ({reason})"),
            Some(ModuleFile::Module(exports)) => {
                let missing =
                    FUNCTIONS.iter().chain(&EXPORTS).find(|name| !exports.iter().any(|export| export == *name));
                match missing {
                    Some(name) => format!("WASM_Path {file} is not firstseen's module: it exports no {name}"),
                    None => return,
                }
            }
            Some(ModuleFile::Compiled(true)) | None => return,
            Some(ModuleFile::Compiled(false)) => {
                format!("WASM_Path {file} is not firstseen's module: the name {} is not in it", FUNCTIONS[1])
            }
        };
        self.find(&path.place, what, TAKE);
    }

    pub(super) fn check_function(&mut self, step: &Step) {
        let [all, alerts] = FUNCTIONS;
        let to_do = format!("set it to {all}, or to {alerts} to pass only events with alerts");
        match step.property("function_name") {
            None => self.find(&step.place, "the filter has no Function_Name", to_do),
            // What an unreadable file exports is not known.
            Some(name)
                if !FUNCTIONS.contains(&name.value.as_str()) && self.module(step).is_some_and(ModuleFile::is_ours) =>
            {
                let what = format!("the module has no function {}", name.value);
                self.find(&name.place, what, to_do);
            }
            Some(_) => {}
        }
    }

    /// Fluent Bit calls the module with JSON unless it is told otherwise.
    pub(super) fn check_format(&mut self, step: &Step) {
        let Some(format) = step.property("event_format") else { return };
        if format.value.eq_ignore_ascii_case("json") {
            return;
        }
        let what = match format.value.eq_ignore_ascii_case("msgpack") {
            true => "with Event_Format msgpack Fluent Bit itself loses records".to_owned(),
            false => format!("Event_Format {} is none that Fluent Bit knows", format.value),
        };
        self.find(&format.place, what, "set it to json");
    }
}
