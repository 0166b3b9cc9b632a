"""Deployments, pools of workers, and what scales and protects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Render = Callable[..., Any]


def test_defaults(ci: Render) -> None:
    rendered = ci("defaults")

    assert set(rendered.of("Deployment")) == {
        "check-anabranch-agency",
        "check-anabranch-eventmanager",
        "check-anabranch-taskgroup",
    }
    spec = rendered.one("Deployment", "check-anabranch-agency")["spec"]
    assert spec["replicas"] == 2
    assert spec["selector"]["matchLabels"] == {
        "app.kubernetes.io/name": "anabranch",
        "app.kubernetes.io/instance": "check",
        "app.kubernetes.io/component": "agency",
    }
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spec["revisionHistoryLimit"] == 5


def test_no_number_of_replicas_beside_an_autoscaler(ci: Render) -> None:
    for each in ci("external-autoscaler").of("Deployment").values():
        assert "replicas" not in each["spec"]
    assert "replicas" not in ci("keda").one("Deployment", "check-anabranch-taskgroup")["spec"]
    assert "replicas" not in ci("pools").one("Deployment", "check-anabranch-taskgroup-scaled")["spec"]
    assert ci("keda").one("Deployment", "check-anabranch-taskgroup-fixed")["spec"]["replicas"] == 3


def test_large_numbers_have_no_exponent(ci: Render) -> None:
    rendered = ci("large-numbers")

    assert "e+0" not in rendered.text
    data = rendered.one("ConfigMap", "check-anabranch")["data"]
    assert data["ANABRANCH_MEMBERS_LIMIT"] == "2000000"
    assert data["ANABRANCH_LOSS_WINDOW"] == "2.5"
    assert data["ANABRANCH_CREATE_TOPICS"] == "false"
    assert data["ANABRANCH_PARTITIONS_TASKS"] == "1000000"
    assert data["ANABRANCH_KAFKA_MAX_POLL_INTERVAL_MS"] == "1000000"
    assert rendered.one("Secret", "check-anabranch")["stringData"]["ANABRANCH_KAFKA_CUSTOM_NUMBER"] == "12345678"
    env = rendered.env("check-anabranch-taskgroup")
    assert (env["ANABRANCH_CONCURRENCY"], env["OTEL_TRACES_SAMPLER_ARG"]) == ("1000000", "0.1")
    assert env["OTEL_BSP_MAX_QUEUE_SIZE"] == "1000000"
    assert rendered.one("Deployment", "check-anabranch-agency")["spec"]["replicas"] == 1_000_000


def test_a_pool_takes_the_values_of_taskgroup_that_it_does_not_set(ci: Render) -> None:
    rendered = ci("pools")

    default = rendered.env("check-anabranch-taskgroup")
    assert "ANABRANCH_POOL" not in default
    assert default["ANABRANCH_AGENTS"] == "shop.agents"
    gpu = rendered.env("check-anabranch-taskgroup-gpu")
    assert gpu["ANABRANCH_POOL"] == "gpu"
    assert gpu["ANABRANCH_AGENTS"] == "shop.models"
    assert gpu["ANABRANCH_CONCURRENCY"] == "2"
    assert gpu["ANABRANCH_DRAIN_SECONDS"] == "10m"
    assert gpu["SHOP"] == "1"
    pod = rendered.one("Deployment", "check-anabranch-taskgroup-gpu")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64", "gpu": "a100"}
    assert pod["terminationGracePeriodSeconds"] == 660
    container = pod["containers"][0]
    assert container["image"] == "images.example.test/shop:7-cuda"
    assert container["resources"]["limits"] == {"memory": "2Gi", "nvidia.com/gpu": 1}
    assert container["resources"]["requests"] == {"cpu": "250m", "memory": "384Mi"}
    assert "check-anabranch-taskgroup-gpu" not in rendered.of("PodDisruptionBudget")


def test_values_of_one_pool_do_not_reach_another(ci: Render) -> None:
    rendered = ci("pools")
    names = [name for name in rendered.of("Deployment") if "quick-ones" in name]

    assert len(names) == 1
    env = rendered.env(names[0])
    assert env["ANABRANCH_POOL"] == "Quick_ones"
    assert "SHOP" not in env
    assert "ANABRANCH_CONCURRENCY" not in env
    assert rendered.one("Deployment", names[0])["spec"]["replicas"] == 0
    assert rendered.container(names[0])["image"].startswith("images.example.test/shop@sha256:")


def test_selectors_of_pools_do_not_overlap(ci: Render) -> None:
    rendered = ci("pools")
    pods = {
        name: pod["metadata"]["labels"] for name, pod in rendered.pods().items() if name.startswith("Deployment")
    }

    for each in [*rendered.of("Deployment").values(), *rendered.of("PodDisruptionBudget").values()]:
        selector = each["spec"]["selector"]["matchLabels"].items()
        assert [name for name, labels in pods.items() if selector <= labels.items()] == [
            f"Deployment/{each['metadata']['name']}"
        ]


def test_autoscaler(ci: Render) -> None:
    spec = ci("pools").one("HorizontalPodAutoscaler", "check-anabranch-taskgroup-scaled")["spec"]

    assert spec["scaleTargetRef"]["name"] == "check-anabranch-taskgroup-scaled"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 40)
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600


def test_budgets_allow_an_eviction(ci: Render) -> None:
    for name in ("defaults", "everything", "pools", "keda"):
        for each in ci(name).of("PodDisruptionBudget").values():
            assert each["spec"]["maxUnavailable"] not in (0, "0%")
            assert each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            assert "minAvailable" not in each["spec"]


def test_keda_scales_on_the_backlog_of_the_pool(ci: Render) -> None:
    rendered = ci("keda")
    spec = rendered.one("ScaledObject", "check-anabranch-taskgroup")["spec"]

    assert set(spec) == {
        "scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "fallback",
        "advanced", "triggers",
    }  # fmt: skip
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1", "kind": "Deployment", "name": "check-anabranch-taskgroup",
    }  # fmt: skip
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 50)
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "metrics-api"
    metadata = trigger["metadata"]
    assert (
        metadata["url"]
        == "http://check-anabranch-gateway.somewhere.svc:8321/v1/backlog?pool=default&member_seconds=1"
    )
    assert (metadata["targetValue"], metadata["valueLocation"]) == ("30", "worker_seconds")
    assert metadata["authMode"] == "bearer"
    assert all(isinstance(value, str) for value in metadata.values())
    login = rendered.one("TriggerAuthentication", trigger["authenticationRef"]["name"])
    assert login["spec"] == {"secretTargetRef": [{"parameter": "token", "name": "keda-key", "key": "api-key"}]}
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]["policies"]


def test_keda_scales_on_the_lag_of_the_pool(ci: Render) -> None:
    spec = ci("keda").one("ScaledObject", "check-anabranch-taskgroup-batch")["spec"]

    (trigger,) = spec["triggers"]
    assert trigger["metadata"] == {
        "bootstrapServers": "a:9093,b:9093",
        "consumerGroup": "anabranch.taskgroup-tasks.batch",
        "topic": "anabranch.tasks.batch",
        "lagThreshold": "10",
        "sasl": "scram_sha512",
        "tls": "enable",
    }
    assert trigger["authenticationRef"] == {"name": "kafka-login"}
    assert "fallback" not in spec


def test_keda_names_topics_and_groups_as_the_product_does() -> None:
    from anabranch.core.lanes import Lane
    from anabranch.core.names import Names

    assert Names("anabranch.").tasks_group(Lane("batch")) == "anabranch.taskgroup-tasks.batch"
    assert Names("anabranch.").tasks(Lane("batch")) == "anabranch.tasks.batch"


def test_keda_with_triggers_of_ones_own(ci: Render) -> None:
    rendered = ci("keda")

    assert [
        each["type"]
        for each in rendered.one("ScaledObject", "check-anabranch-taskgroup-office")["spec"]["triggers"]
    ] == ["cron"]
    assert "check-anabranch-taskgroup-fixed" not in rendered.of("ScaledObject")
    assert "check-anabranch-taskgroup-office" not in rendered.of("TriggerAuthentication")


def test_agents_of_a_config_map(ci: Render) -> None:
    rendered = ci("agents-config-map")

    env = rendered.env("check-anabranch-taskgroup")
    assert env["PYTHONPATH"] == "/etc/anabranch/agents:/opt/agents"
    assert env["ANABRANCH_AGENTS"] == "shop,more"
    assert env["ANABRANCH_AGENT_FILES"] == "/etc/anabranch/agents/programs.yaml,/opt/agents/other.yaml"
    assert env["ANABRANCH_EXECUTORS"] == "process,container"
    assert env["DATABASE_URL"] == {"secretKeyRef": {"name": "orders-db", "key": "url"}}
    mounts = {each["name"]: each for each in rendered.container("check-anabranch-taskgroup")["volumeMounts"]}
    assert mounts["agents"] == {"name": "agents", "mountPath": "/etc/anabranch/agents", "readOnly": True}


def test_jobs_have_a_role_and_a_token_only_where_they_are_on(ci: Render) -> None:
    rendered = ci("jobs")
    tokens = {name: pod["spec"]["automountServiceAccountToken"] for name, pod in rendered.pods().items()}

    assert {name for name, has_token in tokens.items() if has_token} == {
        "Deployment/check-anabranch-taskgroup-jobs",
        "Deployment/check-anabranch-taskgroup-more-jobs",
    }
    jobs = rendered.one("Deployment", "check-anabranch-taskgroup-jobs")["spec"]["template"]["spec"]
    assert jobs["serviceAccountName"] == "check-anabranch-taskgroup-jobs"
    account = rendered.one("ServiceAccount", "check-anabranch-taskgroup-jobs")
    assert account["metadata"]["annotations"] == {"example.test/role": "runner"}
    assert {each["metadata"]["namespace"] for each in rendered.of("Role").values()} == {
        "somewhere",
        "here",
        "batch",
    }
    for each in rendered.of("RoleBinding").values():
        assert each["subjects"] == [
            {"kind": "ServiceAccount", "name": "check-anabranch-taskgroup-jobs", "namespace": "somewhere"}
        ]
    for each in rendered.of("Role").values():
        assert all("*" not in rule["verbs"] + rule["resources"] for rule in each["rules"])
        assert not any("secrets" in rule["resources"] for rule in each["rules"])


@pytest.mark.parametrize("name", ["defaults", "everything", "pools", "keda", "trial"])
def test_nothing_may_use_the_api_without_jobs(ci: Render, name: str) -> None:
    rendered = ci(name)

    assert rendered.of("Role") == {}
    assert not any(pod["spec"]["automountServiceAccountToken"] for pod in rendered.pods().values())


def test_programs_are_a_file_of_agents(ci: Render) -> None:
    rendered = ci("jobs")

    env = rendered.env("check-anabranch-taskgroup-jobs")
    assert env["ANABRANCH_AGENT_FILES"] == "/etc/anabranch/programs/agents.yaml"
    assert env["ANABRANCH_EXECUTORS"] == "kubernetes"
    assert env["ANABRANCH_EXECUTOR_IMAGES"] == "images.example.test/*,other.example.test/*"
    assert env["ANABRANCH_EXECUTOR_NAMESPACES"] == "here,batch"
    assert env["ANABRANCH_KUBERNETES_OWNER"] == "apps/v1/Deployment/check-anabranch-taskgroup-jobs"
    assert env["ANABRANCH_KUBERNETES_CONCURRENCY"] == "2000000"
    data = rendered.one("ConfigMap", "check-anabranch-taskgroup-jobs-programs")["data"]
    assert "train:" in data["agents.yaml"]
    assert "resize:" not in data["agents.yaml"]
    assert "check-anabranch-taskgroup-more-jobs-programs" not in rendered.of("ConfigMap")


def test_what_applies_to_all_pods(ci: Render) -> None:
    for where, pod in ci("all-pods").pods().items():
        spec = pod["spec"]
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}, where
        assert spec["priorityClassName"] == "high", where
        assert spec["hostAliases"], where
        assert {"name": "ca", "mountPath": "/etc/ca", "readOnly": True} in spec["containers"][0]["volumeMounts"], (
            where
        )
        assert {"name": "ca", "configMap": {"name": "ca"}} in spec["volumes"], where
        assert {"name": "ANABRANCH_REDIS_CA_FILE", "value": "/etc/ca/ca.pem"} in spec["containers"][0]["env"], (
            where
        )
        assert pod["metadata"]["labels"]["team"] == "orders", where
        assert pod["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false", where


def test_labels_and_annotations_of_all_objects(ci: Render) -> None:
    for each in ci("all-pods").objects:
        if each["metadata"]["name"] in ("check-more", "check-anabranch-text"):
            continue
        assert each["metadata"]["labels"]["team"] == "orders", each
        assert each["metadata"]["annotations"]["example.test/owner"] == "orders", each


def test_values_of_one_service(ci: Render) -> None:
    rendered = ci("all-pods")
    spec = rendered.one("Deployment", "check-anabranch-agency")["spec"]

    assert (spec["revisionHistoryLimit"], spec["minReadySeconds"]) == (1, 5)
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = spec["template"]["spec"]
    assert [each["name"] for each in pod["containers"]] == ["agency", "proxy"]
    assert pod["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 10}}}
    probe = pod["containers"][0]["startupProbe"]
    assert (probe["failureThreshold"], probe["httpGet"]) == (300, {"path": "/livez", "port": "health"})
    assert pod["dnsPolicy"] == "None"
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}} in pod["volumes"]


def test_objects_of_ones_own_are_templates(ci: Render) -> None:
    maps = ci("all-pods").of("ConfigMap")

    assert maps["check-more"]["data"] == {"port": "8080"}
    assert "check-anabranch-text" in maps


def test_names_that_are_cut_are_unique(ci: Render, render: Render) -> None:
    names = set(ci("long-names").of("Deployment"))

    assert len(names) == 7
    first = render({}, release="r" * 52 + "a")
    second = render({}, release="r" * 52 + "b")
    assert not set(first.of("Deployment")) & set(second.of("Deployment"))
    assert all(len(name) == 63 or len(name) < 63 for name in first.of("Deployment"))
