"""Authentication at the gateway: keys, OIDC tokens, roles, projects, the audit log, foreign web pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from gateway_keys import Keys, bearer
from gateways import HELLO, Running, gateway, one_task
from waiting import eventually_true

from anabranch import Misconfigured
from anabranch.cli.main import main
from anabranch.core.project import project_problem
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.access.api_keys import KeyRing, read_keys
from anabranch_gateway.access.authenticators import authenticator_of
from anabranch_gateway.http.hosts import is_loopback

AUDIENCE = "anabranch"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.yaml")


@pytest.fixture
def guarded(keys: Keys) -> Settings:
    return Settings(gateway_keys=str(keys.path))


async def test_a_missing_or_wrong_key_is_refused_on_every_route(guarded: Settings) -> None:
    async with gateway(guarded) as running:
        none = await running.http.get("/v1/runs")
        wrong = await running.http.get("/v1/runs", headers=bearer("anb_010101010101_AAAA"))
        foreign = await running.http.get("/v1/runs", headers=bearer("a.b.c"))
        public = [
            (await running.http.get(path)).status_code for path in ("/", "/livez", "/readyz", "/openapi.json")
        ]

    assert [each.status_code for each in (none, wrong, foreign)] == [401, 401, 401]
    assert none.headers["www-authenticate"] == "Bearer"
    assert none.json()["code"] == "unauthorized"
    assert public == [200, 200, 200, 200]


async def test_each_role_has_exactly_its_permissions(guarded: Settings, keys: Keys) -> None:
    async with gateway(guarded) as running:
        await running.submit({**HELLO, "request_id": "r1"}, **keys.of("submitter"))
        asked = {
            "look": ("GET", "/v1/runs/r1"),
            "submit": ("POST", "/v1/plan"),
            "decide": ("POST", "/v1/dead-letters/dismiss"),
            "read acts": ("GET", "/v1/audit"),
        }
        may = {
            name: {
                what
                for what, (method, path) in asked.items()
                if (await running.http.request(method, path, headers=keys.of(name), json={})).status_code != 403
            }
            for name in ("viewer", "submitter", "operator")
        }

    assert may == {
        "viewer": {"look"},
        "submitter": {"look", "submit"},
        "operator": {"look", "submit", "decide", "read acts"},
    }


async def test_a_project_sees_its_own_runs_only(guarded: Settings, keys: Keys) -> None:
    async with gateway(guarded) as running:
        of_shop = await running.submit({**HELLO, "request_id": "r1"}, **keys.of("submitter"))
        await running.submit({**one_task(), "request_id": "r2"}, **keys.of("bank"))
        await eventually_true(lambda: _listed(running, keys.of("root"), 2))

        hidden = [
            (await running.http.get(f"/v1/runs/r1{path}", headers=keys.of("bank"))).status_code
            for path in ("", "/result", "/results/letter", "/events", "/graph", "/request", "/why", "/logs")
        ]
        stopped = await running.http.post("/v1/runs/r1/cancel", headers=keys.of("bank"))
        listed = (await running.http.get("/v1/runs", headers=keys.of("bank"))).json()["runs"]
        forced = await running.submit({**one_task(), "project": "shop"}, **keys.of("bank"))
        view = (await running.http.get("/v1/runs/r1", headers=keys.of("viewer"))).json()

    assert of_shop.status_code == 200
    assert view["project"] == "shop"
    assert set(hidden) == {404}
    assert stopped.status_code == 404
    assert [each["request_id"] for each in listed] == ["r2"]
    assert (forced.status_code, forced.json()["code"]) == (403, "forbidden")


async def test_a_session_belongs_to_the_project_that_named_it_first(guarded: Settings, keys: Keys) -> None:
    async with gateway(guarded) as running:
        first = await running.submit({**one_task(), "session_id": "s1"}, **keys.of("submitter"))
        other = await running.submit({**one_task(), "session_id": "s1"}, **keys.of("bank"))
        own = await running.submit({**HELLO, "request_id": "r1"}, **keys.of("submitter"))
        of_run = await running.submit({**one_task(), "session_id": own.json()["run_id"]}, **keys.of("bank"))

    assert first.status_code == 200
    assert (other.status_code, other.json()["code"]) == (409, "session_of_another_project")
    assert (of_run.status_code, of_run.json()["code"]) == (409, "session_of_another_project")


async def test_the_agency_refuses_the_session_of_another_project_from_any_client() -> None:
    """On Kafka there is no gateway in between."""
    async with gateway() as running:
        first = await running.system.client.submit({**one_task(), "session_id": "s1", "project": "shop"})
        await first.result(20)
        second = await running.system.client.submit({**one_task(), "session_id": "s1", "project": "bank"})

        refused = await second.result(20)

    assert [error["code"] for error in refused.errors] == ["session_of_another_project"]


async def test_the_audit_log_has_the_actions_of_callers(guarded: Settings, keys: Keys) -> None:
    async with gateway(guarded) as running:
        await running.submit({**one_task(), "request_id": "r1"}, **keys.of("submitter"))
        await running.http.post("/v1/runs/r1/cancel", headers=keys.of("viewer"))
        await running.http.post("/v1/runs/r1/cancel", headers=keys.of("bank"))

        async def noted() -> bool:
            records = (await running.http.get("/v1/audit", headers=keys.of("root"))).json()["records"]
            return len(records) == 3

        await eventually_true(noted)
        first = (await running.http.get("/v1/audit?limit=2", headers=keys.of("root"))).json()
        rest = (await running.http.get(f"/v1/audit?cursor={first['next_cursor']}", headers=keys.of("root"))).json()
        own = (await running.http.get("/v1/audit", headers=keys.of("operator"))).json()

    acts = [*first["records"], *rest["records"]]
    assert [(each["action"], each["outcome"], each["detail"]) for each in acts] == [
        ("cancel", "refused", "not_found"),
        ("cancel", "refused", "forbidden"),
        ("submit", "done", None),
    ]
    assert acts[2] | {"time": ""} == {
        "time": "",
        "actor": f"key:{keys.tokens['submitter'].split('_')[1]}",
        "role": "submitter",
        "project": "shop",
        "action": "submit",
        "run_id": acts[2]["run_id"],
        "request_id": "r1",
        "outcome": "done",
        "detail": None,
        "remote": "127.0.0.1",
    }
    assert [each["action"] for each in own["records"]] == ["submit"]
    assert rest["next_cursor"] is None


# --- keys ------------------------------------------------------------------------------------------


def test_a_key_is_made_once_and_only_its_hash_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["keys", "create", "--project", "shop", "--role", "viewer", "--name", "wall", "--json"])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["key"].startswith(f"anb_{document['entry']['id']}_")
    assert document["entry"] | {"id": "", "sha256": ""} == {
        "id": "",
        "sha256": "",
        "role": "viewer",
        "projects": ["shop"],
        "name": "wall",
    }
    assert document["key"].split("_", 2)[2] not in json.dumps(document["entry"])


def test_an_invalid_role_or_project_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "create", "--role", "king"]) == 2
    assert main(["keys", "create", "--project", "a b"]) == 2
    assert "a b" in capsys.readouterr().err


def test_a_key_removed_from_the_file_is_refused_without_a_restart(keys: Keys) -> None:
    warned: list[str] = []
    clock = _Clock()
    ring = KeyRing.load(str(keys.path), clock, warned.append)
    assert ring.caller(keys.tokens["bank"]) is not None

    keys.path.write_text("keys: []")
    clock.at += 10
    assert ring.caller(keys.tokens["bank"]) is None

    keys.path.write_text("no keys")
    clock.at += 10
    assert ring.caller(keys.tokens["bank"]) is None
    assert len(warned) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys: 1",
        "keys: [{id: a}]",
        "keys: [{id: a, sha256: b, role: viewer, projects: []}]",
        f"keys: [{{id: a, sha256: '{'0' * 64}', role: king, projects: []}}]",
        f"keys: [{{id: a, sha256: '{'0' * 64}', role: viewer, projects: ['a b']}}]",
        "keys: {",
    ],
)
def test_an_invalid_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)

    with pytest.raises(Misconfigured):
        read_keys(path)


# --- an issuer of tokens ----------------------------------------------------------------------------


class IdentityProvider:
    """Serves a discovery document and a set of keys on loopback, and signs."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65_537, 2_048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        self._keys = {"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = {
                    "/.well-known/openid-configuration": {"jwks_uri": f"{provider.url}/keys"},
                    "/keys": provider._keys,
                }
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(found[self.path]).encode())

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def token(self, key: Any = None, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> str:
        now = SystemClock().now()
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada",
            "exp": now + 600,
            "anabranch_role": "submitter",
            "anabranch_projects": ["shop"],
        }
        claims |= changes
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, key or self.key, algorithm, headers={"kid": kid})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    yield provider
    provider.stop()


