"""All rules, and the coarser question: what carries the error?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from goaldriven.errors import DataError, IdentificationError
from goaldriven.identify.calibration import (
    average_over_layers,
    calibrated_probabilities,
    first_of_each,
    fit_temperature,
    mean_of_rates,
)
from goaldriven.identify.experiments.cache import Fit, Matrix
from goaldriven.identify.experiments.cells import WHOLE, Cell
from goaldriven.identify.experiments.material import Material
from goaldriven.identify.experiments.outcomes import confusion_of
from goaldriven.identify.experiments.results import Results, interval
from goaldriven.identify.experiments.scored import (
    Row,
    of_all_splits,
    rows,
    said,
    together,
    wide,
    with_interval,
)
from goaldriven.identify.experiments.spec import Experiment, Finding, Measure, Plot, accuracy, told
from goaldriven.identify.experiments.views import relabelled
from goaldriven.specs.rules import RULES
from goaldriven.trajectories import read
from goaldriven.trajectories.files import NETWORKS_FOLDER

CLASSIFIERS = ("random_forest", "svm")
FINE, COARSE = "rules", "families"
TRAINED, SUMMED, CALLED = "trained on families", "summed over rules", "of the rule called"
"""How families are called: by a classifier of families; as the one with the highest sum of its
rules' probabilities, by a classifier of rules after temperature scaling (scores that are all but
even, as those of an SVM, would always add up for the family with the most rules); or as that of the
rule that is called."""

BACKPROP, RANDOM = "backprop optimizer", "random feedback"
ALIGNED, PERTURBATION = "aligned feedback", "perturbation"

# The criterion is what carries the error to a layer, and whether that knows the forward weights W.
FAMILY_OF_CREDIT: dict[str, str] = {
    "backprop": BACKPROP,  # Wᵀ itself: such rules differ in their optimizers alone
    # Backward weights that are drawn once and never hear of W.
    "feedback_alignment": RANDOM,
    "direct_feedback_alignment": RANDOM,
    # Backward weights that are given the signs of W at each step: |B| may be random, but B is kept
    # within some 60° of Wᵀ by construction, as near as the weight mirror learns to come.
    "uniform_sign_symmetry": ALIGNED,
    "batchwise_random_sign_symmetry": ALIGNED,
    "fixed_random_sign_symmetry": ALIGNED,
    # Backward weights that learn to agree with W: by local losses, or by sharing its updates.
    "weight_mirror": ALIGNED,
    "information_alignment": ALIGNED,
    "symmetric_alignment": ALIGNED,
    "activation_alignment": ALIGNED,
    "kolen_pollack": ALIGNED,
    "layerwise_alignment": ALIGNED,
    # Noise teaches the backward weights, but they carry the error by which W learns.
    "node_perturbation_feedback": ALIGNED,
    # Nothing carries an error backwards: noise is correlated with the loss.
    "weight_perturbation": PERTURBATION,
    "node_perturbation": PERTURBATION,
}

Group = Sequence[tuple[Cell, Fit]]


def families_of(given: Material) -> dict[str, str]:
    """The family of each rule of a study, by its credit assignment.

    The credit assignment is that of the networks' own specs where the study has a folder, else
    that of the rule of this name in `goaldriven.specs.rules.RULES`.

    Raises
    ------
    IdentificationError : of some rules it is not known, or has no family; lists them.
    """
    credits = {rule: _credit(rule, given) for rule in given.rules}
    lost = {rule: credit for rule, credit in credits.items() if credit not in FAMILY_OF_CREDIT}
    if lost:
        named = ", ".join(f"{r} ({c or 'credit assignment unknown'})" for r, c in lost.items())
        raise IdentificationError(
            f"rules must have a credit assignment of a known family, got {named}; known are "
            f"{', '.join(FAMILY_OF_CREDIT)}"
        )
    return {rule: FAMILY_OF_CREDIT[credit] for rule, credit in credits.items()}


def _credit(rule: str, given: Material) -> str:
    """Name of a rule's credit assignment; empty where it is not known."""
    if given.folder is not None:
        which = np.flatnonzero(given.examples["rule"].values == rule)[0]
        network = given.examples["network"].values[which]
        try:
            trajectory = read(given.folder / NETWORKS_FOLDER / f"{network}.nc")
            return str(json.loads(trajectory.attrs["spec"])["rule"]["credit"]["name"])
        except (DataError, KeyError, ValueError, TypeError):
            pass  # examples from elsewhere: their rules are known by name, if at all
    return RULES[rule].credit.name if rule in RULES else ""


