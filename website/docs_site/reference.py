"""The pages of docs/reference, made from the code: fields of a request, the command, settings, the Python API."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

import anabranch
import anabranch.tasks
import anabranch.testing
from anabranch.cli.main import app
from anabranch.core.conditions.field_type import ConditionForm
from anabranch.core.request.models import Expansion, Request, RetryPolicy, TaskGroup, TaskSpec, TransformRules
from anabranch.runtime.process.settings import DEFAULT_PARTITIONS, Settings
from contract.docstrings import attribute_notes, markdown
from docs_site.pages import DOCS

GENERATED = "<!-- Generated from the code by `make reference`. Do not edit: change the code. -->\n"
MODELS: Sequence[type[BaseModel]] = (Request, TaskGroup, TaskSpec, Expansion, TransformRules, RetryPolicy)
API: Sequence[tuple[str, str, Sequence[str]]] = (
    ("Agents", "What an agent is marked with, gets and raises.", ("agent", "Task", "GiveUp", "RetryLater")),
    ("The client", "Submitting requests and following runs.", ("Client", "Run", "RunResult", "Published")),
    (
        "Requests in Python",
        "Building requests by calls, or from functions.",
        ("WorkflowBuilder", "Step", "WorkflowError"),
    ),
    ("Without an event loop", "The same for plain functions.", ("SyncClient", "SyncRun")),
)


def reference_pages() -> dict[Path, str]:
    """Path -> text of every generated page."""
    folder = DOCS / "reference"
    return {
        folder / "request.md": request_page(),
        folder / "command.md": command_page(),
        folder / "settings.md": settings_page(),
        folder / "python.md": python_page(),
    }


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# --- the request ----------------------------------------------------------------------------------


def request_page() -> str:
    """Every field of a request, with its type and default."""
    parts = [
        GENERATED,
        "# Fields of a request\n",
        "What each means, with examples: [the request](../requests.md). As JSON Schema:\n"
        "[request.json](../contract/schemas/request.json). An unknown field is refused, with its path.\n",
    ]
    for model in MODELS:
        parts += [f"## {model.__name__}\n", f"{markdown(model.__doc__ or '')}\n", _fields(model)]
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> str:
    notes = attribute_notes(model)
    schema = model.model_json_schema()["properties"]
    rows = []
    for name, field in model.model_fields.items():
        given = "required" if field.is_required() else _default(field.get_default(call_default_factory=True))
        rows.append(
            (f"`{field.alias or name}`", _type(schema.get(field.alias or name, {})), given, notes.get(name, ""))
        )
    return table(("field", "type", "default", ""), rows)


def _type(schema: dict[str, Any]) -> str:
    """A JSON Schema in a few words."""
    if "$ref" in schema:
        model = schema["$ref"].rsplit("/", 1)[-1]
        if model == ConditionForm.__name__:
            return "[condition](conditions.md)"
        return f"[{model}](#{model.lower()})" if model in {each.__name__ for each in MODELS} else model
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    for either in ("anyOf", "oneOf"):
        if either in schema:
            kinds = [_type(each) for each in schema[either] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any JSON"))


def _default(value: Any) -> str:
    if value is None or value is PydanticUndefined:
        return ""
    return f"`{value}`" if value not in ((), {}, []) else "empty"


# --- the command ----------------------------------------------------------------------------------


def command_page() -> str:
    """Every command with its arguments and options."""
    root: Any = typer.main.get_command(app)
    common = _common_options(root)
    parts = [
        GENERATED,
        "# The command\n",
        "RUN is a run id or a request id. `--json` prints one JSON document on standard output and nothing else\n"
        "there; people's text goes to standard error. `--output csv` prints a list as CSV. Colours are off where\n"
        "standard output is no terminal, and with `NO_COLOR`. Exit codes: 0 completed, 1 the run failed, 2 the\n"
        "request or the arguments are wrong, 3 cancelled or timed out, 4 a server cannot be reached.\n",
        "`anabranch --install-completion` makes bash, zsh or fish complete commands, options, request files and\n"
        "ids of recent runs.\n",
        "## Options of the configuration\n",
        "All commands take these; each is also a [setting](settings.md).\n",
        table(("option", "meaning"), (_parameter(each) for each in common.values())),
    ]
    for path, command in _commands(root, "anabranch"):
        parts += [f"## {path}\n", f"{_sentence(command.help)}\n"]
        own = [each for each in command.params if each.name not in common and each.name != "help"]
        if own:
            parts.append(table(("", "meaning"), (_parameter(each) for each in own)))
    return "\n".join(parts)


def _common_options(root: Any) -> dict[str, Any]:
    """The options that `with_settings` gives to every command, as `list` has them."""
    own = {"limit", "status", "output", "json", "help"}
    return {each.name: each for each in root.commands["list"].params if each.name not in own}


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _parameter(parameter: Any) -> tuple[str, str]:
    is_option = parameter.opts[0].startswith("-")
    if not is_option:
        return f"`{parameter.metavar or parameter.name.upper()}`", parameter.help or ""
    value = "" if getattr(parameter, "is_flag", False) else f" {_value_name(parameter)}"
    names = ", ".join(f"`{name}{value}`" for name in parameter.opts)
    default = parameter.default
    shown = f" Default: `{getattr(default, 'value', default)}`." if _says_something(default) else ""
    return names, f"{parameter.help or ''}{shown}".strip()


def _value_name(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    choices = getattr(getattr(parameter, "type", None), "choices", None)
    return (
        "|".join(getattr(each, "value", str(each)) for each in choices)
        if choices
        else parameter.name.upper().strip("_")
    )


def _says_something(default: Any) -> bool:
    return default not in (None, False, "", ()) and not callable(default)


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


# --- settings -------------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting under its names."""
    notes = attribute_notes(Settings)
    rows = [
        (f"`{each.name}`", f"`ANABRANCH_{each.name.upper()}`", _setting_default(each), notes.get(each.name, ""))
        for each in fields(Settings)
        if each.name not in ("kafka_properties", "partitions", "named")
    ]
    topics = [
        (
            f"`partitions_{topic}`",
            f"`ANABRANCH_PARTITIONS_{topic.upper()}`",
            f"`{count}`",
            f"Of the topic `{topic}`.",
        )
        for topic, count in DEFAULT_PARTITIONS.items()
    ]
    return "\n".join(
        [
            GENERATED,
            "# Settings\n",
            "From options of the command (`--set name=value` for any), else the environment, else one file\n"
            "(`anabranch.yaml`, `.yml` or `.toml` in the working directory, or what `ANABRANCH_CONFIG` names),\n"
            "else the default. Durations are numbers of seconds or text such as `250ms`, `30s`, `5m`, `2h`.\n"
            "What they are for in practice: [operations](../operations.md#settings).\n",
            table(("in the file", "in the environment", "default", "meaning"), rows),
            "## Topics\n",
            "How many partitions a topic is created with; `partitions` sets all of them. Never change the number\n"
            "for a topic that is in use.\n",
            table(("in the file", "in the environment", "default", ""), topics),
            "## Kafka's own properties\n",
            "`ANABRANCH_KAFKA_<NAME>`, in the file `kafka_<name>`, sets the property of that name for every\n"
            "Kafka client: `ANABRANCH_KAFKA_SECURITY_PROTOCOL` is `security.protocol`.\n"
            "See [security](../security.md).\n",
        ]
    )


