"""The keys of teams, out of the environment: a file is no place for them."""

from collections.abc import Mapping

from loadtest.errors import UserError
from loadtest.scenario.document import Scenario, Target


def variables(scenario: Scenario) -> dict[str, str]:
    """The name of the environment variable that is to hold its key, by team."""
    shared = scenario.target.key_env
    return {name: team.key_env or shared for name, team in scenario.teams.items()}


def keys(scenario: Scenario, environment: Mapping[str, str]) -> dict[str, str]:
    """By team, of those that have one.

    Raises `UserError` where a scenario names a variable that is not set. Only the one that is named
    by nobody, `OPENAI_API_KEY`, may be missing: a server may want no key.
    """
    found: dict[str, str] = {}
    for name, variable in variables(scenario).items():
        if key := environment.get(variable, "").strip():
            found[name] = key
        elif scenario.teams[name].key_env or variable != Target().key_env:
            raise UserError(f"the key of team {name} is to be in {variable}, which is not set")
    return found
