//! The fuzz target of [`firstseen_fuzz::pack`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen_fuzz::pack(data));
