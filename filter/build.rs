//! Compiles the built-in rules to the pack that is built into the module.

use std::{env, error::Error, fs, path::Path};

use firstseen_engine::rule::{builtin, compile, pack};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let pack = compile::builtin(&builtin::FILES).map_err(|refusals| {
        let lines: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("builtin.pack"), pack::encode(&pack))?;
    Ok(())
}
