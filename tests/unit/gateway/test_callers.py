"""Who a command of a caller is recorded as."""

from __future__ import annotations

import pytest

from anabranch_gateway.access.callers import ANONYMOUS, Caller


@pytest.mark.parametrize(
    ("actor", "by", "recorded"),
    [(ANONYMOUS, "ann", "ann"), (ANONYMOUS, None, ANONYMOUS), ("oidc:bob", "ann", "oidc:bob")],
)
def test_a_name_in_the_body_counts_only_where_nobody_is_authenticated(
    actor: str, by: str | None, recorded: str
) -> None:
    assert Caller(actor, "operator", None).acting_as(by) == recorded
