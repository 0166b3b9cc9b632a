"""Network policies, monitoring and the servers for trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Render = Callable[..., Any]


def ports(rules: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {(port["protocol"], port["port"]) for rule in rules for port in rule.get("ports", ())}


def test_policies_let_through_what_the_services_need(ci: Render) -> None:
    policies = ci("network-policies").of("NetworkPolicy")
    every = policies["check-anabranch"]["spec"]

    assert ports(every["egress"]) == {
        ("UDP", 53), ("TCP", 53), ("TCP", 9093), ("TCP", 9094), ("TCP", 6380), ("TCP", 4318), ("TCP", 8321),
    }  # fmt: skip
    assert ports(every["ingress"]) == {("TCP", 8080)}
    assert every["ingress"][0]["from"][0]["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/name": "prometheus"}
    }
    assert every["podSelector"]["matchLabels"].keys() == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}
    kafka = next(rule for rule in every["egress"] if {"port": 9093, "protocol": "TCP"} in rule["ports"])
    assert kafka["to"] == [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert all(set(each["spec"]["policyTypes"]) for each in policies.values())


def test_only_workers_reach_databases_and_only_those_with_jobs_the_api(ci: Render) -> None:
    policies = ci("network-policies").of("NetworkPolicy")
    workers, jobs = policies["check-anabranch-workers"]["spec"], policies["check-anabranch-jobs"]["spec"]

    assert ports(workers["egress"]) == {("TCP", 5432), ("TCP", 443)}
    assert workers["podSelector"]["matchExpressions"][0]["values"] == ["taskgroup", "taskgroup-jobs"]
    assert ports(jobs["egress"]) == {("TCP", 443)}
    assert jobs["podSelector"]["matchExpressions"][0]["values"] == ["taskgroup-jobs"]


def test_callers_of_the_gateway(ci: Render) -> None:
    (rule,) = ci("network-policies").one("NetworkPolicy", "check-anabranch-gateway")["spec"]["ingress"]

    assert ports([rule]) == {("TCP", 8321)}
    assert len(rule["from"]) == 2
    (open_to_all,) = ci("long-names").of("NetworkPolicy").values().__iter__().__next__()["spec"]["ingress"]
    assert "from" not in open_to_all


def test_monitors_scrape_the_health_port(ci: Render) -> None:
    rendered = ci("monitoring")

    (endpoint,) = rendered.one("PodMonitor", "check-anabranch")["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"], endpoint["interval"]) == ("health", "/metrics", "15s")
    assert rendered.one("PodMonitor", "check-anabranch")["metadata"]["labels"]["release"] == "prometheus"
    monitor = rendered.one("ServiceMonitor", "check-anabranch")["spec"]
    service = rendered.one("Service", "check-anabranch-metrics")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_alert_rules(ci: Render) -> None:
    rule = ci("monitoring").one("PrometheusRule", "check-anabranch")
    groups = {group["name"]: [each["alert"] for each in group["rules"]] for group in rule["spec"]["groups"]}

    assert "AnabranchNoOwner" in groups["anabranch"]
    assert "AnabranchSlowJoins" not in groups["anabranch"]
    assert groups["ours"] == ["Ours"]
    texts = [each["annotations"]["summary"] for each in rule["spec"]["groups"][0]["rules"]]
    assert any("{{ $labels.topic }}" in text for text in texts)


def test_the_dashboard(ci: Render) -> None:
    import json

    board = ci("monitoring").one("ConfigMap", "grafana/check-anabranch-dashboard")

    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["anabranch.json"])["panels"]


def test_the_servers_for_trials(ci: Render) -> None:
    rendered = ci("trial")
    data = rendered.one("ConfigMap", "check-anabranch")["data"]

    assert data["ANABRANCH_BROKERS"] == "check-anabranch-trial-kafka:9092"
    assert rendered.one("Secret", "check-anabranch")["stringData"]["ANABRANCH_REDIS_URL"] == (
        "redis://check-anabranch-trial-valkey:6379/0"
    )
    kafka = rendered.one("StatefulSet", "check-anabranch-trial-kafka")["spec"]
    assert kafka["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    env = {each["name"]: each["value"] for each in kafka["template"]["spec"]["containers"][0]["env"]}
    assert env["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://check-anabranch-trial-kafka:9092"
    assert env["KAFKA_LOG_SEGMENT_BYTES"] == "104857600"
    valkey = rendered.one("StatefulSet", "check-anabranch-trial-valkey")["spec"]["template"]["spec"]
    assert "noeviction" in valkey["containers"][0]["args"]
