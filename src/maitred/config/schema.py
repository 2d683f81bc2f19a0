"""The table of every setting; the reference page and all checks of single values come from it.

Only rows: how a row is read stands in `setting`, what rows mean together in `load`.
Called by `read`, `snapshot`, `diff` and the reference page.
"""

from __future__ import annotations

from maitred.config.setting import Kind, Scope, Setting

_ALL = (Scope.GLOBAL, Scope.DATABASE, Scope.USER)
_DB = (Scope.GLOBAL, Scope.DATABASE)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_TLS_VERSIONS = ("1.2", "1.3")

# fmt: off
LISTEN = (
    Setting(
        name="listen.postgres", kind=Kind.ADDRESSES, default="127.0.0.1:6432",
        meaning="Where PostgreSQL clients connect; `unix:/folder:6432` is the socket that libpq"
        " looks for in that folder. Where nothing is set, it is open if a database is PostgreSQL.",
        neighbour="`listen.unix_mode`, `tls.client.mode`", pgbouncer="listen_addr, listen_port",
    ),
    Setting(
        name="listen.mysql", kind=Kind.ADDRESSES, default="127.0.0.1:6033",
        meaning="Where MySQL and MariaDB clients connect; `unix:/run/maitred.sock` is a socket"
        " file. Where nothing is set, it is open if a database is MySQL or MariaDB.",
        neighbour="`listen.mysql_version`, `auth.mysql_method`, `listen.unix_mode`",
    ),
    Setting(
        name="listen.mysql_version", kind=Kind.TEXT, default="", field="mysql_version",
        meaning='The version that MySQL clients are greeted with, as `SELECT VERSION()` says it; ""'
        " takes that of the first MySQL endpoint that answers at a start or reload.",
        neighbour="`listen.mysql`; drivers choose features by it",
    ),
    Setting(
        name="listen.admin", kind=Kind.ADDRESS, default="127.0.0.1:9127",
        meaning='Where `/metrics`, `/healthz` and `/readyz` are served; "" serves none.',
        neighbour="The console is a database of the listeners; see `console.names`",
        reloadable=False,
    ),
    Setting(
        name="listen.proxy_protocol", kind=Kind.SWITCH, default=False, field="proxy_protocol",
        meaning="Expect a PROXY protocol header (v1 or v2) before anything else, and believe it.",
        neighbour="Turn it on only behind a load balancer that sends it",
    ),
    Setting(
        name="listen.unix_mode", kind=Kind.MODE_BITS, default="0777", field="unix_mode",
        meaning="Permission bits of Unix sockets.", neighbour="`listen.postgres`",
        pgbouncer="unix_socket_mode", most=0o777,
    ),
    Setting(
        name="listen.backlog", kind=Kind.COUNT, default=4096, field="listen_backlog", least=1,
        most=65535, meaning="Connections that may wait to be accepted; the kernel caps it.",
        neighbour="`limits.logins`", pgbouncer="listen_backlog",
    ),
)

