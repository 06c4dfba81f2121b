//! What Fluent Bit does after a trap: it calls the same instance again, half-made state and all.
//!
//! In: the module in a store that stops it in the middle of a call, by fuel, at many different points. Out: that the next
//! call is served, and that an event which was stopped alerts when it comes again. Not here: whether it ever traps of its
//! own accord (`hostile.rs`).

use wasmtime::{Caller, Config, Engine, Instance, Linker, Memory, Module, Store, TypedFunc};

use crate::subjects::module_file;

/// WASI's 'no such file': there is no pack.
const NOENT: i32 = 44;

type Filter = TypedFunc<(i32, i32, i32, i32, i32, i32), i32>;

struct Kept {
    store: Store<()>,
    memory: Memory,
    malloc: TypedFunc<i32, i32>,
    filter: Filter,
}

/// The bytes up to the NUL.
fn text(memory: &[u8], at: i32) -> &[u8] {
    let rest = &memory[usize::try_from(at).expect("an address")..];
    &rest[..rest.iter().position(|byte| *byte == 0).expect("a NUL")]
}

fn memory_of(caller: &mut Caller<'_, ()>) -> Memory {
    caller.get_export("memory").and_then(|export| export.into_memory()).expect("the memory")
}

impl Kept {
    fn start() -> Kept {
        let mut config = Config::new();
        config.consume_fuel(true);
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::from_file(&engine, module_file()).expect("the module");
        let mut linker: Linker<()> = Linker::new(&engine);
        let search = |mut caller: Caller<'_, ()>, haystack: i32, needle: i32| {
            let memory = memory_of(&mut caller);
            let memory = memory.data(&caller);
            let (haystack_text, needle) = (text(memory, haystack), text(memory, needle));
            let found = haystack_text.windows(needle.len()).position(|window| window == needle);
            found.map_or(0, |at| haystack + i32::try_from(at).expect("an offset"))
        };
        linker.func_wrap("env", "strstr", search).expect("an import");
        let find = |mut caller: Caller<'_, ()>, at: i32, byte: i32, len: i32| {
            let memory = memory_of(&mut caller);
            let bytes = memory.data(&caller).iter().skip(at as usize).take(len as usize);
            let found = bytes.enumerate().find(|(_, found)| i32::from(**found) == byte);
            found.map_or(0, |(offset, _)| at + i32::try_from(offset).expect("an offset"))
        };
        linker.func_wrap("env", "memchr", find).expect("an import");
        let wasi = "wasi_snapshot_preview1";
        linker.func_wrap(wasi, "random_get", |_: i32, _: i32| 0).expect("an import");
        linker.func_wrap(wasi, "fd_write", |_: i32, _: i32, _: i32, _: i32| 0).expect("an import");
        linker.func_wrap(wasi, "fd_read", |_: i32, _: i32, _: i32, _: i32| NOENT).expect("an import");
        linker.func_wrap(wasi, "fd_close", |_: i32| NOENT).expect("an import");
        let open = |_: i32, _: i32, _: i32, _: i32, _: i32, _: i64, _: i64, _: i32, _: i32| NOENT;
        linker.func_wrap(wasi, "path_open", open).expect("an import");
        linker
            .func_wrap(wasi, "path_rename", |_: i32, _: i32, _: i32, _: i32, _: i32, _: i32| NOENT)
            .expect("an import");
        linker.func_wrap(wasi, "fd_filestat_get", |_: i32, _: i32| NOENT).expect("an import");
        linker.func_wrap(wasi, "fd_datasync", |_: i32| NOENT).expect("an import");
        linker.func_wrap(wasi, "fd_prestat_dir_name", |_: i32, _: i32, _: i32| NOENT).expect("an import");

        let mut store = Store::new(&engine, ());
        store.set_fuel(u64::MAX).expect("fuel");
        let instance: Instance = linker.instantiate(&mut store, &module).expect("an instance");
        let initialize: TypedFunc<(), ()> = instance.get_typed_func(&mut store, "_initialize").expect("an export");
        initialize.call(&mut store, ()).expect("a start");
        Kept {
            memory: instance.get_memory(&mut store, "memory").expect("the memory"),
            malloc: instance.get_typed_func(&mut store, "malloc").expect("an export"),
            filter: instance.get_typed_func(&mut store, "firstseen").expect("an export"),
            store,
        }
    }

    /// The answer to a record; nothing, if the fuel did not last.
    fn call(&mut self, record: &[u8], fuel: u64) -> Option<Vec<u8>> {
        self.store.set_fuel(u64::MAX).expect("fuel");
        let len = i32::try_from(record.len()).expect("a length");
        let tag = self.malloc.call(&mut self.store, 2).expect("memory");
        let place = self.malloc.call(&mut self.store, len + 1).expect("memory");
        self.memory.write(&mut self.store, tag as usize, b"t\0").expect("room");
        self.memory.write(&mut self.store, place as usize, &[record, b"\0"].concat()).expect("room");
        self.store.set_fuel(fuel).expect("fuel");
        let answer = self.filter.call(&mut self.store, (tag, 1, 1_793_361_600, 0, place, len)).ok()?;
        Some(text(self.memory.data(&self.store), answer).to_vec())
    }
}

/// An event that alerts, as no other of the same number does.
fn event(number: u64) -> Vec<u8> {
    format!(
        r#"{{"eventSource":"sts.amazonaws.com","eventName":"GetCallerIdentity","eventID":"e-{number}","userIdentity":{{"type":"IAMUser","arn":"arn:aws:iam::111122223333:user/{number}"}}}}"#
    )
    .into_bytes()
}

fn alerts(answer: &[u8]) -> bool {
    answer.windows(11).any(|window| window == br#""firstseen""#)
}

#[test]
fn the_next_call_is_served() {
    let mut kept = Kept::start();
    let mut whole = 0;
    // Ever more fuel, until it lasts: the call stops ever later.
    for number in 0..200 {
        let fuel = 500 + number * 600;
        let first = kept.call(&event(number), fuel);
        if let Some(answer) = first {
            assert!(alerts(&answer));
            whole = number;
            break;
        }
        let again = kept.call(&event(number), u64::MAX).unwrap_or_else(|| panic!("{fuel} of fuel broke the next call"));
        assert!(alerts(&again), "the event that was stopped after {fuel} of fuel does not alert when it comes again");
        let other = kept.call(&event(1_000_000 + number), u64::MAX).expect("a call");
        assert!(alerts(&other), "another event does not alert after one was stopped");
        let known = event(1_000_000 + number);
        let known = String::from_utf8(known).expect("text").replace("\"e-", "\"f-").into_bytes();
        assert_eq!(kept.call(&known, u64::MAX).expect("a call"), known, "what was known is forgotten");
    }
    assert!(whole >= 20, "only {whole} points to stop at: take smaller steps");
}
