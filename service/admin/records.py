"""Routes of what is recorded: use and audit."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from service.admin.schemas import Audit, AuditRow, Usage, Use
from service.database.connect import Database
from service.ledger.usage import Dimension, usage
from service.ledger.words import read_query
from service.tenants.directory import Directory

_MAX_ENTRIES = 1000
_DIMENSIONS = ", ".join(Dimension)


def routes(directory: Directory, database: Database) -> APIRouter:
    """/v1/usage and /v1/audit."""
    router = APIRouter(prefix="/v1", tags=["records"])

    @router.get("/usage")
    async def get_usage(
        team: Annotated[str | None, Query(description="of this team alone")] = None,
        key: Annotated[str | None, Query(description="of this key alone, by public id")] = None,
        model: Annotated[str | None, Query(description="on this model alone")] = None,
        since: Annotated[
            str,
            Query(
                description="from then on: 12h, 7d or 4w ago, a day (2026-08-01) in the team's time"
                " zone, or a time (2026-08-01T14:00Z, UTC unless it says otherwise)"
            ),
        ] = "30d",
        until: Annotated[
            str | None, Query(description="before then, in the same words; now if left out")
        ] = None,
        by: Annotated[
            str, Query(description=f"what to sum by, by commas, in this order: {_DIMENSIONS}")
        ] = "team",
    ) -> Usage:
        """What was used. Times count by whole hours: one that is begun counts whole."""
        now = datetime.now(UTC)
        query = read_query(now, by, since, until, team=team, key=key, model=model)
        return Usage(usage=[Use.of(row) for row in await usage(database, query)])

    @router.get("/audit")
    async def get_audit(
        limit: Annotated[int, Query(ge=1, le=_MAX_ENTRIES, description="how many")] = 100,
    ) -> Audit:
        """The last changes of teams and keys, newest first."""
        return Audit(entries=[AuditRow.of(entry) for entry in await directory.audit(limit=limit)])

    return router
