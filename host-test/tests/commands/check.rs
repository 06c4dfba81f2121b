//! `firstseen check`, as its user runs it: findings in both formats, with their lines.
//!
//! In: configurations with one thing wrong each, beside good ones, those of `tests/cases/fluent-bit` among them. Out: the lines and the
//! exit code. Not here: how the formats are read (`firstseen::fluent_bit`).

use std::path::Path;
use std::process::Command;

use firstseen::mmdb::{Value, database};

use super::{PASS_THROUGH, RULE, firstseen, module, text, told, unread};

/// The filters of a Fluent Bit configuration, each with its keys and values.
#[derive(Clone)]
struct Filters(Vec<Vec<(String, String)>>);

/// The formats of Fluent Bit's configurations, by the endings of their names.
const FORMATS: [&str; 2] = ["conf", "yaml"];

impl Filters {
    /// A lookup and firstseen, as they should be.
    fn good(module: &Path, directory: &Path) -> Filters {
        let database = directory.with_file_name("asn.mmdb");
        write_asn_database(&database);
        Filters(Vec::new())
            .with(&[
                ("Name", "geoip2"),
                ("Match", "aws.cloudtrail"),
                ("Database", database.to_str().unwrap()),
                ("Lookup_Key", "sourceIPAddress"),
                ("Record", ORGANIZATION_RECORD),
            ])
            .with(&[
                ("Name", "wasm"),
                ("Match", "aws.cloudtrail"),
                ("WASM_Path", module.to_str().unwrap()),
                ("Function_Name", "firstseen"),
                ("Event_Format", "JSON"),
                ("Accessible_Paths", &format!("{}, /tmp", directory.display())),
            ])
    }

