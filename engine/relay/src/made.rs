//! What was made in a server's session by texts that showed it, counted: what a server counts beyond it was made unseen
//! (MySQL).
//!
//! Asks nothing and knows no names. Held by `server`, told by `things` and `adjust`; `findings` compares.

use maitred_wire::dialect::SettingChange;
use maitred_wire::effects::{Thing, Traces};
use maitred_wire::Dialect;

/// How many temporary tables and statements were made in a session by texts that showed it, how many of the statements
/// were forgotten so, and how many statements were run there that set something, as far as the server has told, and of
/// our own since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    tables: u64,
    statements: u64,
    forgotten: u64,
    sets: u64,
}

impl Made {
    pub(crate) fn count(&self, kind: Traces) -> u64 {
        if kind == Traces::TEMPORARY {
            self.tables
        } else {
            self.statements
        }
    }

    /// So many that no text had shown are named by one now.
    pub(crate) fn note_named(&mut self, tables: u64, statements: u64) {
        self.tables += tables;
        self.statements += statements;
    }

    /// Texts that have been answered say this.
    pub(crate) fn note(&mut self, things: &[Thing], has_failed: bool) {
        let is_one =
            |thing: &&Thing| matches!(thing, Thing::Made(Traces::PREPARED, name) if !name.is_empty());
        let is_forgotten = |thing: &&Thing| matches!(thing, Thing::Forgotten(_));
        let count = |is: fn(&&Thing) -> bool| things.iter().filter(is).count() as u64;
        // Why less those: what is prepared so is forgotten first without being told to be. Why also if it failed: the
        // server counts it all the same.
        self.forgotten += count(is_forgotten).saturating_sub(count(is_one));
        // Why not then: what failed may not have been counted by the server.
        for thing in things.iter().filter(|_| !has_failed) {
            match thing {
                Thing::Made(Traces::TEMPORARY, name) if !name.is_empty() => self.tables += 1,
                Thing::Made(Traces::PREPARED, name) if !name.is_empty() => self.statements += 1,
                Thing::Prepared(..) => self.statements += 1,
                _ => {}
            }
        }
    }

    /// Statements are prepared again with a client's settings, or forgotten.
    pub(crate) fn note_changes(&mut self, dialect: Dialect, changes: &[SettingChange<'_>]) {
        for (_, value) in changes.iter().filter(|(name, _)| dialect.is_statement_among_settings(name)) {
            match value {
                Some(_) => self.statements += 1,
                None => self.forgotten += 1,
            }
        }
        self.sets += u64::from(dialect.is_any_set(changes));
    }

    /// Has a routine prepared statements of which it has forgotten as many, by what the server tells of both? Nothing
    /// is left of them then, if it has forgotten its own.
    pub(crate) fn are_all_forgotten(&mut self, prepared: u64, forgotten: u64) -> bool {
        let unseen = prepared.saturating_sub(self.statements);
        if unseen == 0 || unseen != forgotten.saturating_sub(self.forgotten) {
            return false;
        }
        (self.statements, self.forgotten) = (prepared, forgotten);
        true
    }

    /// We have the server set something.
    pub(crate) fn note_set(&mut self) {
        self.sets += 1;
    }

    /// The server tells how many set something. Returns whether there are others among them: to be asked for.
    ///
    /// Invariant: none is counted here that the server does not count, or one that nobody saw would be missed.
    pub(crate) fn has_other_sets(&mut self, told: u64) -> bool {
        std::mem::replace(&mut self.sets, told) != told
    }
}
