"""What each alert does with the series of a situation: those of `symptoms`, `causes`, `redundancy`
and `upkeep`, of whose objectives and missing metrics `test_rules.py` makes its own."""

from typing import Final

from tests.observability import cause_cases, redundancy_cases, symptom_cases, upkeep_cases

CASES: Final = (
    *symptom_cases.CASES,
    *redundancy_cases.CASES,
    *cause_cases.CASES,
    *upkeep_cases.CASES,
)
"""Of minutes: a sample each minute."""

LONG: Final = (*cause_cases.LONG, *upkeep_cases.LONG)
"""Of a day and two hours: a sample each five minutes."""
