"""The URL of a Valkey or Redis: which servers, and how to connect to them."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import SecretStr
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.errors import UserError

_PORTS = {"redis": 6379, "redis+cluster": 6379, "redis+sentinel": 26379}
_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_FORMS = "redis://host:6379/0, redis+sentinel://host,host/service or redis+cluster://host,host"

Server = tuple[str, int]


class Topology(StrEnum):
    """How the servers are arranged."""

    SINGLE = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the counters are. `servers` are those to begin with; `service` is Sentinel's name."""

    topology: Topology
    tls: bool
    servers: tuple[Server, ...]
    service: str = ""
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)

    def connection(self, server: Server) -> AbstractConnection:
        """A connection, not yet open, to a server that holds counters."""
        return self._connection(server, self.options)

    def sentinel(self, server: Server) -> AbstractConnection:
        """A connection, not yet open, to a Sentinel."""
        return self._connection(server, self.sentinel_options)

    def _connection(self, server: Server, options: dict[str, Any]) -> AbstractConnection:
        # No retries, no time limits, no chat of the library's own: whoever asks sets the limits.
        return (SSLConnection if self.tls else Connection)(
            host=server[0],
            port=server[1],
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=None,
            driver_info=None,
            **options,
        )


def parse(url: SecretStr) -> Address:
    """Read a URL. Raises `UserError`, which shows no password."""
    try:
        return _parse(url.get_secret_value())
    except ValueError as error:
        # Its text is from below, or about a part of the URL that is no secret.
        raise UserError(f"setting quota.url: {error}; use {_FORMS}") from None


def _parse(url: str) -> Address:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("it is not a URL") from None
    tls = parts.scheme.startswith("rediss")
    scheme = parts.scheme.replace("rediss", "redis", 1)
    if scheme not in _PORTS:
        raise ValueError("it must begin with redis://, rediss:// or the like")
    topology = Topology(scheme)
    credentials, _, hosts = parts.netloc.rpartition("@")
    servers = tuple(_server(host, _PORTS[scheme]) for host in hosts.split(","))
    if topology is Topology.SINGLE and len(servers) > 1:
        raise ValueError("several hosts are a Sentinel's or a cluster's")
    user, colon, password = credentials.partition(":")
    options = _login(unquote(user), unquote(password) if colon else "")
    query = _query(parts)
    sentinel_options = _login(
        query.pop("sentinel_username", ""), query.pop("sentinel_password", "")
    )
    service, database = _path(parts.path.strip("/"), topology)
    tls_options = _tls(query, tls)
    return Address(
        topology,
        tls,
        servers,
        service,
        {**options, **tls_options, "db": database},
        {**sentinel_options, **tls_options},
    )


def _server(text: str, default: int) -> Server:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError("a host is missing, or a port is not a number up to 65535")
    return host, port or default


def _login(user: str, password: str) -> dict[str, Any]:
    login = {"username": user, "password": password}
    return {name: value for name, value in login.items() if value}


def _path(path: str, topology: Topology) -> tuple[str, int]:
    if topology is Topology.SENTINEL:
        service, _, database = path.partition("/")
        if not service:
            raise ValueError("after Sentinel's hosts comes /service, the name of the master")
    else:
        service, database = "", path
    if database and not database.isdecimal():
        raise ValueError("the database is a number")
    if topology is Topology.CLUSTER and int(database or 0):
        raise ValueError("a cluster has no database but 0")
    return service, int(database or 0)


def _query(parts: SplitResult) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = {*_FILES, "ssl_check_hostname", "sentinel_username", "sentinel_password"}
    if unknown := set(query) - known:
        raise ValueError(f"it knows no parameter {sorted(unknown)[0]!r}")
    return query


def _tls(query: dict[str, str], tls: bool) -> dict[str, Any]:
    if query and not tls:
        raise ValueError("TLS parameters need rediss://")
    for name in _FILES:
        if name in query and not Path(query[name]).is_file():
            raise ValueError(f"{name}: no file {query[name]}")
    if not tls:
        return {}
    check = query.pop("ssl_check_hostname", "true").lower() not in ("false", "0", "no")
    return {**query, "ssl_check_hostname": check}
