"""Who calls, and what they may: roles, projects, and the dependencies that routes declare. Decides nothing of
how a credential is checked; see `keys` and `oidc`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from anabranch_gateway.http.problems import Refusal

Role = Literal["viewer", "submitter", "operator"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "operator")
"""Each may what those before it may."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request. `projects` is None for all of them."""

    actor: str
    role: Role
    projects: frozenset[str] | None

    def may(self, role: Role) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)

    def sees(self, project: str) -> bool:
        return self.projects is None or project in self.projects

    def default_project(self) -> str:
        """Where a request goes that names none: the caller's one project, else `default`."""
        if self.projects is not None and len(self.projects) == 1:
            return next(iter(self.projects))
        return "default"

    def to_document(self) -> dict[str, Any]:
        projects: Any = "*" if self.projects is None else sorted(self.projects)
        return {"actor": self.actor, "role": self.role, "projects": projects}


class Authenticator(Protocol):
    """Tells who calls by the bearer token that came."""

    async def caller(self, token: str | None) -> Caller:
        """Raises Refusal 401 where the token is none that is known."""


class OpenAuthenticator:
    """Everybody is operator of every project: for one machine."""

    async def caller(self, token: str | None) -> Caller:
        return Caller("anonymous", "operator", None)


def _needs(role: Role) -> Callable[..., Awaitable[Caller]]:
    async def dependency(connection: HTTPConnection) -> Caller:
        return await admitted(connection, role)

    return dependency


async def admitted(connection: HTTPConnection, role: Role) -> Caller:
    """Who calls, if they have this role or a higher one.

    Raises:
        Refusal: 401 or 403.
    """
    caller: Caller = await connection.app.state.parts.guard.caller(token_of(connection))
    connection.state.caller = caller
    if not caller.may(role):
        detail = f"this needs the role {role}, and {caller.actor} has {caller.role}"
        raise Refusal(403, "forbidden", detail)
    return caller


def token_of(connection: HTTPConnection) -> str | None:
    """The bearer token of a request; of a WebSocket that a browser opens also the subprotocol after `bearer`,
    for a browser cannot set its headers, and a URL would end up in logs."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    offered = [each.strip() for each in connection.headers.get("sec-websocket-protocol", "").split(",")]
    if connection.scope["type"] == "websocket" and len(offered) > 1 and offered[0] == "bearer":
        return offered[1]
    return None


Viewer = Annotated[Caller, Depends(_needs("viewer"))]
Submitter = Annotated[Caller, Depends(_needs("submitter"))]
Operator = Annotated[Caller, Depends(_needs("operator"))]
