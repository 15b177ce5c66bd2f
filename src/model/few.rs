//! A map of a few entries, as most maps of a unit are.

use std::mem::replace;

/// A list that is sorted by its keys and as long as it has entries, with the words of a `BTreeMap`.
/// That one has room for eleven entries from its first one on: for each of a thousand units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    /// Without an entry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn place(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(key))
    }

    /// Puts an entry in, and gives back what had its key.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.place(&key) {
            Ok(at) => self.0.get_mut(at).map(|(_, known)| replace(known, value)),
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes an entry out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let at = self.place(key).ok()?;
        let (_, value) = self.0.remove(at);
        self.0.shrink_to_fit();
        Some(value)
    }

    /// Whether there is such an entry.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.place(key).is_ok()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.0.get(self.place(key).ok()?).map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.place(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Lets only those be that `keep` says.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
        self.0.shrink_to_fit();
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut few = Self::new();
        entries.into_iter().for_each(|(key, value)| drop(few.insert(key, value)));
        few
    }
}

#[cfg(test)]
mod tests {
    use super::Few;

    #[test]
    fn it_does_what_a_map_does_and_has_no_room_to_spare() {
        let mut few: Few<u32, &str> = [(3, "c"), (1, "a"), (2, "b"), (1, "A")].into_iter().collect();
        assert_eq!(few.iter().collect::<Vec<_>>(), [(&1, &"A"), (&2, &"b"), (&3, &"c")]);
        assert_eq!((few.insert(2, "B"), few.insert(0, "z")), (Some("b"), None));
        assert_eq!((few.get(&2), few.get(&9), few.contains_key(&0)), (Some(&"B"), None, true));
        assert_eq!((few.remove(&1), few.remove(&1)), (Some("A"), None));
        few.values_mut().for_each(|value| *value = "x");
        few.retain(|key, _| *key != 0);
        assert_eq!(few.keys().collect::<Vec<_>>(), [&2, &3]);
        assert_eq!((few.0.len(), few.0.capacity()), (2, 2));
        few.retain(|_, _| false);
        assert!(few.is_empty() && few.0.capacity() == 0);
    }
}
