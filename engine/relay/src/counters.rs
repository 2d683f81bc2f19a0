//! Every number the engine keeps, named once.
//!
//! Plain additions by one worker; reports add the workers up. Nothing here decides anything.

use std::collections::BTreeMap;

/// Numbers of one pool on one worker; times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct PoolCounters {
    pub leases: u64,
    pub transactions: u64,
    pub queries: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
    pub transaction_us: u64,
    pub query_us: u64,
    pub wait_us: u64,
    pub client_parses: u64,
    pub server_parses: u64,
    pub binds: u64,
    pub logins: u64,
    pub client_errors: u64,
    pub queue_timeouts: u64,
    pub queue_refusals: u64,
    pub healed: u64,
    pub waits: Histogram,
}

impl PoolCounters {
    pub fn note_lease(&mut self, waited_us: u64) {
        self.leases += 1;
        self.wait_us += waited_us;
        self.waits.note(waited_us);
    }
}

/// Numbers of one worker that belong to no pool.
#[derive(Clone, Debug, Default)]
pub struct WorkerCounters {
    pub login_failures: u64,
    pub cancel_requests: u64,
    pub client_ends: BTreeMap<&'static str, u64>,
    pub server_ends: BTreeMap<&'static str, u64>,
    /// Leases that were kept for their client, by what kept them.
    pub pins: BTreeMap<&'static str, u64>,
    pub servers_opened: u64,
    pub servers_moved: u64,
    /// From databases, by servers that listen for all.
    pub notifications_heard: u64,
    /// To clients.
    pub notifications_told: u64,
}

/// Counts by size: four steps to each power of two, from one microsecond to over an hour.
#[derive(Clone, Debug)]
pub struct Histogram(Box<[u64; Histogram::BUCKETS]>);

impl Default for Histogram {
    fn default() -> Self {
        Self(Box::new([0; Self::BUCKETS]))
    }
}

impl Histogram {
    pub const BUCKETS: usize = 132;

    pub fn note(&mut self, us: u64) {
        self.0[Self::bucket(us)] += 1;
    }

    fn bucket(us: u64) -> usize {
        if us < 4 {
            return us as usize;
        }
        let power = 63 - us.leading_zeros() as usize;
        let quarter = ((us >> (power - 2)) & 3) as usize;
        ((power - 1) * 4 + quarter).min(Self::BUCKETS - 1)
    }

    /// Largest value that falls into a bucket.
    pub fn upper_us(bucket: usize) -> u64 {
        if bucket < 4 {
            return bucket as u64;
        }
        let (power, quarter) = (bucket / 4 + 1, (bucket % 4) as u64);
        ((5 + quarter) << (power - 2)) - 1
    }

    /// (largest value, count) of every bucket that has any.
    pub fn filled(&self) -> Vec<(u64, u64)> {
        self.0.iter().enumerate().filter(|(_, n)| **n > 0).map(|(at, n)| (Self::upper_us(at), *n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_below_its_buckets_upper_bound_and_above_the_one_before() {
        for us in (0..5000).chain([1 << 20, (1 << 31) + 12345, 1 << 33]) {
            let at = Histogram::bucket(us);
            assert!(us <= Histogram::upper_us(at), "{us} in {at}");
            assert!(at == 0 || us > Histogram::upper_us(at - 1), "{us} in {at}");
        }
        assert_eq!(Histogram::bucket(u64::MAX), Histogram::BUCKETS - 1);
    }
}
