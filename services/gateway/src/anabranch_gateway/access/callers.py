"""Callers with their roles and projects, and the FastAPI dependencies by which routes require a role.

How a credential is checked is in `api_keys` and `oidc`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from anabranch.core.request.models import MAX_BY
from anabranch_gateway.http.problems import Refusal

Role = Literal["viewer", "submitter", "operator"]
ROLES: tuple[Role, ...] = ("viewer", "submitter", "operator")
"""In ascending order: each role has the permissions of those before it."""
ANONYMOUS = "anonymous"
"""The caller of an open gateway."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The authenticated client of a request. `projects` is None for access to every project."""

    actor: str
    role: Role
    projects: frozenset[str] | None

    def has_role(self, role: Role) -> bool:
        """True if the caller has this role or a higher one."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def acting_as(self, by: str | None) -> str:
        """Who gives a command that names `by`: that name counts only where nobody is authenticated."""
        return (by or ANONYMOUS if self.actor == ANONYMOUS else self.actor)[:MAX_BY]

    def sees(self, project: str) -> bool:
        """True if the caller has access to the project."""
        return self.projects is None or project in self.projects

    def default_project(self) -> str:
        """The project of a request that names none: the caller's only project, else `default`."""
        if self.projects is not None and len(self.projects) == 1:
            return next(iter(self.projects))
        return "default"

    def to_document(self) -> dict[str, Any]:
        projects: Any = "*" if self.projects is None else sorted(self.projects)
        return {"actor": self.actor, "role": self.role, "projects": projects}


class Authenticator(Protocol):
    """Identifies the caller of a request by its bearer token."""

    async def caller(self, token: str | None) -> Caller:
        """The caller that a token belongs to.

        Raises:
            Refusal: 401, the token is missing or not valid; 403, it names no role.
            ServerUnavailable: the issuer's keys cannot be fetched.
        """


class OpenAuthenticator:
    """Accepts every request as an operator of all projects: for a gateway that only its own machine reaches."""

    async def caller(self, token: str | None) -> Caller:
        return Caller(ANONYMOUS, "operator", None)


def _requires(role: Role) -> Callable[..., Awaitable[Caller]]:
    async def dependency(connection: HTTPConnection) -> Caller:
        return await authorize(connection, role)

    return dependency


async def authorize(connection: HTTPConnection, role: Role) -> Caller:
    """Authenticates the caller of a request and requires a role. Sets `connection.state.caller`.

    Raises:
        Refusal: 401, no valid credential; 403, the caller has only a lower role.
        ServerUnavailable: the issuer's keys cannot be fetched.
    """
    authenticator: Authenticator = connection.app.state.authenticator
    caller = await authenticator.caller(token_of(connection))
    connection.state.caller = caller
    if not caller.has_role(role):
        detail = f"this needs the role {role}, and {caller.actor} has the role {caller.role}"
        raise Refusal(403, "forbidden", detail)
    return caller


def token_of(connection: HTTPConnection) -> str | None:
    """The bearer token of a request, None if it has none.

    A WebSocket may also send it as the subprotocol after `bearer`: browsers cannot set headers of a WebSocket, and
    a token in the URL would end up in logs.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    offered = [each.strip() for each in connection.headers.get("sec-websocket-protocol", "").split(",")]
    if connection.scope["type"] == "websocket" and len(offered) > 1 and offered[0] == "bearer":
        return offered[1]
    return None


Viewer = Annotated[Caller, Depends(_requires("viewer"))]
Submitter = Annotated[Caller, Depends(_requires("submitter"))]
Operator = Annotated[Caller, Depends(_requires("operator"))]
