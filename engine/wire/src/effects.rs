//! What a statement may leave behind in its session, in neutral words.
//!
//! Only says what a text shows; what became of it a server is asked (`Dialect::write_probe`). Made by
//! the dialects' `judge`, kept and acted upon by `relay`.

/// Kinds of session state that cannot be carried to another server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Traces(u32);

impl Traces {
    pub const NONE: Traces = Traces(0);
    pub const LOCKS: Traces = Traces(1);
    pub const TEMPORARY: Traces = Traces(1 << 1);
    pub const CURSORS: Traces = Traces(1 << 2);
    pub const LISTENS: Traces = Traces(1 << 3);
    pub const PREPARED: Traces = Traces(1 << 4);
    pub const LOADED: Traces = Traces(1 << 5);
    pub const UNKNOWN: Traces = Traces(1 << 6);
    /// The number of the server process was told: its client may use it as its own.
    pub const PROCESS: Traces = Traces(1 << 7);
    /// What its sequences last gave is asked for.
    pub const SEQUENCES: Traces = Traces(1 << 8);
    /// Its random numbers begin where its client chose.
    pub const SEED: Traces = Traces(1 << 9);
    /// A backup under way, a replication origin or slot that lasts as long as the session.
    pub const REPLICATION: Traces = Traces(1 << 10);
    /// Settings of more bytes than a client may carry.
    pub const EXCESS: Traces = Traces(1 << 11);
    /// Variables of the session's own whose values cannot be said again.
    pub const VARIABLES: Traces = Traces(1 << 12);
    /// Tables that it locked, and what it keeps everybody from.
    pub const TABLE_LOCKS: Traces = Traces(1 << 13);
    pub const GLOBAL_LOCKS: Traces = Traces(1 << 14);
    /// Tables that it reads row by row.
    pub const HANDLERS: Traces = Traces(1 << 15);
    /// A distributed transaction that is its own until it ends.
    pub const DISTRIBUTED: Traces = Traces(1 << 16);
    /// What it wants of its next transaction alone.
    pub const NEXT_TRANSACTION: Traces = Traces(1 << 17);
    /// How many rows a limit has kept back: the next statement may ask.
    pub const FOUND_ROWS: Traces = Traces(1 << 18);
    /// The number that the next row is to have.
    pub const INSERT_ID: Traces = Traces(1 << 19);
    /// A clock that stands still.
    pub const CLOCK: Traces = Traces(1 << 20);
    /// What a routine may have left that no server tells without being asked.
    pub const ROUTINE: Traces = Traces(1 << 21);
    /// In whose name it acts.
    pub const ROLE: Traces = Traces(1 << 22);

