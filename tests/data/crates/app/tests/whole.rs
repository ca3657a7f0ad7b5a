//! A test of its own.

#[test]
fn the_program_is_there() {
    assert!(std::path::Path::new(env!("CARGO_BIN_EXE_app")).is_file());
}
