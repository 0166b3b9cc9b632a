"""The published contract: up to date, valid by its own standards, and true of what the code accepts and sends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from anabranch.core.errors import Code
from anabranch.core.names import Names, run_id_for
from anabranch.core.request.admission import parse_request
from anabranch.core.request.models import ControlRecord
from anabranch.core.wire import results
from anabranch.core.wire.cloudevents import cloud_event_headers
from anabranch.core.wire.events import EVENT_TYPES, EventBatch, decode_batch, encode_batch
from anabranch.ports import Incoming
from anabranch.runtime.ownership.dead_letter import dead_letter
from contract.__main__ import main
from contract.catalog import RESULT_MESSAGES, SCHEMAS, TOPICS
from contract.docstrings import attribute_notes
from contract.files import generated_files
from contract.index import EVENT_TEXTS

FOLDER = Path(__file__).parents[3] / "docs" / "contract"
EXAMPLES = sorted((FOLDER / "examples").glob("*.json"))
REQUESTS = [
    path for path in EXAMPLES if path.stem.startswith(("envelope", "request-")) and "headers" not in path.stem
]
RECORDS = {
    "run-accepted": results.RunAccepted,
    "run-rejected": results.RunRejected,
    "result-published": results.ResultPublished,
    "run-final": results.RunFinal,
}


def name_of(path: Path) -> str:
    return path.stem


def schema_named(kebab: str) -> dict[str, Any]:
    return json.loads((FOLDER / "schemas" / f"{kebab}.json").read_text("utf-8"))


def schema_for(example: Path) -> dict[str, Any]:
    """The schema with the longest name that the example's name begins with."""
    names = [path.stem for path in (FOLDER / "schemas").glob("*.json") if example.stem.startswith(path.stem)]
    return schema_named(max(names, key=len))


def document_in(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def validate(document: object, schema: Mapping[str, Any]) -> None:
    jsonschema.validate(document, schema, cls=jsonschema.Draft202012Validator)


def asyncapi() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / "asyncapi.yaml").read_text("utf-8"))
    return document


def references_in(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for each in node:
            yield from references_in(each)


def resolved(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


# --- the command ---------------------------------------------------------------------------------


def test_the_committed_contract_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(FOLDER)]) == 0, capsys.readouterr().err


def test_written_files_pass_the_check(tmp_path: Path) -> None:
    assert main(["--write", str(tmp_path)]) == 0
    assert main(["--check", str(tmp_path)]) == 0
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} == set(generated_files())


def test_drift_is_named_file_by_file_and_line_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "contract")
    changed = folder / "schemas" / "event.json"
    changed.write_text(changed.read_text("utf-8").replace('"title": "Event"', '"title": "Happening"'), "utf-8")
    (folder / "schemas" / "request.json").unlink()
    (folder / "schemas" / "inner" / "old.json").write_text("{}", "utf-8")

    code = main(["--check", str(folder)])

    output = capsys.readouterr().err
    assert code == 1
    assert "schemas/event.json: 1 lines to add, 1 to remove" in output
    assert '-  "title": "Happening"' in output
    assert "schemas/request.json: missing" in output
    assert "schemas/inner/old.json: no message has this schema" in output
    assert "3 files of the contract differ" in output


def test_writing_fixes_drift_and_leaves_the_examples(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "contract")
    (folder / "schemas" / "request.json").write_text("{}", "utf-8")
    (folder / "schemas" / "inner" / "old.json").write_text("{}", "utf-8")

    main(["--write", str(folder)])

    assert main(["--check", str(folder)]) == 0
    assert sorted(path.name for path in (folder / "examples").iterdir()) == [path.name for path in EXAMPLES]


# --- the schemas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_by_the_standard_and_says_what_it_is_of(name: str) -> None:
    schema = json.loads((FOLDER / SCHEMAS[name].path).read_text("utf-8"))

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == name
    assert schema["description"]
    assert [each for each in references_in(schema) if resolved(schema, each) is None] == []


def test_descriptions_come_from_the_docstrings() -> None:
    final = schema_named("run-final")
    retry = schema_named("request")["$defs"]["RetryPolicy"]

    described = final["properties"]["all_failures"]["description"]
    assert described == "Reference to the list of all failures, if `failures` is incomplete."
    assert "including the first" in retry["properties"]["max_attempts"]["description"]


def test_a_field_that_is_always_sent_is_required_of_it() -> None:
    assert {"results", "failures", "executions"} <= set(schema_named("run-final")["required"])
    assert {"v", "type", "run_id"} <= set(schema_named("inner/offer")["required"])
    assert "value" not in schema_named("channel-message")["required"]


# --- the examples --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_valid_by_its_schema(path: Path) -> None:
    validate(document_in(path), schema_for(path))


def test_every_public_schema_has_an_example() -> None:
    covered = {schema_for(path)["title"] for path in EXAMPLES}

    assert covered == {name for name, each in SCHEMAS.items() if "/inner/" not in each.path}


@pytest.mark.parametrize("path", REQUESTS, ids=name_of)
def test_an_example_request_is_accepted(path: Path) -> None:
    reading = parse_request(path.read_bytes())

    assert reading.errors == ()
    assert reading.plan is not None


def test_the_example_envelope_is_the_request_that_it_says_and_warns_once() -> None:
    reading = parse_request((FOLDER / "examples" / "envelope.json").read_bytes())

    assert reading.request_id == "order-17"
    assert reading.required().context == {"customer": "Ada"}
    [warning] = [each for each in reading.warnings if "ignored" in each]
    assert "context_info" in warning
    assert "process_array_output" in warning


