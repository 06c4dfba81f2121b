//! The host's side of the ABI, tried on small guests that do one thing each.

use super::*;

/// A guest with the ABI's exports. `body` is the code of `firstseen`, whose parameters are `$tag $tag_len $sec $nsec $record
/// $record_len`; `items` are further items of the module. Its `malloc` hands out fresh memory, counts its calls in
/// `$mallocs`, and refuses more than 64 KiB; `free` counts in `$frees`.
fn guest(imports: &str, items: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {imports}
            (memory (export "memory") 3)
            (global $top (mut i32) (i32.const 4096))
            (global $mallocs (export "mallocs") (mut i32) (i32.const 0))
            (global $frees (export "frees") (mut i32) (i32.const 0))
            (func (export "malloc") (param $size i32) (result i32)
                (local $at i32)
                (global.set $mallocs (i32.add (global.get $mallocs) (i32.const 1)))
                (if (i32.gt_u (local.get $size) (i32.const 65536)) (then (return (i32.const 0))))
                (local.set $at (global.get $top))
                (global.set $top (i32.add (global.get $top) (local.get $size)))
                (local.get $at))
            (func (export "free") (param i32)
                (global.set $frees (i32.add (global.get $frees) (i32.const 1)))
                ;; With everything freed, memory starts anew.
                (if (i32.eq (global.get $mallocs) (global.get $frees))
                    (then (global.set $top (i32.const 4096)))))
            {items}
            (func $f (export "firstseen")
                (param $tag i32) (param $tag_len i32) (param $sec i32) (param $nsec i32)
                (param $record i32) (param $record_len i32) (result i32)
                {body})
            (func (export "firstseen_alerts") (param i32 i32 i32 i32 i32 i32) (result i32)
                (i32.const 0)))"#
    );
    wat::parse_str(text).expect("the guest is valid")
}

fn instance(bytes: &[u8]) -> Instance {
    let module = Module::compile(bytes, &Options::default()).expect("it compiles");
    module.instantiate_captured(None).expect("it starts")
}

const PASS_THROUGH: &str = "(local.get $record)";

#[test]
fn the_record_s_own_pointer_means_untouched() {
    let mut guest = instance(&guest("", "", PASS_THROUGH));
    for record in [b"{}".as_slice(), b"", b"{\"a\":1}"] {
        let answer = guest.call(Entry::Firstseen, b"tag", 1, 2, record);
        assert_eq!(answer.unwrap(), Answer::Untouched);
        let answer = guest.call_lean(Entry::Firstseen, b"tag", 1, 2, record);
        assert_eq!(answer.unwrap(), Answer::Untouched);
    }
}

#[test]
fn another_pointer_is_the_new_record_and_an_empty_text_drops_it() {
    let bytes = guest(
        "",
        r#"(data (i32.const 16) "{\"b\":2}\00")"#,
        r#"(if (result i32) (i32.eq (local.get $sec) (i32.const 7))
             (then (i32.const 16)) (else (i32.const 8)))"#,
    );
    let mut guest = instance(&bytes);
    let changed = guest.call(Entry::Firstseen, b"t", 7, 0, b"{}").unwrap();
    assert_eq!(changed, Answer::Changed(b"{\"b\":2}".to_vec()));
    let changed = guest.call_lean(Entry::Firstseen, b"t", 7, 0, b"{}").unwrap();
    assert_eq!(changed, Answer::Changed(b"{\"b\":2}".as_slice()));
    let dropped = guest.call(Entry::Firstseen, b"t", 8, 0, b"{}").unwrap();
    assert_eq!(dropped, Answer::Dropped);
    let dropped = guest.call_lean(Entry::Alerts, b"t", 8, 0, b"{}").unwrap();
    assert_eq!(dropped, Answer::Dropped, "the other entry");
}

