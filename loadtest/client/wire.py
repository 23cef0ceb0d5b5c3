"""What a run and its workers say to each other, over a pair of sockets: frames of MessagePack."""

import asyncio
import struct

import msgspec

from loadtest.client.data import Endpoint, WorkerStats
from loadtest.plan.arrival import Arrival
from loadtest.record import Record

_LENGTH = struct.Struct(">I")


class Job(msgspec.Struct, tag=True):
    """To a worker: what it is to do."""

    worker: int
    scenario: str
    """As JSON."""
    endpoint: Endpoint
    run: str
    overhead: int
    arrivals: dict[str, list[Arrival]]
    """Its part, by team."""
    clients: dict[str, int]
    """Of teams in a closed loop: how many clients there are in all workers."""
    conversations: str
    """What makes conversations: `module:function`."""


class Start(msgspec.Struct, tag=True):
    """To a worker: the run's time 0, of the monotonic clock that all processes share."""

    at: float


class Stop(msgspec.Struct, tag=True):
    """To a worker: send nothing more. What is under way has so many seconds to end."""

    grace: float


class Ready(msgspec.Struct, tag=True):
    """From a worker: it can begin."""


class Report(msgspec.Struct, tag=True):
    """From a worker, twice a second: what there is since the last one, and how many in all."""

    due: int
    sent: int
    open: int
    records: list[Record]
    lags: list[float]
    firsts: list[float]
    gaps: list[float]


class Condition(msgspec.Struct, tag=True):
    """From a worker, each few seconds: how it does, in brief."""

    stats: WorkerStats


class Final(msgspec.Struct, tag=True):
    """From a worker, as its last word."""

    stats: WorkerStats


ToWorker = Job | Start | Stop
FromWorker = Ready | Report | Condition | Final

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)


def frame(message: ToWorker | FromWorker) -> bytes:
    """A message as it goes over the line."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


async def to_worker(reader: asyncio.StreamReader) -> ToWorker:
    """What a worker hears next. Raises `EOFError` when its parent has gone."""
    return _to_worker.decode(await _body(reader))


async def from_worker(reader: asyncio.StreamReader) -> FromWorker:
    """What a parent hears next. Raises `EOFError` when the worker has gone."""
    return _from_worker.decode(await _body(reader))


async def _body(reader: asyncio.StreamReader) -> bytes:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except ConnectionError as error:
        raise EOFError from error
