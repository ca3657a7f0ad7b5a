//! Sets a variable for the crate and writes a part of it.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=BUILT=7");
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(Path::new(&out).join("made.rs"), "pub const MADE: u32 = 3;\n").unwrap();
}
