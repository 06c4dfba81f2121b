//! `firstseen compile` and `firstseen rules check`: which files are read, what is said of the others, and what compiles but is
//! probably not meant.
//!
//! In: configuration directories and folders of rules. Out: packs, lines, exit codes. Not here: what a rule's text means, and the
//! sentences on it (unit tests of the engine's compiler).

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{EVENT, PASS_THROUGH, RULE, firstseen, module, text, told};

/// A rule like [`RULE`] with another id and name.
fn rule(number: u32) -> String {
    RULE.replace("000000000001", &format!("{number:012}")).replace("First console login", &format!("Rule {number}"))
}

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The ids' last digits of the rules in a directory's pack, after the built-in ones.
fn own_rules(directory: &Path) -> Vec<String> {
    let pack = firstseen_engine::rule::pack::decode(&fs::read(directory.join("firstseen.pack")).unwrap()).unwrap();
    let own = pack.rules.iter().filter(|rule| rule.id.starts_with("7d8f0b9e-"));
    own.map(|rule| rule.id.trim_start_matches("7d8f0b9e-0000-4000-8000-").trim_start_matches('0').to_owned()).collect()
}

#[cfg(unix)]
#[test]
fn what_stands_among_rules_and_is_not_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    write(path, "rules/login.toml", &rule(1));
    for file in [".login.toml.swp", ".git/config.toml"] {
        write(path, &format!("rules/{file}"), "hidden, so nothing is said of it");
    }
    assert_eq!(told(&firstseen(&["compile", dir], b"")).2, "");
    write(path, "rules/export.NDJSON", "{\"rule_id\":\"x\",\"query\":\"*\",\"risk_score\":1}\n");
    write(path, "rules/aws/sigma.yml", "title: x\n");
    write(path, "rules/login.toml.bak", &rule(1));
    write(path, "export.ndjson", "{\"rule_id\":\"x\",\"query\":\"*\",\"risk_score\":1}\n");
    write(path, "history.ndjson", "{\"rule\":\"x\"}\n");
    write(path, "firstseen.yaml", "capacity: 1\n");
    write(path, "Rules/other.toml", &rule(2));
    std::os::unix::fs::symlink("nowhere", path.join("rules/link.txt")).unwrap();
    std::os::unix::fs::symlink("..", path.join("rules/aws/loop")).unwrap();
    let fifo = path.join("rules/pipe");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());

    let kibana = "rules are TOML files, not JSON as Kibana exports it; write each of its rules as a .toml file in \
                  the schema of Elastic's rule files";
    let expected: String = [
        ("Rules", "rules are read from the folder rules; move it into the folder rules if it holds rules"),
        ("export.ndjson", kibana),
        (
            "firstseen.yaml",
            "settings are read from firstseen.toml, rules from the folder rules; move it into the folder rules if it holds rules",
        ),
        ("rules/aws/loop", "links make it the same folder as another one, which is read; remove the link"),
        (
            "rules/aws/sigma.yml",
            "rules are TOML files, not YAML as Sigma's are; write the rule as a .toml file in the schema of Elastic's \
             rule files",
        ),
        ("rules/export.NDJSON", kibana),
        ("rules/link.txt", "it is a link to nothing; correct or remove the link"),
        ("rules/login.toml.bak", "rules are files that end in .toml; rename it if it is a rule, or move it elsewhere"),
        ("rules/pipe", "it is not a regular file; remove it"),
    ]
    .iter()
    .map(|(file, said)| format!("firstseen: warning: {dir}/{file} is not read: {said}\n"))
    .collect();
    for command in
        [&["compile", dir][..], &["rules", "check", dir], &["rules", "check", &format!("{dir}/firstseen.toml")]]
    {
        if command.last().unwrap().ends_with(".toml") {
            write(path, "firstseen.toml", "");
        }
        let output = firstseen(command, b"");
        let (code, out, err) = told(&output);
        assert_eq!((code, err), (Some(0), expected.as_str()), "{command:?}");
        assert!(out.contains(": 4 rules"), "{out}");
    }
    // Also before Fluent Bit starts, beside what else is found.
    assert_eq!(firstseen(&["compile", dir], b"").status.code(), Some(0));
    let config = path.join("fluent-bit.conf");
    let filter =
        format!("[FILTER]\n    Name wasm\n    Match *\n    Function_Name firstseen\n    Accessible_Paths {dir}\n");
    fs::write(&config, filter).unwrap();
    let output = firstseen(&["check", config.to_str().unwrap()], b"");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), expected.as_str()));
}

