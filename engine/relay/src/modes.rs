//! What a server's status says of a setting, and that it is so when another client gets the server (MySQL).
//!
//! Called by `commands` for each end of a statement, by `pool` and `departure` when a lease ends.

use crate::ids::ServerId;
use crate::server::Server;
use crate::things::value_under;
use crate::Relay;

/// Flags of a server's status that follow from a setting.
///
/// Measured: MariaDB 10.11 brings back the setting that a routine has changed, and not the flags: the next client would
/// write strings as they must not be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Modes {
    told: u16,
    is_doubted: bool,
}

impl Modes {
    #[inline]
    pub(crate) fn note(&mut self, told: u16) {
        if self.told != told {
            *self = Modes { told, is_doubted: true };
        }
    }
}

impl Server {
    /// The setting of which its status says what is not so, and its value. Told once for each change of the status.
    pub(crate) fn wrong_modes(&mut self) -> Option<(&'static str, Box<str>)> {
        if !std::mem::take(&mut self.modes.is_doubted) {
            return None;
        }
        let name = self.dialect.modes_setting();
        let fresh = self.shared.welcome();
        let value = value_under(&self.settings, fresh.as_deref(), name).unwrap_or_default();
        (self.dialect.modes_under(value) != self.modes.told).then(|| (name, value.into()))
    }
}

impl Relay {
    /// A server is about to go to another client: what its status says is made so. Returns whether there was something.
    pub(crate) fn correct_modes(&mut self, id: ServerId) -> bool {
        let now = self.now;
        let server = &mut self.servers[id];
        let Some((name, value)) = server.wrong_modes() else { return false };
        server.change_settings(&[(name, Some(&value))], now);
        self.disturb(self.servers[id].client());
        self.flush_server(id);
        true
    }
}
