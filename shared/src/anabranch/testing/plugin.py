"""The pytest plugin with the fixture `anabranch_system`. Imported in every pytest run, so it imports no heavy
library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anabranch.testing.systems import System


@pytest.fixture
def anabranch_system() -> Iterator[Callable[..., System]]:
    """Starts complete systems in memory with a virtual clock, and stops them after the test.

    The fixture is a function with the arguments of `anabranch.testing.system` that returns a running system:

        def test_it(anabranch_system):
            s = anabranch_system(agents=[summarise])
            assert s.run(request).completed
    """
    with ExitStack() as stack:

        def start(*args: Any, **options: Any) -> System:
            from anabranch.testing.systems import system

            return stack.enter_context(system(*args, **options))

        yield start