POOL = (
    Setting(
        name="pool.mode", kind=Kind.CHOICE, default="transaction", field="mode",
        choices=("session", "transaction", "statement"), scopes=_ALL,
        meaning="For how long a client keeps a server: its session, a transaction, or a statement.",
        neighbour="`pool.reset_query` in session mode", pgbouncer="pool_mode",
    ),
    Setting(
        name="pool.size", kind=Kind.COUNT, default=20, field="size", least=1, scopes=_ALL,
        meaning="Servers one pool may open.", pgbouncer="default_pool_size, pool_size",
        neighbour="`pool.reserve_size`, `databases.NAME.max_servers`, `limits.servers`",
    ),
    Setting(
        name="pool.min_size", kind=Kind.COUNT, default=0, field="min_size", scopes=_ALL,
        meaning="Servers kept open even when nobody asks.", pgbouncer="min_pool_size",
        neighbour="`pool.size`; takes effect where the user of the pool is known beforehand",
    ),
    Setting(
        name="pool.reserve_size", kind=Kind.COUNT, default=0, field="reserve_size", scopes=_ALL,
        meaning="Servers beyond `pool.size` that may be opened while clients wait for long.",
        neighbour="`pool.reserve_after`", pgbouncer="reserve_pool_size",
    ),
    Setting(
        name="pool.reserve_after", kind=Kind.DURATION, default="5s", field="reserve_after_ms",
        scopes=_DB, meaning="How long the first client must wait before the reserve is used.",
        neighbour="`pool.reserve_size`, `pool.queue_timeout`", pgbouncer="reserve_pool_timeout",
    ),
    Setting(
        name="pool.queue_length", kind=Kind.COUNT, default=0, field="queue_length", scopes=_DB,
        zero="no limit of its own",
        meaning="Clients that may wait in one pool; the next one gets an error at once.",
        neighbour="`pool.queue_timeout`, `limits.clients`",
    ),
    Setting(
        name="pool.queue_timeout", kind=Kind.DURATION, default="30s", field="queue_timeout_ms",
        zero="wait for ever", scopes=_ALL,
        meaning="How long a client waits for a server before it gets an error.",
        neighbour="`pool.size`, `pool.when_down`", pgbouncer="query_wait_timeout",
    ),
    Setting(
        name="pool.query_timeout", kind=Kind.DURATION, default="0s", field="query_timeout_ms",
        zero="off", scopes=_ALL, meaning="Cancel a query that runs for longer.",
        neighbour="PostgreSQL's statement_timeout should be shorter", pgbouncer="query_timeout",
    ),
    Setting(
        name="pool.idle_transaction_timeout", kind=Kind.DURATION, default="0s", zero="off",
        field="idle_transaction_timeout_ms", scopes=_ALL,
        meaning="Close a client that leaves a transaction idle for longer.",
        neighbour="`pool.transaction_timeout`", pgbouncer="idle_transaction_timeout",
    ),
    Setting(
        name="pool.transaction_timeout", kind=Kind.DURATION, default="0s", zero="off",
        field="transaction_timeout_ms", scopes=_ALL,
        meaning="Close a client whose transaction is open for longer.",
        neighbour="`pool.idle_transaction_timeout`", pgbouncer="transaction_timeout",
    ),
    Setting(
        name="pool.client_idle_timeout", kind=Kind.DURATION, default="0s", zero="off",
        field="client_idle_timeout_ms", scopes=_ALL,
        meaning="Close a client that asks for nothing for longer.",
        neighbour="Keep it above the idle time of the application's own pool",
        pgbouncer="client_idle_timeout",
    ),
    Setting(
        name="pool.connect_timeout", kind=Kind.DURATION, default="5s", field="connect_timeout_ms",
        least=1, scopes=_DB, meaning="How long the network connection to an endpoint may take.",
        neighbour="`pool.login_timeout`", pgbouncer="server_connect_timeout",
    ),
    Setting(
        name="pool.login_timeout", kind=Kind.DURATION, default="10s", field="login_timeout_ms",
        least=1, scopes=_DB,
        meaning="How long logging in to a database may take, once connected.",
        neighbour="`pool.connect_timeout`, `pool.login_retry`", pgbouncer="server_connect_timeout",
    ),
    Setting(
        name="pool.login_retry", kind=Kind.DURATION, default="250ms", field="login_retry_ms",
        least=10, scopes=_DB,
        meaning="Pause after a failed connect or login; it doubles with each failure, with jitter.",
        neighbour="`pool.login_retry_max`", pgbouncer="server_login_retry",
    ),
    Setting(
        name="pool.login_retry_max", kind=Kind.DURATION, default="5s", field="login_retry_max_ms",
        least=10, scopes=_DB, meaning="The longest such pause.",
        neighbour="`pool.login_retry`; keep it below `pool.queue_timeout`",
        pgbouncer="server_login_retry",
    ),
    Setting(
        name="pool.connects_per_s", kind=Kind.COUNT, default=0, field="connects_per_s",
        zero="no limit", scopes=_DB,
        meaning="New servers per second of one pool; they are opened one at a time in any case.",
        neighbour="`pool.login_retry`",
    ),
    Setting(
        name="pool.server_lifetime", kind=Kind.DURATION, default="1h", field="server_lifetime_ms",
        zero="for ever", least=1000, scopes=_DB,
        meaning="Close a server this long after it was opened, once it is free.",
        neighbour="`pool.server_lifetime_jitter`", pgbouncer="server_lifetime",
    ),
    Setting(
        name="pool.server_lifetime_jitter", kind=Kind.PERCENT, default=10, most=100,
        field="server_lifetime_jitter", scopes=_DB,
        meaning="Spread of the lifetime, in per cent of it, so that servers do not leave together.",
        neighbour="`pool.server_lifetime`",
    ),
    Setting(
        name="pool.server_idle_timeout", kind=Kind.DURATION, default="10min", zero="off",
        field="server_idle_timeout_ms", least=100, scopes=_DB,
        meaning="Close a server that nobody used for longer, down to `pool.min_size`.",
        neighbour="Keep it below a firewall's idle limit", pgbouncer="server_idle_timeout",
    ),
    Setting(
        name="pool.when_down", kind=Kind.CHOICE, default="wait", choices=("wait", "fail"),
        field="when_down", scopes=_DB,
        meaning="While an endpoint is known to be down: let clients wait within the queue timeout,"
        " or give them the cause at once.",
        neighbour="`pool.queue_timeout`, `pool.login_retry_max`",
    ),
    Setting(
        name="pool.server_statements", kind=Kind.SIZE, default="1MiB", scopes=_DB,
        field="server_statements_bytes", most=2**40,
        meaning="Text of prepared statements kept prepared on one server; the least recently used"
        " are closed.",
        neighbour="`pool.client_statements`", pgbouncer="max_prepared_statements (a count)",
    ),
    Setting(
        name="pool.client_statements", kind=Kind.SIZE, default="4MiB", scopes=_DB, least=1024,
        field="client_statements_bytes", most=2**40,
        meaning="Text of prepared statements one client may hold.",
        neighbour="`pool.server_statements`",
    ),
    Setting(
        name="pool.client_state", kind=Kind.SIZE, default="64KiB", scopes=_DB, least=1024,
        field="client_state_bytes", most=2**40,
        meaning="Settings, and statements of SQL's PREPARE, that one client carries from server to"
        " server; whoever has more keeps its server.",
        neighbour="`pool.client_statements`, `pool.pinning`",
    ),
    Setting(
        name="pool.pinning", kind=Kind.CHOICE, default="allow", choices=("allow", "refuse"),
        field="pinning", scopes=_DB,
        meaning="What leaves state in a session that cannot be carried (advisory locks, temporary"
        " tables ...): keeps the server for its client until it is gone, or is an error.",
        neighbour="`pool.pin_timeout`, `pool.pin_ignore`, `pool.mode`",
    ),
    Setting(
        name="pool.pin_ignore", kind=Kind.CHOICES, default=(),
        choices=("backend pid", "sequence"), field="pin_ignore", scopes=_DB,
        meaning="Kinds of state that keep no server, of those that no other client can meet; they"
        " then hold within one transaction.",
        neighbour="`pool.pinning`; SHOW PINS names the kinds",
    ),
    Setting(
        name="pool.sequences", kind=Kind.CHOICE, default="transaction", field="sequences",
        choices=("transaction", "session"), scopes=_DB,
        meaning="What a sequence gave (`currval`, `lastval`) belongs to its client for the"
        " transaction, and from the first question outside of one on for good; or for good as soon"
        " as a client may have advanced one (INSERT, `nextval` ...), which then keeps its server.",
        neighbour="`pool.pin_ignore`, `pool.pinning`",
    ),
    Setting(
        name="pool.pin_timeout", kind=Kind.DURATION, default="1h", zero="off",
        field="pin_timeout_ms", scopes=_DB,
        meaning="Close a client that keeps a server by such state and asks nothing for longer.",
        neighbour="`pool.pinning`, `pool.idle_transaction_timeout`",
    ),
    Setting(
        name="pool.listen", kind=Kind.CHOICE, default="shared", choices=("shared", "pinned"),
        field="listen", scopes=_DB,
        meaning="Who listens for clients that LISTEN: one more server per database, shared by all"
        " of them, or a server that each keeps.",
        neighbour="`pool.listen_buffer`; in session mode each has its own in any case",
    ),
    Setting(
        name="pool.listen_buffer", kind=Kind.SIZE, default="1MiB", zero="no limit", scopes=_DB,
        field="listen_buffer_bytes", most=2**40,
        meaning="Notifications that may wait for one client that does not read; past that it is"
        " told (53400) and closed, because it cannot hear all of them any more.",
        neighbour="`pool.listen`",
    ),
    Setting(
        name="pool.reset_query", kind=Kind.TEXT, default="DISCARD ALL", field="reset_query",
        scopes=_DB,
        meaning='Run before a server changes hands in session mode; "" runs nothing. MySQL servers'
        " are reset by the protocol's own command unless this is set.",
        neighbour="`pool.mode`", pgbouncer="server_reset_query",
    ),
)

