"""Settings: one name in three sources, their precedence, refused values, and secrets."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from anabranch.adapters.redis.connection import RedisAddress
from anabranch.core.errors import Misconfigured
from anabranch.runtime.process.settings import Settings


def _file(tmp_path: Path, text: str, name: str = "anabranch.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_defaults_need_no_source() -> None:
    settings = Settings.load({}, overrides={})

    assert settings.brokers == "localhost:9092"
    assert settings.prefix == "anabranch."
    assert settings.health_port is None
    assert settings.partitions_of("dead-letters") == 3


def test_an_option_overrides_the_environment_which_overrides_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, "brokers: file:1\nprefix: file.\nconcurrency: 3\n")

    settings = Settings.load(
        {"ANABRANCH_PREFIX": "env.", "ANABRANCH_CONCURRENCY": "5"}, path, {"concurrency": 7, "brokers": None}
    )

    assert (settings.brokers, settings.prefix, settings.concurrency) == ("file:1", "env.", 7)


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    path = _file(tmp_path, 'agents = ["a.b", "c"]\nresult_ttl = "2h"\n', "settings.toml")

    settings = Settings.load({"ANABRANCH_CONFIG": str(path)})

    assert settings.agents == ("a.b", "c")
    assert settings.result_ttl == 7200


def test_a_file_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, "kafka_security_protocol: SSL\n")
    monkeypatch.chdir(tmp_path)

    assert Settings.load({}).kafka_properties == {"security.protocol": "SSL"}


def test_bootstrap_servers_is_another_name_of_brokers() -> None:
    assert Settings.load({"ANABRANCH_BOOTSTRAP_SERVERS": "k:1, l:2"}).brokers == "k:1,l:2"


def test_two_names_of_one_setting_must_agree() -> None:
    with pytest.raises(Misconfigured, match="has another value than ANABRANCH_B"):
        Settings.load({"ANABRANCH_BROKERS": "a:1", "ANABRANCH_BOOTSTRAP_SERVERS": "b:1"})


def test_kafka_properties_keep_their_own_names() -> None:
    settings = Settings.load(
        {"ANABRANCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "ANABRANCH_KAFKA_SASL_PASSWORD": "p"}
    )

    assert settings.kafka_properties == {"security.protocol": "SASL_SSL", "sasl.password": "p"}


def test_variables_of_a_kubernetes_service_are_not_kafka_properties() -> None:
    settings = Settings.load(
        {
            "ANABRANCH_KAFKA_SERVICE_HOST": "10.0.0.1",
            "ANABRANCH_KAFKA_SERVICE_PORT_BROKER": "9092",
            "ANABRANCH_KAFKA_PORT": "tcp://10.0.0.1:9092",
            "ANABRANCH_KAFKA_PORT_9092_TCP_ADDR": "10.0.0.1",
        }
    )

    assert settings.kafka_properties == {}


def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = _file(tmp_path, "broker: a:1\n")

    with pytest.raises(Misconfigured, match=r"anabranch\.yaml: broker: .*did you mean brokers\?"):
        Settings.load({}, path)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("ANABRANCH_CONCURRENCY", "0", "1 or more"),
        ("ANABRANCH_CONCURRENCY", "many", "is not an integer"),
        ("ANABRANCH_HEALTH_PORT", "70000", "0 to 65535"),
        ("ANABRANCH_RESULT_TTL", "a day", "not a duration"),
        ("ANABRANCH_PREFIX", "a b", "cannot start a topic"),
        ("ANABRANCH_REDIS_URL", "localhost:6379", "not a Redis URL"),
        ("ANABRANCH_REDIS_CA_FILE", "/nowhere/ca.pem", "no file"),
        ("ANABRANCH_LOG_LEVEL", "loud", "LOUD"),
        ("ANABRANCH_CREATE_TOPICS", "perhaps", "neither true nor false"),
    ],
)
def test_an_invalid_value_is_refused_with_the_name_of_its_setting(variable: str, value: str, message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Settings.load({variable: value})

    assert refused.value.setting == variable
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "brokers: a\n  b: c\n"])
def test_a_file_that_is_not_a_mapping_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(Misconfigured, match=r"anabranch\.yaml"):
        Settings.load({}, _file(tmp_path, text))


def test_a_missing_file_is_refused_with_its_name() -> None:
    with pytest.raises(Misconfigured, match=r"/nowhere/a\.yaml: cannot be read"):
        Settings.load({"ANABRANCH_CONFIG": "/nowhere/a.yaml"})


def test_one_partition_count_is_for_all_topics_and_a_topics_own_overrides_it() -> None:
    settings = Settings.load({"ANABRANCH_PARTITIONS": "4", "ANABRANCH_PARTITIONS_TASKS": "8"})

    assert settings.partitions_of("tasks") == 8
    assert settings.partitions_of("dead-letters") == 4
    assert settings.partitions_of("definitions") == 1, "it is read as a whole, in one order"


def test_no_secret_is_in_the_repr() -> None:
    settings = Settings.load(
        {
            "ANABRANCH_REDIS_URL": "rediss://user:hunter2@redis:6379/1?password=hunter2",
            "ANABRANCH_REDIS_PASSWORD": "hunter2",
            "ANABRANCH_KAFKA_SASL_PASSWORD": "hunter2",
            "ANABRANCH_KAFKA_SASL_USERNAME": "me",
        }
    )

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.shown())
    assert "rediss://user:***@redis:6379/1" in repr(settings)
    assert "'sasl.username': 'me'" in repr(settings)


def test_the_refusal_of_a_value_does_not_contain_its_password() -> None:
    with pytest.raises(Misconfigured) as refused:
        Settings.load({"ANABRANCH_REDIS_URL": "http://user:hunter2@redis"})

    assert "hunter2" not in str(refused.value)


def test_a_variable_that_looks_like_a_setting_is_found() -> None:
    names = ["BROKER", "REDIS_ULR", "PREFIXES", "BROKERS", "CONFIG", "KAFKA_ACKS", "BOOTSTRAP_SERVERS", "MY_OWN"]
    environ = {f"ANABRANCH_{name}": "x" for name in names} | {"BROKER": "x"}

    assert Settings.misspelt(environ) == {
        "ANABRANCH_BROKER": "ANABRANCH_BROKERS",
        "ANABRANCH_REDIS_ULR": "ANABRANCH_REDIS_URL",
        "ANABRANCH_PREFIXES": "ANABRANCH_PREFIX",
    }


def test_variables_of_kubernetes_services_are_not_misspellings() -> None:
    services = ("AGENCY", "TASKGROUP", "EVENTMANAGER", "KAFKA", "REDIS", "VALKEY")
    links = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_6379_TCP", "PORT_6379_TCP_ADDR")

    assert Settings.misspelt({f"ANABRANCH_{name}_{link}": "x" for name in services for link in links}) == {}


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://h/abc", "database 'abc'"),
        ("redis://h/1/2", "database '1/2'"),
        ("redis://h/-1", "database '-1'"),
        ("rediss://user:pw@h:6380/0x", "database '0x'"),
        ("redis://h/\u0661", "database"),
        ("redis://h?db=", "database ''"),
        ("redis://h?db=one", "database 'one'"),
        ("redis://h/1?db=2", "twice"),
        ("unix:///run/redis.sock?db=-1", "database '-1'"),
        ("unix://", "no socket"),
        ("redis://h:port/0", "no port"),
        ("redis://h:0", "no port"),
        ("redis://h:70000", "no port"),
    ],
)
def test_a_redis_url_that_names_no_database_is_refused(url: str, message: str) -> None:
    with pytest.raises(Misconfigured, match=f"ANABRANCH_REDIS_URL.*{message}"):
        Settings.load({"ANABRANCH_REDIS_URL": url})
    with pytest.raises(Misconfigured, match=message):
        asyncio.run(RedisAddress(url, timeout=0.01).connect())


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h/", "redis://h/15", "redis://u:p%2Fw@h:1/0", "rediss://[::1]:1/2", "redis://h?db=3"],
)
def test_a_redis_url_with_one_database_or_none_is_accepted(url: str) -> None:
    assert Settings.load({"ANABRANCH_REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize("brokers", ["h:port", "h:0", "h:70000", "h:9092/x", "a b", "k:1,l:x"])
def test_brokers_without_host_and_port_are_refused(brokers: str) -> None:
    with pytest.raises(Misconfigured, match=r"ANABRANCH_BROKERS.*not a broker"):
        Settings.load({"ANABRANCH_BROKERS": brokers})


def test_brokers_may_be_addresses() -> None:
    assert Settings.load({"ANABRANCH_BROKERS": "[::1]:1, 10.0.0.1:9092,SSL://h:3,h"}).brokers.count(",") == 3


def test_limits_are_an_object_or_the_name_of_a_file(tmp_path: Path) -> None:
    document = (
        "agents: {http: {rate_limit: {limit: 100, per: 1m}}}\nprojects: {shop: {concurrency: {limit: 20}}}\n"
    )
    apart = _file(tmp_path, document, "limits.yaml")
    within = _file(tmp_path, f"limits:\n  {document.replace(chr(10), chr(10) + '  ')}")
    text = json.dumps(
        {
            "agents": {"http": {"rate_limit": {"limit": 100, "per": 60}}},
            "projects": {"shop": {"concurrency": {"limit": 20}}},
        }
    )

    found = [
        Settings.load({"ANABRANCH_LIMITS": str(apart)}, overrides={}).limits,
        Settings.load({}, within).limits,
        Settings.load({"ANABRANCH_LIMITS": text}).limits,
    ]

    assert found[0] is not None
    assert found == [found[0]] * 3
    assert found[0].agents["http"].rate_limit.per == 60  # type: ignore[union-attr]
    assert found[0].projects["shop"].concurrency.limit == 20  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        (
            "agents: {a: {rate_limit: {limit: 0}}}",
            r"/agents/a/rate_limit/limit in .*: `limit`: must be at least 1",
        ),
        ("agents: {a: {brekers: {}}}", r"/agents/a/brekers in .*: there is no field .*did you mean 'breaker'"),
        ("agents: {a: {breaker: {}}}", "has not exactly one of `failures` and `rate`"),
        ("agents: {a: {concurrency: {limit: 1, key: '{x}'}}}", r"the key '\{x\}' has placeholders"),
        ("projects: {p: {rate_limit: {limit: 1, key: k}}}", "has a `key` .leave it out"),
        ("projects: {'a b': {}}", "'a b' is no project"),
        ("projects: {p: {breaker: {failures: 1}}}", "there is no field `breaker` here"),
        ("[]", "must be an object with `agents` and `projects`"),
        ("{", "this is not YAML"),
    ],
)
def test_invalid_limits_are_refused_with_their_place(tmp_path: Path, document: str, wanted: str) -> None:
    path = _file(tmp_path, document, "limits.yaml")

    with pytest.raises(Misconfigured, match=wanted):
        Settings.load({"ANABRANCH_LIMITS": str(path)})


def test_a_file_of_limits_that_is_missing_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"the file 'nothing.yaml' cannot be read: No such file"):
        Settings.load({"ANABRANCH_LIMITS": "nothing.yaml"})
