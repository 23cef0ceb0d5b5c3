"""Which teams have a label of their own in the metrics."""

from collections.abc import Iterable

from service.telemetry.contract import NONE, OTHER


class Teams:
    """The first `most` teams keep the label they get, so that a counter goes on where it was.

    Those that exist at a gateway's start come first, by name: gateways agree about them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._named: set[str] = set()
        self._unnamed: set[str] = set()

    @property
    def unnamed(self) -> int:
        """Teams seen that have no label of their own. Counted no further than to ten times the
        labels, so that this is bounded as well."""
        return len(self._unnamed)

    @property
    def names(self) -> Iterable[str]:
        """The teams that have one."""
        return sorted(self._named)

    def know(self, teams: Iterable[str]) -> None:
        """Give labels to these, as far as there are any left."""
        for team in sorted(teams):
            self.label(team)

    def label(self, team: str | None) -> str:
        """The label of a team, or of nobody."""
        if team is None:
            return NONE
        if team in self._named:
            return team
        if len(self._named) < self._most:
            self._named.add(team)
            return team
        if len(self._unnamed) < 10 * self._most:
            self._unnamed.add(team)
        return OTHER
