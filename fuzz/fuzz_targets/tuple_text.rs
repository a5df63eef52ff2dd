//! The target `tuple_text` of `holdfast::fuzzing`, which says what it demands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::fuzzing::check("tuple_text", data));
