"""The stand-ins for the stores behave as the official images do, where a chart relies on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images import archive, build, container
from tests.images.container import Container

STORE_USER = 999
_POSTGRES = """
docker-entrypoint.sh postgres -c port=64329 &
for second in $(seq 120); do
    psql -h 127.0.0.1 -p 64329 -U gptoss -d ledger -tAc 'select current_database()' && break
    sleep 1
done
PGPASSWORD=wrong psql -h 127.0.0.1 -p 64329 -U gptoss -d ledger -c 'select 1' 2>&1 | tail -1
kill $! && wait $!
"""
_VALKEY = """
valkey-server --port 63799 --requirepass secret --appendonly yes >/dev/null &
for second in $(seq 120); do
    valkey-cli -p 63799 -a secret --no-auth-warning ping | grep PONG && break
    sleep 1
done
valkey-cli -p 63799 ping
kill $! && wait $!
"""


@pytest.fixture
def postgres(folder: Path) -> Iterator[Container]:
    """PostgreSQL's image."""
    with container.opened(archive.read(build.postgres(folder))) as opened:
        yield opened


@pytest.fixture
def valkey(folder: Path) -> Iterator[Container]:
    """Valkey's image."""
    with container.opened(archive.read(build.valkey(folder))) as opened:
        yield opened


def test_postgres_makes_its_database_on_a_read_only_root(postgres: Container) -> None:
    assert "docker.io/library/postgres:test" in postgres.archive.names
    variables = {"POSTGRES_USER": "gptoss", "POSTGRES_DB": "ledger", "POSTGRES_PASSWORD": "right"}
    done = postgres.run(
        *("sh", "-c", _POSTGRES),
        user=STORE_USER,
        writable=("/tmp", "/var/lib/postgresql/data", "/run/postgresql"),
        # A folder in the volume, which is root's here as it is in a cluster.
        PGDATA="/var/lib/postgresql/data/pgdata",
        PGPASSWORD="right",
        **variables,
    )
    assert done.stdout.splitlines()[-2] == "ledger", done.stdout + done.stderr
    assert 'password authentication failed for user "gptoss"' in done.stdout.splitlines()[-1]
    assert done.returncode == 0


def test_postgres_refuses_to_start_without_a_password(postgres: Container) -> None:
    writable = ("/tmp", "/var/lib/postgresql/data", "/run/postgresql")
    done = postgres.run("docker-entrypoint.sh", "postgres", user=STORE_USER, writable=writable)
    assert done.returncode == 1
    assert "POSTGRES_PASSWORD" in done.stderr


def test_valkey_runs_under_its_own_names(valkey: Container) -> None:
    done = valkey.run("sh", "-c", _VALKEY, user=STORE_USER, writable=("/tmp", "/data"))
    assert "PONG" in done.stdout, done.stdout + done.stderr
    assert "NOAUTH" in done.stdout + done.stderr
    assert done.returncode == 0
