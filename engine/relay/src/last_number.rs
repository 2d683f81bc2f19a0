//! The number that a client's last row got, which `LAST_INSERT_ID()` tells (MySQL).
//!
//! Sends nothing and asks nothing. Held by `leftovers`, told by it what servers said.
//!
//! Spec: an OK packet has the number of the row, but also one that the statement itself gave, of which
//! `LAST_INSERT_ID()` knows nothing: asked, the server tells an older one, and that may be a stranger's.

use crate::ids::ServerId;

/// A server and how often it had been lent: one use of it by one client.
pub type Lease = (ServerId, u64);

/// Most numbers of one lease that are told apart.
const MOST_TOLD: usize = 64;

/// See the head of the file.
#[derive(Debug, Default)]
pub struct LastNumber {
    number: u64,
    /// The lease in which the server would tell the client's own.
    at: Option<Lease>,
    /// What was known before the lease in which OK packets have `told` others.
    proven: u64,
    told: Vec<u64>,
    told_at: Option<Lease>,
}

impl LastNumber {
    /// What is said to a server that does not know it; None: that of `lease` does.
    pub fn due_at(&mut self, lease: Lease) -> Option<u64> {
        let is_known = self.at.replace(lease) == Some(lease);
        (!is_known).then_some(self.number)
    }

    /// An OK packet told a number; `is_doubted`: the server will be asked behind it.
    pub fn note(&mut self, number: u64, lease: Lease, is_doubted: bool) {
        if self.at != Some(lease) {
            self.at = None;
            if self.told_at != Some(lease) {
                self.told.clear();
                self.proven = self.number;
                self.told_at = Some(lease);
            }
            if is_doubted && self.told.len() < MOST_TOLD {
                self.told.push(number);
            }
        }
        self.number = number;
    }

    /// The server was asked.
    pub fn prove(&mut self, number: u64, lease: Lease) {
        let is_own = self.at == Some(lease) || self.told_at != Some(lease) || self.told.contains(&number);
        self.at = is_own.then_some(lease);
        self.number = if is_own { number } else { self.proven };
        self.told.clear();
        self.told_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    fn leases() -> (Lease, Lease) {
        let mut servers: SlotMap<ServerId, ()> = SlotMap::with_key();
        ((servers.insert(()), 1), (servers.insert(()), 1))
    }

    #[test]
    fn a_number_goes_with_its_client() {
        let (one, other) = leases();
        let mut last = LastNumber::default();
        last.note(5, one, false);
        assert_eq!(last.due_at(other), Some(5));
        assert_eq!(last.due_at(other), None, "it knows");
        assert_eq!(last.due_at(one), Some(5));
    }

    #[test]
    fn a_number_that_was_given_is_forgotten_and_a_strangers_never_told() {
        let (one, other) = leases();
        let mut last = LastNumber::default();
        last.note(5, one, true);
        last.prove(5, one);
        // It gives 500 itself where a stranger's 77 stands.
        last.note(500, other, true);
        last.note(501, other, true);
        last.prove(77, other);
        assert_eq!(last.due_at(other), Some(5));
    }

    #[test]
    fn a_number_that_was_made_before_one_that_was_given_counts() {
        let (one, _) = leases();
        let mut last = LastNumber::default();
        last.note(6, one, true);
        last.note(500, one, true);
        last.prove(6, one);
        assert_eq!(last.due_at(one), None);
        last.note(501, one, true);
        last.prove(6, one);
        assert_eq!(last.due_at(one), None, "its own stood there");
        let (_, other) = leases();
        assert_eq!(last.due_at(other), Some(6));
    }

    #[test]
    fn what_a_server_is_asked_that_knows_its_client_is_so() {
        let (one, _) = leases();
        let mut last = LastNumber::default();
        assert_eq!(last.due_at(one), Some(0));
        last.note(8, one, true);
        last.prove(9, one);
        assert_eq!(last.due_at(one), None);
    }
}