    /// Every kind with the word for it that operators read.
    pub const NAMED: [(Traces, &'static str); 23] = [
        (Self::LOCKS, "advisory lock"),
        (Self::TEMPORARY, "temporary object"),
        (Self::CURSORS, "cursor with hold"),
        (Self::LISTENS, "listen"),
        (Self::PREPARED, "sql prepare"),
        (Self::LOADED, "load"),
        (Self::UNKNOWN, "not understood"),
        (Self::PROCESS, "backend pid"),
        (Self::SEQUENCES, "sequence"),
        (Self::SEED, "seed"),
        (Self::REPLICATION, "backup or replication"),
        (Self::EXCESS, "too much state"),
        (Self::VARIABLES, "user variable"),
        (Self::TABLE_LOCKS, "table lock"),
        (Self::GLOBAL_LOCKS, "global lock"),
        (Self::HANDLERS, "handler"),
        (Self::DISTRIBUTED, "xa transaction"),
        (Self::NEXT_TRANSACTION, "next transaction"),
        (Self::FOUND_ROWS, "found rows"),
        (Self::INSERT_ID, "insert id"),
        (Self::CLOCK, "timestamp"),
        (Self::ROUTINE, "routine"),
        (Self::ROLE, "set role"),
    ];

    /// Kinds that no other client can meet: they matter only to the one who has them.
    pub const PRIVATE: Traces = Traces(Self::PROCESS.0 | Self::SEQUENCES.0);

    /// Kinds that last until the next statement or transaction, or until the server has been asked.
    pub const PASSING: Traces =
        Self::FOUND_ROWS.with(Self::NEXT_TRANSACTION).with(Self::ROUTINE).with(Self::INSERT_ID);

    /// Kinds that are gone once all of a session is discarded.
    pub const UNDONE: Traces = Traces(Self::PROVABLE.0 | Self::PRIVATE.0 | Self::EXCESS.0);

    /// Kinds of which a server can be asked whether any is left.
    pub const PROVABLE: Traces =
        Traces(Self::LOCKS.0 | Self::TEMPORARY.0 | Self::CURSORS.0 | Self::LISTENS.0 | Self::PREPARED.0);

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kind that operators know by this word.
    pub fn named(word: &str) -> Option<Traces> {
        Self::NAMED.into_iter().find(|(_, name)| *name == word).map(|(kind, _)| kind)
    }

    pub fn has(self, other: Traces) -> bool {
        self.0 & other.0 != 0
    }

    pub fn and(self, other: Traces) -> Traces {
        Traces(self.0 & other.0)
    }

    pub const fn with(self, other: Traces) -> Traces {
        Traces(self.0 | other.0)
    }

    pub fn without(self, other: Traces) -> Traces {
        Traces(self.0 & !other.0)
    }

    pub fn add(&mut self, other: Traces) {
        self.0 |= other.0;
    }

    /// The words for what is in it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(kind, _)| self.has(*kind)).map(|(_, name)| name)
    }
}

/// Settings that a statement may change for its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Set to some value; names as written.
    pub set: Vec<Box<str>>,
    /// Returned to what the session began with.
    pub reset: Vec<Box<str>>,
    pub reset_all: bool,
    /// Some that the text does not name.
    pub unnamed: bool,
    /// Changed in ways of which a server says nothing, or not the last word: to be asked for, though it
    /// reports settings of these names.
    pub asked: Vec<Box<str>>,
    /// Some that nobody names, in a way of which the server says nothing.
    pub untold: bool,
}

impl Touched {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
            && self.reset.is_empty()
            && !self.reset_all
            && !self.unnamed
            && self.asked.is_empty()
            && !self.untold
    }

    /// Is this one to be asked for, though it is reported?
    pub fn asks(&self, name: &str) -> bool {
        self.asked.iter().any(|asked| asked.eq_ignore_ascii_case(name))
    }

    /// Does any return to what the session began with?
    pub fn resets(&self) -> bool {
        self.reset_all || !self.reset.is_empty()
    }

    fn add(&mut self, other: &Touched) {
        let merge = |all: &mut Vec<Box<str>>, more: &[Box<str>]| {
            for name in more {
                if !all.iter().any(|have| have.eq_ignore_ascii_case(name)) {
                    all.push(name.clone());
                }
            }
        };
        merge(&mut self.set, &other.set);
        merge(&mut self.reset, &other.reset);
        merge(&mut self.asked, &other.asked);
        self.reset_all |= other.reset_all;
        self.unnamed |= other.unnamed;
        self.untold |= other.untold;
    }
}

/// Something that a text names and that stays in the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// It is there afterwards; an empty name: one that the text does not say.
    Made(Traces, Box<str>),
    /// It is gone, if the statement succeeded and it was there.
    Gone(Traces, Box<str>),
    /// It was there and is gone, if the statement succeeded.
    OneGone(Traces, Box<str>),
    /// All of a kind are.
    AllGone(Traces),
    /// What the names of this kind stand for is another matter from here on.
    Obscured(Traces),
    /// Names of this kind without a schema mean this one from here on; an empty one: none that we could tell.
    Elsewhere(Traces, Box<str>),
    /// A statement was prepared SQL's own way; what made it can be said again.
    Prepared(Box<str>, Box<str>),
    /// That statement is forgotten.
    Forgotten(Box<str>),
}