    fn with(mut self, filter: &[(&str, &str)]) -> Filters {
        self.0.push(filter.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        self
    }

    /// The filters with another value of a key.
    fn set(&self, filter: usize, key: &str, value: &str) -> Filters {
        let mut filters = self.clone();
        let pair = filters.0[filter].iter_mut().find(|(other, _)| other == key).unwrap();
        value.clone_into(&mut pair.1);
        filters
    }

    fn without(&self, filter: usize, key: &str) -> Filters {
        let mut filters = self.clone();
        filters.0[filter].retain(|(other, _)| other != key);
        filters
    }

    fn text(&self, format: &str) -> String {
        let mut text = String::from(if format == "conf" { "" } else { "pipeline:\n  filters:\n" });
        for filter in &self.0 {
            text += if format == "conf" { "[FILTER]\n" } else { "" };
            for (at, (key, value)) in filter.iter().enumerate() {
                text += &match (format, at) {
                    ("conf", _) => format!("    {key} {value}\n"),
                    (_, 0) => format!("    - {}: '{value}'\n", key.to_lowercase()),
                    _ => format!("      {}: '{value}'\n", key.to_lowercase()),
                };
            }
        }
        text +=
            if format == "conf" { "[SERVICE]\n    storage.path /tmp\n" } else { "service:\n  storage.path: /tmp\n" };
        text
    }

    /// The line of a key, or that of the filter.
    fn line(&self, format: &str, filter: usize, key: Option<&str>) -> usize {
        let position = |key| self.0[filter].iter().position(|(other, _)| other == key).unwrap();
        let keys_before: usize = self.0[..filter].iter().map(Vec::len).sum();
        match format {
            "conf" => keys_before + filter + 1 + key.map_or(0, |key| position(key) + 1),
            _ => 2 + keys_before + 1 + key.map_or(0, position),
        }
    }

    fn write(&self, directory: &Path, format: &str) -> String {
        let path = directory.join(format!("fluent-bit.{format}"));
        std::fs::write(&path, self.text(format)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

const ORGANIZATION_RECORD: &str = "source.as.organization.name sourceIPAddress %{autonomous_system_organization}";

fn write_asn_database(file: &Path) {
    let row = vec![
        ("autonomous_system_number", Value::Number(64_496)),
        ("autonomous_system_organization", Value::Text("Example Hosting".to_owned())),
    ];
    let network = ("198.51.100.0".parse().unwrap(), 24);
    std::fs::write(file, database("GeoLite2-ASN", 1, &[(network, Value::Map(row))])).unwrap();
}

/// A module, the configuration directory of a filter, and filters that use them as they should.
fn good_filters() -> (tempfile::TempDir, Filters) {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let state = directory.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let filters = Filters::good(&module, &state);
    (directory, filters)
}

/// Checks the filters in both formats: what is found is one line, at a key of a filter or at the filter, and it begins so; or
/// there is nothing.
fn assert_found(directory: &Path, filters: &Filters, expected: Option<(usize, Option<&str>, &str)>) {
    for format in FORMATS {
        let file = filters.write(directory, format);
        let output = firstseen(&["check", &file], b"");
        let (code, out, err) = told(&output);
        let Some((filter, key, what)) = expected else {
            assert_eq!((code, out, err), (Some(0), "", ""), "{}", filters.text(format));
            continue;
        };
        assert_eq!((code, err, out.lines().count()), (Some(1), "", 1), "{out}{}", filters.text(format));
        let start = format!("{file}:{}: {what}", filters.line(format, filter, key));
        assert!(out.starts_with(&start) && out.contains("; "), "{out}expected {start}");
    }
}

#[test]
fn check_finds_nothing_in_good_filters_and_what_is_wrong_with_their_keys() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let found =
        |filters: &Filters, key: Option<&str>, what: &str| assert_found(directory, filters, Some((1, key, what)));
    assert_found(directory, &good, None);
    assert_found(directory, &good.without(1, "Event_Format"), None);
    assert_found(directory, &good.set(1, "Function_Name", "firstseen_alerts"), None);

    let format = Some("Event_Format");
    found(
        &good.set(1, "Event_Format", "MsgPack"),
        format,
        "with Event_Format msgpack Fluent Bit itself loses records; set it to json",
    );
    found(
        &good.set(1, "Event_Format", "xml"),
        format,
        "Event_Format xml is none that Fluent Bit knows; set it to json",
    );

    found(&good.without(1, "Function_Name"), None, "the filter has no Function_Name; ");
    found(&good.set(1, "Function_Name", "Firstseen"), Some("Function_Name"), "the module has no function Firstseen; ");

    let file = Some("WASM_Path");
    let missing = path("missing.wasm");
    found(&good.set(1, "WASM_Path", &missing), file, &format!("WASM_Path {missing} cannot be read (No such file"));
    std::fs::write(path("text.wasm"), "no module").unwrap();
    found(
        &good.set(1, "WASM_Path", &path("text.wasm")),
        file,
        &format!("WASM_Path {} is no WebAssembly module (it ", path("text.wasm")),
    );
    std::fs::write(path("cut.wasm"), &std::fs::read(path("module.wasm")).unwrap()[..100]).unwrap();
    found(
        &good.set(1, "WASM_Path", &path("cut.wasm")),
        file,
        &format!("WASM_Path {} is no WebAssembly module (", path("cut.wasm")),
    );
    for (text, lacks) in [
        ("(module)", "firstseen"),
        (r#"(module (func (export "firstseen")))"#, "firstseen_alerts"),
        (r#"(module (func (export "firstseen")) (func (export "firstseen_alerts")))"#, "malloc"),
    ] {
        std::fs::write(path("other.wasm"), wat::parse_str(text).unwrap()).unwrap();
        let what = format!("WASM_Path {} is not firstseen's module: it exports no {lacks}; ", path("other.wasm"));
        found(&good.set(1, "WASM_Path", &path("other.wasm")), file, &what);
    }
    found(&good.without(1, "WASM_Path"), None, "the filter has no WASM_Path; ");
    std::fs::write(path("compiled.aot"), b"\0aot\x03\0\0\0 firstseen_alerts ").unwrap();
    assert_found(directory, &good.set(1, "WASM_Path", &path("compiled.aot")), None);
    std::fs::write(path("compiled.aot"), b"\0aot\x03\0\0\0 go_filter ").unwrap();
    found(
        &good.set(1, "WASM_Path", &path("compiled.aot")),
        file,
        &format!("WASM_Path {} is not firstseen's", path("compiled.aot")),
    );

    found(&good.without(1, "Match"), None, "the filter has no Match, so it sees no record; ");
}

#[test]
fn check_leaves_the_modules_of_others_alone_but_says_if_there_is_no_other() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let theirs = directory.join("theirs.wasm");
    std::fs::write(&theirs, wat::parse_str(r#"(module (func (export "go_filter")))"#).unwrap()).unwrap();
    let other = [
        ("Name", "wasm"),
        ("Match", "aws.*"),
        ("WASM_Path", theirs.to_str().unwrap()),
        ("Function_Name", "go_filter"),
        ("Event_Format", "msgpack"),
        ("Accessible_Paths", "/nowhere/at/all"),
    ];
    assert_found(directory, &good.clone().with(&other), None);
    for format in FORMATS {
        for filters in [Filters(Vec::new()).with(&other), Filters(Vec::new()).with(&[("Name", "grep"), ("Match", "*")])]
        {
            let file = filters.write(directory, format);
            let expected = format!(
                "{file}: no filter runs firstseen's module, so nothing is detected; add a wasm filter with WASM_Path and Function_Name firstseen\n"
            );
            assert_eq!(told(&firstseen(&["check", &file], b"")), (Some(1), expected.as_str(), ""));
        }
    }
}

#[test]
fn check_finds_directories_that_are_shared_or_are_none() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let paths = Some("Accessible_Paths");
    let found = |value: &str, what: &str| {
        assert_found(directory, &good.set(1, "Accessible_Paths", value), Some((1, paths, what)));
    };
    found(&path("none"), &format!("the directory {} cannot be read (No such file", path("none")));
    found(&path("module.wasm"), &format!("{} is no directory; ", path("module.wasm")));

    let second = |paths: &str| {
        let mut filters = good.clone();
        filters.0.push(filters.0[1].clone());
        filters.set(2, "Match", "aws.cloudtrail").set(2, "Accessible_Paths", paths)
    };
    std::fs::create_dir(path("state2")).unwrap();
    assert_found(directory, &second(&path("state2")), None);
    let again = path("state/../state");
    let shared = |filters: &Filters, what: &str| assert_found(directory, filters, Some((2, paths, what)));
    shared(&second(&again), &format!("the directory {again} is also that of the filter at {}", path("fluent-bit.")));

    // Across files; a file that is named twice, or included by another one, is one configuration.
    let conf = good.write(directory, "conf");
    let yaml = good.write(directory, "yaml");
    let output = firstseen(&["check", &conf, &yaml], b"");
    let (code, out, _) = told(&output);
    let (line, there) = (good.line("yaml", 1, paths), good.line("conf", 1, paths));
    assert_eq!((code, out.lines().count()), (Some(1), 1), "{out}");
    let start =
        format!("{yaml}:{line}: the directory {} is also that of the filter at {conf}:{there}, ", path("state"));
    assert!(out.starts_with(&start), "{out}");
    std::fs::write(path("all.conf"), "@INCLUDE fluent-bit.conf\n").unwrap();
    for files in [[&conf, &conf], [&conf, &path("all.conf")], [&path("all.conf"), &conf]] {
        assert_eq!(told(&firstseen(&["check", files[0], files[1]], b"")), (Some(0), "", ""));
    }

    // Without the key: the working directory, for both.
    let filters = second(&path("state2")).without(1, "Accessible_Paths").without(2, "Accessible_Paths");
    for format in FORMATS {
        let file = filters.write(directory, format);
        let mut check = Command::new(env!("CARGO_BIN_EXE_firstseen"));
        let output = check.args(["check", &file]).current_dir(path("state")).output().unwrap();
        let (code, out, err) = told(&output);
        assert_eq!((code, err, out.lines().count()), (Some(1), "", 1), "{out}");
        let line = filters.line(format, 2, None);
        let start = format!(
            "{file}:{line}: Fluent Bit's working directory, which is the filter's without Accessible_Paths, is also"
        );
        assert!(out.starts_with(&start), "{out}");
    }
}

#[test]
fn check_finds_a_missing_lookup_for_rules_that_ask_for_it() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let missing = |filters: &Filters, at: usize| {
        let what = "the rule \"";
        assert_found(directory, filters, Some((at, None, what)));
        let out = firstseen(&["check", &filters.write(directory, "conf")], b"");
        let asked = "for source.as.organization.name, which nothing writes before this filter; put a geoip2 filter";
        assert!(text(&out.stdout).contains(asked), "{out:?}");
    };
    let lookup = good.0[0].clone();
    let alone = Filters(vec![good.0[1].clone()]);
    missing(&alone, 0);
    missing(&Filters(vec![good.0[1].clone(), lookup.clone()]), 0);
    missing(&good.set(0, "Match", "aws.other"), 1);
    missing(&good.set(0, "Record", &ORGANIZATION_RECORD.replace("source.as", "asn")), 1);
    missing(&good.without(0, "Match"), 1);
    let before = |filter: &[(&str, &str)]| {
        let mut filters = Filters(Vec::new()).with(filter);
        filters.0.push(good.0[1].clone());
        filters
    };
    for pattern in ["aws.*", "*", "*.cloudtrail", "aws.c*l"] {
        assert_found(directory, &good.set(0, "Match", pattern), None);
    }
    missing(&before(&[("Name", "grep"), ("Match", "*"), ("Exclude", "source.as.organization.name x")]), 1);
    missing(&before(&[("Name", "modify"), ("Match", "*"), ("Add", "asn x")]), 1);
    for others in [
        [("Name", "modify"), ("Match", "*"), ("Rename", "asn source.as.organization.name")],
        [("Name", "record_modifier"), ("Match", "*"), ("Record", "source.as.organization.name ACME")],
        [("Name", "nest"), ("Match", "*"), ("Nest_under", "source")],
        [("Name", "lua"), ("Match", "*"), ("Script", "x.lua")],
    ] {
        assert_found(directory, &before(&others), None);
    }
    let expression = good.without(0, "Match");
    let mut expression = Filters(expression.0);
    expression.0[0].push(("Match_Regex".to_owned(), "^aws".to_owned()));
    assert_found(directory, &expression, None);

    // A branch has what was written before the branching.
    let rewrite = |rule: &str| {
        [("Name", "rewrite_tag"), ("Match", "aws.*"), ("Rule", rule), ("Emitter_Storage.type", "filesystem")]
            .map(|(key, value)| (key, value.to_owned()))
    };
    let branched = |order: [usize; 3], rule: &str| {
        let rewrite = rewrite(rule);
        let rewrite: Vec<_> = rewrite.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let all = good.set(1, "Match", "alerts.cloudtrail").with(&rewrite);
        Filters(order.map(|at| all.0[at].clone()).to_vec())
    };
    assert_found(directory, &branched([0, 2, 1], "$eventName \"^Get Caller\" alerts.cloudtrail true"), None);
    assert_found(directory, &branched([0, 2, 1], "$eventName ^Get alerts.$TAG[1] true"), None);
    missing(&branched([0, 2, 1], "$eventName ^Get other.cloudtrail true"), 2);
    missing(&branched([2, 0, 1], "$eventName ^Get alerts.cloudtrail true"), 2);

    // Another key, by the settings; and rules that ask for nothing of the kind.
    let state = directory.join("state");
    std::fs::write(state.join("firstseen.toml"), "as_organization_key = \"asn\"\n").unwrap();
    assert_eq!(firstseen(&["compile", state.to_str().unwrap()], b"").status.code(), Some(0));
    assert_found(directory, &good, None);
    assert_found(directory, &good.set(0, "Record", "asn sourceIPAddress %{autonomous_system_organization}"), None);
    missing(&good.set(0, "Record", "asn2 sourceIPAddress %{autonomous_system_organization}"), 1);
    let pack = firstseen_engine::rule::pack::decode(&std::fs::read(state.join("firstseen.pack")).unwrap()).unwrap();
    let rules: Vec<_> = pack.rules.into_iter().filter(|rule| rule.new_terms.is_none()).collect();
    let pack = firstseen_engine::rule::Pack { rules, ..pack };
    let without: Vec<_> =
        pack.fields.iter().map(|name| name.replace("source.as.organization.name", "user.name")).collect();
    let pack = firstseen_engine::rule::Pack { fields: without, ..pack };
    std::fs::write(state.join("firstseen.pack"), firstseen_engine::rule::pack::encode(&pack)).unwrap();
    assert_found(directory, &alone, None);
}

#[test]
fn check_finds_packs_that_the_module_would_refuse() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let state = directory.join("state");
    let shown = state.display();
    let found = |what: &str| assert_found(directory, &good, Some((1, Some("Accessible_Paths"), what)));
    std::fs::write(state.join("firstseen.toml"), "").unwrap();
    let never = format!(
        "{shown} has settings or rules but no firstseen.pack, and the filter would not start; run `firstseen compile {shown}`"
    );
    found(&never);
    std::fs::remove_file(state.join("firstseen.toml")).unwrap();
    std::fs::create_dir(state.join("rules")).unwrap();
    found(&never);
    std::fs::write(state.join("rules/login.toml"), RULE).unwrap();
    assert_eq!(firstseen(&["compile", state.to_str().unwrap()], b"").status.code(), Some(0));
    assert_found(directory, &good, None);
    let pack = std::fs::read(state.join("firstseen.pack")).unwrap();
    for (at, part) in [(0, "label"), (16, "format version"), (pack.len() - 1, "checksum")] {
        let mut damaged = pack.clone();
        damaged[at] ^= 0x40;
        std::fs::write(state.join("firstseen.pack"), damaged).unwrap();
        found(&format!("{shown}/firstseen.pack: {part} of the pack: expected "));
    }

    std::fs::write(state.join("firstseen.pack"), pack).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options().append(true).open(state.join("rules/login.toml")).unwrap().set_modified(later).unwrap();
    let output = firstseen(&["check", &good.write(directory, "conf")], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(0), ""));
    assert!(err.starts_with("firstseen: warning: ") && err.contains("is older than"), "{err}");
}

#[test]
fn check_finds_the_same_in_processors() {
    let (directory, _) = good_filters();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (file, module, state) = (path("fluent-bit.yaml"), path("module.wasm"), path("state"));
    let asn = path("asn.mmdb");
    let lookup = format!(
        "          - name: geoip2\n            database: {asn}\n            lookup_key: sourceIPAddress\n            record: {ORGANIZATION_RECORD}\n"
    );
    let wasm = format!(
        "          - name: wasm\n            wasmPath: {module}\n            functionName: firstseen\n            accessible_paths: [{state}]\n"
    );
    let inputs = |logs: &str| {
        format!("pipeline:\n  inputs:\n    - name: dummy\n      tag: a\n      processors:\n        logs:\n{logs}")
    };
    let outputs = |logs: &str| {
        format!(
            "  outputs:\n    - name: stdout\n      match: a\n      workers: 0\n      processors:\n        logs:\n{logs}"
        )
    };
    let other_input = format!("    - name: dummy\n      tag: b\n      processors:\n        logs:\n{lookup}");
    let filter = format!(
        "  filters:\n    - name: geoip2\n      match: a\n      database: {asn}\n      lookup_key: sourceIPAddress\n      record: {ORGANIZATION_RECORD}\n"
    );
    let asks = "the rule \"";
    for (text, line, what) in [
        (inputs(&format!("{lookup}{wasm}")), 0, ""),
        (inputs(&lookup) + &outputs(&wasm), 0, ""),
        (inputs("          - name: labels\n") + &filter + &outputs(&wasm), 0, ""),
        (inputs(&format!("{wasm}{lookup}")), 7, asks),
        (inputs(&wasm) + &other_input, 7, asks),
        (inputs(&wasm) + &filter, 7, asks),
        (inputs(&format!("{lookup}{wasm}            event_format: msgpack\n")), 15, "with Event_Format msgpack"),
        (inputs(&format!("{lookup}{wasm}{wasm}")), 18, "the directory "),
    ] {
        std::fs::write(&file, &text).unwrap();
        let output = firstseen(&["check", &file], b"");
        let (code, out, err) = told(&output);
        if what.is_empty() {
            assert_eq!((code, out, err), (Some(0), "", ""), "{text}");
        } else {
            assert_eq!((code, err, out.lines().count()), (Some(1), "", 1), "{out}{text}");
            assert!(out.starts_with(&format!("{file}:{line}: {what}")), "{out}{text}");
        }
    }
}

#[test]
fn check_puts_in_variables_and_warns_of_those_that_are_not_set() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let module = directory.join("module.wasm");
    let filters = good.set(1, "WASM_Path", "${FIRSTSEEN_TEST_MODULE}");
    for format in FORMATS {
        let file = filters.write(directory, format);
        let mut check = Command::new(env!("CARGO_BIN_EXE_firstseen"));
        let output = check.args(["check", &file]).env("FIRSTSEEN_TEST_MODULE", &module).output().unwrap();
        assert_eq!(told(&output), (Some(0), "", ""));
        let output = firstseen(&["check", &file], b"");
        let (code, out, err) = told(&output);
        let line = filters.line(format, 1, Some("WASM_Path"));
        let warning = format!(
            "firstseen: warning: {file}:{line}: ${{FIRSTSEEN_TEST_MODULE}} is not set here; set it as Fluent Bit will have it\n"
        );
        assert_eq!((code, err), (Some(1), warning.as_str()));
        assert!(out.starts_with(&format!("{file}:{line}: WASM_Path  cannot be read (")), "{out}");
    }
}

#[test]
fn check_goes_on_after_a_file_that_cannot_be_read_and_keeps_its_exit_code() {
    let (directory, good) = good_filters();
    let directory = directory.path();
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    for name in ["missing.conf", "missing.yaml"] {
        let error = format!("firstseen: cannot read {}: No such file or directory (os error 2)\n", path(name));
        assert_eq!(told(&firstseen(&["check", &path(name)], b"")), (Some(2), "", error.as_str()));
    }
    std::fs::write(path("broken.yaml"), "pipeline:\n  filters: [\n").unwrap();
    let wrong = good.set(1, "Event_Format", "msgpack").write(directory, "conf");
    let output = firstseen(&["check", &path("broken.yaml"), &wrong], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out.lines().count(), err.lines().count()), (Some(2), 1, 1), "{out}{err}");
    assert!(err.starts_with(&format!("firstseen: {}:", path("broken.yaml"))), "{err}");
    assert_eq!(unread(&["check", &wrong]).status.code(), Some(1));
}

