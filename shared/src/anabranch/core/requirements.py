"""What a member of a task requires of its worker, what a worker offers, and whether one fits into the other.
Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from anabranch.core.quantities import show_bytes, show_thousandths, thousandths, whole

RESOURCES: Final = ("cpu", "memory", "gpu", "disk")
"""The resources that are used up, in the order in which they are shown. `cpu` and `gpu` are in thousandths,
`memory` and `disk` in bytes."""
_IN_THOUSANDTHS: Final = frozenset(("cpu", "gpu"))
MAX_LABELS: Final = 50
PRESENT: Final = "true"
"""The value of a label that is written without one."""


class Required(Protocol):
    """What one member requires; `core.request.resources` has the model."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that its worker must have, by name."""

    def amount(self, resource: str) -> int:
        """The amount of one of `RESOURCES`, in its unit; 0 if it is not required."""


def show_amount(resource: str, amount: int) -> str:
    """An amount as Kubernetes writes it."""
    return show_thousandths(amount) if resource in _IN_THOUSANDTHS else show_bytes(amount)


def read_amount(resource: str, value: object) -> int:
    """A quantity of a resource, in its unit. Raises ValueError."""
    return thousandths(value) if resource in _IN_THOUSANDTHS else whole(value)


@dataclass(frozen=True, slots=True)
class Offers:
    """What a worker offers in all."""

    amounts: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def amount(self, resource: str) -> int:
        """The amount of one of `RESOURCES`, 0 if it is not offered."""
        return self.amounts.get(resource, 0)

    def to_document(self) -> dict[str, Any]:
        """As `--offers` takes it, as an object."""
        found: dict[str, Any] = {
            name: show_amount(name, self.amounts[name]) for name in RESOURCES if name in self.amounts
        }
        return found | ({"labels": dict(self.labels)} if self.labels else {})


NO_OFFERS: Final = Offers()


def lacks(required: Required, offered: Offers) -> list[str]:
    """What a worker lacks for a member even if nothing runs on it, for people; empty if the member fits."""
    found = [
        f"{name} {show_amount(name, required.amount(name))} (offers {show_amount(name, offered.amount(name))})"
        for name in RESOURCES
        if required.amount(name) > offered.amount(name)
    ]
    return found + [f"label {show_label(name, value)}" for name, value in missing_labels(required, offered)]


def missing_labels(required: Required, offered: Offers) -> list[tuple[str, str]]:
    """The required labels that a worker does not have."""
    return [(name, value) for name, value in required.labels.items() if offered.labels.get(name) != value]


def show_label(name: str, value: str) -> str:
    return name if value == PRESENT else f"{name}={value}"


def fits(required: Required, offered: Offers) -> bool:
    """True if a member fits on a worker on which nothing runs."""
    return not lacks(required, offered)


def fits_now(required: Required, offered: Offers, used: Mapping[str, int]) -> bool:
    """True if a member fits beside what runs on a worker; `used` has amounts by resource."""
    return not missing_labels(required, offered) and all(
        required.amount(name) <= offered.amount(name) - used.get(name, 0) for name in RESOURCES
    )


def read_labels(value: object) -> dict[str, str]:
    """Labels of a request: an object of text, or a list of texts ``name`` or ``name=value``. By name.

    Raises:
        ValueError: it is neither, or a label is empty or given twice.
    """
    if isinstance(value, Mapping):
        pairs = [(name, _label_value(name, each)) for name, each in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = [_label(each) for each in value]
    else:
        raise ValueError("must be an object such as {zone: eu}, or a list such as [ssd]")
    if len(pairs) > MAX_LABELS:
        raise ValueError(f"has {len(pairs)} labels; {MAX_LABELS} are the most")
    return _by_name(pairs)


def _label_value(name: object, value: object) -> str:
    if not isinstance(name, str) or not name or not isinstance(value, (str, int, float)):
        raise ValueError("a label has a name, and text or a number as its value")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _label(text: object) -> tuple[str, str]:
    if not isinstance(text, str):
        raise ValueError("a label is text: name, or name=value")
    name, equals, value = (part.strip() for part in text.partition("="))
    if not name or (equals and not value):
        raise ValueError(f"{text[:100]!r} is not a label: write name, or name=value")
    return name, value or PRESENT


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise ValueError(f"the label {name[:100]!r} has two values")
    return dict(sorted(found.items()))


def parse_offers(text: str) -> Offers:
    """What `--offers` says: ``cpu=4,memory=8Gi,labels=ssd,zone=eu``.

    After `labels=`, and after `;`, each part that names no resource is a label: ``labels=ssd;zone=eu`` is the
    same.

    Raises:
        ValueError: a part is unknown, or given twice; the message says which.
    """
    amounts: dict[str, int] = {}
    labels: list[str] = []
    has_labels = False
    for part in filter(None, (each.strip() for each in text.replace(";", ",").split(","))):
        name, equals, value = (each.strip() for each in part.partition("="))
        if name == "labels" and equals:
            has_labels = True
            labels += [value] if value else []
        elif name in RESOURCES and equals:
            if name in amounts:
                raise ValueError(f"{name} is given twice")
            amounts[name] = _amount(name, value)
        elif has_labels:
            labels.append(part)
        else:
            raise ValueError(f"{part!r} is not an offer: write {', '.join(RESOURCES)} or labels, as cpu=4")
    return Offers(amounts, read_labels(labels))


def offers_of(document: Mapping[str, Any]) -> Offers:
    """The offers of a document as `Offers.to_document` makes it. Raises ValueError."""
    amounts = {name: _amount(name, document[name]) for name in RESOURCES if name in document}
    return Offers(amounts, read_labels(document.get("labels") or {}))


def _amount(name: str, value: object) -> int:
    try:
        return read_amount(name, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def summed(held: Iterable[Required]) -> dict[str, int]:
    """The amounts of all of these, by resource."""
    found = dict.fromkeys(RESOURCES, 0)
    for each in held:
        for name in RESOURCES:
            found[name] += each.amount(name)
    return found


def why_nobody_fits(required: Required, offered: Sequence[tuple[str, Offers]]) -> str:
    """Who lacks what, for people. `offered` has the workers with the agent: each one's name and offers."""
    if not offered:
        return "no live worker has its agent"
    shown = [f"{name} lacks {', '.join(lacks(required, offers))}" for name, offers in offered[:SHOWN_WORKERS]]
    more = len(offered) - len(shown)
    return "; ".join(shown) + (f"; and {more} more workers" if more > 0 else "")


SHOWN_WORKERS: Final = 5
