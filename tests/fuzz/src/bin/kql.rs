//! The fuzz target of [`firstseen_fuzz::kql`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen_fuzz::kql(data));
