//! Whether a worker waits for its turn on the processor, and gives way to others.
//!
//! Asks for nothing else of the machine and looks at no socket. Called by `worker`, each tick and each round.

use maitred_relay::ids::Time;

/// Busy servers, as an average, from which on a worker is patient, and below which it no longer is.
///
/// Why two: a load near the edge would change the policy at every tick.
const PATIENT_FROM: usize = 8;
const HASTY_BELOW: usize = 4;

/// The average moves by this part of the difference at each tick.
const INERTIA: usize = 8;

/// Giving way that takes longer than this has met somebody with much to do.
const LONG_US: u64 = 1_000;

/// And is not tried again for so long.
const PAUSE_US: u64 = 500_000;

/// How a worker is scheduled; hasty as every thread is at first.
///
/// Why patient: woken for each event at once, a worker goes through its loop for one event at a time;
/// when it waits its turn, it finds several and pays for the loop once.
/// Measured: bench, CPU per query at 32 and 200 clients, a quarter to a third less with io_uring.
/// Why not always: with few clients there is never more than one event, and each would wait for whatever
/// else the machine has to do. Measured: one client beside compilers on all cores, 290 queries/s if
/// patient, 17,000 if hasty.
#[derive(Default)]
pub(super) struct Patience {
    is_patient: bool,
    /// Times `INERTIA`.
    busy: usize,
    /// Do not give way before.
    not_before: Time,
}

impl Patience {
    /// Let others of our group (clients on this machine, in a container with us) run before what this
    /// round has to send is handed to the kernel; `clock` tells the time.
    ///
    /// Why: they ask the next things meanwhile, and the next round finds these too.
    /// Measured: pgbench beside us, select-only, CPU per query at 32 clients 11.1 to 7.5 µs, at 200 clients
    /// 10.6 to 5.6, more queries/s at 32 and as many at 200; at 8 clients 14.5 to 12.5, logins/s 6 % more.
    /// In scheduling groups apart (`make bench`) it neither helps nor costs. With epoll, which sends at once, a tenth fewer queries/s, so it does not ask for this.
    /// Why the pause: beside one that never sleeps each time costs its whole turn, some milliseconds.
    pub(super) fn give_way(&mut self, clock: impl Fn() -> Time) {
        let before = clock();
        if before < self.not_before {
            return;
        }
        // SAFETY: no memory is passed; it cannot fail.
        unsafe { libc::sched_yield() };
        let after = clock();
        if after.since(before) > LONG_US {
            self.not_before = after + PAUSE_US;
        }
    }

    /// So many servers are at work just now.
    pub(super) fn observe(&mut self, busy: usize) {
        self.busy = self.busy - self.busy / INERTIA + busy;
        let least = if self.is_patient { HASTY_BELOW } else { PATIENT_FROM };
        let is_patient = self.busy >= least * INERTIA;
        if is_patient != self.is_patient {
            self.is_patient = is_patient;
            schedule(if is_patient { libc::SCHED_BATCH } else { libc::SCHED_OTHER });
        }
    }
}

fn schedule(policy: i32) {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: a valid structure; a kernel that refuses leaves the thread as it was.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patient_under_load_and_hasty_again_when_it_is_over() {
        let mut patience = Patience::default();
        let mut ticks_until = |busy: usize, wanted: bool| {
            (0..1000).find(|_| {
                patience.observe(busy);
                patience.is_patient == wanted
            })
        };
        assert_eq!(ticks_until(1, true), None);
        assert!(ticks_until(20, true).is_some_and(|ticks| ticks > 1), "one glimpse is not a load");
        assert_eq!(ticks_until(5, false), None, "between the two nothing changes");
        assert!(ticks_until(1, false).is_some());
    }

    #[test]
    fn way_is_not_given_soon_again_to_somebody_who_takes_long() {
        let mut patience = Patience::default();
        let turns = |patience: &mut Patience, start: u64, took: u64| {
            let calls = std::cell::Cell::new(0);
            patience.give_way(|| {
                calls.set(calls.get() + 1);
                Time(start + (calls.get() - 1) * took)
            });
            calls.get() == 2
        };
        assert!(turns(&mut patience, 10, LONG_US));
        assert!(turns(&mut patience, 20, LONG_US + 1));
        assert!(!turns(&mut patience, 2 * LONG_US, 1));
        assert!(turns(&mut patience, 2 * LONG_US + PAUSE_US, 1));
    }
}