def _families(given: Material) -> Sequence[Cell]:
    family = families_of(given)
    if len(set(family.values())) < 2 or len(set(family.values())) == len(family):
        raise IdentificationError(
            "experiment 'rule_families' must have rules of at least 2 families, and a family with "
            f"2 rules, got {', '.join(f'{r} ({f})' for r, f in family.items())}"
        )
    fine = given.observables("all")
    levels = {FINE: fine, COARSE: relabelled(fine, family)}
    # The same splits for both levels, balanced over the rules.
    splits = given.splits("network", fine)
    return [
        Cell(
            {"level": level}, classifier, examples, split, number,
            probes=("out_of_fold",) if level == FINE else (),
        )
        for level, examples in levels.items()
        for classifier in CLASSIFIERS
        for number, split in enumerate(splits)
    ]  # fmt: skip


def _after(given: Material, cells: Sequence[Cell], fits: Sequence[Fit]) -> Iterable[Row]:
    family = families_of(given)
    for group in together(cells, fits):
        fine = group[0][0].condition["level"] == FINE
        keys = of_all_splits(group[0][0])
        for way, call in (FINE_WAYS if fine else COARSE_WAYS).items():
            verdicts = [_verdicts(cell, *call(cell, fit, family), family) for cell, fit in group]
            yield from _accuracies(keys | {"families_by": way}, pd.concat(verdicts))
        if fine:
            yield from rows(keys, _errors(group, family))
            yield from _confused_pairs(keys, group)


def summed(scores: Matrix, families: Sequence[str]) -> tuple[Matrix, list[str]]:
    """Scores of rules (example, rule) → of their families (example, family), and these' names."""
    names = sorted(set(families))
    member = np.array([[f == name for name in names] for f in families], dtype=float)
    return scores @ member, names


def _by_sum(cell: Cell, fit: Fit, family: Mapping[str, str]) -> tuple[Matrix, list[str]]:
    truth = cell.train["rule"].values.astype(str)[cell.split.train]
    temperature = fit_temperature(fit.found["out_of_fold"], truth, rules=fit.classes.tolist())
    scaled = calibrated_probabilities(fit.scores[WHOLE], temperature)
    return summed(scaled, [family[rule] for rule in fit.classes.tolist()])


def _by_call(cell: Cell, fit: Fit, family: Mapping[str, str]) -> tuple[Matrix, list[str]]:
    return fit.scores[WHOLE], [family.get(name, name) for name in fit.classes.tolist()]


# Scores of the tested layers, and the family that each column stands for.
Way = Callable[[Cell, Fit, Mapping[str, str]], tuple[Matrix, list[str]]]
FINE_WAYS: dict[str, Way] = {SUMMED: _by_sum, CALLED: _by_call}
COARSE_WAYS: dict[str, Way] = {TRAINED: _by_call}


def _verdicts(
    cell: Cell, scores: Matrix, names: Sequence[str], family: Mapping[str, str]
) -> pd.DataFrame:
    """One row per tested network: its family, how many layers were called right, and if it was."""
    named = np.array(names)
    rules = cell.train["rule"].values.astype(str)[cell.split.test]
    truth = np.array([family.get(rule, rule) for rule in rules])
    labels = cell.train["network"].values[cell.split.test]
    networks, mean = average_over_layers(scores, labels)
    right = (named[scores.argmax(axis=1)] == truth).astype(float)
    true = first_of_each(truth, labels)
    layers = np.array([np.sum(labels == network) for network in networks])
    return pd.DataFrame(
        {"network": networks, "rule": true, "split": cell.number, "layers": layers,
         "correct": (named[mean.argmax(axis=1)] == true).astype(int),
         "layers_correct": average_over_layers(right, labels)[1] * layers}
    )  # fmt: skip


