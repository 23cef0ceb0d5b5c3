"""Conversations that need no plan: short bodies which say what they are."""

import json
from typing import Any

from loadtest.plan.arrival import Arrival
from loadtest.plan.prompts import Answer, Turn
from loadtest.scenario.lengths import Fixed
from loadtest.scenario.workload import Workload


class Scripted:
    """As many turns as its workload says, each of which has the answer before it in its body."""

    def __init__(self, workload: Workload, arrival: Arrival, model: str) -> None:
        assert isinstance(workload.turns, Fixed)
        self._left = workload.turns.tokens
        self._workload = workload
        self._base = {"model": model, "index": arrival.index, "workload": workload.name}

    def turn(self, answer: Answer | None) -> Turn | None:
        if not self._left:
            return None
        self._left -= 1
        body: dict[str, Any] = self._base | {"after": answer.content if answer else None}
        return Turn(
            body=json.dumps(body).encode(),
            prompt_planned=1,
            output_planned=1,
            think=self._workload.think,
            cancel_after=self._workload.cancel_after if self._workload.cancel_percent else None,
        )


class Conversations:
    """Makes them."""

    def conversation(
        self, workload: Workload, arrival: Arrival, model: str, team_seed: int
    ) -> Scripted:
        return Scripted(workload, arrival, model)


def scripted(overhead: int) -> Conversations:
    """For `run`."""
    return Conversations()


SCRIPTED = "tests.loadtest.live.scripted:scripted"


class Broken(Conversations):
    """Has a bug: the third conversation cannot be made."""

    def conversation(
        self, workload: Workload, arrival: Arrival, model: str, team_seed: int
    ) -> Scripted:
        if arrival.index == 2:
            raise RuntimeError("a bug of the load test")
        return Scripted(workload, arrival, model)


def broken(overhead: int) -> Broken:
    """For `run`."""
    return Broken()


class Breaking(Scripted):
    """Has a bug, too: the tenth conversation cannot go on after its answer."""

    def turn(self, answer: Answer | None) -> Turn | None:
        if answer is not None and self._base["index"] == 9:
            raise RuntimeError("a bug of the load test")
        return super().turn(answer)


class LateBreaking(Conversations):
    """Makes them."""

    def conversation(
        self, workload: Workload, arrival: Arrival, model: str, team_seed: int
    ) -> Scripted:
        return Breaking(workload, arrival, model)


def breaking(overhead: int) -> LateBreaking:
    """For `run`."""
    return LateBreaking()