def _setting_default(field: Any) -> str:
    value = field.default if field.default is not MISSING else field.default_factory()
    return "" if value in (None, ()) else f"`{value}`"


# --- Python ---------------------------------------------------------------------------------------


TASKS = (
    "TaskAPI",
    "TaskFactory",
    "TaskManager",
    "DependencyResolver",
    "WorkflowBuilder",
    "TaskLogger",
    "TaskMetrics",
)


def python_page() -> str:
    """The public Python API by its docstrings."""
    parts = [
        GENERATED,
        "# The Python API\n",
        "Everything here is imported from `anabranch`. How it is used: [agents](../agents.md),\n"
        "[testing](../testing.md).\n",
    ]
    told = set()
    for heading, text, names in API:
        parts += [f"## {heading}\n", f"{text}\n"]
        for name in names:
            parts.append(_entry(name, getattr(anabranch, name)))
            told.add(name)
    parts += ["## Tasks\n", "From `anabranch.tasks`; how they are used: [tasks](../tasks.md).\n"]
    parts += [_entry(name, getattr(anabranch.tasks, name)) for name in TASKS]
    parts += ["## Testing\n", "From `anabranch.testing`.\n", _entry("system", anabranch.testing.system)]
    rest = [name for name in anabranch.__all__ if name not in told and not name.startswith("_")]
    kinds = {name: getattr(anabranch, name) for name in rest}
    errors = {name for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Exception)}
    models = {each.__name__ for each in MODELS}
    rows = [(f"`{name}`", _first(kinds[name])) for name in sorted(errors)]
    parts += ["## Errors\n", "Each is an `AnabranchError`.\n", table(("error", ""), rows)]
    rows = [
        (f"[`{name}`](request.md#{name.lower()})" if name in models else f"`{name}`", _first(kinds[name]))
        for name in sorted(set(rest) - errors)
    ]
    parts += ["## Requests and the rest\n", table(("name", ""), rows)]
    return "\n".join(parts)


