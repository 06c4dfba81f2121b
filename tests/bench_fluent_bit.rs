//! `make bench-fluent-bit`: the cost of firstseen in a real Fluent Bit, beside a module that returns its input, the same three
//! rules in Lua, and grep. firstseen is measured on every record, on branches of candidates, and as a conditional processor.
//!
//! In: the Fluent Bit that `FLUENT_BIT` names, or `fluent-bit` on the PATH; the built modules; records made here, of 1.5 KB.
//! Out: tables of user CPU time, of the whole process, from `tail` to `null`, without candidates and with some; then the cost of one candidate and of one
//! filter section. Without a Fluent Bit it says so and ends well. Each filter first proves, through an output that is read
//! back, that every record goes through it and that it finds what is there; one that does not ends the measurement.
//! Bounds: a run takes at most [`DEADLINE`]; the filters take turns, `BENCH_ROUNDS` times (5), and medians count.
//! Not here: time in the kernel, such as that of writing history; Fluent Bit's own threads apart; other hosts.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use firstseen::candidates::Candidates;
use firstseen::candidates::fluent_bit::{self, Rule};
use firstseen::measured::{Kind, Records};
use firstseen_engine::rule::{Pack, builtin, compile, pack};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const DEADLINE: Duration = Duration::from_secs(120);

/// Records of everyday traffic.
const MIXED: usize = 100_000;

/// One record in so many of everyday traffic is a candidate, of a known identity.
const MIXED_STEP: usize = 100;

/// Candidates of one kind.
const CANDIDATES: usize = 20_000;

/// Measured rounds of candidates.
const CANDIDATE_ROUNDS: usize = 3;

/// Filter sections that are started at once.
const SECTIONS: usize = 20;

/// What Fluent Bit must have.
const PLUGINS: [&str; 8] = ["tail", "wasm", "lua", "grep", "rewrite_tag", "parser", "null", "file"];

const LUA: &str = include_str!("bench_fluent_bit.lua");

