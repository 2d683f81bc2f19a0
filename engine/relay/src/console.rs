//! Clients of the console: their statements go to Python, its answers come back.
//!
//! Knows no command. Simple queries only, one at a time; what Python answers is encoded by the
//! dialect. Called by `login` when a client names the console, by `client` for its messages.

use maitred_wire::dialect::ColumnType;
use maitred_wire::handshake::Startup;
use maitred_wire::{ClientMessage, Code, Complaint, Fault, Intent, Transaction};

use crate::action::{Action, ClientEnd, Event};
use crate::client::State;
use crate::ids::{ClientId, Time};
use crate::session_state::Settings;
use crate::snapshot::AuthMethod;
use crate::Relay;

/// Longest console statement.
const LONGEST_STATEMENT: usize = 64 * 1024;

/// What Python answers.
#[derive(Clone, Debug)]
pub enum ConsoleAnswer {
    Rows { columns: Vec<(String, ColumnType)>, rows: Vec<Vec<Option<String>>>, tag: String },
    Done { tag: String },
    Refused { sqlstate: [u8; 5], message: String, hint: Option<String> },
}

impl Relay {
    /// The client asked for the console and has proven who it is.
    pub(crate) fn enter_console(&mut self, id: ClientId, startup: &Startup) {
        let known = self.routes.user(&startup.user).ok().flatten();
        // Why: where nobody proves anything there is nothing to tell users apart by.
        let trusts_all =
            self.routes.snapshot.auth.method == AuthMethod::Trust && self.routes.snapshot.users.is_empty();
        let may = trusts_all || known.is_some_and(|known| known.admin || known.stats);
        if !may {
            let complaint = Complaint::fatal(
                Code::NotAuthorized,
                format!("user \"{}\" may not use the console", startup.user),
            )
            .hint(format!("set users.{}.admin = true (all commands) or .stats = true (SHOW)", startup.user));
            self.end_client(id, ClientEnd::LoginRefused, Some(complaint));
            return;
        }
        let limits = self.console_limits.clone();
        let identity = crate::client::Identity {
            user: startup.user.clone(),
            database: startup.database.clone(),
            settings: limits,
        };
        let client = &mut self.clients[id];
        client.identity = std::sync::Arc::new(identity);
        let rest = match std::mem::replace(&mut client.state, State::Console { is_busy: false }) {
            State::Login(mut login) => login.handshake.take_rest(),
            _ => Vec::new(),
        };
        self.hand_rest(id, rest);
        let mut settings = Settings::default();
        for (name, value) in self.clients[id].dialect.console_settings() {
            settings.set(name, value);
        }
        self.say_welcome(id, &settings, None);
    }

    /// A message of a console client. `None`: nothing was used yet.
    pub(crate) fn console_message(
        &mut self,
        id: ClientId,
        message: ClientMessage,
        here: &[u8],
    ) -> Result<Option<usize>, Fault> {
        if message.total > LONGEST_STATEMENT {
            return Err(Fault("a console statement longer than 64 KiB"));
        }
        if here.len() < message.total {
            return Ok(None);
        }
        let dialect = self.clients[id].dialect;
        self.clients[id].begin_answer();
        let voice = self.voice(id);
        match message.intent {
            Intent::Ping | Intent::Renew => self.say_done(id),
            Intent::Close(_) | Intent::Append => {}
            Intent::Query => {
                let text = String::from_utf8_lossy(dialect.query_text(here)).into_owned();
                if text.trim().trim_matches(';').trim().is_empty() {
                    self.say(id, |out| {
                        dialect.say_empty(out, voice);
                        dialect.say_ready(out, Transaction::None);
                    });
                    return Ok(Some(here.len()));
                }
                let client = &mut self.clients[id];
                client.state = State::Console { is_busy: true };
                client.asked_at = self.now;
                let known = self.routes.user(&client.identity.user).ok().flatten();
                let trusts_all = self.routes.snapshot.auth.method == AuthMethod::Trust
                    && self.routes.snapshot.users.is_empty();
                let admin = trusts_all || known.as_ref().is_some_and(|known| known.admin);
                let stats = admin || known.is_some_and(|known| known.stats);
                self.actions.push(Action::Tell(Event::Console {
                    client: crate::public_client_id(self.worker, id),
                    protocol: dialect.name(),
                    user: client.identity.user.clone(),
                    database: client.identity.database.clone(),
                    admin,
                    stats,
                    text,
                }));
            }
            Intent::Sync => self.say(id, |out| dialect.say_ready(out, Transaction::None)),
            Intent::Flush | Intent::CopyData | Intent::CopyDone | Intent::CopyFail => {}
            _ => {
                let complaint = Complaint::error(Code::Unsupported, "the console takes simple queries only")
                    .hint("with psycopg: ClientCursor, or conn.pgconn.exec_(); with psql nothing is needed");
                self.say(id, |out| dialect.say_error(out, &complaint, voice));
                if message.intent == Intent::Call {
                    self.say(id, |out| dialect.say_ready(out, Transaction::None));
                }
            }
        }
        Ok(Some(here.len()))
    }

    /// Python's answer to a console statement.
    pub fn console_answered(&mut self, now: Time, public: u64, answer: &ConsoleAnswer) {
        self.now = now;
        let Some(id) = self.client_by_public(public) else { return };
        let State::Console { is_busy: true } = self.clients[id].state else { return };
        let dialect = self.clients[id].dialect;
        let mut voice = self.voice(id);
        self.say(id, |out| {
            match answer {
                ConsoleAnswer::Rows { columns, rows, tag } => {
                    let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
                    dialect.say_columns(out, &columns, &mut voice);
                    for row in rows {
                        let values: Vec<_> = row.iter().map(|value| value.as_deref()).collect();
                        dialect.say_row(out, &values, &mut voice);
                    }
                    dialect.say_finished(out, tag, true, &mut voice);
                }
                ConsoleAnswer::Done { tag } => dialect.say_finished(out, tag, false, &mut voice),
                ConsoleAnswer::Refused { sqlstate, message, hint } => {
                    let mut complaint = Complaint::error(Code::Syntax, message.clone());
                    complaint.sqlstate = Some(*sqlstate);
                    complaint.hint.clone_from(hint);
                    dialect.say_error(out, &complaint, voice);
                }
            }
            dialect.say_ready(out, Transaction::None);
        });
        self.clients[id].state = State::Console { is_busy: false };
        self.clients[id].asked_at = Time::NEVER;
        self.clients[id].idle_since = now;
        self.ready.push_back(id);
        self.settle();
    }
}