STATEFUL = (
    Setting(
        name="pool.stateful_functions.FUNCTION", kind=Kind.STATE, default=None, scopes=_DB,
        meaning="What a call of this function, with its schema or without, leaves in the session"
        " although its text does not say so: names of settings, `any setting`, or kinds of state"
        " as SHOW PINS names them.",
        neighbour="`pool.pinning`; settings in a function's body are not seen otherwise",
    ),
    Setting(
        name="pool.stateful_tables.TABLE", kind=Kind.STATE, default=None, scopes=_DB,
        meaning="The same for a table with a trigger, or a view with a function: what each"
        ' statement that names it may leave. `"*"` means any table. `maitred doctor routines` finds'
        " those that matter and writes these lines.",
        neighbour="`pool.stateful_functions`",
    ),
)

DATABASE = (
    Setting(
        name="databases.NAME.url", kind=Kind.SECRET, default=None, scopes=(Scope.DATABASE,),
        meaning="`postgres://user:password@host:port/name?sslmode=…` with libpq's names, or"
        " `mysql://user:password@host:port/name?ssl-mode=…` with MySQL's (also `mariadb://`);"
        " without a user each client's own is used, without a name the client's word. `env:NAME`"
        " and `file:PATH` are followed.",
        neighbour="`databases.NAME.user`, `databases.NAME.password`", pgbouncer="[databases]",
    ),
    Setting(
        name="databases.NAME.user", kind=Kind.TEXT, default=None, scopes=(Scope.DATABASE,),
        meaning="All clients share servers of this user; wins over the URL's.",
        neighbour="`databases.NAME.password`", pgbouncer="user",
    ),
    Setting(
        name="databases.NAME.password", kind=Kind.SECRET, default=None, scopes=(Scope.DATABASE,),
        meaning="That user's password: plain, `env:NAME` or `file:PATH`; wins over the URL's.",
        neighbour="`databases.NAME.user`", pgbouncer="password",
    ),
    Setting(
        name="databases.NAME.max_clients", kind=Kind.COUNT, default=0, zero="no limit of its own",
        scopes=(Scope.DATABASE,), meaning="Clients of this database.",
        neighbour="`limits.clients`", pgbouncer="max_db_client_connections",
    ),
    Setting(
        name="databases.NAME.max_servers", kind=Kind.COUNT, default=0, zero="no limit of its own",
        scopes=(Scope.DATABASE,), meaning="Servers of this database, over all its pools.",
        neighbour="`limits.servers`, `pool.size`", pgbouncer="max_db_connections",
    ),
    Setting(
        name="databases.NAME.disabled", kind=Kind.SWITCH, default=False, scopes=(Scope.DATABASE,),
        meaning="Refuse new clients.", neighbour="DISABLE and ENABLE at the console",
    ),
    Setting(
        name="databases.NAME.parameters.PARAMETER", kind=Kind.TEXT, default=None,
        scopes=(Scope.DATABASE,),
        meaning="A startup parameter, or for MySQL a session variable, that every server of this"
        " database is opened with.",
        neighbour="`databases.NAME.url`", pgbouncer="client_encoding, datestyle, timezone",
    ),
)

