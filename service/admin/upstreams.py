"""The route of the replicas, as this gateway sees them."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter


def routes(replicas: Callable[[], dict[str, Any]]) -> APIRouter:
    """/v1/upstreams."""
    router = APIRouter(prefix="/v1", tags=["upstreams"])

    @router.get("/upstreams")
    async def get_upstreams() -> dict[str, Any]:
        """Models, their pools, and each replica: state, load, last error, and why it is out.

        Of this gateway: each has its own view, and counts its own requests.
        """
        return replicas()

    return router