def _entry(name: str, value: Any) -> str:
    lines = [f"### `{name}`\n", f"```text\n{name}{_signature(value)}\n```\n", f"{_prose(value)}\n"]
    if isinstance(value, type):
        rows = [(f"`{each}{_signature(member)}`", _first(member)) for each, member in _members(value)]
        if rows:
            lines.append(table(("", ""), rows))
    return "\n".join(lines)


def _members(value: type[Any]) -> Iterator[tuple[str, Any]]:
    # With those of a base class that is no name of its own, such as the blocks of a builder.
    bases = [base for base in reversed(value.__mro__) if base is value or _is_hidden_base(base)]
    for name, member in {name: member for base in bases for name, member in vars(base).items()}.items():
        if (
            not name.startswith("_")
            and member.__doc__
            and (inspect.isroutine(member) or isinstance(member, property))
        ):
            found = getattr(value, name) if isinstance(member, classmethod | staticmethod) else member
            yield name, found


def _is_hidden_base(base: type) -> bool:
    return base.__module__.startswith("anabranch.") and base.__name__ not in anabranch.__all__


def _signature(value: Any) -> str:
    if isinstance(value, property):
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # made in C
        return "(...)"
    parameters = [each.replace(annotation=_words(each.annotation)) for each in signature.parameters.values()]
    returned = _words(signature.return_annotation)
    text = str(signature.replace(parameters=parameters, return_annotation=returned))
    text = re.sub(r"<([\w.]+) object at 0x[0-9a-f]+>", r"\1()", text)  # what has no words of its own
    return re.sub(r"\(self(?:, )?", "(", re.sub(r"(?:\w+\.)+(\w+)", r"\1", text))


class _Words:
    """An annotation written as a string, shown in a signature without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _words(annotation: Any) -> Any:
    return _Words(annotation) if isinstance(annotation, str) else annotation


def _prose(value: Any) -> str:
    """A docstring as Markdown, its lists of arguments as lists."""
    text = inspect.getdoc(value) or ""
    lines = []
    for line in text.splitlines():
        section = re.fullmatch(r"(Args|Raises|Attributes|Returns|Yields):", line.strip())
        item = re.fullmatch(r"    (\S[^:]*): (.*)", line)
        if section:
            lines.append(f"{section[1]}:\n")
        elif item:
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(f"  {line.strip()}" if line.startswith("        ") else line)
    return "\n".join(lines).replace("``", "`")


def _first(value: Any) -> str:
    return markdown((inspect.getdoc(value) or "").split("\n\n")[0])