impl Thing {
    /// Is it made by a statement of its own, which makes nothing if it fails?
    pub fn is_made_whole(&self) -> bool {
        let kinds = Traces::TEMPORARY.with(Traces::HANDLERS);
        matches!(self, Thing::Made(kind, name) if kinds.has(*kind) && !name.is_empty())
    }
}

/// The things in a session, in the order of the texts that made them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Things(Vec<(Traces, Box<str>)>);

impl Things {
    /// How many names are told apart. Why a bound: what is made over and over and never undone.
    const MOST: usize = 1000;

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Take over what texts say that have been answered. `has_failed`: one of them was not carried out, or not
    /// all of it, so that nothing counts as gone.
    pub fn note(&mut self, things: &[Thing], has_failed: bool) {
        for thing in things {
            match thing {
                Thing::Made(kind, name) => {
                    let name = if self.0.len() < Self::MOST { name.clone() } else { Box::from("") };
                    let made = (*kind, name);
                    if !self.0.contains(&made) {
                        self.0.push(made);
                    }
                }
                Thing::Obscured(kind) => {
                    for (_, name) in self.0.iter_mut().filter(|(of, _)| kind.has(*of)) {
                        *name = Box::from("");
                    }
                }
                Thing::Elsewhere(kind, _) => {
                    for (_, name) in
                        self.0.iter_mut().filter(|(of, name)| kind.has(*of) && !name.contains('.'))
                    {
                        *name = Box::from("");
                    }
                }
                Thing::Gone(kind, name) if !has_failed && !name.is_empty() => {
                    self.0.retain(|(of, have)| of != kind || have != name);
                }
                Thing::OneGone(kind, name) if !has_failed => {
                    let place = self.0.iter().position(|(of, have)| of == kind && have == name);
                    let unnamed = || self.0.iter().position(|(of, have)| of == kind && have.is_empty());
                    if let Some(place) = place.or_else(unnamed) {
                        self.0.remove(place);
                    }
                }
                Thing::AllGone(kinds) if !has_failed => self.forget(*kinds),
                Thing::Gone(..)
                | Thing::OneGone(..)
                | Thing::AllGone(_)
                | Thing::Prepared(..)
                | Thing::Forgotten(_) => {}
            }
        }
    }

    /// So many of a kind were made that no text has shown.
    pub fn note_unseen(&mut self, kind: Traces, count: u64) {
        self.0.retain(|(of, name)| *of != kind || !name.is_empty());
        let unnamed = count.min(Self::MOST as u64);
        self.0.extend((0..unnamed).map(|_| (kind, Box::from(""))));
    }

    /// How many of a kind have no name that is known.
    pub fn unnamed(&self, kind: Traces) -> u64 {
        self.names(kind).filter(|name| name.is_empty()).count() as u64
    }

    /// The kinds of which something is there.
    pub fn kinds(&self) -> Traces {
        let mut kinds = Traces::NONE;
        self.0.iter().for_each(|(kind, _)| kinds.add(*kind));
        kinds
    }

    /// The names of one kind; an empty one stands for any.
    pub fn names(&self, kind: Traces) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(of, _)| of.has(kind)).map(|(_, name)| &**name)
    }

    /// Nothing of these kinds is left.
    pub fn forget(&mut self, kinds: Traces) {
        self.0.retain(|(of, _)| !kinds.has(*of));
    }
}