/// The configurations below `tests/cases/fluent-bit`, with what they name by variables.
struct Cases {
    directory: tempfile::TempDir,
    root: std::path::PathBuf,
}

impl Cases {
    fn new() -> Cases {
        let directory = tempfile::tempdir().unwrap();
        module(directory.path(), PASS_THROUGH);
        std::fs::create_dir(directory.path().join("state")).unwrap();
        write_asn_database(&directory.path().join("asn.mmdb"));
        let names = Value::Map(vec![("names", Value::Map(vec![("en", Value::Text("Example City".to_owned()))]))]);
        let network = ("198.51.100.0".parse().unwrap(), 24);
        let cities = database("GeoLite2-City", 1, &[(network, Value::Map(vec![("city", names)]))]);
        std::fs::write(directory.path().join("city.mmdb"), cities).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/fluent-bit").canonicalize().unwrap();
        Cases { directory, root }
    }

    /// The configurations of a folder: files, and `fluent-bit.*` in folders of several files.
    fn files(&self, folder: &str) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                files.push(path);
                continue;
            }
            let named = |ending| path.join("fluent-bit").with_extension(ending);
            files.extend(FORMATS.map(named).into_iter().filter(|file| file.is_file()));
        }
        files.sort();
        files
    }

    fn check(&self, file: &Path) -> std::process::Output {
        let mut check = Command::new(env!("CARGO_BIN_EXE_firstseen"));
        for (variable, name) in
            [("MODULE", "module.wasm"), ("STATE", "state"), ("ASN", "asn.mmdb"), ("CITY", "city.mmdb")]
        {
            check.env(variable, self.directory.path().join(name));
        }
        check.arg("check").arg(file).output().unwrap()
    }
}

