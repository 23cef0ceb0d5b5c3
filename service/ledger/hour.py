"""The hour of a point in time, in SQL."""

from datetime import datetime

from sqlalchemy import ColumnElement, String, func, type_coerce

from service.database.connect import Database
from service.database.schema import UTCDateTime


def hour_of(database: Database, at: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """The start of the hour of UTC in which `at` lies."""
    if database.is_sqlite:  # text there: 2026-08-22 14:03:59.012345
        text = func.substr(at, 1, 13, type_=String()) + ":00:00.000000"
        return type_coerce(text, UTCDateTime())
    return func.date_trunc("hour", at, "UTC", type_=UTCDateTime())
