//! The target `table_filter` of `holdfast::fuzzing`, which says what it demands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast::fuzzing::check("table_filter", data));
