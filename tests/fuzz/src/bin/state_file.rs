//! The fuzz target of [`firstseen_fuzz::state_file()`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen_fuzz::state_file(data));
