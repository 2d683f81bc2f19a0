//! What was found on a server becomes its client's, to go with it from then on.
//!
//! Asks nothing and decides nothing about pins: `trace` does, and calls it.

use std::sync::Arc;

use maitred_wire::effects::Effects;

use crate::ids::{ClientId, ServerId};
use crate::session_state::Settings;
use crate::trace::is_reported;
use crate::Relay;

impl Relay {
    /// A client's settings are its server's now, but for those in which the two differed `before`, and for
    /// what a reset brings back of the client's own.
    pub(crate) fn carry(&mut self, id: ClientId, server: ServerId, before: &Settings, effects: &Effects) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let dialect = client.dialect;
        let fresh = self.pools[client.pool.0 as usize].shared.welcome();
        let is_reset = |name: &str| {
            effects.settings.reset_all && !dialect.is_unlisted(name)
                || effects.settings.reset.iter().any(|reset| reset.eq_ignore_ascii_case(name))
        };
        let own = Arc::clone(&client.own_settings);
        let settings = Arc::clone(&self.servers[server].settings);
        let was = std::mem::replace(&mut client.settings, Arc::clone(&settings));
        let due = before.changes_to(&was);
        let back: Vec<_> = own
            .iter()
            .filter(|(name, _)| is_reset(name) && settings.value(name).is_none())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        if back.is_empty() && due.is_empty() {
            return;
        }
        let mut settings = (*settings).clone();
        for (name, value) in due {
            match value {
                Some(value) => drop(settings.set(name, value)),
                None => drop(settings.remove(name)),
            }
        }
        for (name, value) in &back {
            settings.set(name, value);
        }
        client.settings = self.settings.intern(settings);
        for (name, value) in back {
            let is_told = was.value(&name) == Some(&value);
            if !is_told && is_reported(dialect, fresh.as_deref(), &name) {
                self.say(id, |out| dialect.say_setting(out, &name, &value));
            }
        }
    }
}
