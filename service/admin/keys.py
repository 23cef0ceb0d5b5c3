"""Routes of keys. A token is in the answer that makes it, and in no other."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query

from service.admin.actor import Actor
from service.admin.schemas import IssuedKey, Keys, NewKey, Rotation, ShownKey
from service.admin.teams import Name
from service.tenants.directory import Directory
from service.tenants.team import TeamName

_NOW = Rotation()
_NEW = NewKey()

Id = Annotated[str, Path(pattern="^[A-Za-z0-9]{12}$", description="the key's public id")]


def routes(directory: Directory) -> APIRouter:
    """/v1/keys, and those of a team."""
    router = APIRouter(prefix="/v1", tags=["keys"])

    @router.get("/keys")
    async def list_keys(
        team: Annotated[TeamName | None, Query(description="of this team alone")] = None,
    ) -> Keys:
        """The keys, oldest first, revoked ones too."""
        return Keys(keys=[ShownKey.of(key) for key in await directory.keys(team)])

    @router.get("/teams/{name}/keys")
    async def list_keys_of_team(name: Name) -> Keys:
        """The keys of a team, oldest first, revoked ones too."""
        return Keys(keys=[ShownKey.of(key) for key in await directory.keys(name)])

    @router.post("/teams/{name}/keys", status_code=201)
    async def create_key(actor: Actor, name: Name, body: NewKey = _NEW) -> IssuedKey:
        """Make a key. Its token is in this answer and never again."""
        key, token = await directory.create_key(
            actor, name, label=body.label, expires=body.expires, limits=body.limits.value()
        )
        return IssuedKey.issued(key, token)

    @router.post("/keys/{id}/rotate", status_code=201)
    async def rotate_key(actor: Actor, id: Id, body: Rotation = _NOW) -> IssuedKey:
        """Make a key like this one, and end this one. The new token is never shown again."""
        grace = timedelta(seconds=body.grace_seconds)
        key, token = await directory.rotate_key(actor, id, grace=grace)
        return IssuedKey.issued(key, token)

    @router.post("/keys/{id}/revoke")
    async def revoke_key(actor: Actor, id: Id) -> ShownKey:
        """Refuse a key from now on, on every gateway within seconds."""
        return ShownKey.of(await directory.revoke_key(actor, id))

    return router
