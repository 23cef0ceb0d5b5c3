"""Routes of teams."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import ValidationError

from service.admin.actor import Actor
from service.admin.schemas import Deleted, NamedTeam, TeamPatch, Teams
from service.errors import UserError
from service.tenants.directory import Directory
from service.tenants.document import TeamDocument, fault
from service.tenants.team import TeamName

Name = Annotated[TeamName, Path(description="the team's name")]


def routes(directory: Directory) -> APIRouter:
    """/v1/teams."""
    router = APIRouter(prefix="/v1/teams", tags=["teams"])

    @router.get("")
    async def list_teams() -> Teams:
        """All teams, by name."""
        return Teams(teams=[NamedTeam.shown(team) for team in await directory.teams()])

    @router.post("", status_code=201)
    async def create_team(actor: Actor, body: NamedTeam) -> NamedTeam:
        """Make a team; 409 where it exists."""
        team = body.team(body.name)
        await directory.create_team(actor, team)
        return NamedTeam.shown(team)

    @router.get("/{name}")
    async def get_team(name: Name) -> NamedTeam:
        """One team."""
        return NamedTeam.shown(await directory.team(name))

    @router.put("/{name}")
    async def replace_team(actor: Actor, name: Name, body: TeamDocument) -> NamedTeam:
        """Replace a team: what is left out gets its default. It must exist."""
        _, after = await directory.change_team(actor, name, lambda _: body.team(name))
        return NamedTeam.shown(after)

    @router.patch("/{name}")
    async def change_team(actor: Actor, name: Name, body: TeamPatch) -> NamedTeam:
        """Change what is given, and nothing else; null lifts a limit."""
        patch = body.model_dump(mode="json", exclude_unset=True)
        try:
            _, after = await directory.change_team(
                actor, name, lambda team: TeamDocument.of(team).patched(patch).team(name)
            )
        except ValidationError as error:
            where, what = fault(error)
            raise UserError(f"{'.'.join(map(str, where))}: {what}") from None
        return NamedTeam.shown(after)

    @router.delete("/{name}")
    async def delete_team(actor: Actor, name: Name) -> Deleted:
        """Delete a team and revoke its keys. Its use stays in the ledger."""
        return Deleted(name=name, revoked_keys=await directory.delete_team(actor, name))

    return router