#[test]
fn many_things_that_are_not_read_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for number in 0..120 {
        write(path, &format!("rules/{number}.txt"), "");
    }
    let output = firstseen(&["compile", path.to_str().unwrap()], b"");
    let (code, _, err) = told(&output);
    assert_eq!((code, err.lines().count()), (Some(0), 21));
    assert_eq!(err.lines().last(), Some("firstseen: warning: and 100 more files and folders that are not read"));
}

#[cfg(unix)]
#[test]
fn rules_in_folders_are_read_in_the_order_of_their_paths() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    for (number, file) in [(1, "b.toml"), (2, "a/z.toml"), (3, "a/b/c/d.TOML"), (4, "c/a.toml")] {
        write(path, &format!("rules/{file}"), &rule(number));
    }
    // As a mounted directory of Kubernetes is made: links to files in a hidden folder.
    write(path, "rules/..data/k.toml", &rule(5));
    std::os::unix::fs::symlink("..data/k.toml", path.join("rules/k.toml")).unwrap();
    write(path, "elsewhere/.keep", "");
    write(path, "elsewhere/deep/x.toml", &rule(6));
    std::os::unix::fs::symlink("../elsewhere", path.join("rules/linked")).unwrap();
    let output = firstseen(&["compile", dir], b"");
    let (code, _, err) = told(&output);
    assert_eq!((code, err), (Some(0), ""));
    assert_eq!(own_rules(path), ["3", "2", "1", "4", "5", "6"]);

    // One that is newer than the pack is noticed wherever it stands.
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::options().append(true).open(path.join("rules/a/b/c/d.TOML")).unwrap().set_modified(later).unwrap();
    let module = module(path, PASS_THROUGH);
    let output =
        firstseen(&["run", "--dir", dir, "--module", module.to_str().unwrap(), "-"], format!("{EVENT}\n").as_bytes());
    assert!(text(&output.stderr).contains(&format!("is older than {dir}/rules/a/b/c/d.TOML")), "{output:?}");

    // Folders beyond the bound are named.
    let deep = (0..20).map(|number| number.to_string()).collect::<Vec<_>>().join("/");
    write(path, &format!("rules/{deep}/deep.toml"), &rule(7));
    let output = firstseen(&["compile", dir], b"");
    let deepest = (0..16).map(|number| number.to_string()).collect::<Vec<_>>().join("/");
    let warning = format!(
        "firstseen: warning: {dir}/rules/{deepest} is not read: folders of rules are read 16 deep; move it further up\n"
    );
    assert_eq!(told(&output).2, warning);

    // A rule that cannot be read is an error wherever it stands.
    std::os::unix::fs::symlink("nowhere", path.join("rules/c/gone.toml")).unwrap();
    let output = firstseen(&["compile", dir], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains(&format!("firstseen: cannot read {dir}/rules/c/gone.toml: ")), "{output:?}");
    fs::remove_file(path.join("rules/c/gone.toml")).unwrap();
    assert!(Command::new("mkfifo").arg(path.join("rules/c/pipe.toml")).status().unwrap().success());
    let output = firstseen(&["rules", "check", dir], b"");
    assert_eq!(output.status.code(), Some(2));
    let error = format!("firstseen: cannot read {dir}/rules/c/pipe.toml: it is no regular file\n");
    assert!(text(&output.stderr).ends_with(&error), "{output:?}");
}

