"""The small HTTP server for probes and metrics: /metrics, /healthz, /readyz.

Decides nothing: what is ready and what is measured is asked of what it is given.
Started and stopped by `supervisor`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from maitred.errors import EngineRefused
from maitred.model import Address

NotReady = Callable[[], Awaitable[str | None]]
"""Why no new client should come, or None when one may."""

Metrics = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From an Accept header to a body and its content type."""

_NO_CACHE = {"Cache-Control": "no-store"}
_INDEX = """maitred

/metrics   for Prometheus
/healthz   200 while the process answers
/readyz    200 when clients may come, 503 with the reason when not
"""


class HttpServer:
    """Listens on one address until `stop`."""

    def __init__(self, not_ready: NotReady, metrics: Metrics) -> None:
        """Ask `not_ready` and `metrics` on each request."""
        self._not_ready = not_ready
        self._metrics = metrics
        self.app = web.Application()
        self.app.router.add_get("/", self._on_index)
        self.app.router.add_get("/metrics", self._on_metrics)
        self.app.router.add_get("/healthz", self._on_health)
        self.app.router.add_get("/readyz", self._on_ready)
        # Why: probes come every second; their access log would be noise.
        self._runner = web.AppRunner(self.app, access_log=None, handle_signals=False)

    async def start(self, address: Address) -> str:
        """Listen; return the address with its port resolved.

        Raises:
            EngineRefused: the address cannot be bound.
        """
        await self._runner.setup()
        try:
            if address.path:
                await web.UnixSite(self._runner, address.path).start()
                return address.path
            await web.TCPSite(self._runner, address.host or None, address.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise EngineRefused(
                f"listen.admin: cannot listen on {address}: {error.strerror or error}; choose"
                ' another address, or listen.admin = "" for none'
            ) from None
        host, port = self._runner.addresses[0][:2]
        return str(Address(host=host, port=port))

    async def stop(self) -> None:
        """Close; requests under way are cut after a moment."""
        await self._runner.cleanup()

    async def _on_index(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    async def _on_health(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n", headers=_NO_CACHE)

    async def _on_ready(self, _: web.Request) -> web.Response:
        reason = await self._not_ready()
        if reason is None:
            return web.Response(text="ready\n", headers=_NO_CACHE)
        return web.Response(text=f"not ready: {reason}\n", status=503, headers=_NO_CACHE)

    async def _on_metrics(self, request: web.Request) -> web.Response:
        body, content_type = await self._metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type, **_NO_CACHE})
