//! Where the module's bytes come from: a file that the user names, or the program itself.
//!
//! Not here: compiling them; where that is kept ([`compiled_modules`]).

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::compiled_modules;
use crate::guest::{Module, Options};

/// The module that was there when this program was built.
const EMBEDDED: Option<&[u8]> = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The bytes of the module in `file`, or of the built-in one.
///
/// # Errors
/// The file cannot be read, or none was named and none is built in.
pub fn read(file: Option<&Path>) -> anyhow::Result<Cow<'static, [u8]>> {
    match (file, EMBEDDED) {
        (Some(file), _) => {
            let bytes = fs::read(file).with_context(|| format!("cannot read the module {}", file.display()))?;
            Ok(Cow::Owned(bytes))
        }
        (None, Some(bytes)) => Ok(Cow::Borrowed(bytes)),
        (None, None) => anyhow::bail!(
            "this program was built without the module; name it with --module FILE, or run scripts/build-module and build again"
        ),
    }
}

/// The module in `file`, or the built-in one, compiled now or by an earlier start, to count its steps or not.
///
/// # Errors
/// Those of [`read`] and [`compile`].
pub fn load(file: Option<&Path>, fuel: bool) -> anyhow::Result<Module> {
    compile(&read(file)?, file, fuel)
}

/// The bytes that were read from `file`, or of the built-in module, compiled now or by an earlier start.
///
/// # Errors
/// Those of [`Module::compile`].
pub fn compile(bytes: &[u8], file: Option<&Path>, fuel: bool) -> anyhow::Result<Module> {
    let options = Options { fuel, cache: compiled_modules::directory(), ..Options::default() };
    Module::compile(bytes, &options).with_context(|| match file {
        Some(file) => format!("cannot load {}", file.display()),
        None => "cannot load the built-in module".to_owned(),
    })
}
