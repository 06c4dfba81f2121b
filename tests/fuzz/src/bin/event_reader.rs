//! The fuzz target of [`firstseen_fuzz::event_reader`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| firstseen_fuzz::event_reader(data));
