"""Answers of the HTTP server, by calling its handlers; no socket is opened.

Run by pytest.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from maitred.admin.http import HttpServer


async def get(server: HttpServer, path: str, accept: str = "") -> web.StreamResponse:
    request = make_mocked_request("GET", path, headers={"Accept": accept}, app=server.app)
    match = await server.app.router.resolve(request)
    return await match.handler(request)


def server(reason: str | None = None) -> HttpServer:
    async def not_ready() -> str | None:
        return reason

    async def metrics(accept: str) -> tuple[bytes, str]:
        return accept.encode(), "text/plain; version=0.0.4"

    return HttpServer(not_ready, metrics)


async def test_healthy_while_it_answers() -> None:
    assert (await get(server("draining"), "/healthz")).status == 200


async def test_ready_when_nothing_speaks_against_it() -> None:
    assert (await get(server(), "/readyz")).status == 200


async def test_not_ready_with_the_reason() -> None:
    answer = await get(server("draining"), "/readyz")
    assert isinstance(answer, web.Response)
    assert (answer.status, answer.text) == (503, "not ready: draining\n")
    assert answer.headers["Cache-Control"] == "no-store"


async def test_metrics_pass_the_accept_header_and_the_content_type() -> None:
    answer = await get(server(), "/metrics", "application/openmetrics-text")
    assert isinstance(answer, web.Response)
    assert answer.body == b"application/openmetrics-text"
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
