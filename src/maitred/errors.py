"""Every error of the control plane, and what the engine's refusals mean to a client.

Holds no behaviour beyond carrying facts; nothing here logs or prints.
Raised everywhere in the package; the reference page is generated from this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class MaitredError(Exception):
    """Anything maitred raises on purpose; catch it to catch them all.

    Whose fault: see the subclass.
    What the client sees: see the subclass.
    Retry: see the subclass.
    """

    code = "MAITRED"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong in a configuration, with its place and what to change."""

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        """`file:line: text`, the form that editors jump to."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.text}"


class ConfigInvalid(MaitredError):
    """The configuration cannot be used; every problem found is listed.

    Whose fault: the configuration's author.
    What the client sees: nothing; a running maitred keeps its last good configuration.
    Retry: after mending the file; `maitred check -c FILE` lists the problems.
    """

    code = "CONFIG-INVALID"

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep `problems` in the order of the file."""
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line or 0)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


class EngineRefused(MaitredError):
    """The engine could not start or use a snapshot (a port in use, bad TLS material, …).

    Whose fault: the configuration's author or the machine's operator.
    What the client sees: nothing; a running maitred keeps its last good configuration.
    Retry: after changing what the text names.
    """

    code = "ENGINE-REFUSED"


class ConsoleError(MaitredError):
    """A console command was not carried out.

    Whose fault: whoever typed it, unless a subclass says otherwise.
    What the client sees: an error with SQLSTATE XX000 and a hint.
    Retry: after changing the command.
    """

    code = "CONSOLE"
    sqlstate = "XX000"

    def __init__(self, text: str, *, hint: str | None = None) -> None:
        """Carry `text` for the person at the console, and `hint`: what to type instead."""
        self.hint = hint
        super().__init__(text)


class ConsoleSyntax(ConsoleError):
    """The console does not understand the command.

    Whose fault: whoever typed it.
    What the client sees: SQLSTATE 42601 and what to type instead.
    Retry: after changing the command; SHOW HELP lists them.
    """

    code = "CONSOLE-SYNTAX"
    sqlstate = "42601"


class ConsoleForbidden(ConsoleError):
    """This user may not use this command.

    Whose fault: the configuration's author, or nobody's.
    What the client sees: SQLSTATE 42501.
    Retry: after setting `users.NAME.admin` or `users.NAME.stats` to true.
    """

    code = "CONSOLE-FORBIDDEN"
    sqlstate = "42501"


class ConsoleUnknown(ConsoleError):
    """The command names a database, client or setting that does not exist.

    Whose fault: whoever typed it.
    What the client sees: SQLSTATE 42704 and the nearest name.
    Retry: after changing the name.
    """

    code = "CONSOLE-UNKNOWN"
    sqlstate = "42704"


class ConsoleState(ConsoleError):
    """The command cannot be carried out now.

    Whose fault: nobody's; for example RESUME where nothing is paused.
    What the client sees: SQLSTATE 55000.
    Retry: when the state named in the text has changed.
    """

    code = "CONSOLE-STATE"
    sqlstate = "55000"


class ConsoleTimeout(ConsoleError):
    """PAUSE did not come to rest within its time and was taken back.

    Whose fault: nobody's; transactions ran longer than the time given.
    What the client sees: SQLSTATE 57014 and how many servers were still in use.
    Retry: yes, with a longer TIMEOUT, or after ending the transactions named in SHOW CLIENTS.
    """

    code = "CONSOLE-TIMEOUT"
    sqlstate = "57014"


@dataclass(frozen=True, slots=True)
class ClientError:
    """What one kind of refusal by the engine means to a client; `kind` is `wire`'s name of it."""

    kind: str
    sqlstate: str
    meaning: str
    fault: str
    change: str
    retry: str
    closes: str


_NO = "no"
_STAYS, _CLOSED = "stays connected", "is closed"