/// Answers with tag, lengths and times, so that a test sees the arguments.
const TELLS_ARGUMENTS: &str = "
    (i32.store8 (i32.const 100) (i32.add (i32.const 48) (local.get $tag_len)))
    (i32.store8 (i32.const 101) (i32.load8_u (local.get $tag)))
    (i32.store8 (i32.const 102) (i32.add (i32.const 48) (local.get $sec)))
    (i32.store8 (i32.const 103) (i32.add (i32.const 48) (local.get $nsec)))
    (i32.store8 (i32.const 104) (i32.add (i32.const 48) (local.get $record_len)))
    ;; The bytes behind both texts.
    (i32.store8 (i32.const 105) (i32.add (i32.const 48)
        (i32.load8_u (i32.add (local.get $tag) (local.get $tag_len)))))
    (i32.store8 (i32.const 106) (i32.add (i32.const 48)
        (i32.load8_u (i32.add (local.get $record) (local.get $record_len)))))
    (i32.const 100)";

#[test]
fn arguments_arrive_in_order_and_both_texts_end_with_a_nul() {
    let mut guest = instance(&guest("", "", TELLS_ARGUMENTS));
    let told = Answer::Changed(b"3t56200".to_vec());
    // The longer record first: the shorter one must not meet its rest.
    guest.call_lean(Entry::Firstseen, b"tag", 5, 6, b"{    }").unwrap();
    let lean = guest.call_lean(Entry::Firstseen, b"tag", 5, 6, b"{}");
    assert_eq!(lean.unwrap(), Answer::Changed(b"3t56200".as_slice()));
    assert_eq!(guest.call(Entry::Firstseen, b"tag", 5, 6, b"{}").unwrap(), told);
}

/// Answers `m` and `f` counts of the allocator, each as one digit.
const TELLS_COUNTS: &str = "
    (i32.store8 (i32.const 100) (i32.add (i32.const 48) (global.get $mallocs)))
    (i32.store8 (i32.const 101) (i32.add (i32.const 48) (global.get $frees)))
    (i32.const 100)";

/// The counts that each of three calls saw.
fn counts(mut guest: Instance) -> Vec<String> {
    (0..3)
        .map(|_| match guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap() {
            Answer::Changed(bytes) => String::from_utf8(bytes).unwrap(),
            other => panic!("not {other:?}"),
        })
        .collect()
}

#[test]
fn each_generation_allocates_and_frees_as_its_fluent_bit_does() {
    let bytes = guest("", "", TELLS_COUNTS);
    assert_eq!(counts(instance(&bytes)), ["20", "42", "64"]);
    let leaking = instance(&bytes).with_generation(Generation::Leaking);
    assert_eq!(counts(leaking), ["20", "40", "60"]);
    let chunks = instance(&bytes).with_generation(Generation::InstancePerChunk(2));
    assert_eq!(counts(chunks), ["20", "42", "20"]);
}

