"""Holds one conversation: a turn, its answer, a while of thought, the next turn."""

import math
import time
from collections.abc import Mapping
from typing import Protocol

from loadtest.client.answer import Reading
from loadtest.client.log import Log
from loadtest.client.pauses import Pauses
from loadtest.client.request import Request
from loadtest.client.retry import Retrying
from loadtest.plan.arrival import Arrival
from loadtest.plan.prompts import Answer, ToolCall, Turn
from loadtest.record import Record
from loadtest.scenario.document import Team
from loadtest.scenario.lengths import Fixed
from loadtest.scenario.workload import Workload


class Conversation(Protocol):
    """What is said, turn by turn."""

    def turn(self, answer: Answer | None) -> Turn | None:
        """What comes after an answer; before any, the first. None: it is over."""
        ...


class Prepared:
    """A conversation whose first turn is ready to be sent: that may take a while for long ones."""

    __slots__ = ("arrival", "conversation", "first", "team")

    def __init__(self, team: str, arrival: Arrival, conversation: Conversation) -> None:
        self.team = team
        self.arrival = arrival
        self.conversation = conversation
        self.first = conversation.turn(None)


class Talking:
    """Holds the conversations of one team. Times without a word are since the run's start, s."""

    def __init__(
        self,
        name: str,
        team: Team,
        headers: Mapping[str, str],
        stop: float,
        retrying: Retrying,
        pauses: Pauses,
        log: Log,
    ) -> None:
        self._name = name
        self._team = team
        self._headers = headers
        self._stop = stop
        self._retrying = retrying
        self._pauses = pauses
        self._log = log
        self.began = 0.0
        """The run's start, of the monotonic clock."""

    async def hold(self, prepared: Prepared) -> tuple[Record, float] | None:
        """Hold it to its end, which is its last turn, one that failed, or the run's end.

        Gives its last record, and when its client was free again. A later turn is due when that is
        so and the answer was thought about; what is due after the team's time is not sent.
        """
        arrival, turn = prepared.arrival, prepared.first
        workload = self._team.workloads[arrival.workload]
        due, number, last = arrival.at, 0, None
        while turn is not None:
            record = self._record(arrival, workload, turn, due, number)
            reading = await self._send(turn, record, workload, arrival.seed + number)
            self._log.ends(record, reading.gap if reading.pieces > 1 else None)
            last = record, reading.free
            if not record.good:
                break
            turn = prepared.conversation.turn(_answer(reading, record))
            if turn is None:
                break
            due, number = reading.free + turn.think, number + 1
            if due >= self._stop or not await self._pauses.until(self.began + due):
                break
            self._log.due += 1
        return last

    async def _send(self, turn: Turn, record: Record, workload: Workload, seed: int) -> Reading:
        now = time.monotonic()
        self._log.begins(record, now - self.began)
        patience = math.inf if turn.cancel_after is None else turn.cancel_after
        request = Request(turn.body, self._headers, workload.stream, now + patience)
        goes_on = record.conversation >= 0
        return await self._retrying.send(request, record, goes_on, self._team.retry, seed)

    def _record(
        self, arrival: Arrival, workload: Workload, turn: Turn, due: float, number: int
    ) -> Record:
        return Record(
            index=arrival.index,
            team=self._name,
            scheduled=due,
            workload=workload.name,
            conversation=-1 if is_single(workload) else arrival.index,
            turn=number,
            streamed=workload.stream,
            prompt_planned=turn.prompt_planned,
            output_planned=turn.output_planned,
        )


def is_single(workload: Workload) -> bool:
    """Whether each of its requests stands alone, and no answer is needed for a next one."""
    return workload.turns == Fixed(tokens=1) and not workload.tools


def _answer(reading: Reading, record: Record) -> Answer:
    calls = [
        ToolCall(id=tool.id, name=tool.name, arguments=tool.arguments)
        for _, tool in sorted(reading.tools.items())
    ]
    return Answer(
        content=reading.content,
        tool_calls=calls,
        output_tokens=record.output_tokens,
        reasoning_tokens=record.reasoning_tokens,
    )
