//! The code that is checked in for the services of `deadbeat demo` is what their .proto file makes.
//!
//! After a change of that file, or of the generator:
//!
//! ```sh
//! DEADBEAT_REGENERATE=1 cargo test --test demo_proto
//! ```
//!
//! writes it anew. No build needs a generator, nor does any need `protoc`: protox is one in Rust.

use std::path::Path;
use std::{env, fs};

const PROTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/deadbeat/demo/proto");

fn generate(into: &Path) -> String {
    fs::create_dir_all(into).expect("the target directory can be written");
    let files = protox::compile(["shop.proto"], [PROTO]).expect("it is valid");
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(into)
        .compile_fds(files)
        .expect("code is made of it");
    fs::read_to_string(into.join("shop.rs")).expect("it is named for its package")
}

#[test]
fn the_code_that_is_checked_in_is_current() {
    let generated = generate(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo_proto"));
    let checked_in = Path::new(PROTO).join("shop.rs");
    if env::var_os("DEADBEAT_REGENERATE").is_some_and(|it| it == "1") {
        fs::write(&checked_in, &generated).expect("the sources can be written");
    }
    let current = fs::read_to_string(&checked_in).unwrap_or_default().replace("\r\n", "\n");
    assert!(
        current == generated,
        "{} isn't what shop.proto makes: DEADBEAT_REGENERATE=1 cargo test --test demo_proto",
        checked_in.display()
    );
}
