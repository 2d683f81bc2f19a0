//! The settings a session has beyond a fresh server's, and how to get from one set to another.
//!
//! Knows names and values, no protocol and no meaning of any setting. Called by `client` at login,
//! by `pool` when a server is chosen and by `server` when one is lent or reports a change.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

/// Names and values, ordered by name; names compare without case, as databases do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings(Vec<(Box<str>, Box<str>)>);

impl Settings {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(have, _)| caseless(have).cmp(caseless(name)))
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.place(name).ok().map(|at| &*self.0[at].1)
    }

    /// A number that is the same for those who have the same values of `names`.
    pub fn meaning(&self, names: &[&str]) -> u64 {
        if self.is_empty() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        let mut is_any = false;
        for name in names {
            let value = self.value(name);
            is_any |= value.is_some();
            value.hash(&mut hasher);
        }
        if is_any {
            hasher.finish()
        } else {
            0
        }
    }

    /// Set a value; true if that changed anything.
    pub fn set(&mut self, name: &str, value: &str) -> bool {
        match self.place(name) {
            Ok(at) if &*self.0[at].1 == value => false,
            Ok(at) => {
                self.0[at].1 = value.into();
                true
            }
            Err(at) => {
                self.0.insert(at, (name.into(), value.into()));
                true
            }
        }
    }

    /// Set a value, as long as all names and values then have no more than `limit` bytes; 0 is no limit.
    /// False: it does not fit, and what it was before is forgotten.
    pub fn set_within(&mut self, name: &str, value: &str, limit: u64) -> bool {
        self.remove(name);
        let bytes: usize = self.iter().map(|(name, value)| name.len() + value.len()).sum();
        let fits = limit == 0 || (bytes + name.len() + value.len()) as u64 <= limit;
        if fits {
            self.set(name, value);
        }
        fits
    }

    /// These, with the values that `other` has for `names`.
    pub fn with_those_of(&self, other: &Settings, names: &[&str]) -> Settings {
        let mut settings = self.clone();
        for name in names {
            match other.value(name) {
                Some(value) => settings.set(name, value),
                None => settings.remove(name),
            };
        }
        settings
    }

    /// Forget a value; true if there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let place = self.place(name);
        if let Ok(at) = place {
            self.0.remove(at);
        }
        place.is_ok()
    }

    /// Keep those whose name is `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|(name, _)| wanted(name));
    }

    /// What must be changed to come from `self` to `wanted`; None means "back to the default".
    pub fn changes_to<'a>(&'a self, wanted: &'a Settings) -> Vec<(&'a str, Option<&'a str>)> {
        let gone = self.iter().filter(|(name, _)| wanted.value(name).is_none()).map(|(name, _)| (name, None));
        let new = wanted
            .iter()
            .filter(|(name, value)| self.value(name) != Some(value))
            .map(|(name, value)| (name, Some(value)));
        gone.chain(new).collect()
    }
}

fn caseless(name: &str) -> impl Iterator<Item = u8> + '_ {
    name.bytes().map(|byte| byte.to_ascii_lowercase())
}

/// Do two texts of one setting say the same? Servers report `UTF8` where clients write `utf-8`.
pub fn is_same_value(one: &str, other: &str) -> bool {
    let letters = |text: &'_ str| {
        text.bytes().filter(|b| b.is_ascii_alphanumeric()).map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>()
    };
    one == other
        || (one.is_ascii() && other.is_ascii() && letters(one) == letters(other) && !one.contains(','))
}

/// Equal settings are one object, so that "same state" is one comparison of pointers.
#[derive(Debug, Default)]
pub struct SettingsTable {
    known: HashSet<Arc<Settings>>,
    sweep_at: usize,
}

impl SettingsTable {
    pub fn intern(&mut self, settings: Settings) -> Arc<Settings> {
        if let Some(known) = self.known.get(&settings) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.sweep_at.max(64) {
            self.known.retain(|settings| Arc::strong_count(settings) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        let settings = Arc::new(settings);
        self.known.insert(Arc::clone(&settings));
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut all = Settings::default();
        for (name, value) in pairs {
            all.set(name, value);
        }
        all
    }

    #[test]
    fn changes_lead_from_one_set_to_the_other() {
        let from = settings(&[("TimeZone", "UTC"), ("a", "1"), ("b", "2")]);
        let to = settings(&[("timezone", "UTC"), ("b", "3"), ("c", "4")]);
        assert_eq!(from.changes_to(&to), vec![("a", None), ("b", Some("3")), ("c", Some("4"))]);
        assert!(from.changes_to(&from).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let mut all = settings(&[("a", "123")]);
        assert!(all.set_within("b", "1234", 9) && all.set_within("A", "4321", 10));
        assert!(!all.set_within("c", "", 10) && !all.set_within("b", "12345", 10));
        assert_eq!(all, settings(&[("A", "4321")]));
        assert!(all.set_within("b", &"x".repeat(1000), 0));
    }

    #[test]
    fn equal_settings_are_one_object_and_unused_ones_are_swept() {
        let mut table = SettingsTable::default();
        let one = table.intern(settings(&[("a", "1")]));
        let two = table.intern(settings(&[("a", "1")]));
        assert!(Arc::ptr_eq(&one, &two));
        for number in 0..10_000 {
            table.intern(settings(&[("n", &number.to_string())]));
        }
        assert!(table.known.len() < 1000);
        assert!(Arc::ptr_eq(&one, &table.intern(settings(&[("a", "1")]))));
    }

    #[test]
    fn spellings_of_one_value_are_the_same() {
        assert!(is_same_value("UTF8", "utf-8"));
        assert!(!is_same_value("ISO, MDY", "ISO, DMY"));
        assert!(!is_same_value("a, b", "ab"));
    }
}
