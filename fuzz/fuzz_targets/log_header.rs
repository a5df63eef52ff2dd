//! The target `log_header` of `holdfast::fuzzing`, which says what it demands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::fuzzing::check("log_header", data));
