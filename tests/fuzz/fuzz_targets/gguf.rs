#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    (lime_tests::readers::reader("gguf").read)(bytes);
});
