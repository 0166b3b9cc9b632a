"""Values that contradict each other are refused, with a message that says what to set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

GATEWAY = {"enabled": True, "auth": {"generateKey": True}}
POOL = {"name": "gpu"}
KEDA = {"enabled": True}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"agency": {"replicass": 3}}, "replicass", id="misspelt"),
        pytest.param({"topics": {"partitions": {"letters": 3}}}, "letters", id="unknown-topic"),
        pytest.param({"settings": {"brokers": "a:1"}}, "settings.brokers: set kafka.brokers", id="brokers"),
        pytest.param({"settings": {"bootstrap_servers": "a:1"}}, "set kafka.brokers", id="alias"),
        pytest.param(
            {"settings": {"redis_url": "redis://a"}}, "settings.redis_url: set redis.url", id="redis-url"
        ),
        pytest.param({"settings": {"redis_password": "x"}}, "settings are in a ConfigMap", id="password"),
        pytest.param({"settings": {"partitions_tasks": 3}}, "set topics.partitions.tasks", id="partitions"),
        pytest.param({"settings": {"replication_factor": 3}}, "set topics.replicationFactor", id="replication"),
        pytest.param({"settings": {"kafka_linger_ms": 3}}, 'kafka.secretProperties) "linger.ms"', id="kafka"),
        pytest.param({"kafka": {"properties": {"sasl.password": "x"}}}, "kafka.secretProperties", id="secret"),
        pytest.param(
            {"kafka": {"properties": {"a.b": 1}, "secretProperties": {"a.b": 2}}},
            'both set "a.b"',
            id="both-properties",
        ),
        pytest.param(
            {"agency": {"extraEnv": [{"name": "ANABRANCH_BROKERS", "value": "a:1"}]}},
            "agency.extraEnv sets ANABRANCH_BROKERS: set kafka.brokers",
            id="env-brokers",
        ),
        pytest.param(
            {"agency": {"extraEnv": [{"name": "A", "value": 1}]}}, "got number, want string", id="env-number"
        ),
        pytest.param(
            {"gateway": {"enabled": True}}, "gateway.enabled needs a way to know callers", id="gateway-alone"
        ),
        pytest.param(
            {"gateway": {"enabled": True, "auth": {"disabled": True, "generateKey": True}}},
            "gateway.auth.disabled opens the gateway",
            id="open-with-keys",
        ),
        pytest.param(
            {"gateway": {"enabled": True, "auth": {"existingSecret": "a", "generateKey": True}}},
            "existingSecret has the whole key file",
            id="two-key-files",
        ),
        pytest.param(
            {"gateway": {"enabled": True, "auth": {"oidc": {"issuer": "https://a"}}}},
            "oidc.audience",
            id="no-audience",
        ),
        pytest.param({"gateway": GATEWAY | {"ingress": {"enabled": True}}}, "gateway.ingress.hosts", id="no-host"),
        pytest.param(
            {"gateway": GATEWAY | {"httpRoute": {"enabled": True}}}, "httpRoute.parentRefs", id="no-parent"
        ),
        pytest.param(
            {"agency": {"terminationGracePeriodSeconds": 20}},
            "agency: terminationGracePeriodSeconds is 20, but draining takes up to 25 s, preStop 0 s and stopping "
            "5 s: set at least 30",
            id="grace",
        ),
        pytest.param({"settings": {"drain_seconds": "1m30s"}}, "set at least 95", id="grace-of-drain"),
        pytest.param({"taskgroup": {"drainSeconds": 120}}, "taskgroup: terminationGrace", id="grace-of-one"),
        pytest.param(
            {"agency": {"lifecycle": {"preStop": {"sleep": {"seconds": 50}}}}},
            "preStop 50 s",
            id="grace-of-lifecycle",
        ),
        pytest.param(
            {"taskgroup": {"pools": [POOL | {"drainSeconds": "2h"}]}},
            "taskgroup.pools gpu: termination",
            id="grace-pool",
        ),
        pytest.param({"taskgroup": {"pools": [POOL, POOL]}}, 'the pool "gpu" occurs twice', id="pool-twice"),
        pytest.param({"taskgroup": {"pools": [{"name": "default"}]}}, "is taskgroup itself", id="pool-default"),
        pytest.param({"taskgroup": {"pools": [{"name": "a.b"}]}}, "does not match pattern", id="pool-name"),
        pytest.param(
            {"taskgroup": {"autoscaling": {"enabled": True, "minReplicas": 30}}},
            "is above autoscaling.max",
            id="min-max",
        ),
        pytest.param(
            {"gateway": GATEWAY, "taskgroup": {"keda": KEDA, "autoscaling": {"enabled": True}}},
            "exclude each other",
            id="two-autoscalers",
        ),
        pytest.param(
            {"taskgroup": {"keda": KEDA}}, "set gateway.enabled, or keda.trigger: kafka", id="keda-no-gateway"
        ),
        pytest.param(
            {"gateway": {"enabled": True, "auth": {"existingSecret": "a"}}, "taskgroup": {"keda": KEDA}},
            "gateway.auth.client.existingSecret",
            id="keda-no-key",
        ),
        pytest.param(
            {"gateway": GATEWAY, "taskgroup": {"keda": KEDA | {"minReplicas": 0}}},
            "needs one TaskGroup, of any pool, that always runs",
            id="keda-from-nothing",
        ),
        pytest.param(
            {"taskgroup": {"executors": {"settings": {"executor_images": "a"}}}},
            "value of its own",
            id="executor-setting",
        ),
        pytest.param({"taskgroup": {"keda": KEDA | {"trigger": "none"}}}, "keda.triggers", id="keda-no-trigger"),
        pytest.param({"taskgroup": {"agentFiles": ["a.yaml"]}}, "set agentsConfigMap", id="relative-agent-file"),
        pytest.param(
            {"taskgroup": {"agentsConfigMap": "a", "extraEnv": [{"name": "PYTHONPATH", "value": "/a"}]}},
            "list the folders in pythonPath",
            id="python-path",
        ),
        pytest.param(
            {"taskgroup": {"programs": {"a": {"kind": "kubernetes"}}}},
            "the program a is of kind kubernetes: add it to executors.enabled",
            id="program-off",
        ),
        pytest.param(
            {"trial": {"enabled": True}, "kafka": {"brokers": "a:1"}},
            "trial.enabled brings a Kafka",
            id="trial-kafka",
        ),
        pytest.param(
            {"trial": {"enabled": True}, "redis": {"existingSecret": "a"}}, "brings a Valkey", id="trial-valkey"
        ),
        pytest.param(
            {"trial": {"enabled": True}, "topics": {"replicationFactor": 3}}, "single broker", id="trial-replicas"
        ),
    ],
)
def test_refused(helm: Callable[..., Any], values: dict[str, Any], message: str) -> None:
    done = helm(values)

    assert done.returncode != 0
    assert message in done.stderr
