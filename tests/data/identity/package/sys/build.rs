//! Compiles C into a library, without any other crate.

use std::path::Path;
use std::process::Command;

fn run(program: &str, arguments: &[&str]) {
    assert!(Command::new(program).args(arguments).status().unwrap().success(), "{program}");
}

fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    let (object, library) = (Path::new(&out).join("seven.o"), Path::new(&out).join("libseven.a"));
    run("cc", &["-O1", "-c", "seven.c", "-o", object.to_str().unwrap()]);
    run("ar", &["crsD", library.to_str().unwrap(), object.to_str().unwrap()]);
    println!("cargo::rerun-if-changed=seven.c");
    println!("cargo::rerun-if-env-changed=SEVEN");
    println!("cargo::rustc-link-search=native={out}");
    let modifiers = std::env::var("SEVEN").unwrap_or_default();
    println!("cargo::rustc-link-lib=static{modifiers}=seven");
    println!("cargo::metadata=made={out}");
}