def _accuracies(keys: Row, verdicts: pd.DataFrame) -> Iterator[Row]:
    """Accuracy on layers and networks by split and over all; recall of each family, their mean.

    ``rule`` of the verdicts is the family.
    """
    for number, part in verdicts.groupby("split"):
        values = {
            "family_layer_accuracy": part["layers_correct"].sum() / part["layers"].sum(),
            "family_network_accuracy": part["correct"].mean(),
        }
        yield from rows(keys | {"split": number}, values)
    for metric in ("layer_accuracy", "network_accuracy"):
        low, high = interval(verdicts, metric)
        named = f"family_{metric}"
        yield from rows(keys, {f"{named}_low": low, f"{named}_high": high})
    recalls, counts = [], []
    for name, part in verdicts.groupby("rule"):
        recalls.append(float(part["correct"].mean()))
        counts.append(part["network"].nunique())
        recall = with_interval("family_recall", *mean_of_rates(recalls[-1:], counts[-1:]))
        yield from rows(keys | {"family": name}, recall | {"family_networks": counts[-1]})
    balanced = mean_of_rates(recalls, counts)
    yield from rows(keys, with_interval("family_balanced_accuracy", *balanced))


def _errors(group: Group, family: Mapping[str, str]) -> dict[str, float]:
    """Of layers called by a wrong rule, the share that stays in the family, and by chance alone.

    By chance a layer of rule r is called each other rule alike: (n_family − 1) / (n_rules − 1).
    """
    size = pd.Series(family).value_counts()
    inside, expected = [], []
    for cell, fit in group:
        true = cell.train["rule"].values.astype(str)[cell.split.test]
        called = fit.classes[fit.scores[WHOLE].argmax(axis=1)]
        for one, other in zip(true[true != called], called[true != called], strict=True):
            inside.append(family[one] == family[other])
            expected.append((size[family[one]] - 1) / (len(family) - 1))
    if not inside:
        return {"layers_named_wrong": 0}
    return {
        "layers_named_wrong": len(inside),
        "errors_in_family": float(np.mean(inside)),
        "errors_in_family_by_chance": float(np.mean(expected)),
    }


def _confused_pairs(keys: Row, group: Group) -> Iterator[Row]:
    """Share of each two rules' layers called by the other's name, over all splits."""
    classes = group[0][1].classes.tolist()
    counts = pd.DataFrame(0.0, index=classes, columns=classes)
    for cell, fit in group:
        true = cell.train["rule"].values.astype(str)[cell.split.test]
        called = fit.classes[fit.scores[WHOLE].argmax(axis=1)]
        counts += pd.crosstab(true, called).reindex(index=classes, columns=classes, fill_value=0)
    for i, a in enumerate(classes):
        for b in classes[i + 1 :]:
            exchanged = counts.loc[a, b] + counts.loc[b, a]
            share = exchanged / (counts.loc[a].sum() + counts.loc[b].sum())
            yield from rows(keys | {"pair": f"{a} and {b}"}, {"exchanged_layers": share})


