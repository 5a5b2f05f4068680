//! Rate limit of repeated warnings: each one is logged less and less often.

use std::collections::BTreeMap;

/// Number of different texts with a counter of their own; all other texts share one.
const TEXTS: usize = 16;

/// Counts warnings by text.
#[derive(Debug, Default)]
pub(super) struct Thinned(BTreeMap<String, u64>);

impl Thinned {
    /// Counts a warning. Returns its count if it must be logged: at the 1st, 2nd, 4th, 8th time and
    /// so on. Texts that differ only in their numbers are the same.
    pub(super) fn count(&mut self, text: &str) -> Option<u64> {
        let mut kind: String = text.chars().filter(|c| !c.is_numeric()).collect();
        if self.0.len() >= TEXTS && !self.0.contains_key(&kind) {
            kind.clear();
        }
        let times = self.0.entry(kind).or_default();
        *times += 1;
        times.is_power_of_two().then_some(*times)
    }

    /// Resets all counters, after a period without trouble.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_and_fewer_are_told_until_all_was_well() {
        let mut thinned = Thinned::default();
        let told = |thinned: &mut Thinned, n: u64| -> Vec<u64> {
            (0..n).filter_map(|n| thinned.count(&format!("no frame for {n}.0 s"))).collect()
        };
        assert_eq!(told(&mut thinned, 20), [1, 2, 4, 8, 16]);
        assert_eq!(thinned.count("another"), Some(1));
        thinned.clear();
        assert_eq!(told(&mut thinned, 3), [1, 2]);
        let all = (0..1000).filter(|n| thinned.count(&"x".repeat(*n)).is_some()).count();
        assert!(all < 40, "however many texts there are: {all}");
    }
}
