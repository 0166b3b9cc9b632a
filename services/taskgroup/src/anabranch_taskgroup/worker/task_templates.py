"""Compiled templates of tasks, and an LRU cache of them: runs of one request have the same templates."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from anabranch.core.bounded import BoundedDict
from anabranch.core.templates import Template, compile_template, is_constant, text_placeholders
from anabranch.core.wire.messages import Json, TaskOrder

CACHE_SIZE = 512
"""Maximum tasks whose compiled templates are cached."""
MAX_CACHED_BYTES = 16_384
"""Bytes of the templates of a task as JSON, above which they are compiled again for each run."""


@dataclass(frozen=True, slots=True)
class TaskTemplates:
    """The compiled templates of one task.

    Attributes:
        has_texts: message and instructions are texts: members may share them, because no agent can change them.
        constants: message, instructions and inputs of each member, if no template has a placeholder.
        inserts_text: a value is inserted as text, so the size of a rendered template depends on values.
    """

    message: Template
    instructions: Template
    inputs: Template
    has_texts: bool
    constants: tuple[Json, Json, Json] | None
    inserts_text: bool

    @classmethod
    def of(cls, order: TaskOrder) -> TaskTemplates:
        """Compile the templates of a task."""
        message, instructions = (
            compile_template(order.message_template),
            compile_template(order.shared_instructions),
        )
        inputs = compile_template(order.inputs, typed=True)
        all_three = (message, instructions, inputs)
        is_fixed = all(map(is_constant, all_three))
        return cls(
            message,
            instructions,
            inputs,
            has_texts=_is_text(order.message_template) and _is_text(order.shared_instructions),
            constants=(message.render({}), instructions.render({}), inputs.render({})) if is_fixed else None,
            inserts_text=any(True for each in all_three for _ in text_placeholders(each)),
        )


def _is_text(template: Json) -> bool:
    return template is None or isinstance(template, str)


class TemplateCache:
    """Compiled templates by their JSON, the order of keys included: rendering depends on nothing else."""

    def __init__(self) -> None:
        self._compiled: BoundedDict[bytes, TaskTemplates] = BoundedDict(CACHE_SIZE)

    def of(self, order: TaskOrder) -> TaskTemplates:
        """The compiled templates of a task."""
        try:
            key = orjson.dumps((order.message_template, order.shared_instructions, order.inputs))
        except TypeError:  # an integer of more than 64 bits, or an unpaired surrogate
            return TaskTemplates.of(order)
        if len(key) > MAX_CACHED_BYTES:
            return TaskTemplates.of(order)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = TaskTemplates.of(order)
        return found
