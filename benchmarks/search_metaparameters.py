"""The search behind the stored metaparameters of the four rules.

    python benchmarks/search_metaparameters.py sgdm adam fa ia --trials 40 --out results/search

TPE (Optuna) for each rule by itself, on the *training* digits only: a quarter of them, stratified,
is held out to score a setting; the validation digits are never touched. The score is the mean
held-out accuracy of knet4 and knet5 (half width) at batch sizes 32 and 128 after a fixed number of
epochs. The best are scored again at full width with another model seed and twice the epochs, since
a setting on the edge of stability can win once; they are printed as the fields of a rule, rounded
to two digits. The best of those is stored in `goaldriven/specs/rules.py` and used unchanged for
every architecture, task and batch size.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import torch
from sklearn.model_selection import train_test_split

from goaldriven import tasks
from goaldriven.specs import RULES, NetworkSpec, RuleSpec
from goaldriven.specs.base import merge
from goaldriven.specs.tasks import Digits
from goaldriven.tasks.supervised import SupervisedTask
from goaldriven.training.loop import _train_epoch
from goaldriven.training.network import build

Cell = tuple[str, int, int]  # architecture, batch size, model seed
# Half of the 2 × 2 × 2 designs: every pair of choices meets once.
SEARCHED: tuple[Cell, ...] = (
    ("knet5", 32, 0), ("knet4", 32, 1), ("knet4", 128, 0), ("knet5", 128, 1),
)  # fmt: skip
CONFIRMED: tuple[Cell, ...] = tuple(product(("knet4", "knet5"), (32, 64, 128), (2, 3)))
Changes = dict[str, Any]

# Where each search begins; the rest is TPE's. A random setting of so many parameters seldom learns.
STARTS: dict[str, dict[str, float | bool]] = {
    "ia": {
        "learning_rate": 0.02, "weight_decay": 1e-4, "scaled_by_batch": False, "decay": 0.3,
        "null": 2.0, "alignment_rate": 0.01, "batch_centring": True, "forward_bias": True,
        "forward_relu": True, "forward_feature_centring": False, "backward_feature_centring": False,
    },
    "ia_noise": {
        "learning_rate": 0.03, "weight_decay": 1e-4, "scaled_by_batch": False, "decay": 1.0,
        "null": 1.0, "alignment_rate": 0.003, "batch_centring": True, "forward_bias": True,
        "forward_relu": True, "forward_feature_centring": False, "backward_feature_centring": False,
    },
}  # fmt: skip


def sgdm(trial: optuna.Trial) -> Changes:
    return {
        "optimizer": {
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, 2.0, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        }
    }


def adam(trial: optuna.Trial) -> Changes:
    return {
        "optimizer": {
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
        }
    }


def ia(trial: optuna.Trial) -> Changes:
    """Ratios of the primitives, the alignment rate and the layer-wise operations.

    The backward weights' optimizer is Adam, to which only ratios of the primitives matter: amp is
    1. Left out: the operations that cost further projections, input noise, alternation and delay.
    """
    centring = trial.suggest_categorical("batch_centring", [False, True])
    flags = (
        "forward_bias", "forward_relu", "forward_feature_centring", "backward_feature_centring",
    )  # fmt: skip
    operations = {flag: trial.suggest_categorical(flag, [False, True]) for flag in flags}
    operations |= dict.fromkeys(("forward_batch_centring", "input_batch_centring"), centring)
    scaled = trial.suggest_categorical("scaled_by_batch", [False, True])
    return {
        "optimizer": {
            "learning_rate": trial.suggest_float("learning_rate", 3e-3, 0.3, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-2, log=True),
            "reference_batch_size": 64 if scaled else None,
        },
        "credit": {
            "amp": 1.0,
            "decay": trial.suggest_float("decay", 1e-3, 10.0, log=True),
            "null": trial.suggest_float("null", 1e-2, 100.0, log=True),
            "operations": operations,
            "optimizer": {
                "learning_rate": trial.suggest_float("alignment_rate", 3e-4, 5e-2, log=True)
            },
        },
    }


def ia_noise(trial: optuna.Trial) -> Changes:
    """As published: Gaussian noise is what the backward weights see, in steps of their own."""
    changes = ia(trial)
    changes["credit"] |= {"input_noise": 1.0, "alternating": True}
    return changes


SPACES: dict[str, Callable[[optuna.Trial], Changes]] = {
    "sgdm": sgdm, "adam": adam, "fa": adam, "ia": ia, "ia_noise": ia_noise,
}  # fmt: skip


def held_out_task() -> SupervisedTask:
    """The training digits, a quarter of them set aside as the validation stimuli."""
    task = tasks.load(Digits())
    assert isinstance(task, SupervisedTask)
    labels = task.train_labels
    stimuli = task.draw(torch.arange(task.n_train), torch.Generator())
    train, test = train_test_split(
        torch.arange(task.n_train), test_size=0.25, stratify=labels, random_state=0
    )
    kept = stimuli[train]
    return dataclasses.replace(
        task,
        train_labels=labels[train],
        validation_stimuli=stimuli[test],
        validation_labels=labels[test],
        draw=lambda chosen, generator: kept[chosen],
    )


def round_numbers(value: Any, digits: int = 2) -> Any:
    """Every number to so many significant digits; the rounded setting is what is scored."""
    if isinstance(value, dict):
        return {k: round_numbers(v, digits) for k, v in value.items()}
    return float(f"{value:.{digits - 1}e}") if isinstance(value, float) else value


def rule_of(name: str, changes: Changes) -> RuleSpec:
    base = RULES[name.removesuffix("_noise")].model_dump()
    return RuleSpec(**merge(base, changes))


def accuracy(rule: RuleSpec, task: SupervisedTask, epochs: int, cell: Cell) -> float:
    """Held-out accuracy of one network; 0 if it diverged."""
    architecture, batch_size, model_seed = cell
    spec = NetworkSpec(
        task="digits",
        architecture=architecture,
        rule=rule,
        batch_size=batch_size,
        model_seed=model_seed,
        epochs=epochs,
        record_every=epochs,
    )
    network = dataclasses.replace(build(spec), task=task)
    for epoch in range(epochs):
        if not math.isfinite(_train_epoch(network, epoch)):
            return 0.0
    return task.metric(network.model, 512)


def search(name: str, trials: int, epochs: int, seed: int, out: Path) -> None:
    """Bring a search to ``trials`` trials; it goes on where it stopped."""
    study = optuna.create_study(
        study_name=name,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=seed, multivariate=True, n_startup_trials=trials // 6
        ),
        pruner=optuna.pruners.PercentilePruner(40.0, n_startup_trials=trials // 6),
        storage=f"sqlite:///{out / f'{name}-{seed}.db'}",
        load_if_exists=True,
    )
    task = held_out_task()
    if name in STARTS and not study.trials:
        study.enqueue_trial(STARTS[name])

    def objective(trial: optuna.Trial) -> float:
        changes = round_numbers(SPACES[name](trial))
        trial.set_user_attr("changes", changes)
        rule, accuracies = rule_of(name, changes), []
        for step, cell in enumerate(SEARCHED):
            accuracies.append(accuracy(rule, task, epochs, cell))
            trial.report(sum(accuracies) / len(accuracies), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return sum(accuracies) / len(accuracies)

    over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    done = len(study.get_trials(states=over))
    study.optimize(objective, n_trials=max(0, trials - done))


def confirm(names: list[str], settings: int, epochs: int, out: Path) -> None:
    """Score the best settings of all searches of these spaces again, and print them best first."""
    found = [
        (trial, name)
        for name in names
        for file in sorted(out.glob(f"{name}-*.db"))
        for trial in optuna.load_study(study_name=name, storage=f"sqlite:///{file}").get_trials(
            states=[optuna.trial.TrialState.COMPLETE]
        )
    ]
    found.sort(key=lambda pair: -(pair[0].value or 0.0))
    task, results = held_out_task(), []
    for trial, name in found[:settings]:
        changes = trial.user_attrs["changes"]
        rule = rule_of(name, changes)
        accuracies = [accuracy(rule, task, epochs, cell) for cell in CONFIRMED]
        results.append((sum(accuracies) / len(accuracies), min(accuracies), name, changes))
        print(f"{name} trial {trial.number}: {trial.value:.4f}, {results[-1][:2]}", flush=True)
    for mean, lowest, name, changes in sorted(results, key=lambda result: -result[0]):
        print(f"{name} confirmed: mean {mean:.4f}, lowest {lowest:.4f}: {json.dumps(changes)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spaces", nargs="+", choices=SPACES)
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of TPE; one each for parallel runs")
    parser.add_argument("--confirm", type=int, default=0, help="settings to score again, no search")
    parser.add_argument("--out", type=Path, default=Path("results/search"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.confirm:
        confirm(arguments.spaces, arguments.confirm, 100, arguments.out)
    else:
        for space in arguments.spaces:
            search(space, arguments.trials, arguments.epochs, arguments.seed, arguments.out)