/// Returns each record as it came. It has the allocator that spares it Fluent Bit's heap of 8 KB: upwards, and back to the
/// start with each `free`.
const PASS_THROUGH: &str = r#"(module
    (memory (export "memory") 64)
    (global $next (mut i32) (i32.const 1024))
    (func (export "malloc") (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (global.get $next))
        (global.set $next
            (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
        (local.get $at))
    (func (export "free") (param i32)
        (global.set $next (i32.const 1024)))
    (func (export "firstseen") (param i32 i32 i32 i32 i32 i32) (result i32)
        (local.get 4)))"#;

fn main() -> anyhow::Result<()> {
    let program = match program() {
        Ok(program) => program,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    let rounds = match env::var("BENCH_ROUNDS") {
        Ok(rounds) => {
            rounds.parse().ok().filter(|rounds| *rounds > 0).context("BENCH_ROUNDS is no number of rounds")?
        }
        Err(_) => 5,
    };
    let bench = Bench::new(program)?;
    for candidates in [0, MIXED / MIXED_STEP] {
        bench.mixed(candidates, rounds)?;
        println!();
    }
    bench.candidates()?;
    bench.sections(rounds)?;
    println!("{}", bench.version()?);
    Ok(())
}

/// The program, or why there is none to measure.
fn program() -> Result<PathBuf, String> {
    let program = match env::var_os("FLUENT_BIT") {
        Some(program) => PathBuf::from(program),
        None => env::split_paths(&env::var_os("PATH").unwrap_or_default())
            .map(|directory| directory.join("fluent-bit"))
            .find(|program| program.is_file())
            .ok_or("no fluent-bit is on the PATH, and FLUENT_BIT names none")?,
    };
    let help = Command::new(&program).arg("--help").output();
    let help = help.unwrap_or_else(|error| panic!("{} cannot be started: {error}", program.display())).stdout;
    let help = String::from_utf8_lossy(&help);
    let has = |plugin: &str| help.lines().any(|line| line.split_whitespace().next() == Some(plugin));
    match PLUGINS.iter().find(|plugin| !has(plugin)) {
        Some(plugin) => Err(format!("{} has no plugin {plugin}", program.display())),
        None => Ok(program),
    }
}

/// The built module, or the one that stands beside it.
fn module(name: &str) -> anyhow::Result<PathBuf> {
    let built = match env::var_os("FIRSTSEEN_MODULE") {
        Some(file) => PathBuf::from(file),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/firstseen.wasm"),
    };
    let file = built.with_file_name(name);
    file.canonicalize().with_context(|| format!("{}: run make module", file.display()))
}

/// A plugin of a configuration: its keys and values, as YAML has them.
type Plugin = Vec<(&'static str, String)>;

/// Filters as they are measured together.
struct Filter {
    name: &'static str,
    /// Processors of the input.
    processors: Vec<Plugin>,
    /// Whether the file is read a second time, as text under the tag `text.cloudtrail`.
    reads_twice: bool,
    /// Filters with their `match`.
    filters: Vec<Plugin>,
    /// What is in the directory of each wasm filter: the compiled settings.
    pack: Option<Vec<u8>>,
    /// What it does.
    does: Does,
}

/// What a filter does with records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    Nothing,
    Detect,
    /// Candidates come out twice.
    DetectCopies,
    /// It ends with candidates in the memory of an emitter, which Fluent Bit does not pass on at its end.
    DetectMost,
    KeepCandidates,
}

impl Filter {
    fn new(name: &'static str, does: Does, filters: Vec<Plugin>) -> Filter {
        Filter { name, processors: Vec::new(), reads_twice: false, filters, pack: None, does }
    }

    fn wasm(name: &'static str, does: Does, module: &Path) -> Filter {
        Filter::new(name, does, vec![matching("*", wasm(module))])
    }
}

fn wasm(module: &Path) -> Plugin {
    vec![
        ("name", text("wasm")),
        ("wasm_path", text(&module.display().to_string())),
        ("function_name", text("firstseen")),
        ("event_format", text("json")),
    ]
}

fn matching(tags: &str, mut plugin: Plugin) -> Plugin {
    plugin.push(("match", text(tags)));
    plugin
}

/// A text as YAML has it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The printed rules as `rewrite_tag`, which gives candidates another tag.
fn branching(tags: &str, rules: &[Rule]) -> Plugin {
    let mut rewrite = matching(tags, vec![("name", text("rewrite_tag"))]);
    // One key for each, since a list in a processor may have ten items.
    for Rule { key, expression } in rules {
        rewrite.push(("rule", text(&format!("{key} {expression} candidates.$TAG false"))));
    }
    rewrite
}

/// The printed rules as the condition of a processor: the first ones, for Fluent Bit takes a list of ten.
fn condition(rules: &[Rule]) -> String {
    const MOST: usize = 10;
    let mut condition = "\n              op: or\n              rules:".to_owned();
    for Rule { key, expression } in rules.iter().take(MOST) {
        condition += &format!("\n                - field: {}", text(key));
        condition += &format!("\n                  op: regex\n                  value: {}", text(expression));
    }
    condition
}

/// A file of records, and what is in it.
struct Input {
    file: PathBuf,
    records: usize,
    candidates: usize,
    alerting: usize,
}

/// What is measured with.
struct Bench {
    program: PathBuf,
    directory: tempfile::TempDir,
    none: Filter,
    pass_through: Filter,
    firstseen: Filter,
    others: Vec<Filter>,
}

impl Bench {
    fn new(program: PathBuf) -> anyhow::Result<Bench> {
        let directory = tempfile::tempdir()?;
        let pass_through = directory.path().join("pass-through.wasm");
        fs::write(&pass_through, wat::parse_str(PASS_THROUGH)?)?;
        let script = directory.path().join("firstseen.lua");
        fs::write(&script, LUA)?;
        let compiled = |settings: &str| -> anyhow::Result<Pack> {
            compile::compile(Some(("firstseen.toml", settings)), &builtin::FILES, &[])
                .map_err(|refused| anyhow::anyhow!("the settings are refused: {refused:?}"))
        };
        let only_cloudtrail = compiled("dialect = \"cloudtrail\"\n")?;
        let pack = Some(pack::encode(&only_cloudtrail));
        let printed = |pack: &Pack| fluent_bit::rules(&Candidates::of(pack));
        let (rules, every_rule) = (printed(&only_cloudtrail)?, printed(&compiled("")?)?);

        let built = module("firstseen.wasm")?;
        let branch = || matching("candidates.*", wasm(&built));
        let on_text = |plugin: &[(&'static str, &str)]| {
            matching("text.cloudtrail", plugin.iter().map(|(key, value)| (*key, text(value))).collect())
        };
        let text_branch = vec![
            on_text(&[("name", "grep"), ("regex", "log GetCallerIdentity")]),
            on_text(&[("name", "parser"), ("key_name", "log"), ("parser", "json")]),
            matching("text.cloudtrail", wasm(&built)),
        ];
        let mut conditional = wasm(&built);
        conditional.push(("condition", condition(&rules)));
        let lua =
            vec![("name", text("lua")), ("script", text(&script.display().to_string())), ("call", text("firstseen"))];
        let grep = vec![("name", text("grep")), ("regex", text("eventName ^GetCallerIdentity$"))];
        Ok(Bench {
            program,
            none: Filter::new("no filter", Does::Nothing, Vec::new()),
            pass_through: Filter::wasm("pass-through module", Does::Nothing, &pass_through),
            firstseen: Filter::wasm("firstseen on every record", Does::Detect, &built),
            others: vec![
                Filter {
                    pack: pack.clone(),
                    ..Filter::wasm("the same, dialect = \"cloudtrail\"", Does::Detect, &built)
                },
                Filter::wasm("firstseen-portable on every record", Does::Detect, &module("firstseen-portable.wasm")?),
                Filter {
                    reads_twice: true,
                    ..Filter::new("branch of its own input, as text", Does::DetectCopies, text_branch)
                },
                Filter {
                    processors: vec![branching("aws.cloudtrail", &rules)],
                    pack: pack.clone(),
                    ..Filter::new("branch, as the input's processor", Does::Detect, vec![branch()])
                },
                Filter {
                    processors: vec![branching("aws.cloudtrail", &every_rule)],
                    ..Filter::new("the same, every dialect", Does::Detect, vec![branch()])
                },
                Filter {
                    pack: pack.clone(),
                    ..Filter::new(
                        "branch, as a filter",
                        Does::DetectMost,
                        vec![branching("aws.cloudtrail", &rules), branch()],
                    )
                },
                Filter {
                    processors: vec![conditional],
                    pack,
                    ..Filter::new("firstseen as conditional processor", Does::Detect, Vec::new())
                },
                Filter::new("Lua, the same rules", Does::Detect, vec![matching("*", lua)]),
                Filter::new("grep", Does::KeepCandidates, vec![matching("*", grep)]),
            ],
            directory,
        })
    }

    /// Everyday traffic through each filter, with this many candidates.
    fn mixed(&self, candidates: usize, rounds: usize) -> anyhow::Result<()> {
        let (mut uninteresting, mut known) = (Records::new(Kind::Uninteresting), Records::new(Kind::Known));
        let input = self.input("mixed", MIXED, |out, number| {
            let is_candidate = number * candidates % MIXED < candidates;
            out.write_all(if is_candidate { known.next() } else { uninteresting.next() })
        })?;
        let input = Input { candidates, alerting: candidates.min(1), ..input };
        let mut filters = vec![&self.none, &self.pass_through, &self.firstseen];
        filters.extend(&self.others);
        println!("{candidates} of {MIXED} records are candidates:");
        let costs: Vec<f64> =
            self.medians(&input, &filters, rounds)?.iter().map(|time| micros(*time) / MIXED as f64).collect();
        let added = |name: &str| {
            let at = filters.iter().position(|filter| filter.name == name);
            at.map_or(f64::NAN, |at| costs[at] - costs[0])
        };
        let (pass_through, lua) = (added("pass-through module"), added("Lua, the same rules"));
        println!(
            "{:<34}  {:>14}  {:>14}  {:>15}  {:>6}",
            "filter", "user us/record", "over no filter", "to pass-through", "to Lua"
        );
        for (filter, cost) in filters.iter().zip(&costs) {
            if filter.name == self.none.name {
                println!("{:<34}  {:>14.1}", filter.name, cost);
                continue;
            }
            let over = cost - costs[0];
            println!(
                "{:<34}  {:>14.1}  {:>14.1}  {:>15.2}  {:>6.2}",
                filter.name,
                cost,
                over,
                over / pass_through,
                over / lua
            );
        }
        Ok(())
    }

    /// What one candidate costs in the interpreter: firstseen without what any module costs.
    fn candidates(&self) -> anyhow::Result<()> {
        for (kind, alerting, name) in
            [(Kind::Known, 1, "a known candidate"), (Kind::Alerting, CANDIDATES, "an alerting candidate")]
        {
            let mut records = Records::new(kind);
            let input = self.input("candidates", CANDIDATES, |out, _| out.write_all(records.next()))?;
            let input = Input { candidates: CANDIDATES, alerting, ..input };
            let filters = [&self.none, &self.pass_through, &self.firstseen];
            let medians = self.medians(&input, &filters, CANDIDATE_ROUNDS)?;
            let [none, pass_through, firstseen] = medians[..] else { bail!("three filters were measured") };
            let each = |time: Duration| micros(time) / CANDIDATES as f64;
            println!(
                "{name:<34}  {:>14.1} us over pass-through ({:.1} no filter, {:.1} pass-through, {:.1} firstseen)",
                each(firstseen) - each(pass_through),
                each(none),
                each(pass_through),
                each(firstseen)
            );
        }
        Ok(())
    }

    /// What a filter section costs at start. Before Fluent Bit 4.1, which instantiates for each chunk, that is loading alone.
    fn sections(&self, rounds: usize) -> anyhow::Result<()> {
        let input = self.input("empty", 0, |_, _| Ok(()))?;
        let many = [&self.firstseen; SECTIONS];
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            without.push(self.run(&input.file, &[], None)?);
            with.push(self.run(&input.file, &many, None)?);
        }
        let each = (micros(median(with)) - micros(median(without))) / SECTIONS as f64 / 1000.0;
        println!("{:<34}  {:>14.1} ms of {SECTIONS} started at once", "a firstseen section at start", each);
        Ok(())
    }

    /// Makes a file of records, one a line; what is in it beside their number is for the caller to say.
    fn input(
        &self,
        name: &str,
        records: usize,
        mut write: impl FnMut(&mut BufWriter<File>, usize) -> std::io::Result<()>,
    ) -> anyhow::Result<Input> {
        let file = self.directory.path().join(format!("{name}.ndjson"));
        let mut out = BufWriter::new(File::create(&file)?);
        for number in 0..records {
            write(&mut out, number)?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        Ok(Input { file, records, candidates: 0, alerting: 0 })
    }

    /// Each filter's median of so many runs, after it has proved what it does; the filters take turns.
    fn medians(&self, input: &Input, filters: &[&Filter], rounds: usize) -> anyhow::Result<Vec<Duration>> {
        for filter in filters {
            self.prove(input, filter)?;
        }
        let mut measured = vec![Vec::new(); filters.len()];
        for _ in 0..rounds {
            for (filter, measured) in filters.iter().zip(&mut measured) {
                measured.push(self.run(&input.file, &[filter], None)?);
            }
        }
        Ok(measured.into_iter().map(median).collect())
    }

    /// Every record that should come out of the filter does, and so does every alert.
    fn prove(&self, input: &Input, filter: &Filter) -> anyhow::Result<()> {
        let out = self.directory.path().join("out.ndjson");
        // Nothing may come out, and then there is no file.
        File::create(&out)?;
        self.run(&input.file, &[filter], Some(&out))?;
        let (mut records, mut alerting) = (0, 0);
        let mut lines = BufReader::new(File::open(&out).context("nothing came out")?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            records += 1;
            alerting += usize::from(memchr::memmem::find(&line, b"\"firstseen\":{").is_some());
            line.clear();
        }
        fs::remove_file(&out)?;
        let expected = match filter.does {
            Does::Nothing => (input.records, 0),
            Does::DetectMost if records < input.records => {
                // How many depends on the moment.
                println!(
                    "{}: {} of {} records were lost at the end",
                    filter.name,
                    input.records - records,
                    input.records
                );
                ensure!(input.records - records <= input.candidates, "more than candidates are missing");
                return Ok(());
            }
            Does::Detect | Does::DetectMost => (input.records, input.alerting),
            Does::DetectCopies => (input.records + input.candidates, input.alerting),
            Does::KeepCandidates => (input.candidates, 0),
        };
        ensure!(
            (records, alerting) == expected,
            "{}: {records} records with {alerting} alerts came out of {}, and not {} with {}",
            filter.name,
            input.file.display(),
            expected.0,
            expected.1
        );
        Ok(())
    }

    /// Runs Fluent Bit over a file, through the filters, to nowhere or to a file; the user CPU time that it took.
    fn run(&self, input: &Path, filters: &[&Filter], out: Option<&Path>) -> anyhow::Result<Duration> {
        let directory = tempfile::tempdir()?;
        let mut packs = 0;
        // What stands in YAML at this indentation, each wasm filter with a directory of its own.
        let mut listed = |indentation: &str, plugins: Vec<(&Plugin, &Option<Vec<u8>>)>| -> anyhow::Result<String> {
            let mut out = String::new();
            for (plugin, pack) in plugins {
                let mut beginning = "- ";
                for (key, value) in plugin {
                    out += &format!("{indentation}{beginning}{key}: {value}\n");
                    beginning = "  ";
                }
                if plugin[0].1.contains("wasm") {
                    packs += 1;
                    let own = directory.path().join(packs.to_string());
                    fs::create_dir(&own)?;
                    if let Some(pack) = pack {
                        fs::write(own.join("firstseen.pack"), pack)?;
                    }
                    out += &format!("{indentation}  accessible_paths: {}\n", own.display());
                }
            }
            Ok(out)
        };
        let mut configuration = format!(
            "service:\n  flush: 1\n  grace: 1\n  log_level: warn\nparsers:\n  - name: json\n    format: json\n\
             pipeline:\n  inputs:\n    - name: tail\n      path: {}\n      tag: aws.cloudtrail\n      parser: json\n      \
             read_from_head: true\n      exit_on_eof: true\n      buffer_chunk_size: 512k\n      buffer_max_size: 2M\n",
            input.display()
        );
        let processors =
            filters.iter().flat_map(|filter| filter.processors.iter().map(|plugin| (plugin, &filter.pack)));
        let processors = listed("          ", processors.collect())?;
        if !processors.is_empty() {
            configuration += &format!("      processors:\n        logs:\n{processors}");
        }
        if filters.iter().any(|filter| filter.reads_twice) {
            // It is read sooner than the first one, at whose end Fluent Bit ends.
            configuration += &format!(
                "    - name: tail\n      path: {}\n      tag: text.cloudtrail\n      read_from_head: true\n      \
                 buffer_chunk_size: 512k\n      buffer_max_size: 2M\n",
                input.display()
            );
        }
        let filters = filters.iter().flat_map(|filter| filter.filters.iter().map(|plugin| (plugin, &filter.pack)));
        let filters = listed("    ", filters.collect())?;
        if !filters.is_empty() {
            configuration += &format!("  filters:\n{filters}");
        }
        configuration += "  outputs:\n    - match: '*'\n";
        match out {
            None => configuration += "      name: 'null'\n",
            Some(out) => {
                let place = out.parent().context("a file is in a directory")?.display();
                let name = out.file_name().context("a file has a name")?.display();
                configuration +=
                    &format!("      name: file\n      path: {place}\n      file: {name}\n      format: plain\n");
            }
        }
        let file = directory.path().join("fluent-bit.yaml");
        fs::write(&file, configuration)?;
        self.time(&file, &directory.path().join("stderr"))
    }

    /// Runs Fluent Bit with a configuration until it ends.
    fn time(&self, configuration: &Path, stderr: &Path) -> anyhow::Result<Duration> {
        let before = children_user_time()?;
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(stderr)?)
            .spawn()?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > DEADLINE {
                child.kill()?;
                child.wait()?;
                bail!("Fluent Bit took more than {DEADLINE:?}, and was killed");
            }
            thread::sleep(Duration::from_millis(20));
        };
        let after = children_user_time()?;
        let said = String::from_utf8_lossy(&fs::read(stderr)?).into_owned();
        ensure!(status.success(), "Fluent Bit ended with {status}:\n{said}");
        let error = said.lines().find(|line| line.contains("[error]") && !line.contains("getaddrinfo failed"));
        ensure!(error.is_none(), "Fluent Bit met an error:\n{said}");
        Ok(after.saturating_sub(before))
    }

    /// What Fluent Bit calls itself.
    fn version(&self) -> anyhow::Result<String> {
        let said = Command::new(&self.program).arg("--version").output()?.stdout;
        Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned())
    }
}

/// The user CPU time of all processes that this one has started and seen end.
fn children_user_time() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(Duration::from_micros(usage.user_time().num_microseconds().unsigned_abs()))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