/// What a statement may do to its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// May be there afterwards.
    pub begins: Traces,
    /// May be gone afterwards, if it was there.
    pub ends: Traces,
    pub settings: Touched,
    /// Says something to those who listen. Nothing of it stays in the session.
    pub notifies: bool,
    /// May change what names in statements stand for, for everybody.
    pub defines: bool,
    /// Wants nobody else in these databases.
    pub vacates: Vec<Box<str>>,
    /// Asks what a sequence last gave to this session: `begins` says whether earlier statements are meant.
    pub reads_sequences: bool,
    /// Asks which statements are prepared. Nothing of it stays in the session.
    pub lists_statements: bool,
    /// What it makes and undoes by name, in order.
    pub things: Vec<Thing>,
    /// Settings by which its client chooses what it is told: the server may say no more what changes, and is to be
    /// told again that it shall.
    pub blinds: Vec<Box<str>>,
}

impl Effects {
    pub fn is_empty(&self) -> bool {
        self.begins.is_empty()
            && self.ends.is_empty()
            && self.settings.is_empty()
            && !self.notifies
            && !self.defines
            && self.vacates.is_empty()
            && !self.reads_sequences
            && !self.lists_statements
            && self.things.is_empty()
            && self.blinds.is_empty()
    }

    /// Take out what settings are to be asked for that `come_first`, if there is anything else.
    pub fn split_asked(&mut self, come_first: impl Fn(&str) -> bool) -> Option<Effects> {
        let asked = std::mem::take(&mut self.settings.asked);
        let (first, others): (Vec<_>, Vec<_>) = asked.into_iter().partition(|name| come_first(name));
        self.settings.asked = others;
        if first.is_empty() || self.is_empty() {
            self.settings.asked.extend(first);
            return None;
        }
        let settings = Touched { asked: first, ..Touched::default() };
        Some(Effects { settings, ..Effects::default() })
    }

    /// Give temporary tables that were named without a schema the one that is current where the text begins.
    pub fn qualify(&mut self, schema: Option<&str>) {
        let mut schema = schema.map(str::to_lowercase);
        for thing in &mut self.things {
            match thing {
                Thing::Elsewhere(_, now) => schema = (!now.is_empty()).then(|| now.to_string()),
                Thing::Made(Traces::TEMPORARY, name)
                | Thing::Gone(Traces::TEMPORARY, name)
                | Thing::OneGone(Traces::TEMPORARY, name)
                    if !name.is_empty() && !name.contains('.') =>
                {
                    if let Some(schema) = &schema {
                        *name = format!("{schema}.{name}").into();
                    }
                }
                _ => {}
            }
        }
    }

    /// Whatever can be asked for afterwards, because the text says nothing.
    pub fn anything() -> Effects {
        let settings = Touched { unnamed: true, ..Touched::default() };
        Effects { begins: Traces::PROVABLE, settings, ..Effects::default() }
    }

    /// What the text says outright that it leaves and that cannot be carried; nothing, where it says nothing.
    pub fn plain_pins(&self) -> Traces {
        if self.settings.unnamed {
            return Traces::NONE;
        }
        self.begins.without(Traces::PREPARED).without(Traces::PASSING)
    }

    pub fn add(&mut self, other: &Effects) {
        self.begins.add(other.begins);
        self.ends.add(other.ends);
        self.settings.add(&other.settings);
        self.notifies |= other.notifies;
        self.defines |= other.defines;
        self.vacates.extend_from_slice(&other.vacates);
        self.reads_sequences |= other.reads_sequences;
        self.lists_statements |= other.lists_statements;
        self.things.extend_from_slice(&other.things);
        for name in &other.blinds {
            if !self.blinds.contains(name) {
                self.blinds.push(name.clone());
            }
        }
    }
}

/// A function or a table that touches the session without a text saying so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stateful {
    schema: Option<Box<str>>,
    /// `*`: any table.
    name: Box<str>,
    is_table: bool,
    pub effects: Effects,
}

impl Stateful {
    /// A function, whose calls touch the session: `name` as a call says it, with a schema or without; `touched`:
    /// names of settings, words for kinds of state as in [`Traces::NAMED`], or `any setting`.
    pub fn function(name: &str, touched: &[String]) -> Self {
        Self::new(name, touched, false)
    }

