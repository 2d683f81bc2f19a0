//! Prepared statements: what each client calls them, and which a server has.
//!
//! A statement is known by a keyed hash of its definition, so equal statements of different clients
//! share one name on every server, whichever worker holds it. Knows no message layout. Called by
//! `client` and `server`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hasher as _;
use std::sync::{Arc, OnceLock};

use lru::LruCache;
use maitred_wire::dialect::Asks;
use maitred_wire::effects::Effects;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::session_state::Settings;

/// Identity of a definition. Keyed per process, so nobody can choose two texts that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatementKey(u128);

/// A prepared statement's definition: text and parameter types, as the dialect stands them.
#[derive(Debug, PartialEq, Eq)]
pub struct Statement {
    pub key: StatementKey,
    pub definition: Box<[u8]>,
    /// What its text shows of its effects on a session.
    pub effects: Option<Box<Effects>>,
    /// The statement that it runs by SQL's `EXECUTE`, which a server must have, too.
    pub runs: Option<Arc<Statement>>,
    /// The settings under which it was prepared, where its names do not stand for others later (MySQL).
    pub under: Option<Arc<Settings>>,
    /// What it asks about the statement before it, once that mattered (MySQL).
    pub asks: OnceLock<Option<Asks>>,
    /// How many parameters it has, once a server has said so (MySQL).
    pub parameters: OnceLock<u16>,
}

impl Statement {
    /// Does it ask which statements are prepared?
    pub fn lists_statements(&self) -> bool {
        self.effects.as_ref().is_some_and(|effects| effects.lists_statements)
    }

    /// Does it ask what a sequence last gave?
    pub fn reads_sequences(&self) -> bool {
        self.effects.as_ref().is_some_and(|effects| effects.reads_sequences)
    }
}

/// Hashes definitions.
#[derive(Clone, Debug)]
pub struct StatementHasher {
    key: [u8; 16],
}

impl StatementHasher {
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&secret[..16]);
        Self { key }
    }

    pub fn key(&self, definition: &[u8]) -> StatementKey {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(definition);
        StatementKey(hasher.finish128().as_u128())
    }

    /// As `key`, for what a definition means under some settings; the `turn`th of a client that has it already.
    pub fn key_in(&self, definition: &[u8], meaning: u64, turn: u32) -> StatementKey {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(definition);
        hasher.write_u64(meaning);
        hasher.write_u32(turn);
        StatementKey(hasher.finish128().as_u128())
    }
}

/// Length of a name on a server.
pub const SERVER_NAME_LEN: usize = 25;

/// Digits of a name on a server.
const LETTERS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";

impl StatementKey {
    /// The statement that servers know under `name`, if it is one of ours.
    pub fn of_server_name(name: &[u8]) -> Option<StatementKey> {
        let letters = name.strip_prefix(b"mt_").filter(|letters| letters.len() + 3 == SERVER_NAME_LEN)?;
        let digit = |letter: &u8| LETTERS.iter().position(|one| one == letter);
        let key = letters.iter().rev().try_fold(0u128, |key, letter| Some(key << 6 | digit(letter)? as u128));
        key.map(StatementKey)
    }

    /// The name under which servers know the statement.
    pub fn server_name(self) -> [u8; SERVER_NAME_LEN] {
        let mut name = *b"mt_0000000000000000000000";
        let mut rest = self.0;
        for letter in &mut name[3..] {
            *letter = LETTERS[(rest & 63) as usize];
            rest >>= 6;
        }
        name
    }
}

/// The statements of one client.
#[derive(Debug, Default)]
pub struct ClientStatements {
    named: HashMap<Box<[u8]>, Arc<Statement>>,
    pub unnamed: Option<Arc<Statement>>,
    /// Those whose columns the client has been told, and may remember.
    pub described: HashSet<StatementKey>,
    bytes: u64,
}

/// What a held statement costs beside its text: map entry and names, roughly.
const OVERHEAD_BYTES: u64 = 96;

impl ClientStatements {
    pub fn len(&self) -> usize {
        self.named.len()
    }

    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// Bytes of all held definitions and names.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Has the client a statement of this identity, under whatever name? Asked only where `described` says so
    /// of each (MySQL).
    pub fn holds(&self, key: StatementKey) -> bool {
        self.described.contains(&key)
    }

    pub fn named(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.named.get(name)
    }

    /// Names and statements, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Arc<Statement>)> {
        self.named.iter().map(|(name, statement)| (&**name, statement))
    }

    pub fn insert(&mut self, name: &[u8], statement: Arc<Statement>) {
        self.bytes += cost(name, &statement);
        if let Some(old) = self.named.insert(name.into(), statement) {
            self.bytes -= cost(name, &old);
        }
    }

    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Statement>> {
        let statement = self.named.remove(name)?;
        if self.described.contains(&statement.key)
            && !self.named.values().any(|held| held.key == statement.key)
        {
            self.described.remove(&statement.key);
        }
        self.bytes -= cost(name, &statement);
        Some(statement)
    }

    /// Forget all but those under these names.
    pub fn keep_only(&mut self, names: &VecDeque<Box<[u8]>>) {
        let gone: Vec<_> = self.named.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.remove(&name);
        }
        self.unnamed = None;
    }
}

fn cost(name: &[u8], statement: &Statement) -> u64 {
    (name.len() + statement.definition.len()) as u64 + OVERHEAD_BYTES
}