ENDPOINT = (
    Setting(
        name='endpoints."HOST:PORT".max_servers', kind=Kind.COUNT, default=0,
        zero="as `limits.servers_per_endpoint`", scopes=(Scope.ENDPOINT,),
        meaning="Servers open at this endpoint, over all databases and pools.",
        neighbour="`limits.servers_per_endpoint`; keep it below the database's max_connections",
    ),
)

USER = (
    Setting(
        name="users.NAME.password", kind=Kind.SECRET, default=None, scopes=(Scope.USER,),
        meaning="Plain, which serves every method; or as a database stores it: `SCRAM-SHA-256$…` or"
        " `md5…` for PostgreSQL clients, `*HASH`, `$A$005$…`, `0x244124…` or `ed25519$…` for MySQL"
        " clients; or `env:NAME` or `file:PATH`.",
        neighbour="`auth.method`, `auth.mysql_method`, `auth.userlist`", pgbouncer="auth_file",
    ),
    Setting(
        name="users.NAME.max_clients", kind=Kind.COUNT, default=0, scopes=(Scope.USER,),
        zero="as `limits.clients_per_user`", meaning="Clients of this user.",
        neighbour="`limits.clients_per_user`", pgbouncer="max_user_client_connections",
    ),
    Setting(
        name="users.NAME.max_servers", kind=Kind.COUNT, default=0, scopes=(Scope.USER,),
        zero="as `limits.servers_per_user`", meaning="Servers leased to or opened for this user.",
        neighbour="`limits.servers_per_user`", pgbouncer="max_user_connections",
    ),
    Setting(
        name="users.NAME.admin", kind=Kind.SWITCH, default=False, scopes=(Scope.USER,),
        meaning="May use every console command.", neighbour="`users.NAME.stats`",
        pgbouncer="admin_users",
    ),
    Setting(
        name="users.NAME.stats", kind=Kind.SWITCH, default=False, scopes=(Scope.USER,),
        meaning="May use the console's SHOW.", neighbour="`users.NAME.admin`",
        pgbouncer="stats_users",
    ),
)

