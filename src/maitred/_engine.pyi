"""Contract of the native engine: the only door between Python and the data path.

Every method returns quickly; none blocks on the network. Values cross as plain dicts and lists
whose shapes are named beside each method. Called by `maitred.engine` and nothing else.
"""

from typing import Any

__version__: str

class EngineError(Exception):
    """A snapshot the engine cannot use, or a start that failed; the text says what to change."""

class Engine:
    """The data path: worker threads, listeners, pools. Thread-safe."""

    def __init__(
        self, snapshot: dict[str, Any], *, workers: int = 0, backend: str = "auto"
    ) -> None:
        """Bind the listeners and start the workers.

        Args:
            snapshot: the shape of `engine/relay/src/snapshot.rs`.
            workers: threads; 0 takes what the machine offers.
            backend: "auto", "io_uring" or "epoll".

        Raises:
            EngineError: a listener could not be bound, TLS material is bad, ….
        """

    @property
    def backend(self) -> str: ...
    @property
    def backend_note(self) -> str | None:
        """Why it is not the back end that was preferred."""

    @property
    def workers(self) -> int: ...
    def addresses(self) -> list[str]:
        """Where it listens, ports resolved: "127.0.0.1:6432", "[::1]:6432" or "/path/.s.PGSQL.6432"."""

    def apply(self, snapshot: dict[str, Any]) -> None:
        """Replace the snapshot, all or nothing.

        Raises:
            EngineError: nothing was changed.
        """

    def fileno(self) -> int:
        """A descriptor that is readable while events wait."""

    def take_events(self) -> list[dict[str, Any]]:
        """Events since the last call, oldest first. `kind` is one of:

        console: client, protocol (postgres or mysql), user, database, admin (bool), stats (bool), text
        ask_user: token, user, database
        slow_query: duration_us, wait_us, database, user, shape, client
        client_opened: client, user, database, address, tls
        client_closed: client, user, database, address, reason
        server_opened: server, endpoint, database, user, login_us
        server_closed: server, endpoint, database, user, reason, detail
        server_failed: endpoint, database, user, cause, retry_ms
        login_failed: user, database, address, cause
        drained: every client has left after `drain`
        """

    def answer_console(self, client: int, answer: dict[str, Any]) -> None:
        """Answer a `console` event.

        `answer` is {"columns": [[name, type], …], "rows": [[text or None, …], …], "tag": str} with
        type one of "text", "int4", "int8", "numeric"; or {"error": str, "code": SQLSTATE, "hint": str | None};
        or {"tag": str} for a command without rows.
        """

    def answer_user(self, token: int, user: dict[str, Any] | None) -> None:
        """Answer an `ask_user` event with a `User` of the snapshot's shape, or None for unknown."""

    def pause(self, database: str | None) -> None:
        """Lend no more servers of `database` (None: of all); leases end as usual."""

    def resume(self, database: str | None) -> None: ...
    def paused(self, database: str | None) -> bool:
        """True when a pause is in force and no server of it is leased any more."""

    def kill(self, database: str | None) -> int:
        """Close clients and servers of `database` at once; returns how many clients."""

    def kill_client(self, client: int) -> bool: ...
    def reconnect(self, database: str | None) -> None:
        """Close each server when it is next free."""

    def drain(self) -> None:
        """Stop accepting, tell idle clients 57P01, let transactions end within the limit."""

    def stop(self) -> None:
        """Close everything now and join the workers. Idempotent."""

    def report(self, what: str) -> list[dict[str, Any]]:
        """A consistent-per-worker picture; releases the GIL while workers answer (milliseconds).

        pools: protocol (postgres or mysql), database, user, endpoint, mode, size, min_size, reserve_size, clients, clients_active,
            clients_waiting, clients_cancelling, servers_active, servers_idle, servers_opening, servers_closing,
            servers_listening, servers_cancelling, max_wait_us, paused (bool), last_error
        clients: id, protocol, worker, user, database, state, address, port, local_address, local_port,
            connected_us (ago), request_us (ago), wait_us, server (id or None), tls, application_name,
            prepared_statements, replication
        servers: id, protocol, worker, user, database, endpoint, state, address, port, local_address, local_port,
            connected_us, request_us, client (id or None), pid, tls, application_name, prepared_statements, leases
        channels: what clients listen to through shared servers: endpoint, database, channel, clients
        pins: clients that keep a server beyond a transaction: client, server, user, database, reasons (list),
            since_us (ago), shape
        stats: per database: database, leases, transactions, queries, received_bytes, sent_bytes,
            transaction_us, query_us, wait_us, client_parses, server_parses, binds, logins, client_errors
        waits: per database: database, buckets (list of [upper_us, count]) of the time clients waited for a server
        counters: name, labels (dict), value — everything else the engine counts
        workers: worker, clients, servers, loops, backend
        """