#[test]
fn lean_calls_allocate_once_and_again_for_a_larger_record_or_another_tag() {
    let mut guest = instance(&guest("", "", TELLS_COUNTS));
    let mut lean = |tag: &[u8], record: &[u8]| match guest.call_lean(Entry::Firstseen, tag, 0, 0, record).unwrap() {
        Answer::Changed(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("not {other:?}"),
    };
    assert_eq!(lean(b"a", b"{}"), "20");
    assert_eq!(lean(b"a", &[b' '; LEAN_CAPACITY - 1]), "20");
    assert_eq!(lean(b"a", &[b' '; LEAN_CAPACITY]), "42");
    assert_eq!(lean(b"a", b"{}"), "42");
    assert_eq!(lean(b"b", b"{}"), "64");
}

#[test]
fn a_refused_malloc_passes_pointer_0_with_the_real_length() {
    let body = "(if (i32.ne (local.get $record_len) (i32.const 70000)) (then (unreachable)))
                (local.get $record)";
    let mut guest = instance(&guest("", "", body));
    let record = vec![b' '; 70_000];
    let answer = guest.call(Entry::Firstseen, b"t", 0, 0, &record).unwrap();
    assert_eq!(answer, Answer::Untouched);
    let answer = guest.call_lean(Entry::Firstseen, b"t", 0, 0, &record);
    assert_eq!(answer.unwrap(), Answer::Untouched);
}

#[test]
fn a_record_that_the_guest_wrote_into_is_not_untouched() {
    let body = "(i32.store8 (local.get $record) (i32.const 91)) (local.get $record)";
    let mut guest = instance(&guest("", "", body));
    let answer = guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap();
    assert_eq!(answer, Answer::Changed(b"[}".to_vec()));
}

#[test]
fn a_trap_is_known_by_its_type_names_the_record_and_costs_the_instance() {
    let body = "(if (i32.eq (local.get $sec) (i32.const 9)) (then (unreachable)))
                (global.set $frees (i32.add (global.get $frees) (i32.const 1)))
                (i32.store8 (i32.const 100) (i32.add (i32.const 48) (global.get $frees)))
                (i32.const 100)";
    let mut guest = instance(&guest("", "", body));
    let remembered = Answer::Changed(b"1".to_vec());
    assert_eq!(guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap(), remembered);
    let error = guest.call(Entry::Firstseen, b"t", 9, 0, b"{}").unwrap_err();
    assert!(matches!(error, Error::Trap { record: 2, trap: Trap::UnreachableCodeReached }), "{error:?}");
    assert_eq!(error.to_string(), "the module trapped on record 2: wasm trap: wasm `unreachable` instruction executed");
    assert_eq!(guest.memory_size(), 0, "the instance is gone");
    assert_eq!(guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap(), remembered, "a new one remembers nothing");
    let error = guest.call_lean(Entry::Firstseen, b"t", 9, 0, b"{}").unwrap_err();
    assert!(matches!(error, Error::Trap { record: 4, .. }), "{error:?}");
}

#[test]
fn an_access_outside_the_memory_and_endless_recursion_are_traps() {
    let outside = guest("", "", "(i32.load (i32.const -8))");
    let error = instance(&outside).call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap_err();
    let Error::Trap { trap, .. } = error else { panic!("{error:?}") };
    assert_eq!(trap, Trap::MemoryOutOfBounds);
    let recursion = guest(
        "",
        "",
        "(i32.add (i32.const 1) (call $f (local.get 0) (local.get 1) (local.get 2) (local.get 3)
            (local.get 4) (local.get 5)))",
    );
    let error = instance(&recursion).call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap_err();
    let Error::Trap { trap, .. } = error else { panic!("{error:?}") };
    assert_eq!(trap, Trap::StackOverflow);
}

#[test]
fn an_answer_outside_the_memory_is_an_error_and_not_a_panic() {
    for pointer in ["-1", "196608"] {
        let body = format!("(i32.const {pointer})");
        let mut guest = instance(&guest("", "", &body));
        let error = guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap_err();
        assert!(matches!(error, Error::Answer { record: 1, .. }), "{error:?}");
    }
    // The memory's last byte is no NUL.
    let unterminated = "(i32.store8 (i32.const 196607) (i32.const 65)) (i32.const 196607)";
    let mut guest = instance(&guest("", "", unterminated));
    let error = guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap_err();
    assert!(matches!(error, Error::Answer { record: 1, pointer: 196_607 }), "{error:?}");
}

#[test]
fn a_malloc_that_points_outside_the_memory_is_an_error_and_not_a_panic() {
    let bytes = wat::parse_str(
        r#"(module (memory (export "memory") 1)
            (func (export "malloc") (param i32) (result i32) (i32.const 65535))
            (func (export "free") (param i32))
            (func (export "firstseen") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 0))
            (func (export "firstseen_alerts") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 0)))"#,
    )
    .unwrap();
    let mut guest = instance(&bytes);
    let error = guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap_err();
    assert_eq!(error.to_string(), "the module failed on record 1: malloc returned 0xffff, outside its memory");
}

