"""API keys of a gateway for tests, with several roles and projects."""

from __future__ import annotations

from pathlib import Path

import yaml

from anabranch_gateway.access.api_keys import new_key


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


class Keys:
    """A file of keys: one for each role in the project `shop`, and others for all projects, `bank` and
    `default`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokens: dict[str, str] = {}
        entries = []
        for number, (name, role, projects) in enumerate(
            (
                ("viewer", "viewer", ["shop"]),
                ("submitter", "submitter", ["shop"]),
                ("operator", "operator", ["shop"]),
                ("root", "operator", ["*"]),
                ("bank", "submitter", ["bank"]),
                ("default", "operator", ["default"]),
            )
        ):
            self.tokens[name], key = new_key(role, projects, name, lambda count, n=number: bytes([n + 1]) * count)  # type: ignore[arg-type, misc]
            entries.append(key.to_document())
        path.write_text(yaml.safe_dump({"keys": entries}))

    def of(self, name: str) -> dict[str, str]:
        return bearer(self.tokens[name])
