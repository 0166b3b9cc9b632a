"""Agents of words.yaml: split a text, count the words of each part, rank the counts in two ways."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from anabranch import GiveUp, Task, agent


@agent("split")
def split(task: Task) -> list[dict[str, Any]]:
    """Split `inputs.text` into numbered paragraphs."""
    paragraphs = [part.strip() for part in task.inputs["text"].split("\n\n") if part.strip()]
    if not paragraphs:
        raise GiveUp("the text is empty")
    return [{"number": number, "text": text} for number, text in enumerate(paragraphs, 1)]


@agent("count", retry={"strategy": "exponential", "delay": "100ms", "max_attempts": 3}, timeout="10s")
async def count(task: Task) -> dict[str, int]:
    """Count how often each word of the message occurs."""
    await task.progress(0.5, "counting")
    return Counter(re.findall(r"[a-z']+", task.message.lower())) if task.message else {}


@agent("top")
def top(task: Task) -> dict[str, Any]:
    """Return the most frequent words of at least `inputs.letters` letters, in the given order."""
    total: Counter[str] = Counter()
    for counts in task.context["counts"]:
        total.update(counts)
    words = [(word, number) for word, number in total.most_common() if len(word) >= task.inputs["letters"]]
    ordered = sorted(words[:5]) if task.inputs["order"] == "alphabet" else words[:5]
    return {"letters": task.inputs["letters"], "order": task.inputs["order"], "words": dict(ordered)}
