//! The fuzz target of [`firstseen_fuzz::process`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen_fuzz::process(data));
