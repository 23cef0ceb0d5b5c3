"""The tables. `migrations/` makes them; a test holds the two against each other."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time. SQLite has no time zones: there it is kept as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Always UTC, so that SQLite's text sorts as time does."""
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware, whichever database."""
        if value is None or value.tzinfo is not None:
            return value  # type: ignore[no-any-return]
        return value.replace(tzinfo=UTC)  # type: ignore[no-any-return]


# One row. Every change of a team or key takes the next number in the same transaction; the row's
# lock makes their commits follow the numbers, so that a reader who has seen n has seen all before.
revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

teams = Table(
    "teams",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("tier", String(16), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("limits", JSON, nullable=False),
    Column("model_limits", JSON, nullable=False),
    Column("default_output", Integer, nullable=False),
    Column("isolate_cache", Boolean, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("cache_salt", String(64), nullable=False),
    Column("created", UTCDateTime, nullable=False),
    Column("deleted", UTCDateTime),  # the row stays: the ledger names it
    Column("revision", BigInteger, nullable=False, index=True),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("team", String(63), ForeignKey("teams.name"), nullable=False, index=True),
    Column("digest", LargeBinary(32), nullable=False),  # SHA-256 of the token
    Column("label", String(100), nullable=False),
    Column("limits", JSON, nullable=False),
    Column("created", UTCDateTime, nullable=False),
    Column("expires", UTCDateTime),
    Column("revoked", UTCDateTime),
    Column("revision", BigInteger, nullable=False, index=True),
)

# Append-only: triggers refuse UPDATE and DELETE.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", UTCDateTime, nullable=False, index=True),
    Column("actor", String(200), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("change", JSON, nullable=False),
)

_DIMENSIONS = (("team", 63), ("key", 80), ("model", 100), ("route", 20), ("settlement", 12))
_SUMS = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")


def _sums() -> list[Column[Any]]:
    return [Column(name, BigInteger, nullable=False) for name in _SUMS]


# A line per request, for as long as the retention says.
usage = Table(
    "usage",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at", UTCDateTime, nullable=False),
    Column("day", String(10), nullable=False),
    *(Column(name, String(size), nullable=False) for name, size in _DIMENSIONS),
    Column("outcome", String(64), nullable=False),
    *_sums(),
    Column("seconds", Float, nullable=False),
    Index(None, "team", "at"),
    Index(None, "at"),
)


def _rollup(name: str, period: Column[Any]) -> Table:
    """Sums of `usage`, into which its rows are folded when they leave."""
    return Table(
        name,
        metadata,
        period,
        Column("day", String(10), primary_key=True),
        *(Column(name, String(size), primary_key=True) for name, size in _DIMENSIONS),
        Column("requests", BigInteger, nullable=False),
        *_sums(),
        Column("seconds", Float, nullable=False),
    )


usage_hourly = _rollup("usage_hourly", Column("hour", UTCDateTime, primary_key=True))
usage_daily = Table(
    "usage_daily",
    metadata,
    Column("day", String(10), primary_key=True),
    *(Column(name, String(size), primary_key=True) for name, size in _DIMENSIONS),
    Column("requests", BigInteger, nullable=False),
    *_sums(),
    Column("seconds", Float, nullable=False),
)
