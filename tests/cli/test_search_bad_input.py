"""``goaldriven search``: one clear message for each of the usual mistakes, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from goaldriven.search import shipped_searches

from .command_line import goaldriven

BASE = """\
name: s
base: {task: digits, architecture: knet4, rule: sgdm, epochs: 1}
space: {rule.optimizer.learning_rate: {low: 0.1, high: 0.2}}
"""
SEARCH_KEYS = (
    "base, confirm, derived, description, name, over, pruning, score_on, seed, "
    "significant_digits, space, start, startup_trials, trials, variables"
)
NETWORK_KEYS = "architecture, batch_size, data_seed, epochs, model_seed, record_every, rule, task"
SGDM_KEYS = (
    "decay_biases, learning_rate, momentum, name, nesterov, reference_batch_size, schedule, "
    "update_noise, weight_decay"
)
RATE = "rule.optimizer.learning_rate"
RANGE = "{low: 0.1, high: 0.2}"
NO_RECORDS = "record_every must be left out: a search records nothing but its score"


def with_(**fields: str) -> str:
    """The base search with lines replaced or added."""
    lines = dict(line.split(": ", 1) for line in BASE.splitlines())
    return "".join(f"{key}: {value}\n" for key, value in (lines | fields).items())


# search file text → the complaint, after "FILE: "
BAD_SEARCHES = {
    "misspelt key of the search": (
        with_(trails="3"),
        f"every key must be one of {SEARCH_KEYS}; got 'trails' (did you mean 'trials'?)",
    ),
    "missing space": (BASE.rsplit("space", 1)[0], "space is required and was not given"),
    "empty space": (with_(space="{}"), "space must have at least 1 entry, got {}"),
    "unknown field of the network": (
        with_(space=f"{{batchsize: {RANGE}}}"),
        f"space: every key must be one of {NETWORK_KEYS}; got 'batchsize' (did you mean "
        "'batch_size'?)",
    ),
    "unknown field of the optimizer": (
        with_(space=f"{{rule.optimizer.learning_rte: {RANGE}}}"),
        f"space: rule.optimizer: every key must be one of {SGDM_KEYS}; got 'learning_rte' (did "
        "you mean 'learning_rate'?)",
    ),
    "field that this variant does not have": (
        with_(space=f"{{rule.credit.decay: {RANGE}}}"),
        "space: rule.credit: every key must be one of name; got 'decay'",
    ),
    "field that one variation does not have": (
        with_(
            space=f"{{rule.optimizer.momentum: {RANGE}}}",
            over="[{rule: sgdm}, {rule: adam}]",
        ),
        "over[1]: space: rule.optimizer: every key must be one of beta1, beta2, "
        "decay_biases, epsilon, learning_rate, name, reference_batch_size, schedule, "
        "update_noise, weight_decay; got 'momentum'",
    ),
    "field of a number": (
        with_(space=f"{{batch_size.x: {RANGE}}}"),
        "space: 'batch_size' must be made of fields to set 'x' of it, got 64",
    ),
    "field that is not searched": (with_(space=f"{{record_every: {RANGE}}}"), NO_RECORDS),
    "record_every": (
        with_(base="{task: digits, architecture: knet4, rule: sgdm, record_every: 5}"),
        f"base: {NO_RECORDS}",
    ),
    "low above high": (
        with_(space=f"{{{RATE}: {{low: 3, high: 2}}}}"),
        f"space.{RATE}: low must be less than high (2), got 3",
    ),
    "logarithm of 0": (
        with_(space=f"{{{RATE}: {{low: 0, high: 2, log: true}}}}"),
        f"space.{RATE}: low must be greater than 0 where log is true, got 0",
    ),
    "half of an integer": (
        with_(space="{batch_size: {low: 2.5, high: 32, integer: true}}"),
        "space.batch_size: low must be a whole number where integer is true, got 2.5",
    ),
    "numbers where whole numbers belong": (
        with_(space="{batch_size: {low: 32, high: 64}}"),
        "space.batch_size at 51.78: batch_size must be a whole number, got 51.777087638400005",
    ),
    "missing end of a range": (
        with_(space=f"{{{RATE}: {{low: 0.1}}}}"),
        f"space.{RATE}: high is required and was not given",
    ),
    "misspelt key of a range": (
        with_(space=f"{{{RATE}: {{low: 0.1, high: 1, logarithmic: true}}}}"),
        f"space.{RATE}: every key must be one of high, integer, log, low; got 'logarithmic'",
    ),
    "word for a number": (
        with_(space=f"{{{RATE}: {{low: little, high: 1}}}}"),
        f"space.{RATE}: low must be a number, got 'little'",
    ),
    "number for a distribution": (
        with_(space=f"{{{RATE}: 3}}"),
        f"space.{RATE}: must be {{low: …, high: …}} or a list of choices, got 3",
    ),
    "empty choice": (
        with_(space=f"{{{RATE}: []}}"),
        f"space.{RATE}: choices must have at least 1 entry, got []",
    ),
    "choice given twice": (
        with_(space="{batch_size: [32, 64, 32]}"),
        "space.batch_size: choices must not repeat one, got 32 twice",
    ),
    "choice out of range": (
        with_(space="{batch_size: [32, 1]}"),
        "space.batch_size at 1: batch_size must be greater than or equal to 2, got 1",
    ),
    "range out of the field's": (
        with_(space="{rule.optimizer.momentum: {low: 0.5, high: 1}}"),
        "space.rule.optimizer.momentum at 1: rule.optimizer.momentum must be less than 1, got 1.0",
    ),
    "unknown task": (
        with_(base="{task: digit, architecture: knet4, rule: sgdm}"),
        "base: task.name must be one of ",
    ),
    "unknown rule among the choices": (
        with_(space="{rule: [sgdm, adma]}"),
        "space.rule at adma: rule must be one of ",
    ),
    "unknown architecture to vary": (
        with_(over="[{architecture: knet9}]"),
        "over[0]: space: architecture.name must be one of ",
    ),
    "empty list to vary": (
        with_(over="{model_seed: []}"),
        "over: model_seed must have at least 1 entry in a list, got []",
    ),
    "nothing to vary": (with_(over="[]"), "over must have at least 1 entry, got "),
    "set twice": (
        with_(over=f"[{{{RATE}: 0.3}}]"),
        f"space.{RATE} must not set what over sets, got '{RATE}' in over",
    ),
    "undone by a derived setting": (
        with_(derived="{rule.optimizer: {same_as: rule.optimizer}}"),
        f"derived.rule.optimizer must not set what space sets, got '{RATE}' in space",
    ),
    "derived from nothing": (
        with_(derived="{rule.optimizer.momentum: {product: [ratoi, 2]}}", variables="{ratio: [1]}"),
        "derived.rule.optimizer.momentum: a name, if not a field of the base, must be one of "
        f"ratio, {RATE}, rule.optimizer.momentum; got 'ratoi' (did you mean 'ratio'?)",
    ),
    "derived from what is no number": (
        with_(derived="{rule.optimizer.momentum: {product: rule.optimizer.nesterov}}"),
        "space: factor 'rule.optimizer.nesterov' must be a number, got True",
    ),
    "division by 0": (
        with_(derived="{rule.optimizer.momentum: {product: 1, divided_by: model_seed}}"),
        "space: divided_by must not be 0, got 'model_seed', which is",
    ),
    "neither product nor copy": (
        with_(derived="{rule.optimizer.momentum: {sum: [1, 2]}}"),
        "derived.rule.optimizer.momentum: must be {same_as: NAME} or {product: [FACTORS]}, got "
        "{'sum': [1, 2]}",
    ),
    "variable that is not used": (
        with_(variables="{ratio: [1, 2]}"),
        "variables.ratio must be used in derived, which it is not",
    ),
    "variable with the name of a field": (
        with_(variables="{batch_size: [32, 64]}"),
        "variables: a name must be made of letters, digits and '_' and be no field of a network, "
        "got 'batch_size'",
    ),
    "no trials": (with_(trials="0"), "trials must be greater than 0, got 0"),
    "start outside the range": (
        with_(start=f"[{{{RATE}: 0.3}}]"),
        f"start[0].{RATE} must be between 0.1 and 0.2, got 0.3",
    ),
    "start that is not searched": (
        with_(start="[{batch_size: 32}]"),
        f"start[0]: every key must be one of {RATE}; got 'batch_size'",
    ),
    "unknown stimuli to score on": (
        with_(score_on="test"),
        "score_on must be one of training_split, validation; got 'test'",
    ),
    "held-out part of everything": (
        with_(score_on="{name: training_split, fraction: 1}"),
        "score_on: fraction must be less than 1, got 1",
    ),
    "batch larger than what is left": (
        with_(space="{batch_size: [64, 1200]}"),
        "space.batch_size at 1200: batch_size must be at most the 1010 training stimuli of task "
        "digits that score_on leaves, got 1200",
    ),
    "pruning of everything": (
        with_(pruning="{keep: 0}"),
        "pruning.keep must be greater than 0, got 0",
    ),
    "confirmation on an unknown architecture": (
        with_(confirm="{over: {architecture: [knet4, knot]}}"),
        "confirm.over[1]: space: architecture.name must be one of ",
    ),
    "key given twice": (
        BASE + "name: t\n",
        "name must be given once, got it twice in the mapping at line 1",
    ),
    "a list, no mapping": ("- digits\n", "a search must be a mapping of fields, got list"),
    "not YAML": ("space: [a\n", "a search must be valid YAML: while parsing a flow sequence"),
}


@pytest.mark.parametrize("case", BAD_SEARCHES)
def test_bad_search_files(case, tmp_path, monkeypatch, capsys):
    text, complaint = BAD_SEARCHES[case]
    path = tmp_path / "search.yaml"
    path.write_text(text)
    code, error = goaldriven(monkeypatch, capsys, "search", path, "--out", tmp_path / "out")
    assert code == 2
    assert error.startswith(f"goaldriven: {path}: {complaint}")
    if not complaint.endswith((" of ", "sequence", "got ")):
        assert error == f"goaldriven: {path}: {complaint}\n"
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_missing_search_file(monkeypatch, capsys):
    code, error = goaldriven(monkeypatch, capsys, "search", "nowhere.yaml")
    assert code == 2
    assert error == (
        f"goaldriven: search must be a YAML file or one of {', '.join(shipped_searches())}; got "
        "'nowhere.yaml'\n"
    )


def test_search_file_that_is_no_text(tmp_path, monkeypatch, capsys):
    path = tmp_path / "search.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    code, error = goaldriven(monkeypatch, capsys, "search", path)
    assert code == 2
    assert error.startswith(f"goaldriven: search '{path}' cannot be read: ")


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "search.yaml"
    path.write_text(BASE)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--storage", "results.db"], "storage must be a database URL such as "
         "sqlite:///search.db or postgresql://user@host/name, got 'results.db'"),
        (["--storage", "sqlite:////no/such/place/a.db"], "storage must be a database that can be "
         "opened, got 'sqlite:////no/such/place/a.db': "),
        (["--storage", "postgresql://me:secret@localhost:1/x"], "storage must be a database that "
         "can be opened, got 'postgresql://me:***@localhost:1/x': "),
        (["--trials", "0"], ""),
        (["--jobs", "0"], ""),
        (["--threads", "none"], ""),
    ],
)  # fmt: skip
def test_bad_options(options, message, file, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    code, error = goaldriven(monkeypatch, capsys, "search", file, "--out", out, *options)
    assert code == 2
    assert message in error
    assert "Traceback" not in error
    assert "secret" not in error


def test_folder_of_another_search(file, tmp_path, monkeypatch, capsys):
    from goaldriven.search import SearchFolder, load_search

    SearchFolder.create(tmp_path / "out", load_search(file))
    file.write_text(with_(seed="4", trials="7"))
    code, error = goaldriven(monkeypatch, capsys, "search", file, "--out", tmp_path / "out")
    assert code == 2
    assert error == (
        "goaldriven: out must be a folder of search 's' as it stands in the file; "
        f"'{tmp_path / 'out'}' belongs to search 's', which differs in seed; give another --out\n"
    )


def test_folder_with_other_files(file, tmp_path, monkeypatch, capsys):
    code, error = goaldriven(monkeypatch, capsys, "search", file, "--out", tmp_path)
    assert code == 2
    assert error == (
        "goaldriven: out must be an empty or new folder or this search's own, got "
        f"'{tmp_path}', which holds other files\n"
    )


def test_folder_that_cannot_be_written(file, tmp_path, monkeypatch, capsys):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    out = tmp_path / "out"
    code, error = goaldriven(monkeypatch, capsys, "search", file, "--out", out)
    assert code == 2
    assert error == (
        f"goaldriven: out must be a folder that can be written, got '{out}': Permission denied\n"
    )


def test_data_that_are_not_there_are_found_missing_before_any_trial(tmp_path, monkeypatch, capsys):
    path = tmp_path / "search.yaml"
    nowhere = f"{{name: fashion_mnist, source: {tmp_path / 'nowhere'}}}"
    path.write_text(with_(base=f"{{task: {nowhere}, architecture: knet4, rule: sgdm}}"))
    code, error = goaldriven(monkeypatch, capsys, "search", path, "--out", tmp_path / "out")
    assert code == 2
    assert "source must be an existing folder" in error
    assert "Traceback" not in error
