"""Labels of Kubernetes objects: any text as a value that Kubernetes accepts, and the original beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

PREFIX = "anabranch/"
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "anabranch"
INSTALLATION = f"{PREFIX}installation"
EXECUTION = f"{PREFIX}execution"
LABELS_ANNOTATION = f"{PREFIX}labels"
"""The labels as JSON, with values as they were."""

MAX_VALUE = 63
_VALID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_HASH_LENGTH = 10


def label_value(text: str) -> str:
    """The text itself if it is a valid value, else what is readable of it and a hash that tells it from others."""
    if not text or _VALID.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", text)[: MAX_VALUE - _HASH_LENGTH - 1].strip("._-")
    return f"{readable}.{digest}" if readable else digest


def label_key(name: str) -> str:
    """`run_id` -> `anabranch/run-id`."""
    return PREFIX + name.replace("_", "-")


def object_labels(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The labels of the Job and the pod of the execution with this name."""
    encoded = {label_key(key): label_value(value) for key, value in labels.items()}
    return {MANAGED_BY: MANAGER, **encoded, EXECUTION: label_value(name)}


def selector(installation: str) -> str:
    """Selects the objects of all executions of an installation."""
    return f"{MANAGED_BY}={MANAGER},{INSTALLATION}={label_value(installation)}"


def labels_annotation(labels: Mapping[str, str]) -> str:
    return json.dumps(dict(labels), sort_keys=True, ensure_ascii=False)


def original_labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The labels of an execution from the metadata of its Job; {} if somebody changed the annotation."""
    try:
        read = json.loads((metadata.get("annotations") or {}).get(LABELS_ANNOTATION, "{}"))
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in read.items()} if isinstance(read, dict) else {}
