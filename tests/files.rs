//! The files of the configuration directory in states that deployments bring about: links, pipes, packs that were cut, files of another
//! user's.
//!
//! In: directories. Out: how the module starts in them, and what it writes to standard error. Not here: each cut and flipped byte of a pack
//! or of a state file (unit tests of the engine).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use firstseen::guest::{Answer, Entry, Error, Instance, Module, Options};
use firstseen_engine::rule::pack;

use crate::subjects::{compiled, module, module_file};

const PACK: &str = "firstseen.pack";
const LAST: &str = "firstseen.pack.last";

const CALL: &str = r#"{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventTime":"2026-11-01T00:00:00Z","eventID":"e-1","userIdentity":{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/bob"}}"#;

/// A pack whose alerts are under this key.
fn pack_with_key(key: &str) -> Vec<u8> {
    pack::encode(&compiled(Some(&format!("output_key = \"{key}\"")), &[]))
}

fn start(directory: &Path) -> Result<Instance, Error> {
    module().instantiate_captured(Some(directory))
}

fn lines(instance: &Instance) -> Vec<String> {
    String::from_utf8_lossy(instance.captured_stderr()).lines().map(str::to_owned).collect()
}

/// The key under which the alert of a call is.
fn key(instance: &mut Instance) -> String {
    match instance.call(Entry::Firstseen, b"tag", 1_793_491_200, 0, CALL.as_bytes()).expect("an answer") {
        Answer::Changed(out) => {
            let out: serde_json::Map<_, _> = serde_json::from_slice(&out).expect("an object");
            out.keys().find(|key| !CALL.contains(&format!("\"{key}\""))).expect("an alert").clone()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pack_behind_the_links_of_a_config_map_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    fs::create_dir(path.join("..2026_11_28_12_00_00.1234")).expect("a directory");
    fs::write(path.join("..2026_11_28_12_00_00.1234").join(PACK), pack_with_key("linked")).expect("a pack");
    symlink("..2026_11_28_12_00_00.1234", path.join("..data")).expect("a link");
    symlink(format!("..data/{PACK}"), path.join(PACK)).expect("a link");
    let mut instance = start(path).expect("the module starts");
    assert_eq!(key(&mut instance), "linked");
    // A history is nobody's link.
    let elsewhere = tempfile::tempdir().expect("a directory");
    fs::rename(path.join("firstseen.state"), elsewhere.path().join("state")).expect("it is there");
    symlink(elsewhere.path().join("state"), path.join("firstseen.state")).expect("a link");
    let instance = start(path).expect("the module starts");
    assert!(lines(&instance).iter().any(|line| line.contains("it is a symbolic link")), "{:?}", lines(&instance));
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    for name in [PACK, "firstseen.state", "firstseen.state.new", LAST, "rules"] {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join(name);
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        let (sender, receiver) = std::sync::mpsc::channel();
        let path = directory.path().to_owned();
        std::thread::spawn(move || {
            let said = match start(&path) {
                Ok(mut instance) => {
                    key(&mut instance);
                    lines(&instance).concat()
                }
                Err(error) => error.to_string(),
            };
            let _ = sender.send(said);
        });
        let said = receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not hang");
        match name {
            LAST => assert_eq!(said, ""),
            "rules" => assert!(said.contains("there is rules, but no firstseen.pack"), "{said}"),
            _ => assert!(said.contains("it is not a regular file"), "{name}: {said}"),
        }
    }
}

#[test]
fn the_pack_that_ran_last_runs_in_place_of_one_that_cannot_if_there_is_a_history() {
    let (good, other) = (pack_with_key("good"), pack_with_key("other_key"));
    let cut = &good[..good.len() / 2];
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    // One that never ran is not replaced by another.
    fs::write(path.join(PACK), cut).expect("a pack");
    assert!(start(path).is_err());
    fs::write(path.join(PACK), &good).expect("a pack");
    assert_eq!(key(&mut start(path).expect("the module starts")), "good");
    assert_eq!(fs::read(path.join(LAST)).expect("it is kept"), good);

    let damages: [(&str, &dyn Fn()); 4] = [
        ("firstseen.pack cannot be used: ", &|| fs::write(path.join(PACK), cut).expect("a pack")),
        ("firstseen.pack cannot be used: ", &|| fs::write(path.join(PACK), b"").expect("a pack")),
        ("firstseen.pack cannot be read (it is a directory)", &|| {
            fs::remove_file(path.join(PACK)).expect("it is there");
            fs::create_dir(path.join(PACK)).expect("a directory");
        }),
        ("there is firstseen.toml, but no firstseen.pack", &|| {
            fs::remove_dir(path.join(PACK)).expect("it is there");
            fs::write(path.join("firstseen.toml"), "output_key = \"good\"").expect("settings");
        }),
    ];
    for (why, damage) in damages {
        damage();
        let mut instance = start(path).expect("the last pack runs");
        assert_eq!(key(&mut instance), "good");
        let said = lines(&instance);
        assert!(
            said.len() == 1 && said[0].contains(why) && said[0].contains("the rules of firstseen.pack.last run"),
            "{said:?}"
        );
    }
    // A new one that can be used is, and it is the last from then on.
    fs::write(path.join(PACK), &other).expect("a pack");
    let mut instance = start(path).expect("the module starts");
    assert_eq!((key(&mut instance), lines(&instance)), ("other_key".to_owned(), Vec::new()));
    assert_eq!(fs::read(path.join(LAST)).expect("it is kept"), other);

    // Without a history there is nothing to lose.
    fs::write(path.join(PACK), cut).expect("a pack");
    fs::remove_file(path.join("firstseen.state")).expect("it is there");
    assert!(start(path).is_err());
    // Nor is a damaged one run.
    fs::write(path.join("firstseen.state"), b"").expect("a state file");
    fs::write(path.join(LAST), cut).expect("a pack");
    assert!(start(path).is_err());
}

#[test]
fn a_pack_is_kept_once_and_not_with_each_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    fs::write(path.join(PACK), pack_with_key("good")).expect("a pack");
    let changed = || fs::metadata(path.join(LAST)).and_then(|found| found.modified()).expect("it is kept");
    start(path).expect("the module starts");
    let first = changed();
    std::thread::sleep(std::time::Duration::from_millis(30));
    for _ in 0..3 {
        start(path).expect("the module starts");
    }
    assert_eq!(changed(), first);
    assert!(!path.join("firstseen.pack.last.new").exists());
}

#[test]
fn lines_name_the_directory_where_several_filters_write_to_one_standard_error() {
    static NAMING: OnceLock<Module> = OnceLock::new();
    let options = Options { names_directory: true, ..Options::default() };
    let module = NAMING.get_or_init(|| {
        Module::compile(&fs::read(module_file()).expect("the module"), &options).expect("the module compiles")
    });
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("firstseen.state.new")).expect("what keeps the state file from being written");
    let instance = module.instantiate_captured(Some(directory.path())).expect("the module starts");
    let expected = format!(
        "firstseen: {}: the history is kept in memory only, since firstseen.state cannot be written (it is a directory)",
        directory.path().display()
    );
    assert!(lines(&instance).len() == 1 && lines(&instance)[0].starts_with(&expected), "{:?}", lines(&instance));
    let instance = module.instantiate_captured(None).expect("the module starts");
    assert!(lines(&instance)[0].starts_with("firstseen: the history is kept in memory only"), "{:?}", lines(&instance));
}