/// The first line of each says which line is wrong, or a place in another file, and words of what is found.
#[test]
fn check_names_each_fault_of_the_broken_cases() {
    let cases = Cases::new();
    let files = cases.files("broken");
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let expected = text.lines().next().unwrap().strip_prefix("# finds ").unwrap_or_else(|| panic!("{file:?}"));
        let (line, words) = expected.split_once(": ").unwrap();
        let output = cases.check(file);
        let (code, out, err) = told(&output);
        assert_eq!((code, err, out.lines().count()), (Some(1), "", 1), "{file:?}\n{out}");
        let place = match line.parse::<usize>() {
            Ok(line) => format!("{}:{line}: ", file.display()),
            Err(_) => format!("{}: ", file.with_file_name(line).display()),
        };
        assert!(out.starts_with(&place) && out.contains(words) && out.contains("; "), "{file:?}\n{out}");
    }
    assert!(files.len() >= 40, "{}", files.len());
}

#[test]
fn check_says_nothing_of_the_good_cases() {
    let cases = Cases::new();
    let files = cases.files("good");
    for file in &files {
        assert_eq!(told(&cases.check(file)), (Some(0), "", ""), "{file:?}");
    }
    assert!(files.len() >= 20, "{}", files.len());
}

/// Whether this process may take on another user, whose name and groups every Linux has.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn check_finds_what_a_user_cannot_read_or_write() {
    use std::os::unix::fs::PermissionsExt;

    if !is_root() {
        return;
    }
    let (directory, good) = good_filters();
    let directory = directory.path();
    let file = good.write(directory, "conf");
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let found = |user: &str| {
        let output = firstseen(&["check", "--user", user, &file], b"");
        let (code, out, err) = told(&output);
        assert_eq!(err, "");
        assert_eq!(code, Some(i32::from(!out.is_empty())), "{out}");
        out.to_owned()
    };
    let one = |what: &str| {
        let out = found("nobody");
        assert!(out.lines().count() == 1 && out.contains(what), "{out}expected {what}");
    };
    std::fs::write(directory.join("state/firstseen.state"), "").unwrap();
    for (name, bits) in
        [(".", 0o755), ("state", 0o777), ("state/firstseen.state", 0o666), ("asn.mmdb", 0o644), ("module.wasm", 0o644)]
    {
        mode(name, bits);
    }
    assert_eq!((found("nobody"), found("root")), (String::new(), String::new()));
    let shown = |name: &str| directory.join(name).display().to_string();
    mode("state/firstseen.state", 0o644);
    one(&format!(
        "the user nobody cannot read and write the file {}; change its owner",
        shown("state/firstseen.state")
    ));
    assert_eq!(found("root"), "");
    mode("state/firstseen.state", 0o666);
    mode("state", 0o700);
    one(&format!("the user nobody cannot read and write the directory {}; ", shown("state")));
    mode("state", 0o777);
    mode("asn.mmdb", 0o600);
    one(&format!("the user nobody cannot read the database {}; ", shown("asn.mmdb")));
    mode("asn.mmdb", 0o644);
    mode("module.wasm", 0o600);
    one(&format!("the user nobody cannot read WASM_Path {}; ", shown("module.wasm")));
    mode("module.wasm", 0o644);
    // What Fluent Bit keeps for itself.
    std::fs::create_dir(directory.join("private")).unwrap();
    mode("private", 0o700);
    let db = shown("private/tail.db");
    let tail = format!(
        "[INPUT]\n    Name tail\n    Tag aws.cloudtrail\n    Parser json\n    DB {db}\n    storage.type filesystem\n"
    );
    std::fs::write(&file, good.text("conf") + &tail).unwrap();
    one(&format!("the user nobody cannot read and write the directory of DB {}; ", shown("private")));
    good.write(directory, "conf");
    mode(".", 0o700);
    one(&format!("the user nobody cannot enter {}, on the way to ", directory.display()));
    let output = firstseen(&["check", "--user", "no-such-user", &file], b"");
    let (code, out, err) = told(&output);
    assert_eq!((code, out), (Some(2), ""));
    assert!(err.contains("there is no user no-such-user here"), "{err}");
}