#[test]
fn rules_check_finds_the_rules_of_a_tree_and_no_rule_is_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let tree = path.join("tree");
    let dir = tree.to_str().unwrap();
    fs::create_dir_all(tree.join("empty/inside")).unwrap();
    write(&tree, "notes.txt", "");
    // A tree may be a checkout, whose own files are no rules.
    write(&tree, "pyproject.toml", "[project]\n");
    let output = firstseen(&["rules", "check", dir], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(1), ""));
    let sentence =
        format!("{dir}: 0 rules: no .toml file with a rule was found in 3 folders; name a folder with rules");
    assert_eq!(err.lines().last(), Some(sentence.as_str()), "{err}");
    assert!(
        err.contains("notes.txt is not read") && err.contains("pyproject.toml is not read: it holds no rule"),
        "{err}"
    );

    write(&tree, "aws/iam/one.toml", &rule(1));
    write(&tree, "aws/sts/two.toml", &rule(2));
    write(
        &tree,
        "filters/east/firstseen.toml",
        "[rules.\"7d8f0b9e-0000-4000-8000-000000000001\"]\nhistory_window = \"9d\"\n",
    );
    write(&tree, "filters/east/rules/one.toml", &rule(1));
    let output = firstseen(&["rules", "check", dir], b"");
    let (code, out, _) = told(&output);
    assert_eq!(code, Some(0), "{output:?}");
    assert!(out.starts_with(&format!("{dir}: 2 rules, none refused\n")), "{out}");
    assert!(out.contains(&format!("{dir}/filters/east: 4 rules, none refused\n")) && out.contains("  9d "), "{out}");

    // A folder of the name `rules` makes no configuration directory of a checkout, nor of what it is in.
    write(&tree, "rules/three.toml", &rule(3));
    let output = firstseen(&["rules", "check", dir], b"");
    assert!(text(&output.stdout).starts_with(&format!("{dir}: 3 rules, none refused\n")), "{output:?}");
    fs::remove_file(tree.join("pyproject.toml")).unwrap();
    fs::remove_file(tree.join("rules/three.toml")).unwrap();
    write(&tree, "rules/firstseen.toml", "");
    let output = firstseen(&["rules", "check", dir], b"");
    let (code, out, _) = told(&output);
    assert_eq!(code, Some(0), "{output:?}");
    assert!(out.starts_with(&format!("{dir}: 2 rules, none refused\n")), "{out}");
    assert!(out.contains(&format!("{dir}/rules: 3 rules, none refused\n")), "{out}");
    fs::remove_dir_all(tree.join("rules")).unwrap();

    // What is wrong is named wherever it stands, and all of it.
    write(&tree, "aws/sts/bad.toml", &rule(3).replace("ConsoleLogin\"", "ConsoleLogin"));
    write(&tree, "filters/east/rules/bad.toml", &rule(3).replace("severity = \"high\"", "severity = \"huge\""));
    let output = firstseen(&["rules", "check", dir], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(1), ""));
    assert!(err.contains("aws/sts/bad.toml:7:") && err.contains("filters/east/rules/bad.toml:8:"), "{err}");
}

#[test]
fn a_directory_without_a_rule_that_is_on_gives_no_pack() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    let off = |id: &str| format!("[rules.\"{id}\"]\nenabled = false\n");
    let all_off: String = [
        "b2f8c4e1-6a73-4f1e-9c2d-8e5b0a1d3f7c",
        "30fbf4db-c502-4e68-a239-2e99af0f70da",
        "32555639-b639-4c2b-afda-c0ae0abefa55",
    ]
    .map(off)
    .concat();
    write(path, "firstseen.toml", &all_off);
    let sentence =
        "0 rules: every built-in rule is switched off, and the folder rules holds no other that is on".to_owned();
    let output = firstseen(&["compile", dir], b"");
    let error = format!("firstseen: {dir}: {sentence}; no pack is written\n");
    assert_eq!(told(&output), (Some(2), "", error.as_str()));
    assert!(!path.join("firstseen.pack").exists());
    let output = firstseen(&["rules", "check", dir], b"");
    assert_eq!(told(&output), (Some(1), "", format!("{dir}: {sentence}\n").as_str()));
    write(path, "rules/own.toml", &rule(1));
    assert_eq!(firstseen(&["compile", dir], b"").status.code(), Some(0));
    assert_eq!(own_rules(path), ["1"]);
}

