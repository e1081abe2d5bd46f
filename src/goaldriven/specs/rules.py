"""The catalogue of learning rules, and how a spec file refers to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from goaldriven.errors import unknown
from goaldriven.specs.base import merge
from goaldriven.specs.published_rules import PUBLISHED
from goaldriven.specs.rule import RuleSpec
from goaldriven.specs.tuned_rules import TUNED

RULES: dict[str, RuleSpec] = {rule.name: rule for _, rule in (*TUNED, *PUBLISHED)}
RULE_SUMMARIES: dict[str, str] = {rule.name: text for text, rule in (*TUNED, *PUBLISHED)}


def expand_rule(value: Any) -> Any:
    """Let ``ia``, ``{name: ia, …}`` and ``{name: mine, like: ia, …}`` stand for a rule."""
    if isinstance(value, str):
        if value not in RULES:
            raise ValueError(unknown("rule", value, RULES))
        return RULES[value]
    if not isinstance(value, Mapping):
        return value
    given = dict(value)
    base = given.pop("like", given.get("name"))
    if base in RULES:
        return merge(RULES[base].model_dump(), given)
    if "like" in value:
        raise ValueError(unknown("rule: like", base, RULES))
    if "credit" not in given and "optimizer" not in given:
        raise ValueError(unknown("rule", base, RULES))
    return given


NamedRule = Annotated[RuleSpec, BeforeValidator(expand_rule)]