async def test_a_token_of_the_issuer_identifies_the_caller(provider: IdentityProvider) -> None:
    settings = Settings(gateway_oidc_issuer=provider.url, gateway_oidc_audience=AUDIENCE)

    async with gateway(settings, token=provider.token()) as running:
        who = await running.get("/v1/whoami")
        everything = provider.token(anabranch_role="operator", anabranch_projects="*")
        other = (await running.http.get("/v1/whoami", headers=bearer(everything))).json()

    assert who == {"actor": "oidc:ada", "role": "submitter", "projects": ["shop"]}
    assert (other["role"], other["projects"]) == ("operator", "*")


async def test_a_token_that_is_not_valid_is_refused(provider: IdentityProvider) -> None:
    authenticator = authenticator_of(
        Settings(gateway_oidc_issuer=provider.url, gateway_oidc_audience=AUDIENCE), SystemClock()
    )
    now = SystemClock().now()
    stranger = rsa.generate_private_key(65_537, 2_048)
    wrong = {
        "expired": provider.token(exp=now - 100),
        "not yet": provider.token(nbf=now + 100),
        "other audience": provider.token(aud="other"),
        "other issuer": provider.token(iss="http://other"),
        "no end": provider.token(exp=None),
        "other key": provider.token(stranger),
        "unknown key": provider.token(kid="k2"),
        "shared secret": provider.token("0" * 64, "HS256"),
        "unsigned": jwt.encode({"sub": "ada"}, "", "none"),
        "no token": "a.b.c",
    }

    statuses = {}
    for name, token in wrong.items():
        with pytest.raises(Exception) as refusal:  # noqa: PT011 - the status is looked at below
            await authenticator.caller(token)
        statuses[name] = getattr(refusal.value, "status", refusal.value)

    assert statuses == dict.fromkeys(wrong, 401)
    with pytest.raises(Exception, match="must be one of viewer"):
        await authenticator.caller(provider.token(anabranch_role=None))


