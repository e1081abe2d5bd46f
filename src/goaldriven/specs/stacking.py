"""Which networks can train stacked, as one program, and which together."""

from __future__ import annotations

import json

from goaldriven.specs.credit import (
    DirectFeedbackAlignment,
    LearnedFeedback,
    NodePerturbation,
    WeightPerturbation,
)
from goaldriven.specs.network import NetworkSpec
from goaldriven.specs.rule import RuleSpec

_SINGLE = {
    DirectFeedbackAlignment: "its errors come from the output of the whole model",
    WeightPerturbation: "it runs the model more than once a step",
    NodePerturbation: "it runs the model more than once a step",
    LearnedFeedback: "it runs the model more than once a step",
}


def why_single(rule: RuleSpec) -> str | None:
    """Why networks of a rule train one by one; None where they can train stacked."""
    reason = _SINGLE.get(type(rule.credit))
    optimizers = (rule.optimizer, getattr(rule.credit, "optimizer", None))
    if reason is None and any(getattr(o, "update_noise", 0.0) > 0 for o in optimizers):
        reason = "its updates are noisy"
    return None if reason is None else f"rule {rule.name}: {reason}"


def stack_key(network: NetworkSpec) -> str:
    """Equal for networks that can share a stack: all but the rule and the seeds."""
    fields = network.model_dump(mode="json", exclude={"rule", "model_seed", "data_seed"})
    return json.dumps(fields, sort_keys=True)


def alternates(rule: RuleSpec) -> bool:
    """Whether steps of the rule alternate: an epoch is then twice as long.

    A stack may mix rules that do with rules that do not, but wastes work on it.
    """
    return bool(getattr(rule.credit, "alternating", False))


def segment_key(network: NetworkSpec) -> str:
    """Equal for networks of a stack whose rules are stepped as one: those of the same rule.

    Rules that hold a whole step back for one gradient that is not finite (primitive ``angle``) are
    stepped network by network, so that one cannot hold the others back.
    """
    rule = network.rule.model_dump_json()
    primitives = getattr(network.rule.credit, "primitive_weights", {})
    return f"{rule}{network.network_id if 'angle' in primitives else ''}"