/// A directory that cannot be entered is not one with rules that are not compiled.
#[test]
fn check_tells_an_unreadable_directory_from_one_without_a_pack() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;

    let (directory, good) = good_filters();
    let directory = directory.path();
    let (file, state) = (good.write(directory, "conf"), directory.join("state"));
    // The program is where another user may start it.
    let program = directory.join("firstseen");
    std::fs::copy(env!("CARGO_BIN_EXE_firstseen"), &program).unwrap();
    for (path, mode) in [(directory, 0o755), (state.as_path(), 0o000)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut check = Command::new(program);
    if is_root() {
        check.uid(65534).gid(65534);
    }
    check.args(["check", &file]);
    // Another test may have started a program while the copy was open, and still hold it.
    let output = loop {
        match check.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            output => break output.unwrap(),
        }
    };
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (code, out, _) = told(&output);
    let line = good.line("conf", 1, Some("Accessible_Paths"));
    let start =
        format!("{file}:{line}: the directory {} cannot be read by this user (Permission denied", state.display());
    assert!(code == Some(1) && out.starts_with(&start) && out.lines().count() == 1, "{out}");
}

#[test]
fn check_finds_nothing_in_the_examples() {
    let directory = tempfile::tempdir().unwrap();
    let module = module(directory.path(), PASS_THROUGH);
    let asn = directory.path().join("asn.mmdb");
    write_asn_database(&asn);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config-examples/fluent-bit");
    std::fs::copy(examples.join("parsers.conf"), directory.path().join("parsers.conf")).unwrap();
    let mut checked = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let example = entry.unwrap().path();
        let text = std::fs::read_to_string(&example).unwrap();
        if !["conf", "yaml"].map(Some).contains(&example.extension().and_then(|ending| ending.to_str())) {
            continue;
        }
        if !text.to_lowercase().contains("wasm_path") {
            assert!(example.ends_with("parsers.conf"), "{example:?}");
            continue;
        }
        let states = directory.path().join(example.file_name().unwrap()).with_added_extension("states");
        let text = text
            .replace("/usr/lib/firstseen/firstseen.wasm", module.to_str().unwrap())
            .replace("/usr/share/GeoIP/GeoLite2-ASN.mmdb", asn.to_str().unwrap())
            .replace("/var/lib/firstseen/", &format!("{}/", states.display()));
        let file = directory.path().join(example.file_name().unwrap());
        std::fs::write(&file, &text).unwrap();
        let named = text.split_whitespace().filter(|word| Path::new(word).starts_with(&states));
        let named: Vec<_> = named.collect();
        assert!(!named.is_empty(), "{example:?}");
        for state in &named {
            std::fs::create_dir_all(state).unwrap();
        }
        let file = file.to_str().unwrap();
        assert_eq!(told(&firstseen(&["check", file], b"")), (Some(0), "", ""), "{example:?}");

        // Nothing is found for want of looking.
        std::fs::write(file, text.replace("source.as.organization.name", "as")).unwrap();
        let output = firstseen(&["check", file], b"");
        let (code, out, _) = told(&output);
        assert_eq!((code, out.lines().count()), (Some(1), named.len()), "{example:?} {out}");
        checked += 1;
    }
    assert!(checked >= 2, "{checked}");
}
