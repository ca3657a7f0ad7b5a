//! A program.

fn main() {
    let numbers: Vec<u64> = std::env::args().map(|word| word.len() as u64).collect();
    println!("{}", numbers.iter().sum::<u64>());
}
