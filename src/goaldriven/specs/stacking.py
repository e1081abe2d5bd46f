"""Which networks can train stacked, as one program, and which had better."""

from __future__ import annotations

import json

from goaldriven.errors import SpecError
from goaldriven.specs.credit import LearnedFeedback, NodePerturbation, WeightPerturbation
from goaldriven.specs.network import NetworkSpec
from goaldriven.specs.rule import RuleSpec
from goaldriven.specs.runtime import RuntimeOptions

_REPEATING = (WeightPerturbation, NodePerturbation, LearnedFeedback)


def stack_key(network: NetworkSpec) -> str:
    """Equal for networks that can share a stack: all but the rule and the seeds."""
    fields = network.model_dump(mode="json", exclude={"rule", "model_seed", "data_seed"})
    return json.dumps(fields, sort_keys=True)


def company(rule: RuleSpec) -> str:
    """Equal for rules whose networks gain by a stack of their own kind.

    A stack may mix rules at will. But an epoch of rules whose steps alternate is twice as long,
    and rules that repeat passes with noise share none with others.
    """
    if isinstance(rule.credit, _REPEATING):
        return rule.model_dump_json()
    return "alternating" if getattr(rule.credit, "alternating", False) else ""


def segment_key(network: NetworkSpec) -> str:
    """Equal for networks of a stack whose rules are stepped as one: those of the same rule.

    Rules that hold a whole step back for one gradient that is not finite (primitive ``angle``) are
    stepped network by network, so that one cannot hold the others back.
    """
    rule = network.rule.model_dump_json()
    primitives = getattr(network.rule.credit, "primitive_weights", {})
    return f"{rule}{network.network_id if 'angle' in primitives else ''}"


def check_stackable(runtime: RuntimeOptions) -> None:
    """Refuse what stacks are not computed with: only the precision of products may be chosen.

    Raises
    ------
    SpecError : naming what there may be.
    """
    if runtime.precision == "bf16" or runtime != RuntimeOptions(precision=runtime.precision):
        default = RuntimeOptions().model_dump()
        given = {k: v for k, v in runtime.model_dump().items() if v != default[k]}
        raise SpecError(
            "stacks must be trained in float32 or tf32, with the default layout, compilation, "
            f"micro-batches and batch norm, got {given}"
        )
