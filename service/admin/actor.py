"""Who asks, for the audit log."""

from typing import Annotated

from fastapi import Depends, Header


async def _actor(
    x_actor: Annotated[
        str | None,
        Header(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9@._+-]{0,63}$",
            description="who is behind the request; kept in the audit log, believed as it is said",
        ),
    ] = None,
) -> str:
    return f"admin-api:{x_actor}" if x_actor else "admin-api"


Actor = Annotated[str, Depends(_actor)]