CLIENT_ERRORS: tuple[ClientError, ...] = (
    ClientError(
        "ProtocolViolation",
        "08P01",
        "The client sent bytes that the protocol does not allow at this point.",
        "the client's driver",
        "Report it to the driver's authors with the text of the error.",
        _NO,
        _CLOSED,
    ),
    ClientError(
        "ServerLost",
        "08006",
        "The server connection was lost while it worked for this client.",
        "the database or the network",
        "Look into the database's log at that moment.",
        "yes, the whole transaction, if it may run twice",
        _STAYS,
    ),
    ClientError(
        "ServerUnreachable",
        "08001",
        "No server could be reached or logged in to; the text carries the cause. Where the"
        " database itself gave a cause, its own SQLSTATE is used.",
        "the database, the network, or `databases.NAME.url`",
        "Check the endpoint named in the text; see `pool.when_down`.",
        "yes, with backoff",
        "is closed while logging in, otherwise stays connected",
    ),
    ClientError(
        "NotNow",
        "57P03",
        "maitred takes no such request now: it is starting, draining or paused.",
        "nobody's; an operator is at work",
        "Wait, or RESUME at the console.",
        "yes, with backoff",
        _CLOSED,
    ),
    ClientError(
        "Shutdown",
        "57P01",
        "maitred is shutting down, an operator closed this client, or the server that listened for"
        " it was lost and notifications may have been missed.",
        "nobody's; an operator is at work",
        "Connect again; LISTEN again, if it did.",
        "yes, on a new connection",
        _CLOSED,
    ),
    ClientError(
        "TooManyConnections",
        "53300",
        "A limit on connections is reached; the text names the setting and the counts.",
        "the load, or a limit that is too low",
        "Raise the setting named in the text, or open fewer connections.",
        "yes, with backoff",
        _CLOSED,
    ),
    ClientError(
        "UserLimit",
        "53300",
        "A limit on the connections of this user is reached; the text names the setting and the"
        " counts.",
        "the load, or a limit that is too low",
        "Raise the setting named in the text, or open fewer connections.",
        "yes, with backoff",
        _CLOSED,
    ),
    ClientError(
        "LimitExceeded",
        "53400",
        "A configured limit other than of connections is reached, for example `pool.queue_length`."
        " FATAL when it is `pool.listen_buffer`: the client listens and does not read.",
        "the load, or a limit that is too low",
        "Raise the setting named in the text.",
        "yes, with backoff",
        _STAYS,
    ),
    ClientError(
        "TooLarge",
        "54000",
        "One request is larger than a setting allows.",
        "the client",
        "Raise the setting named in the text, or send less at once.",
        _NO,
        _CLOSED,
    ),
    ClientError(
        "WrongPassword",
        "28P01",
        "The password is wrong, or the user is unknown.",
        "the client, or `users.NAME.password`",
        "Compare the client's password with the"
        " configuration's; the log says which of the two it was.",
        _NO,
        _CLOSED,
    ),
    ClientError(
        "NotAuthorized",
        "28000",
        "This user may not do this, or no way to log in is configured for it.",
        "the configuration",
        "See `auth.method` and the user's section.",
        _NO,
        _CLOSED,
    ),
    ClientError(
        "UnknownDatabase",
        "3D000",
        "No such database is configured, or it is disabled.",
        "the client, or the configuration",
        'Add `[databases.NAME]`, or `[databases."*"]`.',
        _NO,
        _CLOSED,
    ),
    ClientError(
        "Cancelled",
        "57014",
        "The query was cancelled by its client or by `pool.query_timeout`.",
        "nobody's",
        "Raise `pool.query_timeout` if it was that.",
        "as the application wishes",
        _STAYS,
    ),
    ClientError(
        "IdleTooLong",
        "57P05",
        "The client was idle for longer than `pool.client_idle_timeout`, or kept a server by"
        " session state (SHOW PINS) for longer than `pool.pin_timeout`.",
        "nobody's",
        "Raise the setting, or connect again when needed; release what keeps the server.",
        "yes, on a new connection",
        _CLOSED,
    ),
    ClientError(
        "IdleInTransaction",
        "25P03",
        "The client left a transaction idle for longer than `pool.idle_transaction_timeout`.",
        "the application",
        "End transactions sooner, or raise the setting.",
        "yes, the whole transaction",
        _CLOSED,
    ),
    ClientError(
        "TransactionTooLong",
        "25P04",
        "The transaction was open for longer than `pool.transaction_timeout`.",
        "the application",
        "End transactions sooner, or raise the setting.",
        "yes, the whole transaction",
        _CLOSED,
    ),
    ClientError(
        "QueueTimeout",
        "53300",
        "No server came free within `pool.queue_timeout`; the text carries the counts.",
        "the load, or a pool that is too small",
        "Raise `pool.size`, shorten transactions, or raise `pool.queue_timeout`.",
        "yes, with backoff",
        _STAYS,
    ),
    ClientError(
        "UnknownStatement",
        "26000",
        "There is no prepared statement of that name.",
        "the application or its driver",
        "Prepare it first.",
        "yes, after preparing",
        _STAYS,
    ),
    ClientError(
        "DuplicateStatement",
        "42P05",
        "A prepared statement of that name exists already.",
        "the application or its driver",
        "Close it first, or use another name.",
        _NO,
        _STAYS,
    ),
    ClientError(
        "Unsupported",
        "0A000",
        "maitred cannot do this, at least not in this pool mode or while pinning is refused"
        " (`pool.pinning`).",
        "nobody's",
        "See the text; session mode carries everything.",
        _NO,
        _STAYS,
    ),
    ClientError(
        "Syntax",
        "42601",
        "The console does not understand the command.",
        "whoever typed it",
        "SHOW HELP lists the commands.",
        _NO,
        _STAYS,
    ),
    ClientError(
        "WrongState",
        "55000",
        "The console command cannot be carried out now.",
        "nobody's",
        "See the text.",
        "when the state has changed",
        _STAYS,
    ),
    ClientError(
        "Internal",
        "XX000",
        "A fault of maitred's own.",
        "maitred",
        "Report it with the log's lines around that moment.",
        "perhaps",
        "is closed",
    ),
)

MYSQL_NUMBERS: Mapping[str, tuple[int, str]] = {
    "ProtocolViolation": (1835, "08S01"),
    "ServerLost": (2013, "08S01"),
    "ServerUnreachable": (2003, "08001"),
    "NotNow": (3032, "HY000"),
    "Shutdown": (1053, "08S01"),
    "TooManyConnections": (1040, "08004"),
    "UserLimit": (1203, "42000"),
    "LimitExceeded": (1041, "HY000"),
    "TooLarge": (1153, "08S01"),
    "WrongPassword": (1045, "28000"),
    "NotAuthorized": (1045, "28000"),
    "UnknownDatabase": (1049, "42000"),
    "Cancelled": (1317, "70100"),
    "IdleTooLong": (4031, "HY000"),
    "IdleInTransaction": (4031, "HY000"),
    "TransactionTooLong": (1927, "70100"),
    "QueueTimeout": (1205, "HY000"),
    "UnknownStatement": (1243, "HY000"),
    "Unsupported": (1235, "42000"),
    "Syntax": (1064, "42000"),
    "DuplicateStatement": (1105, "HY000"),
    "WrongState": (1105, "HY000"),
    "Internal": (1815, "HY000"),
}
"""Error number and SQLSTATE that MySQL clients see for each kind.

Source: `engine/wire/src/mysql/errors.rs`, which says why these; a rule test compares the two.
"""
