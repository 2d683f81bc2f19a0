"""Look at both sides under load: clients as maitred counts them, servers as the database does.

It must not disturb what it looks at: one short question a second on each side.
Called by `maitred.demo.show`.
"""

from __future__ import annotations

import contextlib
import threading

from .postgres import DemoError
from .proxy import Proxy
from .stage import DATABASE, Stage


class Watch:
    """The highest counts seen so far, kept by a thread of its own; a context manager."""

    def __init__(self, stage: Stage, proxy: Proxy, *, every_s: float = 0.7) -> None:
        self.clients = 0
        self.servers_by_database = 0
        self.servers_by_maitred = 0
        self._stage = stage
        self._proxy = proxy
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Ask both sides once.

        Raises:
            DemoError: one of them did not answer.
        """
        self.servers_by_database = max(self.servers_by_database, self._stage.servers())
        pools = [pool for pool in self._proxy.console("SHOW POOLS") if pool["database"] == DATABASE]
        clients = sum(int(pool["cl_active"]) + int(pool["cl_waiting"]) for pool in pools)
        self.clients = max(self.clients, clients)
        own = sum(
            int(pool[state]) for pool in pools for state in ("sv_active", "sv_idle", "sv_used")
        )
        self.servers_by_maitred = max(self.servers_by_maitred, own)

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            # Why: a question that comes too late while a thousand clients log in is no failure;
            # the next one is a second away, and the report shows what was seen.
            with contextlib.suppress(DemoError):
                self.look()
