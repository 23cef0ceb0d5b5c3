"""`gptoss-loadtest selfcheck`: what this machine can do as a load test."""

import asyncio
from typing import Annotated

import typer

from loadtest.selfcheck import Steady, check


def selfcheck(
    streams: Annotated[int, typer.Option(min=1, help="open at a time in the first part")] = 200,
    seconds: Annotated[float, typer.Option(min=2.0, help="of each part")] = 8.0,
) -> None:
    """Measure this machine's own ceiling, against a server that does nothing.

    A run that comes near to these figures would measure the load test.
    """
    found = asyncio.run(check(streams, seconds))
    typer.echo(f"{found.cores} cores; figures are of one process of the load test")
    for name, one in (("steady", found.steady), ("half of what a core can take", found.half)):
        typer.echo(f"{name}: {_steady(one)}")
    late = "" if found.request_lag_p99 is None else f", late by {_ms(found.request_lag_p99)} (p99)"
    typer.echo(f"requests: {found.request_rate:.0f} per second of one token{late}")


def _steady(one: Steady) -> str:
    return (
        f"{one.streams} streams, {one.chunk_rate:.0f} chunks per second at"
        f" {one.cpu_percent:.0f}% of a core: {one.chunks_per_cpu_second:.0f} per CPU-second;"
        f" requests late by {_ms(one.lag_p99)} (p99)"
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
