//! Identifiers and time: newtypes, so that mixing them does not compile.
//!
//! No behaviour beyond arithmetic on time. Used by every file of the crate and by `reactor`.

use std::ops::{Add, Sub};

slotmap::new_key_type! {
    /// A connection somebody opened to us.
    pub struct ClientId;
    /// A connection we opened to a database.
    pub struct ServerId;
}

/// A worker thread; clients live on one, servers may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

/// A pool within one worker's relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub u32);

/// Microseconds since the engine started. The caller's clock: real in `reactor`, virtual in `sim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Later than any deadline.
    pub const NEVER: Time = Time(u64::MAX);

    /// The moment `ms` later; 0 means "off", hence never.
    pub fn after_ms(self, ms: u64) -> Time {
        if ms == 0 {
            Time::NEVER
        } else {
            self + ms * 1000
        }
    }

    /// Microseconds from `earlier` to here, 0 if it is not earlier.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Time {
    type Output = Time;
    fn add(self, micros: u64) -> Time {
        Time(self.0.saturating_add(micros))
    }
}

impl Sub<u64> for Time {
    type Output = Time;
    fn sub(self, micros: u64) -> Time {
        Time(self.0.saturating_sub(micros))
    }
}

/// A client as other threads and operators name it: worker and slot in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PublicId(pub u64);

impl PublicId {
    /// Invariant: `key` is the slotmap's own 64-bit form, whose low half is the slot and whose
    /// high half is the version; both survive in the number.
    pub fn new(worker: WorkerId, key: u64) -> PublicId {
        let slot = key & 0xffff_ffff;
        let version = (key >> 32) & 0xffff_ffff;
        PublicId((u64::from(worker.0) << 56) | ((version & 0xff_ffff) << 32) | slot)
    }

    pub fn worker(self) -> WorkerId {
        WorkerId((self.0 >> 56) as u16)
    }
}