AUTH = (
    Setting(
        name="auth.method", kind=Kind.CHOICE, default="scram-sha-256",
        choices=("trust", "password", "md5", "scram-sha-256", "cert"),
        meaning="How PostgreSQL clients prove who they are; trust lets in any name, md5 speaks"
        " SCRAM with users of whom only a verifier is known.",
        neighbour="`users.NAME.password`; `cert` needs `tls.client.mode`", pgbouncer="auth_type",
    ),
    Setting(
        name="auth.mysql_method", kind=Kind.CHOICE, default="caching_sha2_password",
        choices=(
            "trust", "password", "mysql_native_password", "caching_sha2_password", "ed25519",
            "cert",
        ),
        meaning="How MySQL clients prove who they are: one of the servers' plug-ins, `password` for"
        " clear text over TLS, `cert`, or `trust`, which lets in any name. Users of whom only"
        " another plug-in's hash is known are asked by that one.",
        neighbour="`users.NAME.password`; `cert` and `password` need `tls.client.mode`",
    ),
    Setting(
        name="auth.userlist", kind=Kind.PATH, default="",
        meaning='A file of `"user" "password"` lines as PgBouncer has it; sections [users.NAME] add'
        " to it.",
        neighbour="`users.NAME.password`", pgbouncer="auth_file",
    ),
)

TLS_CLIENT = (
    Setting(
        name="tls.client.mode", kind=Kind.CHOICE, default="disable", choices=_SSL_MODES,
        meaning="`prefer` and `allow` take either, `require` refuses clear text, `verify-*` ask for"
        " a client certificate.",
        neighbour="`tls.client.certificate`, `tls.client.ca`", pgbouncer="client_tls_sslmode",
    ),
    Setting(
        name="tls.client.certificate", kind=Kind.PATH, default="",
        meaning="PEM file that clients are shown, with its chain; a new file is taken up at once.",
        neighbour="`tls.client.key`", pgbouncer="client_tls_cert_file",
    ),
    Setting(
        name="tls.client.key", kind=Kind.PATH, default="", meaning="PEM file of its private key.",
        neighbour="`tls.client.certificate`", pgbouncer="client_tls_key_file",
    ),
    Setting(
        name="tls.client.ca", kind=Kind.PATH, default="",
        meaning="PEM file of the authorities that sign client certificates.",
        neighbour="needed by `verify-ca` and `verify-full`", pgbouncer="client_tls_ca_file",
    ),
    Setting(
        name="tls.client.minimum", kind=Kind.CHOICE, default="1.2", choices=_TLS_VERSIONS,
        meaning="Oldest TLS version spoken.", neighbour="`tls.client.mode`",
        pgbouncer="client_tls_protocols",
    ),
)