# --- open gateways ----------------------------------------------------------------------------------


def test_a_gateway_without_credentials_binds_to_loopback_only_unless_configured(keys: Keys) -> None:
    clock = SystemClock()

    with pytest.raises(Misconfigured, match="open beyond this machine"):
        authenticator_of(Settings(gateway_host="0.0.0.0"), clock)
    with pytest.raises(Misconfigured, match="audience"):
        authenticator_of(Settings(gateway_oidc_issuer="https://id.example"), clock)
    with pytest.raises(Misconfigured, match="none"):
        authenticator_of(Settings(gateway_keys=str(keys.path), gateway_auth="none"), clock)
    assert authenticator_of(Settings(gateway_host="0.0.0.0", gateway_auth="none"), clock)
    assert authenticator_of(Settings(gateway_host="0.0.0.0", gateway_keys=str(keys.path)), clock)


async def test_a_foreign_web_page_may_not_use_an_open_gateway() -> None:
    async with gateway(replace(Settings(), gateway_origins=("https://friend.example",))) as running:
        own = running.service.url.rstrip("/")
        codes = {
            name: (await running.http.post("/v1/plan", json=HELLO, headers=headers)).status_code
            for name, headers in {
                "no page": {},
                "own": {"origin": own},
                "friend": {"origin": "https://friend.example"},
                "stranger": {"origin": "https://stranger.example"},
                "sandboxed": {"origin": "null"},
                "bent name": {"host": "stranger.example"},
            }.items()
        }

    assert codes == {
        "no page": 200,
        "own": 200,
        "friend": 200,
        "stranger": 403,
        "sandboxed": 403,
        "bent name": 403,
    }


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("[::1]", True),
        ("127.9.9.9", True),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_only_this_machine_reaches_a_loopback_host(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here


@pytest.mark.parametrize(
    ("name", "is_one"), [("a", True), ("a.b_c~d-1", True), ("", False), ("a b", False), ("ä", False)]
)
def test_a_project_is_a_plain_word(name: str, is_one: bool) -> None:
    assert (project_problem(name) is None) is is_one


class _Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


async def _listed(running: Running, headers: dict[str, str], count: int) -> bool:
    runs = (await running.http.get("/v1/runs", headers=headers)).json()["runs"]
    return len(runs) == count
