"""Bad study files: one message (which field, what was given, what is allowed), exit code 2."""

from __future__ import annotations

import pytest

from goaldriven import specs
from goaldriven.specs.credit import CREDITS as CREDITS_KNOWN
from goaldriven.studies.files import shipped_studies

from .command_line import goaldriven

BASE = "name: s\ntasks: [digits]\narchitectures: [knet4]\nrules: [sgdm]\n"
FACTORS = "architecture, batch_size, data_seed, model_seed, rule, task"
STUDY_KEYS = (
    "adjust, architectures, batch_sizes, data_seeds, description, epochs, exclude, model_seeds, "
    "name, record_every, rules, tasks"
)
SGDM_KEYS = (
    "decay_biases, learning_rate, momentum, name, nesterov, reference_batch_size, schedule, "
    "update_noise, weight_decay"
)
TASKS, ARCHITECTURES, RULES, CREDITS, STUDIES = (
    ", ".join(sorted(names))
    for names in (
        specs.TASKS,
        specs.ARCHITECTURES,
        specs.RULES,
        [credit.model_fields["name"].default for credit in CREDITS_KNOWN],
        shipped_studies(),
    )
)


def with_(**fields: str) -> str:
    """The base study with lines replaced or added."""
    lines = dict(line.split(": ", 1) for line in BASE.splitlines())
    return "".join(f"{key}: {value}\n" for key, value in (lines | fields).items())


# study file text → the complaint, after "FILE: "
BAD_STUDIES = {
    "unknown rule": (
        with_(rules="[ai]"),
        f"rules[0]: rule must be one of {RULES}; got 'ai' (did you mean 'sa'?)",
    ),
    "unknown task": (
        with_(tasks="[digit]"),
        f"tasks[0].name must be one of {TASKS}; got 'digit' (did you mean 'digits'?)",
    ),
    "unknown architecture": (
        with_(architectures="[knet7]"),
        f"architectures[0].name must be one of {ARCHITECTURES}; got 'knet7' "
        "(did you mean 'knet5'?)",
    ),
    "unknown credit assignment": (
        with_(rules="[{name: r, credit: hebb, optimizer: {name: adam, learning_rate: 0.1}}]"),
        f"rules[0].credit.name must be one of {CREDITS}; got 'hebb'",
    ),
    "unknown base of a rule": (
        with_(rules="[{name: mine, like: adamw}]"),
        f"rules[0]: rule: like must be one of {RULES}; got 'adamw' (did you mean 'adam'?)",
    ),
    "misspelt key of the study": (
        with_(epoch="3"),
        f"every key must be one of {STUDY_KEYS}; got 'epoch' (did you mean 'epochs'?)",
    ),
    "misspelt key of an optimizer": (
        with_(rules="[{name: sgdm, optimizer: {learning_rte: 1}}]"),
        f"rules[0].optimizer: every key must be one of {SGDM_KEYS}; got 'learning_rte' "
        "(did you mean 'learning_rate'?)",
    ),
    "setting of another architecture": (
        with_(architectures="[{name: resnet10, depth: 3}]"),
        "architectures[0]: every key must be one of name, width; got 'depth' "
        "(did you mean 'width'?)",
    ),
    "missing field": (
        "name: s\ntasks: [digits]\nrules: [sgdm]\n",
        "architectures is required and was not given",
    ),
    "rule without an optimizer": (
        with_(rules="[{name: mine, credit: backprop}]"),
        "rules[0].optimizer is required and was not given",
    ),
    "word for a number": (
        with_(batch_sizes="[many]"),
        "batch_sizes[0] must be a whole number, got 'many'",
    ),
    "number for a list": (with_(model_seeds="3"), "model_seeds must be a list, got 3"),
    "number for a task": (with_(tasks="[7]"), "tasks[0] must be a name or a mapping, got 7"),
    "word for a switch": (
        with_(rules="[{name: ia, credit: {operations: {forward_relu: maybe}}}]"),
        "rules[0].credit.operations.forward_relu must be true or false, got 'maybe'",
    ),
    "empty grid": (with_(tasks="[]"), "tasks must have at least 1 entry, got []"),
    "everything excluded": (
        with_(exclude="[{rule: sgdm}]"),
        "exclude must leave at least one network, got 0 of 1",
    ),
    "exclusion of nothing": (
        with_(exclude="[{}]"),
        "exclude: each entry must name at least one field, got {}",
    ),
    "negative seed": (
        with_(model_seeds="[-1]"),
        "model_seeds[0] must be greater than or equal to 0, got -1",
    ),
    "negative learning rate": (
        with_(rules="[{name: sgdm, optimizer: {learning_rate: -0.1}}]"),
        "rules[0].optimizer.learning_rate must be greater than 0, got -0.1",
    ),
    "learning rate that is no number": (
        with_(rules="[{name: sgdm, optimizer: {learning_rate: .nan}}]"),
        "rules[0].optimizer.learning_rate must be a finite number, got nan",
    ),
    "batch of one": (
        with_(batch_sizes="[1]"),
        "batch_sizes[0] must be greater than or equal to 2, got 1",
    ),
    "choice given twice": (
        with_(batch_sizes="[64, 64]"),
        "batch_sizes must not repeat a choice, got 64 twice",
    ),
    "batch larger than the data": (
        with_(batch_sizes="[2048]"),
        "batch_size must be at most the 1347 training stimuli of task digits, got 2048",
    ),
    "batch larger than the limited data": (
        with_(tasks="[{name: digits, train_limit: 50}]"),
        "batch_size must be at most the 50 training stimuli of task digits, got 64",
    ),
    "records that do not fit the epochs": (
        with_(epochs="12", record_every="5"),
        "record_every must divide epochs (12), got 5",
    ),
    "schedule out of order": (
        with_(rules="[{name: sgdm, optimizer: {schedule: {drop_epochs: [60, 30]}}}]"),
        "rules[0].optimizer.schedule: drop_epochs must ascend without repeats, got (60, 30)",
    ),
    "name that is no file name": (
        with_(name="'../s'"),
        "name must be made of letters, digits, '.', '_', '-' (and begin with a letter or digit), "
        "got '../s'",
    ),
    "key given twice": (
        BASE + "name: t\n",
        "name must be given once, got it twice in the mapping at line 1",
    ),
    "a list, no mapping": ("- digits\n", "a study must be a mapping of fields, got list"),
    "not YAML": (
        "tasks: [digits\n",
        "a study must be valid YAML: while parsing a flow sequence",
    ),
}


@pytest.mark.parametrize("case", BAD_STUDIES)
def test_bad_study_files(case, tmp_path, monkeypatch, capsys):
    text, complaint = BAD_STUDIES[case]
    path = tmp_path / "study.yaml"
    path.write_text(text)
    code, error = goaldriven(monkeypatch, capsys, "run", path, "--out", tmp_path / "out")
    assert code == 2
    assert error.startswith(f"goaldriven: {path}: {complaint}")
    assert len(error.splitlines()) == 1
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()