#[test]
fn the_guest_searches_with_the_host_s_functions() {
    let imports = r#"(import "env" "strstr" (func $strstr (param i32 i32) (result i32)))
                     (import "env" "memchr" (func $memchr (param i32 i32 i32) (result i32)))"#;
    let items = r#"(data (i32.const 16) "needle\00")"#;
    // The record from the needle on if it has one, else from the first `x` on.
    let body = "
        (local $found i32)
        (local.set $found (call $strstr (local.get $record) (i32.const 16)))
        (if (i32.eqz (local.get $found))
            (then (local.set $found
                (call $memchr (local.get $record) (i32.const 120) (local.get $record_len)))))
        (if (result i32) (local.get $found) (then (local.get $found)) (else (local.get $record)))";
    let mut guest = instance(&guest(imports, items, body));
    let mut answer = |record: &[u8]| guest.call(Entry::Firstseen, b"t", 0, 0, record).unwrap();
    assert_eq!(answer(b"hay needle hay"), Answer::Changed(b"needle hay".to_vec()));
    assert_eq!(answer(b"hay x hay"), Answer::Changed(b"x hay".to_vec()));
    assert_eq!(answer(b"hay hay"), Answer::Untouched);
}

#[test]
fn what_the_guest_says_when_it_refuses_to_start_is_the_error() {
    let imports = r#"(import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    let items = r#"(data (i32.const 16) "\20\00\00\00\2b\00\00\00") (data (i32.const 32) "firstseen: pack damaged\0afirstseen:  mend it\0a")
        (func (export "_initialize")
            (drop (call $fd_write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 64)))
            (unreachable))"#;
    let module = Module::compile(&guest(imports, items, PASS_THROUGH), &Options::default());
    let module = module.unwrap();
    let error = module.instantiate(None).unwrap_err();
    assert_eq!(error.to_string(), "the module refused to start: pack damaged mend it");
    let error = module.instantiate(Some(Path::new("/some/where"))).unwrap_err();
    assert_eq!(error.to_string(), "the module refused to start in /some/where: pack damaged mend it");
}

#[test]
fn standard_error_is_captured_on_request() {
    let imports = r#"(import "wasi_snapshot_preview1" "fd_write"
        (func $fd_write (param i32 i32 i32 i32) (result i32)))"#;
    let items = r#"(data (i32.const 16) "\20\00\00\00\02\00\00\00") (data (i32.const 32) "hi")"#;
    let body = "(drop (call $fd_write (i32.const 2) (i32.const 16) (i32.const 1) (i32.const 64)))
        (local.get $record)";
    let mut guest = instance(&guest(imports, items, body));
    assert_eq!(guest.captured_stderr(), b"");
    guest.call(Entry::Firstseen, b"t", 0, 0, b"{}").unwrap();
    assert_eq!(guest.captured_stderr(), b"hi");
}

