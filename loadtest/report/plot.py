"""A plot: a figure, and how to read it."""

from dataclasses import dataclass

from loadtest.outcome import Outcome
from loadtest.report.axes import Json


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of the report."""

    name: str
    """Its id in the page."""
    title: str
    reading: str
    """One sentence: how to read it."""
    data: list[Json]
    layout: Json
    timed: bool = False
    """Whether its x-axis is the run's time: those are zoomed together."""
    small: bool = False
    key: tuple[Outcome, ...] = ()
    """Outcomes whose looks stand above it, instead of a legend within."""

    @property
    def figure(self) -> Json:
        """As plotly takes it."""
        return {"data": self.data, "layout": self.layout}

    @property
    def drawn(self) -> bool:
        """Whether there is anything to see."""
        return any(trace.get("x") for trace in self.data)
