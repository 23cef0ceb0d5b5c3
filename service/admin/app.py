"""The admin API as an ASGI app; whoever serves it opens the database and the port."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer
from pydantic import SecretStr

from service.admin import keys, problems, records, teams, upstreams
from service.admin.guard import MAX_BODY_BYTES, Guard, refuse_weak
from service.database.connect import Database
from service.tenants.directory import Directory

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": problems.Problem, "description": text}
    for status, text in {
        401: "no admin token, or a wrong one",
        404: "there is no such team or key",
        409: "it exists already, or can no longer be changed",
        413: "the body is too large",
        422: "the request is not as described",
        503: "the database cannot be used now",
    }.items()
}


def create_app(
    directory: Directory,
    database: Database,
    token: SecretStr,
    replicas: Callable[[], dict[str, Any]] = dict,
    *,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> FastAPI:
    """The API over these teams, this ledger and these `replicas`, for who holds `token`.

    `/openapi.json` describes it, to those who hold the token too. The pages that draw it are off:
    they load scripts from elsewhere, into a browser that holds the token.
    Raises UserError for a token that is empty or weak.
    """
    refuse_weak(token)
    app = FastAPI(
        title="gptoss admin",
        version=version("gptoss-serving"),
        description="Teams, keys, limits, use and audit of a gptoss deployment.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_PROBLEMS,
        # Describes the credential; `Guard` is what asks for it.
        dependencies=[Depends(HTTPBearer(auto_error=False, description="GPTOSS_ADMIN__TOKEN"))],
    )
    problems.install(app)
    app.include_router(teams.routes(directory))
    app.include_router(keys.routes(directory))
    app.include_router(records.routes(directory, database))
    app.include_router(upstreams.routes(replicas))
    app.add_middleware(Guard, token=token, max_body_bytes=max_body_bytes)
    return app
