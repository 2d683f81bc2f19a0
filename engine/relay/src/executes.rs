//! Statements that the protocol prepared and that SQL runs or lists: `EXECUTE name`, `pg_prepared_statements`.
//!
//! A server knows them by other names than the client; texts are changed so that each hears its own. Decides
//! nothing else and answers nothing. Called by `forward`.

use std::borrow::Cow;
use std::sync::Arc;

use maitred_wire::effects::Effects;
use maitred_wire::{ClientMessage, Dialect, Intent, Transaction};

use crate::answers::{Answer, Unit};
use crate::client::Step;
use crate::ids::{ClientId, ServerId};
use crate::statements::{Statement, StatementKey};
use crate::Relay;

/// Statements that a server must have, and a message that names them as it does.
pub(crate) type InServerWords = (Vec<Arc<Statement>>, Vec<u8>);

/// Whoever has more statements than this is told of the server's.
const MOST_LISTED: usize = 1_000;

impl Relay {
    /// `message` in a server's words, if it runs one of its client's statements by name.
    #[inline]
    pub(crate) fn in_server_words(
        &self,
        id: ClientId,
        message: ClientMessage,
        here: &[u8],
    ) -> Option<InServerWords> {
        if !matches!(message.intent, Intent::Query | Intent::Prepare) {
            return None;
        }
        let statements = self.clients[id].statements.as_ref()?;
        if statements.is_empty() || here.len() < message.total {
            return None;
        }
        let dialect = self.clients[id].dialect;
        let mut written = Vec::new();
        let renamed = |text: &[u8]| {
            let (name, place) = dialect.executed(text)?;
            let held = Arc::clone(statements.named(name.as_bytes())?);
            let text = dialect.renamed(text, place, &held.key.server_name());
            Some((held, text))
        };
        let held = match message.intent {
            Intent::Query => {
                let (held, text) = renamed(dialect.query_text(here))?;
                dialect.write_query_text(&mut written, &text);
                held
            }
            Intent::Prepare => {
                let parts = dialect.prepare_of(here).ok()?;
                let text = dialect.definition_text(parts.definition);
                let (held, renamed) = renamed(text)?;
                let definition = [&renamed, &parts.definition[text.len()..]].concat();
                dialect.write_prepare(&mut written, parts.name, &definition);
                held
            }
            _ => return None,
        };
        Some((vec![held], written))
    }

    /// `message`, which asks which statements are prepared, so that its client is told of its own.
    pub(crate) fn own_listing(
        &self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        here: &[u8],
    ) -> Option<InServerWords> {
        if here.len() < message.total {
            return None;
        }
        let dialect = self.clients[id].dialect;
        let held: Vec<(&[u8], &Arc<Statement>)> =
            self.clients[id].statements.iter().flat_map(|statements| statements.iter()).collect();
        if held.len() > MOST_LISTED {
            return None;
        }
        let made: Vec<_> =
            held.iter().map(|(name, statement)| (statement.key.server_name(), *name)).collect();
        let names: Vec<(&[u8], &[u8])> = made.iter().map(|(made, known)| (&made[..], *known)).collect();
        let fresh = self.servers[to].shared.welcome()?;
        let version = fresh.settings.value("server_version")?;
        let mut written = Vec::new();
        if message.intent == Intent::Query {
            let text = dialect.own_listing(dialect.query_text(here), &names, version)?;
            dialect.write_query_text(&mut written, &text);
        } else {
            let parts = dialect.prepare_of(here).ok()?;
            let text = dialect.definition_text(parts.definition);
            let listing = dialect.own_listing(text, &names, version)?;
            let definition = [&listing, &parts.definition[text.len()..]].concat();
            dialect.write_prepare(&mut written, parts.name, &definition);
        }
        Some((held.into_iter().map(|(_, statement)| Arc::clone(statement)).collect(), written))
    }

