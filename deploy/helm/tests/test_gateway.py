"""The gateway: how it knows callers, and how they reach it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Render = Callable[..., Any]
NAME = "check-anabranch-gateway"


def test_a_made_key_is_one_of_the_product(ci: Render, tmp_path: Path) -> None:
    from anabranch_gateway.access.api_keys import read_keys

    data = ci("ingress").one("Secret", f"{NAME}-keys")["stringData"]
    path = tmp_path / "keys.yaml"
    path.write_text(data["keys.yaml"], encoding="utf-8")
    (key,) = read_keys(path).values()
    prefix, key_id, secret = data["api-key"].split("_", 2)

    assert (prefix, key_id) == ("anb", key.id)
    assert hashlib.sha256(secret.encode()).hexdigest() == key.sha256
    assert (key.role, key.projects) == ("operator", None)


def test_keys_become_the_key_file(ci: Render, tmp_path: Path) -> None:
    from anabranch_gateway.access.api_keys import read_keys

    rendered = ci("gateway-keys")
    path = tmp_path / "keys.yaml"
    path.write_text(rendered.one("Secret", f"{NAME}-keys")["stringData"]["keys.yaml"], encoding="utf-8")

    assert set(read_keys(path)) == {"3f9c0a1b2c3d", "000000000001"}
    assert rendered.env(NAME)["ANABRANCH_GATEWAY_KEYS"] == "/etc/anabranch/keys/keys.yaml"
    mounts = {each["name"]: each for each in rendered.container(NAME)["volumeMounts"]}
    assert mounts["gateway-keys"] == {"name": "gateway-keys", "mountPath": "/etc/anabranch/keys", "readOnly": True}


def test_an_existing_secret_has_the_key_file(ci: Render) -> None:
    rendered = ci("keda")
    volumes = {
        each["name"]: each for each in rendered.one("Deployment", NAME)["spec"]["template"]["spec"]["volumes"]
    }

    assert volumes["gateway-keys"]["secret"] == {
        "secretName": "gateway-keys",
        "items": [{"key": "keys.yaml", "path": "keys.yaml"}],
    }
    assert f"{NAME}-keys" not in rendered.of("Secret")


def test_an_issuer(ci: Render) -> None:
    env = ci("gateway-oidc").env(NAME)

    assert env["ANABRANCH_GATEWAY_OIDC_ISSUER"] == "https://login.example.org/realms/a"
    assert env["ANABRANCH_GATEWAY_OIDC_AUDIENCE"] == "anabranch"
    assert "ANABRANCH_GATEWAY_KEYS" not in env
    sources = ci("all-pods").container(NAME)["envFrom"]
    assert {"secretRef": {"name": "oidc"}} in sources


def test_a_gateway_without_authentication_accepts_its_names(ci: Render) -> None:
    from anabranch_gateway.http.hosts import Hosts

    env = ci("gateway-open").env(NAME)
    hosts = Hosts.parse(env["ANABRANCH_GATEWAY_ALLOWED_HOSTS"].split(","))

    assert env["ANABRANCH_GATEWAY_AUTH"] == "none"
    assert f"{NAME}.somewhere.svc" in hosts.names
    assert not hosts.everything


def test_allowed_hosts_include_those_of_the_route(ci: Render) -> None:
    hosts = ci("gateway-oidc").env(NAME)["ANABRANCH_GATEWAY_ALLOWED_HOSTS"].split(",")

    assert {"10.0.0.0/8", "anabranch.example.org", NAME} <= set(hosts)


def test_the_service(ci: Render) -> None:
    rendered = ci("gateway-keys")
    service = rendered.one("Service", NAME)

    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert service["metadata"]["annotations"] == {"example.test/internal": "true"}
    assert {"name": "http", "containerPort": 9321, "protocol": "TCP"} in rendered.container(NAME)["ports"]
    assert ci("gateway-open").one("Service", NAME)["spec"]["ports"][0]["nodePort"] == 30321


def test_the_ingress(ci: Render) -> None:
    spec = ci("ingress").one("Ingress", NAME)["spec"]
    backend = {"service": {"name": NAME, "port": {"name": "http"}}}

    assert spec["ingressClassName"] == "nginx"
    assert spec["rules"] == [
        {
            "host": "anabranch.example.org",
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
        },
        {
            "host": "other.example.org",
            "http": {"paths": [{"path": "/v1", "pathType": "Exact", "backend": backend}]},
        },
    ]
    assert spec["tls"][0]["secretName"] == "anabranch-tls"


def test_the_route(ci: Render) -> None:
    route = ci("gateway-oidc").one("HTTPRoute", NAME)

    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"] == {
        "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
        "hostnames": ["anabranch.example.org"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "timeouts": {"request": "0s"},
                "backendRefs": [{"name": NAME, "port": 8321}],
            }
        ],
    }


def test_it_stops_after_proxies_know(ci: Render) -> None:
    assert ci("gateway-keys").container(NAME)["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}


def test_helm_test_calls_the_gateway_with_a_key(ci: Render) -> None:
    rendered = ci("gateway-keys")
    pod = rendered.one("Pod", "check-anabranch-test-request")
    env = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert env["CHECK_GATEWAY"]["value"] == f"http://{NAME}.somewhere.svc:80"
    assert env["CHECK_API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "test-key", "key": "token"}


def test_helm_test_without_a_gateway_uses_kafka(ci: Render) -> None:
    pod = ci("defaults").one("Pod", "check-anabranch-test-request")

    assert all(each["name"] != "CHECK_GATEWAY" for each in pod["spec"]["containers"][0]["env"])


def test_its_request_is_one_of_the_product(ci: Render) -> None:
    from anabranch.core.request.admission import parse_request

    text = ci("defaults").one("ConfigMap", "check-anabranch-tests")["data"]["request.json"]

    assert parse_request(text).errors == ()