TLS_SERVER = (
    Setting(
        name="tls.server.mode", kind=Kind.CHOICE, default="prefer", choices=_SSL_MODES, scopes=_DB,
        meaning="libpq's sslmode towards the database; a URL's `sslmode` wins over"
        " the value for all.",
        neighbour="`tls.server.ca`", pgbouncer="server_tls_sslmode",
    ),
    Setting(
        name="tls.server.ca", kind=Kind.PATH, default="", scopes=_DB,
        meaning='PEM file of the authorities that sign the database\'s certificate; "" takes the'
        " system's. A URL's `sslrootcert` wins over the value for all.",
        neighbour="used by `verify-ca` and `verify-full`", pgbouncer="server_tls_ca_file",
    ),
    Setting(
        name="tls.server.certificate", kind=Kind.PATH, default="", scopes=_DB,
        meaning="PEM file that we show to the database; a URL's `sslcert` wins over"
        " the value for all.",
        neighbour="`tls.server.key`", pgbouncer="server_tls_cert_file",
    ),
    Setting(
        name="tls.server.key", kind=Kind.PATH, default="", scopes=_DB,
        meaning="PEM file of its private key; a URL's `sslkey` wins over the value for all.",
        neighbour="`tls.server.certificate`", pgbouncer="server_tls_key_file",
    ),
    Setting(
        name="tls.server.minimum", kind=Kind.CHOICE, default="1.2", choices=_TLS_VERSIONS,
        scopes=_DB, meaning="Oldest TLS version spoken.", neighbour="`tls.server.mode`",
        pgbouncer="server_tls_protocols",
    ),
    Setting(
        name="tls.server.direct", kind=Kind.SWITCH, default=False, scopes=_DB,
        meaning="Begin with TLS at once instead of asking (PostgreSQL 17 and later); a URL's"
        " `sslnegotiation` wins over the value for all.",
        neighbour="needs `require` or stricter in `tls.server.mode`",
    ),
)

LIMITS = (
    Setting(
        name="limits.clients", kind=Kind.COUNT, default=10_000, field="clients", zero="no limit",
        meaning="Clients in total; beyond it, the console alone is let in.",
        neighbour="each needs a file descriptor: see `ulimit -n`",
        pgbouncer="max_client_conn",
    ),
    Setting(
        name="limits.servers", kind=Kind.COUNT, default=0, field="servers", zero="no limit",
        meaning="Servers in total.", neighbour="`pool.size`, `limits.servers_per_endpoint`",
    ),
    Setting(
        name="limits.servers_per_endpoint", kind=Kind.COUNT, default=0, zero="no limit",
        meaning="Servers open at one endpoint, over all databases and pools.",
        neighbour='`endpoints."HOST:PORT".max_servers`',
    ),
    Setting(
        name="limits.clients_per_user", kind=Kind.COUNT, default=0, zero="no limit",
        field="clients_per_user",
        meaning="Clients of one user.", neighbour="`users.NAME.max_clients`",
        pgbouncer="max_user_client_connections",
    ),
    Setting(
        name="limits.servers_per_user", kind=Kind.COUNT, default=0, zero="no limit",
        field="servers_per_user",
        meaning="Servers leased to or opened for one user.",
        neighbour="`users.NAME.max_servers`", pgbouncer="max_user_connections",
    ),
    Setting(
        name="limits.logins", kind=Kind.COUNT, default=256, field="logins", zero="no limit",
        meaning="Clients that may be logging in at the same moment; the others wait.",
        neighbour="`limits.client_login_timeout`",
    ),
    Setting(
        name="limits.client_login_timeout", kind=Kind.DURATION, default="60s",
        field="client_login_timeout_ms", zero="off",
        meaning="Close a client that has not logged in for longer.", neighbour="`limits.logins`",
        pgbouncer="client_login_timeout",
    ),
    Setting(
        name="limits.buffer", kind=Kind.SIZE, default="256KiB", field="buffer_bytes", least=4096,
        most=2**30,
        meaning="A side whose reader is slower than its writer is not read past this.",
        neighbour="`limits.message`", pgbouncer="pkt_buf",
    ),
    Setting(
        name="limits.message", kind=Kind.SIZE, default="1GiB", field="message_bytes",
        least=65536, most=2**30, meaning="Longest message that is accepted.",
        neighbour="PostgreSQL itself allows 1 GiB", pgbouncer="max_packet_size",
    ),
    Setting(
        name="limits.drain_timeout", kind=Kind.DURATION, default="25s", field="drain_timeout_ms",
        zero="for ever", meaning="How long SIGTERM waits for transactions to end.",
        neighbour="keep it below Kubernetes' terminationGracePeriodSeconds (30 s)",
    ),
    Setting(
        name="limits.drain_delay", kind=Kind.DURATION, default="0s", zero="none",
        meaning="How long SIGTERM keeps accepting after `/readyz` says no, so that load balancers"
        " notice first.",
        neighbour="`limits.drain_timeout`",
    ),
    Setting(
        name="limits.keepalive_idle", kind=Kind.SECONDS, default="60s", field="keepalive_idle_s",
        zero="the system's", meaning="TCP keepalive: first probe after this much silence.",
        neighbour="`limits.keepalive_interval`", pgbouncer="tcp_keepidle", most=32767,
    ),
    Setting(
        name="limits.keepalive_interval", kind=Kind.SECONDS, default="10s",
        field="keepalive_interval_s", zero="the system's", meaning="TCP keepalive: between probes.",
        neighbour="`limits.keepalive_count`", pgbouncer="tcp_keepintvl", most=32767,
    ),
    Setting(
        name="limits.keepalive_count", kind=Kind.COUNT, default=3, field="keepalive_count",
        zero="the system's", meaning="TCP keepalive: unanswered probes before the peer is gone.",
        neighbour="`limits.keepalive_interval`", pgbouncer="tcp_keepcnt", most=127,
    ),
    Setting(
        name="limits.tcp_user_timeout", kind=Kind.DURATION, default="0s",
        field="tcp_user_timeout_ms", zero="the system's", most=2**31 - 1,
        meaning="Sent bytes may stay unacknowledged for this long.",
        neighbour="`limits.keepalive_idle`", pgbouncer="tcp_user_timeout",
    ),
)

