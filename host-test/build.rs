//! Puts the module into the program if it has been built: `target/firstseen.wasm` of the workspace.

use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let module = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../target/firstseen.wasm");
    println!("cargo::rerun-if-changed={}", module.display());
    let embedded = match module.canonicalize() {
        Ok(module) => format!("Some(include_bytes!({module:?}))"),
        Err(_) => "None".to_owned(),
    };
    fs::write(Path::new(&env::var("OUT_DIR")?).join("embedded.rs"), embedded)?;
    Ok(())
}
