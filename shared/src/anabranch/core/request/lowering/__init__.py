"""Turns spellings of a request into plain groups of tasks, before it is validated. Pure.

`steps`, `switch` items of `task_groups`, and `when`, `sequential` and `loop` of a group are only other ways to
write tasks with `switch`, `branch`, `follows`, `loop` and `in_loop`. The result is the canonical form: lowering it
again changes nothing. The original path of everything that moves is kept, so that a problem points into the
request as sent. Tolerant: what has a wrong type is passed on as it is, and the schema check reports it.
"""

from anabranch.core.request.lowering.lowered import Lowered, is_spelled, lowered

__all__ = ["Lowered", "is_spelled", "lowered"]
