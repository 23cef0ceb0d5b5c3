"""Where what a worker sends comes from: the plan, arrival by arrival."""

from collections.abc import Mapping
from typing import Protocol

from loadtest.client.conversation import Conversation, Prepared
from loadtest.client.data import Endpoint
from loadtest.plan import plan
from loadtest.plan.arrival import Arrival
from loadtest.plan.prompts import Prompts
from loadtest.plan.words import Words
from loadtest.scenario.arrivals import Closed
from loadtest.scenario.document import Scenario
from loadtest.scenario.workload import Workload


class Conversations(Protocol):
    """What makes conversations."""

    def conversation(
        self, workload: Workload, arrival: Arrival, model: str, team_seed: int
    ) -> Conversation:
        """The one that an arrival begins."""
        ...


def prompts(overhead: int) -> Conversations:
    """Those of the plan."""
    return Prompts(Words.load(), overhead)


class Source:
    """Gives what all teams of a scenario send."""

    def __init__(
        self,
        scenario: Scenario,
        endpoint: Endpoint,
        clients: Mapping[str, int],
        conversations: Conversations,
    ) -> None:
        self._scenario = scenario
        self._model = endpoint.model
        self._clients = clients
        self._conversations = conversations
        self._seeds = {name: plan.team_seed(scenario, name) for name in scenario.teams}

    def prepare(self, team: str, arrival: Arrival) -> Prepared:
        """What an arrival sends."""
        workload = self._scenario.teams[team].workloads[arrival.workload]
        conversation = self._conversations.conversation(
            workload, arrival, self._model, self._seeds[team]
        )
        return Prepared(team, arrival, conversation)

    def after(self, name: str, client: Arrival, number: int, ended: float) -> Arrival:
        """Request `number` of a client of a closed loop, whose last answer ended then."""
        team = self._scenario.teams[name]
        think = team.arrivals.think if isinstance(team.arrivals, Closed) else 0.0
        at = ended + think
        return plan.next_arrival(team, client, number, self._clients[name], at, self._seeds[name])