CONSOLE = (
    Setting(
        name="console.names", kind=Kind.NAMES, default=("maitred", "pgbouncer"),
        meaning="Database names that reach the console.", neighbour="`users.NAME.admin`",
    ),
    Setting(
        name="console.stats_period", kind=Kind.DURATION, default="60s", least=1000,
        meaning="The `avg_` columns of SHOW STATS are averages over this time.",
        neighbour="/metrics has the totals", pgbouncer="stats_period",
    ),
)

LOG = (
    Setting(
        name="log.level", kind=Kind.CHOICE, default="info",
        choices=("debug", "info", "warning", "error"), meaning="Least severe lines written.",
        neighbour="`log.connections`", pgbouncer="verbose",
    ),
    Setting(
        name="log.format", kind=Kind.CHOICE, default="text", choices=("text", "json"),
        meaning="Lines for people, or one JSON object a line.", neighbour="`log.level`",
    ),
    Setting(
        name="log.slow_query", kind=Kind.DURATION, default="0s", zero="off",
        meaning="Log the shape (never the values) of a statement that takes longer, queueing"
        " included.",
        neighbour="`pool.query_timeout`",
    ),
    Setting(
        name="log.connections", kind=Kind.SWITCH, default=False,
        meaning="Log each client and server that comes and goes.",
        neighbour="failed logins are always logged",
        pgbouncer="log_connections, log_disconnections",
    ),
)

ENGINE = (
    Setting(
        name="engine.workers", kind=Kind.COUNT, default=0, zero="what the machine offers",
        most=256, meaning="Worker threads.", neighbour="`engine.backend`", reloadable=False,
    ),
    Setting(
        name="engine.backend", kind=Kind.CHOICE, default="auto",
        choices=("auto", "io_uring", "epoll"), reloadable=False,
        meaning="How sockets are worked; auto takes io_uring where the kernel allows it.",
        neighbour="`engine.workers`",
    ),
)

# fmt: on
SECTIONS: tuple[tuple[str, tuple[Setting, ...]], ...] = (
    ("Listeners", LISTEN),
    ("Pools", POOL),
    ("Functions and tables that touch the session", STATEFUL),
    ("Databases", DATABASE),
    ("Endpoints", ENDPOINT),
    ("Users", USER),
    ("Logging in", AUTH),
    ("TLS towards clients", TLS_CLIENT),
    ("TLS towards databases", TLS_SERVER),
    ("Limits", LIMITS),
    ("Console", CONSOLE),
    ("Log", LOG),
    ("Engine", ENGINE),
)

SETTINGS: dict[str, Setting] = {setting.name: setting for _, rows in SECTIONS for setting in rows}

NOT_YET = {
    "listen.http": "SQL over HTTP is not available in this version; remove the line",
}
"""Known names that this version refuses, with what to do."""
