"""Routes: who the caller is, and what the installation is made of."""

from __future__ import annotations

from fastapi import APIRouter, Response

from anabranch_gateway.answers import answer
from anabranch_gateway.auth import Viewer

router = APIRouter(prefix="/v1", tags=["system"])


@router.get("/whoami")
async def whoami(caller: Viewer) -> Response:
    """Who the caller is, and what they may."""
    return answer(caller.to_document())