#[test]
fn what_is_no_module_of_ours_is_refused_in_one_sentence() {
    let options = Options::default();
    let error = Module::compile(b"not wasm", &options).unwrap_err();
    assert!(matches!(error, Error::Compile(_)), "{error:?}");
    let unknown = guest(r#"(import "env" "system" (func (param i32)))"#, "", PASS_THROUGH);
    let error = Module::compile(&unknown, &options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the module is not one of firstseen's: unknown import: `env::system` has not been defined"
    );
    let empty = wat::parse_str(r#"(module (memory (export "memory") 1))"#).unwrap();
    let error = Module::compile(&empty, &options).unwrap().instantiate(None).unwrap_err();
    assert_eq!(error.to_string(), "the module is not one of firstseen's: failed to find function export `malloc`");
}

#[test]
fn a_module_that_was_compiled_before_is_found_again() {
    fn kept(directory: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        let files = entries.flat_map(|path| if path.is_dir() { kept(&path) } else { vec![path] });
        // Beside each module, wasmtime counts how often it was used.
        files.filter(|file| file.extension().is_none()).collect()
    }
    let directory = tempfile::tempdir().unwrap();
    let options = Options { cache: Some(directory.path().to_owned()), ..Options::default() };
    let changing = guest("", r#"(data (i32.const 16) "{}\00")"#, "(i32.const 16)");
    let answer = |bytes: &[u8], options: &Options| {
        let mut guest = Module::compile(bytes, options).expect("it compiles").instantiate(None).expect("it starts");
        guest.call(Entry::Firstseen, b"t", 0, 0, b"{\"a\":1}").expect("an answer")
    };
    assert_eq!(answer(&changing, &options), Answer::Changed(b"{}".to_vec()));
    let [file] = &kept(directory.path())[..] else { panic!("one module is kept") };
    let written = std::fs::metadata(file).unwrap().modified().unwrap();
    assert_eq!(answer(&changing, &options), Answer::Changed(b"{}".to_vec()));
    assert_eq!(std::fs::metadata(file).unwrap().modified().unwrap(), written, "it is not written again");
    // Others have places of their own.
    let other = guest("", "", PASS_THROUGH);
    assert_eq!(answer(&other, &options), Answer::Untouched);
    assert_eq!(answer(&changing, &Options { fuel: true, ..options.clone() }), Answer::Changed(b"{}".to_vec()));
    assert_eq!(kept(directory.path()).len(), 3);
    // What was not written whole is compiled again.
    let whole = std::fs::read(file).unwrap();
    for len in [0, 3, whole.len() / 2, whole.len() - 1] {
        std::fs::write(file, &whole[..len]).unwrap();
        assert_eq!(answer(&changing, &options), Answer::Changed(b"{}".to_vec()), "{len} bytes");
        assert!(std::fs::metadata(file).unwrap().len() > len as u64, "it is kept again");
    }
    let nowhere = Options { cache: Some("/dev/null/x".into()), ..Options::default() };
    assert_eq!(answer(&changing, &nowhere), Answer::Changed(b"{}".to_vec()));
}

#[test]
fn imports_exports_fuel_and_raw_access_are_there_for_tests() {
    let imports = r#"(import "env" "strstr" (func $strstr (param i32 i32) (result i32)))"#;
    let bytes = guest(imports, "", PASS_THROUGH);
    let module = Module::compile(&bytes, &Options { fuel: true, ..Options::default() }).unwrap();
    assert_eq!(module.imports(), ["env.strstr"]);
    assert_eq!(module.exports(), ["memory", "mallocs", "frees", "malloc", "free", "firstseen", "firstseen_alerts"]);
    let mut guest = module.instantiate(None).unwrap();
    assert_eq!(guest.fuel_consumed(), Some(0));
    let raw = guest.call_raw(Entry::Firstseen, [0, 0, 0, 0, 12_345, 0]);
    assert_eq!(raw.unwrap(), 12_345);
    assert!(guest.fuel_consumed() > Some(0));
    assert_eq!(guest.malloc_raw(10).unwrap(), 4096);
    guest.free_raw(4096).unwrap();
    guest.memory_mut()[5] = 77;
    assert_eq!(guest.memory()[5], 77);
    assert_eq!(guest.memory_size(), 3 * 65536);
    assert_eq!(instance(&bytes).fuel_consumed(), None);
}

/// How long the calls take with a guest that searches and finds nothing. Run by hand, in release:
/// `cargo test --release -p firstseen --lib -- --ignored --nocapture time_of`.
#[test]
#[ignore = "a measurement"]
fn time_of_the_two_call_sequences() {
    let imports = r#"(import "env" "strstr" (func $strstr (param i32 i32) (result i32)))"#;
    let items = r#"(data (i32.const 16) "GetCallerIdentity\00")"#;
    let searching = "(if (call $strstr (local.get $record) (i32.const 16)) (then (unreachable)))
        (local.get $record)";
    let record = [b"{\"eventName\":\"DescribeInstances\",".repeat(47), b"}".to_vec()].concat();
    for (name, body) in [("pass-through", PASS_THROUGH), ("strstr", searching)] {
        let mut guest = instance(&guest(imports, items, body));
        let rounds = 2_000_000u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            guest.call(Entry::Firstseen, b"aws.cloudtrail", 0, 0, &record).unwrap();
        }
        let full = start.elapsed() / rounds;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            guest.call_lean(Entry::Firstseen, b"aws.cloudtrail", 0, 0, &record).unwrap();
        }
        let lean = start.elapsed() / rounds;
        println!("{name}: {full:?}, lean {lean:?} for {} bytes", record.len());
    }
}
