"""Discovery of a module's agents, which runs no code of the module's objects."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from anabranch import Misconfigured, Registry, Task, agent
from anabranch.sdk.marks import MADE, MAX_MADE

Load = Callable[[str], Registry]

HEAD = "import functools\nfrom anabranch import agent\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a module of this text as a user's module is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def loaded(text: str) -> Registry:
        (tmp_path / "found_agents.py").write_text(HEAD + text)
        sys.modules.pop("found_agents", None)
        return Registry().load("found_agents")

    return loaded


def called(registry: Registry, name: str) -> Any:
    declared = registry.get(name)
    assert declared is not None
    returned = declared.handler(Task(name="t"))
    return asyncio.run(returned) if declared.is_async else returned


@pytest.mark.parametrize(
    "text",
    [
        # in a loop
        "for name in ('a', 'b'):\n    @agent(name)\n    def run(task, name=name): return name\n",
        # by a factory that nothing keeps
        "def make(name):\n    @agent(name)\n    async def run(task): return name\n    return run\n"
        "for name in ('a', 'b'): make(name)\n",
        # in a list, a dict and a dict in a tuple
        "def make(name):\n    return agent(name)(lambda task: name)\n"
        "AGENTS = [make('a')]\nMORE = {'x': make('b')}\n",
        "def make(name):\n    return agent(name)(lambda task: name)\n"
        "ALL = ({'deep': [{'a': make('a')}]}, [make('b')])\n",
        # methods
        "class Agents:\n    @agent('a')\n    def a(self, task): return 'a'\n"
        "    @staticmethod\n    @agent('b')\n    def b(task): return 'b'\nagents = Agents()\n",
        "class Agents:\n    @classmethod\n    @agent('a')\n    def a(cls, task): return 'a'\n"
        "    @agent('b')\n    @staticmethod\n    def b(task): return 'b'\n",
        "class Agents:\n    @agent('a')\n    def a(self, task): return 'a'\n    @agent('b')\n"
        "    async def b(self, task): return 'b'\na, b = Agents().a, [Agents().b][0]\n",
        # partials
        "def say(word, task): return word\na = agent('a')(functools.partial(say, 'a'))\n"
        "async def later(word, task): return word\nb = agent('b')(functools.partial(later, 'b'))\n",
        # classes and instances
        "def made(name):\n    @agent(name)\n    class A:\n"
        "        def __call__(self, task): return name\n    return A\n"
        "for name in ('a', 'b'): made(name)\n",
        "@agent('a')\nclass A:\n    def __init__(self, word): self.word = word\n"
        "    async def __call__(self, task): return self.word\nheld = {'x': [A('a')]}\n"
        "@agent('b')\ndef b(task): return 'b'\n",
        # deleted, and one function of two names
        "@agent('a')\ndef run(task): return 'a'\ndel run\n@agent('b')\ndef other(task): return 'b'\n",
    ],
)
def test_agents_are_found_however_they_are_made_and_held(load: Load, text: str) -> None:
    registry = load(text)

    assert registry.names == {"a", "b"}
    assert {name: called(registry, name) for name in ("a", "b")} == {"a": "a", "b": "b"}


def test_agents_that_another_module_makes_and_this_one_holds_are_found(load: Load, tmp_path: Path) -> None:
    (tmp_path / "found_elsewhere.py").write_text(
        HEAD + "@agent('a')\ndef a(task): return 'a'\n@agent('other')\ndef other(task): return 1\n"
    )

    assert load("import found_elsewhere\nAGENTS = {'x': found_elsewhere.a}\n").names == {"a"}


def test_a_factory_of_another_module_makes_agents_of_the_module_that_calls_it(load: Load, tmp_path: Path) -> None:
    (tmp_path / "found_factory.py").write_text(
        HEAD + "def make(name):\n    @agent(name)\n    def run(task): return name\n"
    )

    assert load("import found_factory\nfor name in 'ab': found_factory.make(name)\n").names == {"a", "b"}
    with pytest.raises(Misconfigured, match="has no agent"):
        Registry().load("found_factory")


def test_a_decorator_that_copies_the_mark_is_what_runs(load: Load) -> None:
    registry = load(
        "def loud(f):\n    @functools.wraps(f)\n    def wrapper(task): return f(task).upper()\n"
        "    return wrapper\n"
        "@loud\n@agent('a')\ndef a(task): return 'a'\n"
    )

    assert called(registry, "a") == "A"


def test_a_decorator_that_hides_the_mark_is_not_left_out_in_silence(load: Load) -> None:
    with pytest.raises(Misconfigured, match=r"'a' at .*py:5.* hidden by a decorator above @agent"):
        load("def loud(f):\n    return lambda task: f(task)\n@loud\n@agent('a')\ndef a(task): return 'a'\n")


def test_a_method_without_an_instance_is_refused_with_the_fix(load: Load) -> None:
    with pytest.raises(Misconfigured, match=r"'a' at .* is a method, and found_agents has no instance of A"):
        load("class A:\n    @agent('a')\n    def a(self, task): ...\n")


@pytest.mark.parametrize(
    "text",
    [
        "for word in ('x', 'y'):\n    @agent('a')\n    def run(task): ...\n",
        "def make(word):\n    return agent('a')(lambda task: word)\nALL = [make('x'), make('y')]\n",
        "class A:\n    @agent('a')\n    def a(self, task): ...\nTWO = [A(), A()]\n",
    ],
)
def test_one_name_of_two_agents_is_refused_wherever_they_are(load: Load, text: str) -> None:
    with pytest.raises(
        Misconfigured, match=r"two agents have the name 'a': found_agents.*:\d+\) and found_agents"
    ):
        load(text)


def test_a_module_may_be_loaded_twice_and_again_after_a_change(load: Load, tmp_path: Path) -> None:
    text = "class A:\n    @agent('a')\n    def a(self, task): return 'a'\nheld = A()\n"
    registry = load(text)
    registry.load("found_agents")
    module = sys.modules["found_agents"]
    (tmp_path / "found_agents.py").write_text(HEAD + "for name in ('b', 'c'):\n    agent(name)(lambda task: 1)\n")
    vars(module).pop("held")
    importlib.invalidate_caches()
    importlib.reload(module)

    assert registry.names == {"a"}
    assert Registry().add(module).names == {"b", "c"}


@pytest.mark.parametrize(
    "text",
    [
        "class Any:\n    def __getattr__(self, name): return self\n"
        "    def __call__(self, *a): return self\nx = Any()\n",
        "class Any:\n    def __getattr__(self, name): return ()\nx = Any()\n",
        "class Any:\n    def __getattr__(self, name): return ('mark',)\nx = [Any()]\n",
        "class Any:\n    def __getattribute__(self, name): raise OSError(name)\nx = {'x': Any()}\n",
        "class Any:\n    def __getattribute__(self, name): raise SystemExit(3)\nx = Any()\n",
        "class Meta(type):\n    def __getattr__(cls, name): raise OSError(name)\nclass Any(metaclass=Meta): ...\n",
        "class Meta(type):\n    def __eq__(cls, other): raise OSError\n    __hash__ = type.__hash__\n"
        "class Any(metaclass=Meta): ...\nx = Any()\n",
        "class Many(list):\n    def __iter__(self): raise OSError\nx = Many([1])\n",
        "class Many(dict):\n    def values(self):\n        while True: yield 1\nx = Many(a=1)\n",
        "x = []\nx.append(x)\ny = {'x': x}\ny['y'] = y\n",
        "x = list(range(1_000_000))\n",
        "from unittest.mock import MagicMock\nx = MagicMock()\n",
        "class Any:\n    @property\n    def __class__(self): raise OSError\nx = Any()\n",
    ],
)
def test_other_objects_of_a_module_are_ignored(load: Load, text: str) -> None:
    assert load("@agent('a')\ndef a(task): ...\n" + text).names == {"a"}


def test_an_agent_may_have_any_attribute(load: Load) -> None:
    registry = load(
        "class Any:\n    def __getattr__(self, name): raise OSError(name)\n"
        "    def __call__(self, task): return 'a'\n"
        "a = agent('a')(Any())\n"
    )

    assert called(registry, "a") == "a"


def test_objects_that_cannot_be_marked_are_refused() -> None:
    class Shop:
        def sell(self, task: Task) -> None: ...

    with pytest.raises(TypeError, match="is a method, which cannot be marked"):
        agent("a")(Shop().sell)
    with pytest.raises(TypeError, match="cannot be marked"):
        agent("a")(len)


async def later(task: Task) -> int:
    return 1


class Static:
    @staticmethod
    async def __call__(task: Task) -> int:
        return 1


def test_a_sync_function_around_an_async_one_is_called_as_what_it_is() -> None:
    import functools

    @functools.wraps(later)
    def wrapper(task: Task) -> Any:
        return later(task)

    for handler, expected in [(functools.partial(later), True), (wrapper, False), (Static(), True)]:
        declared = Registry().add(agent("a")(handler)).get("a")
        assert declared is not None
        assert declared.is_async is expected


def test_the_record_of_created_agents_is_bounded() -> None:
    module: dict[str, Any] = {"__name__": "endless", "agent": agent}
    exec("for number in range(20_000): agent('a')(lambda task: number)", module)

    assert len(module[MADE].targets) == MAX_MADE


def test_agents_created_long_after_the_import_are_not_recorded(load: Load) -> None:
    load("def make(name):\n    return agent(name)(lambda task: name)\n@agent('a')\ndef a(task): ...\n")
    module: ModuleType = sys.modules["found_agents"]
    module.make("late")

    assert Registry().add(module).names == {"a"}