#[test]
fn an_own_rule_in_the_place_of_a_built_in_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    let id = "30fbf4db-c502-4e68-a239-2e99af0f70da";
    write(path, "rules/own.toml", &RULE.replace("7d8f0b9e-0000-4000-8000-000000000001", id));
    let line = format!(
        "  {dir}/rules/own.toml takes the place of the built-in rule \"First GetCallerIdentity by an identity that is not an \
         assumed role\" ({id})\n"
    );
    for command in [&["compile", dir][..], &["rules", "check", dir]] {
        let output = firstseen(command, b"");
        let (code, out, err) = told(&output);
        assert_eq!((code, err), (Some(0), ""));
        assert!(out.contains(": 3 rules") && out.ends_with(&line), "{out}");
    }
    let pack = firstseen_engine::rule::pack::decode(&fs::read(path.join("firstseen.pack")).unwrap()).unwrap();
    let names: Vec<&str> = pack.rules.iter().filter(|rule| rule.id == id).map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["First console login of a user"]);
}

#[test]
fn what_compiles_but_is_probably_not_meant_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let dir = path.to_str().unwrap();
    let block = rule(1)
        .replace("[\"user.name\"]", "[\"user.name\", \"event.id\"]")
        .replace("severity", "building_block_type = \"default\"\nseverity");
    write(path, "rules/own.toml", &block);
    let settings =
        "[rules.\"30fbf4db-c502-4e68-a239-2e99af0f70da\"]\nexceptions = ['user_agent.original: *terraform*']\n";
    write(path, "firstseen.toml", settings);
    for command in [&["compile", dir][..], &["rules", "check", dir]] {
        let output = firstseen(command, b"");
        let (code, out, err) = told(&output);
        assert_eq!((code, err.lines().count()), (Some(0), 2), "{err}");
        let exception =
            format!("firstseen: warning: {dir}/firstseen.toml:2:16: the exception rests on user_agent.original: ");
        let field = format!("firstseen: warning: {dir}/rules/own.toml:14:23: new_terms names event.id, ");
        assert!(err.starts_with(&exception) && err.contains(&field), "{err}");
        assert!(out.contains("(7d8f0b9e-0000-4000-8000-000000000001), a building block\n"), "{out}");
    }
}

#[cfg(unix)]
#[test]
fn a_pack_that_is_there_and_cannot_be_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("conf");
    fs::create_dir(&path).unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let (dir, module) = (path.to_str().unwrap(), module.to_str().unwrap());
    let pack = path.join("firstseen.pack");
    let input = directory.path().join("in.ndjson");
    fs::write(&input, format!("{EVENT}\n")).unwrap();
    let input = input.to_str().unwrap();
    let all_say = |reason: &str| {
        for command in [
            &["run", "--dir", dir, "--module", module, input][..],
            &["replay", "--dir", dir, "--module", module, input],
            &["baseline", "--dir", dir, input],
            &["serve", "--dir", dir, "--respond", "--listen", "127.0.0.1:0", "--module", module],
        ] {
            let output = firstseen(command, b"");
            assert_eq!(output.status.code(), Some(2), "{command:?}: {output:?}");
            let sentence = format!("{}{reason}", pack.display());
            assert!(text(&output.stderr).contains(&sentence), "{command:?}: {output:?}");
        }
    };
    assert!(Command::new("mkfifo").arg(&pack).status().unwrap().success());
    all_say(": it is no regular file");
    fs::remove_file(&pack).unwrap();
    fs::create_dir(&pack).unwrap();
    all_say(": is a directory");
    fs::remove_dir(&pack).unwrap();
    fs::File::create(&pack).unwrap().set_len((16 << 20) + 1).unwrap();
    all_say(": it is larger than 16 MiB");
    fs::remove_file(&pack).unwrap();
    std::os::unix::fs::symlink("nowhere", &pack).unwrap();
    all_say(" is a link to nothing");
}
