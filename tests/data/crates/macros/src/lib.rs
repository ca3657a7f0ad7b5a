//! A macro that reads a file of the package that uses it.

use proc_macro::TokenStream;

/// The text of `greeting.txt`.
#[proc_macro]
pub fn greeting(_: TokenStream) -> TokenStream {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let text = std::fs::read_to_string(format!("{package}/greeting.txt")).unwrap();
    format!("{text:?}").parse().unwrap()
}