    /// A table with triggers or a view with functions that touch the session; `*`: every table.
    pub fn table(name: &str, touched: &[String]) -> Self {
        Self::new(name, touched, true)
    }

    fn new(name: &str, touched: &[String], is_table: bool) -> Self {
        let mut effects = Effects::default();
        for word in touched {
            match Traces::named(word) {
                Some(kind) => effects.begins.add(kind),
                None if word == "any setting" => effects.settings.unnamed = true,
                None => effects.settings.set.push(word.as_str().into()),
            }
        }
        let (schema, name) =
            name.rsplit_once('.').map_or((None, name), |(schema, name)| (Some(schema.into()), name));
        Self { schema, name: name.into(), is_table, effects }
    }

    /// Is it what a text means by `name`, in `schema` if the text says one? `is_called`: the name is called there.
    ///
    /// Why each mention of a table's name counts: where tables may stand, grammar says and words do not.
    pub fn is_meant(&self, schema: Option<&[u8]>, name: &[u8], is_called: impl FnOnce() -> bool) -> bool {
        if self.is_table && &*self.name == "*" {
            return TABLE_WORDS.iter().any(|word| word.eq_ignore_ascii_case(name));
        }
        self.name.as_bytes().eq_ignore_ascii_case(name)
            && match (&self.schema, schema) {
                (Some(own), Some(said)) => own.as_bytes().eq_ignore_ascii_case(said),
                _ => true,
            }
            && (self.is_table || is_called())
    }
}

/// Words without one of which no statement reads or writes a table.
///
/// Source: PostgreSQL manual, "SQL Commands"; MySQL manual, "SQL Statements".
const TABLE_WORDS: [&[u8]; 11] = [
    b"from",
    b"insert",
    b"update",
    b"replace",
    b"delete",
    b"truncate",
    b"load",
    b"merge",
    b"copy",
    b"table",
    b"into",
];

/// What a server is asked about its session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Is any of these left?
    pub traces: Traces,
    /// The values of these, whatever set them.
    pub values: Vec<Box<str>>,
    /// The values of these, where the session has set them.
    pub own_values: Vec<Box<str>>,
    /// The value of each setting that the session has set.
    pub all_values: bool,
    /// The value of each setting that is another one than the server has for everybody, and of these.
    pub differing: Option<Vec<Box<str>>>,
    /// Locks that may be held still; an empty name: one that is not known.
    pub lock_names: Vec<Box<str>>,
    /// Limits of the session's own that are lifted while it is asked: a client's time limit is meant for
    /// what the client asks.
    pub lifted: Vec<&'static str>,
    /// Setting `values` may have been refused: those that the session has not set are not asked for.
    pub may_be_refused: bool,
}

impl Question {
    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
            && self.values.is_empty()
            && self.own_values.is_empty()
            && !self.all_values
            && self.differing.is_none()
    }
}

/// One row of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Some of this kind is left.
    Trace(Traces),
    /// A setting has this value; None: the server knows no such setting.
    Setting(String, Option<String>),
    /// A statement of this name was prepared by this text, SQL's own way.
    Statement(String, String),
    /// The session listens to this channel.
    Channel(String),
    /// A setting that may differ from the server's for everybody has this value.
    Differs(String, String),
    /// A setting has this value, which the server has for everybody.
    Usual(String, String),
    /// There is a setting of this name, whose value is to be asked for.
    Name(String),
    /// So many of this kind were made since the session began.
    Made(Traces, u64),
    /// So many statements were run since then that forget a statement prepared by SQL's own.
    Forgotten(u64),
    /// So many statements that set something were run since then.
    Sets(u64),
    /// Locks that a routine had taken unseen are released by the question itself: nothing else tells of them.
    Released,
}
