//! What the standard library and the linker give a program.

use std::collections::BTreeMap;
use std::thread;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words = ["alpha", "beta", "gamma", "alpha"];
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for word in words {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    let lengths = thread::spawn(move || words.iter().map(|word| word.len()).sum::<usize>());
    let total = lengths.join().map_err(|_| "the thread panicked")?;
    println!("{counts:?} {total} {}", "17".parse::<u8>()?);
    Ok(())
}
