"""Write a `Config` in the shape that the engine takes.

Decides nothing: each value was decided before; only names and nesting change here. The shape is
`engine/relay/src/snapshot.rs`. Called by `prepare`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from maitred.model import Address, Config, Database, Endpoint, Tls

Shape = dict[str, Any]

# Why: the engine's decoder derives its words from names of variants, ScramSha256 here.
_METHODS = {"scram-sha-256": "scram-sha256"}


def build(
    config: Config,
    users: Iterable[Shape],
    *,
    number: int,
    ask_unknown: bool = False,
    disabled: Collection[str] = (),
    mysql_version: str,
) -> Shape:
    """Return the snapshot `number` of `config`.

    Args:
        config: what was loaded.
        users: in the engine's shape, from `auth`.
        number: one more than the last.
        ask_unknown: the engine should ask about users it does not find.
        disabled: databases that an operator disabled.
        mysql_version: what MySQL clients are greeted with.
    """
    position = {endpoint.name: index for index, endpoint in enumerate(config.endpoints)}
    return {
        "number": number,
        "listeners": [
            {
                "dialect": one.dialect,
                "address": _address(one.address),
                "proxy_protocol": config.proxy_protocol,
                "unix_mode": config.unix_mode,
            }
            for one in config.listeners
        ],
        "client_tls": _client_tls(config.client_tls),
        "endpoints": [_endpoint(one) for one in config.endpoints],
        "databases": [
            _database(one, position[one.endpoint], one.name in disabled) for one in config.databases
        ],
        "users": list(users),
        "auth": {
            "method": _METHODS.get(config.auth_method, config.auth_method),
            "mysql_method": config.mysql_method,
            "ask_unknown": ask_unknown,
        },
        "limits": {**config.limits, "mysql_version": mysql_version},
        "console_names": list(config.console_names),
        "slow_query_ms": config.slow_query_ms,
        "log_connections": config.log_connections,
    }


def _address(one: Address) -> Shape:
    if one.path:
        return {"unix": {"path": one.path}}
    return {"tcp": {"host": one.host, "port": one.port}}


def _client_tls(tls: Tls | None) -> Shape | None:
    if tls is None:
        return None
    return {
        "mode": tls.mode,
        "certificate_pem": tls.certificate_pem or "",
        "key_pem": tls.key_pem.reveal() if tls.key_pem else "",
        "ca_pem": tls.ca_pem,
        "minimum": tls.minimum,
    }


def _endpoint(one: Endpoint) -> Shape:
    tls = one.tls
    return {
        "name": one.name,
        "dialect": one.dialect,
        "address": _address(one.address),
        "tls": {
            "mode": tls.mode,
            "ca_pem": tls.ca_pem,
            "certificate_pem": tls.certificate_pem,
            "key_pem": tls.key_pem.reveal() if tls.key_pem else None,
            "minimum": tls.minimum,
            "direct": tls.direct,
        },
        "max_servers": one.max_servers,
    }


def _database(one: Database, endpoint: int, disabled: bool) -> Shape:
    return {
        "name": one.name,
        "endpoint": endpoint,
        "remote_name": one.remote_name,
        "user": one.user,
        "password": one.password.reveal() if one.password else None,
        "pool": dict(one.pool),
        "stateful_functions": [[name, list(touched)] for name, touched in one.stateful_functions],
        "stateful_tables": [[name, list(touched)] for name, touched in one.stateful_tables],
        "parameters": [list(pair) for pair in one.parameters],
        "max_clients": one.max_clients,
        "max_servers": one.max_servers,
        "disabled": one.disabled or disabled,
    }