@pytest.mark.parametrize("path", sorted((FOLDER / "examples").glob("control-*.json")), ids=name_of)
def test_an_example_control_record_is_accepted(path: Path) -> None:
    document = document_in(path)

    assert ControlRecord.model_validate(document).to_document() == document


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.stem.startswith(tuple(RECORDS))], ids=name_of)
def test_an_example_record_is_what_the_model_sends(path: Path) -> None:
    document = document_in(path)
    [model] = [model for name, model in RECORDS.items() if path.stem.startswith(name)]

    assert model.model_validate(document).to_document() == document
    assert document["run_id"] == run_id_for(document["request_id"])


def test_the_example_batch_is_what_is_sent() -> None:
    document = document_in(FOLDER / "examples" / "event-batch.json")
    batch = EventBatch.model_validate(document)

    assert json.loads(encode_batch(batch)) == document
    assert decode_batch(encode_batch(batch)) == batch


# --- schema and code say the same ----------------------------------------------------------------


def test_an_unknown_field_is_invalid_in_a_request_and_ignored_in_an_envelope() -> None:
    request = document_in(FOLDER / "examples" / "request-minimal.json")
    request["task_groups"][0]["tasks"][0]["colour"] = "blue"

    validate({"object": request}, schema_named("envelope"))
    with pytest.raises(jsonschema.ValidationError, match="colour"):
        validate(request, schema_named("request"))


def test_the_headers_of_a_result_are_as_published() -> None:
    for kind in results.RESULT_KINDS:
        sent = cloud_event_headers(kind, "run/final", 1_896_058_800.0, subject="run", traceparent="00-a-b-01")
        headers = {name: value.decode() for name, value in sent.items()}

        validate(headers, schema_named("cloud-event-headers"))
        assert set(headers) == set(schema_named("cloud-event-headers")["properties"])


def test_the_headers_of_a_dead_letter_are_as_published() -> None:
    record = Incoming("anabranch.groups", 3, 1204, b"s", b"{", (("mine", b"1"),), 1_896_058_800.0)

    dead_letter_record = dead_letter(Names(), record, "the header is not JSON")

    headers = {name: (value or b"").decode() for name, value in dict(dead_letter_record.headers).items()}
    validate(headers, schema_named("dead-letter-headers"))
    assert set(headers) - {"mine"} == set(schema_named("dead-letter-headers")["required"])


# --- the index -----------------------------------------------------------------------------------


def test_the_index_names_every_kind_type_and_code() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")

    assert tuple(EVENT_TEXTS) == EVENT_TYPES
    assert tuple(RESULT_MESSAGES) == results.RESULT_KINDS
    assert set(attribute_notes(Code)) == set(Code.__members__)
    for word in (*EVENT_TYPES, *results.RESULT_KINDS, *Code, *(topic.name for topic in TOPICS)):
        assert f"`{word}`" in index


def test_the_index_links_to_files_that_are_there() -> None:
    index = (FOLDER / "README.md").read_text("utf-8")
    targets = [part.split(")")[0] for part in index.split("](")[1:]]

    assert len(targets) > len(SCHEMAS)
    assert [target for target in targets if not (FOLDER / target).exists()] == []


# --- the AsyncAPI document -----------------------------------------------------------------------


def test_the_topics_are_those_that_the_services_use() -> None:
    channels = asyncapi()["channels"].values()
    on_kafka = [each for each in channels if each["servers"] == [{"$ref": "#/servers/kafka"}]]

    assert tuple(each["address"].replace("{prefix}", "x.") for each in on_kafka) == (
        *Names("x.").topics,
        Names("x.").audit,
        Names("x.").definitions,
        Names("x.").webhooks,
    )


def test_every_reference_of_the_asyncapi_document_resolves() -> None:
    document = asyncapi()
    found = list(references_in(document))
    local = [each for each in found if each.startswith("#/")]

    assert all(resolved(document, each) for each in local)
    assert all((FOLDER / each).is_file() for each in found if each not in local)


def test_the_asyncapi_document_has_the_parts_that_the_standard_asks_for() -> None:
    document = asyncapi()

    assert document["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= document["info"].keys()
    for channel in document["channels"].values():
        named = {part.split("}")[0] for part in channel["address"].split("{")[1:]}
        assert named == set(channel["parameters"])
        assert channel["messages"]
    for operation in document["operations"].values():
        channel = resolved(document, operation["channel"]["$ref"])
        prefix = f"{operation['channel']['$ref']}/messages/"
        assert operation["action"] in ("send", "receive")
        assert {each["$ref"].removeprefix(prefix) for each in operation.get("messages", ())} <= set(
            channel["messages"]
        )


def test_every_schema_and_message_is_used() -> None:
    document = asyncapi()
    found = set(references_in(document))

    assert {f"#/components/messages/{name}" for name in document["components"]["messages"]} <= found
    used = {path.removeprefix("./") for path in found if path.startswith("./")}
    # A reference stands for a value inside a body, so no message is one.
    assert {each.path for each in SCHEMAS.values()} - used == {SCHEMAS["Reference"].path}


def test_each_result_has_its_type_in_its_headers_and_the_run_as_its_key() -> None:
    messages = asyncapi()["components"]["messages"]

    for kind, (name, schema, _) in RESULT_MESSAGES.items():
        headers = messages[name]["headers"]["allOf"]
        assert headers[1]["properties"]["ce_type"] == {"const": kind}
        assert messages[name]["payload"] == {"$ref": f"./{SCHEMAS[schema].path}"}
        assert "run id" in messages[name]["bindings"]["kafka"]["key"]["description"]
