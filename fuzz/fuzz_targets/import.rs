//! The lines that `holdfast import` reads; `holdfast_server::formats::fuzzing` says what it demands.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| holdfast_server::formats::fuzzing::check(data));
