//! Macros that look around in the package that uses them.

use proc_macro::TokenStream;

/// Where cargo finds the workspace.
#[proc_macro]
pub fn workspace(_: TokenStream) -> TokenStream {
    let asked = ["locate-project", "--workspace", "--message-format=plain"];
    let cargo = std::env::var_os("CARGO").unwrap();
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap();
    let answer = std::process::Command::new(cargo).args(asked).current_dir(package).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    format!("{:?}", String::from_utf8_lossy(&answer.stdout).trim()).parse().unwrap()
}

/// The text of `greeting.txt`.
#[proc_macro]
pub fn greeting(_: TokenStream) -> TokenStream {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let text = std::fs::read_to_string(format!("{package}/greeting.txt")).unwrap();
    format!("{text:?}").parse().unwrap()
}
