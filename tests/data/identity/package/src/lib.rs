//! A library.

/// Compiled into whoever uses it.
pub fn twice<T: Clone>(value: &T) -> (T, T) {
    (value.clone(), value.clone())
}

/// Compiled here.
pub fn sum(numbers: &[u64]) -> u64 {
    numbers.iter().map(|number| number * 3).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn sums() {
        assert_eq!(super::sum(&[1, 2]), 9);
    }
}
