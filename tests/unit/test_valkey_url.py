"""A URL says which servers; what is wrong with it is said in a line without its password."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio.connection import SSLConnection

from service.errors import UserError
from service.quota.valkey_url import Address, Topology, parse


def read(url: str) -> Address:
    return parse(SecretStr(url))


def test_one_server() -> None:
    address = read("redis://user:p%40ss@host:7000/2")
    assert (address.topology, address.tls) == (Topology.SINGLE, False)
    assert address.servers == (("host", 7000),)
    assert address.options == {"username": "user", "password": "p@ss", "db": 2}
    assert read("redis://[::1]").servers == (("::1", 6379),)


def test_sentinels_have_a_login_of_their_own() -> None:
    address = read("redis+sentinel://:secret@a,b:1234/counters?sentinel_password=other")
    assert address.servers == (("a", 26379), ("b", 1234))
    assert address.service == "counters"
    assert address.options == {"password": "secret", "db": 0}
    assert address.sentinel_options == {"password": "other"}


@pytest.mark.parametrize("kind", ["rediss", "rediss+cluster", "rediss+sentinel"])
def test_tls_is_for_every_kind(kind: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()
    service = "/counters" if kind.endswith("sentinel") else ""
    address = read(f"{kind}://a{service}?ssl_ca_certs={authority}")
    assert address.tls
    for options in (address.options, address.sentinel_options):
        assert options["ssl_ca_certs"] == str(authority)
        assert options["ssl_check_hostname"] is True
    assert isinstance(address.connection(("a", 1)), SSLConnection)
    assert isinstance(address.sentinel(("a", 1)), SSLConnection)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "http://:hunter2@host",
        "redis+magic://:hunter2@host",
        "redis://:hunter2@",
        "redis://:hunter2@host:hunter2",
        "redis://:hunter2@host:99999",
        "redis://:hunter2@[host",
        "redis://:hunter2@a,b",
        "redis://:hunter2@host/hunter2",
        "redis://:hunter2@host?ssl_ca_certs=/dev/null",
        "rediss://:hunter2@host?ssl_ca_certs=/no/such/file",
        "redis+sentinel://:hunter2@host",
        "redis+cluster://:hunter2@host/1",
        "redis+cluster://:hunter2@a,,b",
        "redis://:hunter2@host?colour=hunter2",
    ],
)
def test_a_malformed_url_is_one_line_without_the_password(url: str) -> None:
    with pytest.raises(UserError) as caught:
        read(url)
    assert "quota.url" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_an_address_shows_no_password() -> None:
    assert "hunter2" not in repr(read("redis+sentinel://:hunter2@a/s?sentinel_password=hunter2"))
