"""Conditions over values of a run: their two forms, evaluation, and what can be said before the run. Pure.

A condition is data; its text form is parsed into the data form at admission. In the data form it is one of:

=============================================  ============================================================
``{"field", "operator", "value"}``             compares the value at a path with a literal
``{"field", "operator", "value_field"}``       compares the value at a path with the value at another path
``{"field", "operator"}``                      ``exists``, ``not_exists`` and ``is_true`` take no value
``{"all": [...]}`` ``{"any": [...]}``          at least one condition each, evaluated from left to right
``{"not": {...}}``                             the opposite
``true`` ``false``                             always, never
=============================================  ============================================================

A condition that cannot be evaluated raises ConditionError. It is never false for that reason.
"""

from anabranch.core.conditions.checks import InvalidCondition
from anabranch.core.conditions.evaluation import evaluate, fields_of, outcome, why_false
from anabranch.core.conditions.exclusion import Exclusions, exclusive
from anabranch.core.conditions.field_type import Condition
from anabranch.core.conditions.form import normalized, parse_condition
from anabranch.core.conditions.rendering import to_text

__all__ = [
    "Condition",
    "Exclusions",
    "InvalidCondition",
    "evaluate",
    "exclusive",
    "fields_of",
    "normalized",
    "outcome",
    "parse_condition",
    "to_text",
    "why_false",
]