def accuracies(results: Results) -> pd.DataFrame:
    """Accuracies on rules and, each way, on families: columns of `Results.summary`, and ``named``.

    Chance on families is that of a classifier of families, on layers or on networks as the metric
    is, whichever way they are called.
    """
    common = results.summary()
    coarse = common[common["level"] == COARSE]
    chance = coarse.groupby(["metric", "classifier"])["chance"].mean()
    table = results.table[results.table["family"].isna()].dropna(subset="families_by")
    found = [common[common["level"] == FINE].drop(columns="level").assign(named=FINE)]
    for metric in ("layer_accuracy", "network_accuracy"):
        keys = ["families_by", "classifier", "split_kind"]
        of: dict[str, Any] = {
            name: table[table["metric"] == f"family_{metric}{name}"].groupby(keys, sort=False)
            for name in ("", "_low", "_high")
        }
        each = of[""]["value"].agg(mean="mean", sem="sem", splits="count")
        for end in ("low", "high"):
            each[end] = of[f"_{end}"]["value"].mean()
        each = each.reset_index()
        each["named"] = f"{COARSE}, " + each.pop("families_by")
        each["chance"] = each["classifier"].map(chance[metric])
        found.append(each.assign(metric=metric, networks=common["networks"].iloc[0]))
    return pd.concat(found, ignore_index=True)


def _found(results: Results) -> Sequence[Finding]:
    summary, table = results.summary(), results.table
    text = []
    for classifier in CLASSIFIERS:
        mine = table[table["classifier"] == classifier]
        fine = accuracy(summary, level=FINE, classifier=classifier)
        ways = wide(mine, ("families_by",)).set_index("families_by")
        text.append(
            f"{classifier.replace('_', ' ')}: rules {told(fine)} (chance {fine['chance']:.2f}); "
            "families " + ", ".join(
                f"{said(row, 'family_network_accuracy')} {way} (mean over families "
                f"{said(row, 'family_balanced_accuracy')})" for way, row in ways.iterrows()
            )
        )  # fmt: skip
    forest = table[table["classifier"] == CLASSIFIERS[0]]
    return (
        Finding(
            f"Networks named right: {'; '.join(text)}; mean over families by chance "
            f"{1 / forest['family'].nunique():.2f}.", "", "not in the paper",
        ),
        _recalls_found(forest),
        _confusions_found(forest),
    )  # fmt: skip


def _recalls_found(forest: pd.DataFrame) -> Finding:
    recall = wide(forest, ("families_by", "family"))
    recall = recall[recall["families_by"] == SUMMED].sort_values("family_recall")
    return Finding(
        "Networks of each family called so (random forest, summed over rules): "
        + ", ".join(
            f"{row['family']} {said(row, 'family_recall')} of {row['family_networks']:.0f}"
            for _, row in recall.iterrows()
        ) + ".", "", "not in the paper",
    )  # fmt: skip


def _confusions_found(forest: pd.DataFrame) -> Finding:
    pairs = wide(forest, ("pair",)).sort_values("exchanged_layers", ascending=False).head(3)
    value = forest[forest["level"] == FINE].groupby("metric")["value"].mean()
    inside = (
        "no layer was named wrong"
        if not value["layers_named_wrong"]
        else f"of the layers named wrong {value['errors_in_family']:.0%} were called another rule "
        f"of their family, {value['errors_in_family_by_chance']:.0%} by chance"
    )
    return Finding(
        "Rules confused most, by the share of their layers called by the other's name (random "
        "forest): "
        + ", ".join(f"{row['pair']} {row['exchanged_layers']:.2f}" for _, row in pairs.iterrows())
        + f"; {inside}.", "", "not in the paper",
    )  # fmt: skip


RULE_FAMILIES = Experiment(
    "rule_families",
    "Families of rules",
    "Among all rules, is it seen what carries the error: backprop, random or aligned feedback, "
    "or perturbation?",
    "ours",
    _families,
    _found,
    (
        Plot("levels", "named", "classifier", table=accuracies, title="rules and families"),
        Plot(
            "levels",
            "family",
            "families_by",
            "classifier",
            table=lambda results: wide(results.table, ("family", "families_by", "classifier")),
            measures=(Measure("family_recall", "networks of the family called so"),),
            title="each family",
        ),
    ),
    measure=confusion_of,
    after=_after,
)

ENTRIES = (RULE_FAMILIES,)