    /// Send a message that names `held`, in a server's words.
    pub(crate) fn forward_in_server_words(
        &mut self,
        id: ClientId,
        to: ServerId,
        message: ClientMessage,
        (held, written): InServerWords,
    ) -> Result<Step, maitred_wire::Fault> {
        let now = self.now;
        let is_query = message.intent == Intent::Query;
        if self.servers[to].transaction != Transaction::Failed {
            let before = self.servers[to].owed.len();
            for statement in &held {
                self.ensure_prepared(to, statement);
            }
            let server = &mut self.servers[to];
            if is_query && server.owed.len() > before {
                // Why a Sync: a server that fails to prepare skips everything up to one, queries too.
                server.unsynced = 0;
                server.dialect.write_sync(&mut server.output);
                server.owe(Answer::Ready(Unit::Sync), false, now);
            }
        }
        let total = message.total;
        let message = ClientMessage { intent: message.intent, total: written.len() };
        Ok(match self.forward(id, to, message, &written)? {
            Step::Used(_) => Step::Used(total),
            Step::Wait => Step::Wait,
        })
    }

    /// The effects of a query that runs a statement whose text is known; None: it is no such query.
    ///
    /// Why: what `EXECUTE` may do is anything, and the server would be asked for all of it each time.
    pub(crate) fn effects_of_executed(
        &self,
        id: ClientId,
        to: ServerId,
        text: &[u8],
    ) -> Option<Option<Box<Effects>>> {
        let dialect = self.clients[id].dialect;
        let (name, place) = dialect.executed(text)?;
        if !text[..place.start].trim_ascii().eq_ignore_ascii_case(b"execute") {
            return None;
        }
        let mut effects = match StatementKey::of_server_name(name.as_bytes()) {
            Some(key) => {
                let statement = self.statement_table.known(key)?;
                let text = dialect.definition_text(&statement.definition);
                self.judged_here(to, statement.effects.as_deref(), text)
                    .map_or_else(Effects::default, Cow::into_owned)
            }
            None if dialect.takes_turns() => self.effects_of_named(id, to, &name)?,
            // Why not then: the name may stand for another statement by now.
            None if self.servers[to].may_have_prepared() => return None,
            None => {
                let carried = self.clients[id].settings.value(&dialect.name_among_settings(&name))?;
                self.effects_of_prepared(to, carried)
            }
        };
        if let Some(rest) = dialect.effects_of(&text[place.end..]) {
            effects.add(&rest);
        }
        Some((!effects.is_empty()).then(|| Box::new(effects)))
    }

    /// The effects of what `name` stands for, where names are settled one statement after the other: none, if it
    /// stands for nothing. None: nobody knows.
    fn effects_of_named(&self, id: ClientId, to: ServerId, name: &str) -> Option<Effects> {
        let server = &self.servers[to];
        if server.may_have_unseen(name) {
            return None;
        }
        let dialect = server.dialect;
        let carried = || self.clients[id].settings.value(&dialect.name_among_settings(name));
        let made = server.made_here(name).unwrap_or_else(carried);
        // Why nothing: the server will say that it has none, and asking what that has done would be in vain.
        Some(made.map(|made| self.effects_of_prepared(to, made)).unwrap_or_default())
    }

    /// The effects of running what the text `prepare` has made.
    fn effects_of_prepared(&self, to: ServerId, prepare: &str) -> Effects {
        let prepare = prepare.as_bytes();
        let judged = self.servers[to].dialect.effects_of_prepared(prepare);
        self.judged_here(to, Some(&judged), prepare).map_or_else(Effects::default, Cow::into_owned)
    }

    /// What a definition, in a server's words, runs by name.
    pub(crate) fn run_by(&self, dialect: Dialect, definition: &[u8]) -> Option<Arc<Statement>> {
        let (name, _) = dialect.executed(dialect.definition_text(definition))?;
        self.statement_table.known(StatementKey::of_server_name(name.as_bytes())?)
    }
}