/// When and how a definition was understood: what names in it stand for may be something else since, or
/// in another session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// Count of definitions that changed something in the database, as of then.
    pub epoch: u64,
    /// Of the settings that say what names stand for; None: not known.
    pub names: Option<u64>,
}

/// The statements that are prepared on one server, least recently used first to go.
#[derive(Debug)]
pub struct ServerStatements {
    prepared: LruCache<StatementKey, (u64, Understood)>,
    bytes: u64,
    /// The definition that the server's unnamed statement has.
    pub unnamed: Option<StatementKey>,
}

impl Default for ServerStatements {
    fn default() -> Self {
        Self { prepared: LruCache::unbounded(), bytes: 0, unnamed: None }
    }
}

impl ServerStatements {
    pub fn len(&self) -> usize {
        self.prepared.len()
    }

    pub fn is_empty(&self) -> bool {
        self.prepared.is_empty()
    }

    /// Is it there? Marks it as used.
    pub fn has(&mut self, key: StatementKey) -> bool {
        self.prepared.get(&key).is_some()
    }

    /// How it was understood there.
    pub fn understood(&self, key: StatementKey) -> Option<Understood> {
        self.prepared.peek(&key).map(|(_, understood)| *understood)
    }

    /// Note that it is prepared there, or will be when what was sent is carried out.
    pub fn insert(&mut self, key: StatementKey, definition_len: usize, understood: Understood) {
        let cost = definition_len as u64 + OVERHEAD_BYTES;
        self.bytes += cost;
        if let Some((old, _)) = self.prepared.put(key, (cost, understood)) {
            self.bytes -= old;
        }
    }

    pub fn remove(&mut self, key: StatementKey) {
        if let Some((cost, _)) = self.prepared.pop(&key) {
            self.bytes -= cost;
        }
    }

    /// The statement to close so that `limit_bytes` is kept; never the last one.
    pub fn pop_over(&mut self, limit_bytes: u64) -> Option<StatementKey> {
        if self.bytes <= limit_bytes || self.prepared.len() <= 1 {
            return None;
        }
        let (key, (cost, _)) = self.prepared.pop_lru()?;
        self.bytes -= cost;
        Some(key)
    }

    /// As `pop_over`, but none of those that `are_kept`, and not the newest.
    pub fn pop_over_but(
        &mut self,
        limit_bytes: u64,
        are_kept: impl Fn(StatementKey) -> bool,
    ) -> Option<StatementKey> {
        if self.bytes <= limit_bytes {
            return None;
        }
        let oldest_first = self.prepared.iter().skip(1).rev().map(|(key, _)| *key);
        let key = oldest_first.into_iter().find(|key| !are_kept(*key))?;
        self.remove(key);
        Some(key)
    }

    /// Those that `are_meant`, least recently used first.
    pub fn oldest_first(&self, are_meant: impl Fn(StatementKey) -> bool) -> Vec<StatementKey> {
        self.prepared.iter().rev().map(|(key, _)| *key).filter(|key| are_meant(*key)).collect()
    }

    /// Forget all but these.
    pub fn keep_only(&mut self, keys: &[StatementKey]) {
        let gone: Vec<_> =
            self.prepared.iter().map(|(key, _)| *key).filter(|key| !keys.contains(key)).collect();
        for key in gone {
            self.remove(key);
        }
        self.unnamed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_stable() {
        let hasher = StatementHasher::new(&[7; 32]);
        let one = hasher.key(b"select 1\0\0\0");
        assert_eq!(one, hasher.key(b"select 1\0\0\0"));
        assert_ne!(one.server_name(), hasher.key(b"select 2\0\0\0").server_name());
        assert_eq!(StatementKey::of_server_name(&one.server_name()), Some(one));
        assert_eq!(StatementKey::of_server_name(b"mt_0000000000000000000"), None);
        assert!(one.server_name().iter().all(|letter| letter.is_ascii_graphic()));
    }

    #[test]
    fn a_server_keeps_within_its_bytes_and_drops_the_least_used() {
        let hasher = StatementHasher::new(&[1; 32]);
        let keys: Vec<_> = (0..10u8).map(|number| hasher.key(&[number])).collect();
        let mut server = ServerStatements::default();
        for key in &keys {
            server.insert(*key, 100, Understood::default());
        }
        assert!(server.has(keys[0]));
        let mut dropped = Vec::new();
        while let Some(key) = server.pop_over(5 * (100 + OVERHEAD_BYTES)) {
            dropped.push(key);
        }
        assert_eq!(dropped, keys[1..6]);
        assert!(server.has(keys[0]) && !server.has(keys[1]));
    }

    #[test]
    fn a_client_counts_its_bytes_exactly() {
        let statement = |text: &[u8]| {
            Arc::new(Statement {
                key: StatementHasher::new(&[1; 32]).key(text),
                definition: text.into(),
                effects: None,
                runs: None,
                under: None,
                asks: OnceLock::new(),
                parameters: OnceLock::new(),
            })
        };
        let mut client = ClientStatements::default();
        client.insert(b"a", statement(b"xxxx"));
        client.insert(b"a", statement(b"yy"));
        client.insert(b"b", statement(b"z"));
        assert_eq!(client.bytes(), 3 + 2 + 2 * OVERHEAD_BYTES);
        client.remove(b"a");
        client.remove(b"b");
        assert_eq!((client.bytes(), client.len()), (0, 0));
    }
}
