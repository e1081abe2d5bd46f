"""The published data set's format, read and written."""

import pickle

import numpy as np
import pytest

from goaldriven.commands.collecting import import_published
from goaldriven.errors import DataError
from goaldriven.specs import PUBLISHED_STATISTICS, STATISTICS
from goaldriven.trajectories import load_examples, load_networks, to_examples, validate
from goaldriven.trajectories.collection import collect
from goaldriven.trajectories.published import open_published, read_published, write_published

from .made_up import make_network

# The names and their order in lr-identify's observable_names.py (alphabetical by function).
FUNCTIONS, SUMMARIES = ("abs", "raw", "sq"), (
    "kurtosis", "mean", "median", "norm", "skew", "thirdquartile", "var",
)  # fmt: skip
OBS_KEYS = [
    *(f"{m}{f}_{s}" for m in ("weight", "act") for f in FUNCTIONS for s in SUMMARIES),
    *(f"gradavg{f}_id" for f in FUNCTIONS),
]


OURS = {"knet": "knet4", "resnet18v2": "resnet18_v2"}


def published_file(path, change=lambda data: None, seed=0):
    """Two architectures × four rules in the published layout, rows shuffled."""
    rng = np.random.default_rng(seed)
    layers = {"knet": ["conv1", "conv2", "conv3", "fc4"],
              "resnet18v2": ["conv0", "block_layer1_0/conv1", "dense"]}  # fmt: skip
    rows = [
        (
            rule,
            "cifar10" if arch == "knet" else "simclr",
            arch,
            128,
            model,
            data,
            layer,
            i,
            len(names),
        )
        for arch, names in layers.items()
        for rule in ("adam", "sgdm", "information", "feedback")
        for model, data in (("None", "0"), ("0", "None"))
        for i, layer in enumerate(names)
    ]
    rng.shuffle(rows)
    names = ["learning_rule", "task", "model", "batch_size", "model_seed", "dataset_seed", "layer"]
    columns = list(zip(*rows, strict=True))
    types = ["U16", "U16", "U16", "i8", "U4", "U4", "U32"]
    meta = np.array([tuple(r[:7]) for r in rows], dtype=list(zip(names, types, strict=True)))
    meta["batch_size"] = 128
    third = [
        min(int(i) // max(int(n) // 3, 1), 2) for i, n in zip(columns[7], columns[8], strict=True)
    ]
    data = {
        "obs_keys": np.array(OBS_KEYS),
        "meta": meta.view(np.recarray),
        "X": rng.normal(size=(len(rows), 21, 45)),
        "Y": meta["learning_rule"].astype("U16"),
        "X_cat": np.repeat(np.eye(3)[third][:, None], 21, axis=1),
    }
    change(data)
    path.write_bytes(pickle.dumps(data, protocol=2))
    return data


def test_every_statistic_has_its_published_name():
    assert {s.published_name for s in STATISTICS.values()} == set(OBS_KEYS)


def test_every_row_becomes_a_layer(tmp_path):
    data = published_file(tmp_path / "dataset.pkl")
    networks = read_published(tmp_path / "dataset.pkl")
    assert len(networks) == 2 * 4 * 2
    for network in networks:
        validate(network)
    examples = to_examples(networks)
    assert examples.sizes == {"example": len(data["X"]), "epoch": 21, "statistic": 45}
    assert examples["epoch"].values.tolist() == list(range(0, 101, 5))
    rules = {"information": "ia", "feedback": "fa"}
    for row in range(0, len(data["X"]), 7):
        meta = data["meta"][row]
        chosen = examples.isel(example=np.flatnonzero(
            (examples["rule"] == rules.get(meta["learning_rule"], meta["learning_rule"]))
            & (examples["layer"] == meta["layer"])
            & (examples["model_seed"] == (-1 if meta["model_seed"] == "None" else 0))
            & (examples["architecture"] == OURS[meta["model"]])
        ))  # fmt: skip
        assert chosen.sizes["example"] == 1
        assert chosen["task"].item() == {"knet": "cifar10"}.get(meta["model"], "imagenet_simclr")
        assert (
            chosen["position"].item() == ("early", "middle", "deep")[data["X_cat"][row, 0].argmax()]
        )
        for name, statistic in STATISTICS.items():
            np.testing.assert_array_equal(
                chosen["value"].sel(statistic=name).values[0],
                data["X"][row, :, OBS_KEYS.index(statistic.published_name)],
            )


def test_written_and_read_again(tmp_path):
    first = read_published(_made(tmp_path / "dataset.pkl"))
    write_published(first, tmp_path / "again.pkl")
    second = read_published(tmp_path / "again.pkl")
    assert len(first) == len(second)
    by_id = {n.attrs["network_id"]: n for n in second}
    for network in first:
        assert by_id[network.attrs["network_id"]].identical(network)


def _made(path):
    published_file(path)
    return path


def test_export_has_the_published_layout(tmp_path):
    networks = [
        make_network(f"{i:012x}", rule=r, seed=i, task="digits_simclr", architecture="knet5")
        for i, r in enumerate(["fa", "ia"])
    ]
    assert write_published(networks, tmp_path / "out.pkl") == 8
    data = pickle.loads((tmp_path / "out.pkl").read_bytes())  # our own file
    assert data["X"].shape == (8, 3, 45)
    assert data["X_cat"].shape == (8, 3, 3)
    assert data["Y"].tolist() == ["feedback"] * 4 + ["information"] * 4
    assert set(data["meta"]["architecture"]) == {"knetc4"}
    assert data["obs_keys"].tolist() == [s.published_name for s in STATISTICS.values()]
    np.testing.assert_array_equal(
        data["X"][:4], networks[0]["observable"].values.transpose(1, 0, 2)
    )


def test_imported_collections_answer_like_studies(tmp_path):
    networks = read_published(_made(tmp_path / "dataset.pkl"))
    collect(networks, tmp_path / "out", "dataset.pkl")
    examples = load_examples(tmp_path / "out")
    assert set(PUBLISHED_STATISTICS) <= set(examples["statistic"].values.tolist())
    assert len(load_networks(tmp_path / "out")) == len(networks)


def test_values_that_are_not_finite_stay(tmp_path):
    def change(data):
        data["X"][:, -1, OBS_KEYS.index("weightsq_norm")] = np.inf

    published_file(tmp_path / "d.pkl", change)
    networks = read_published(tmp_path / "d.pkl")
    assert all(
        np.isinf(n["observable"].sel(statistic="weight_sq_norm").values[-1]).all() for n in networks
    )


def _drop(name):
    return lambda data: data.pop(name)


def _set(name, value):
    return lambda data: data.update({name: value(data[name])})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("X"), "must hold the arrays obs_keys, meta, X, Y, got .*; X is missing"),
        (_drop("meta"), "meta is missing"),
        (_set("X", lambda x: x[:, :, :-1]), r"X must be numbers \(example, epoch, 45 statistics\)"),
        (_set("X", lambda x: x[:, 0]), "X must be numbers"),
        (_set("X", lambda x: x.astype(str)), "X must be numbers .* got <U"),
        (_set("Y", lambda y: y[:-1]), "Y must have the shape"),
        (_set("meta", lambda m: np.zeros(len(m))), "meta must be a structured array"),
        (_set("meta", lambda m: np.asarray(m)[["learning_rule", "task", "layer"]]),
         "meta must have a field for the architecture .architecture or model or"),
        (_set("obs_keys", lambda k: np.array(["foo", *k[1:]])), "obs_keys must be .* got 'foo'"),
        (_set("X_cat", lambda c: c * 2), "X_cat must be one-hot"),
    ],
)  # fmt: skip
def test_bad_files_are_named(change, message, tmp_path):
    published_file(tmp_path / "bad.pkl", change)
    with pytest.raises(DataError, match=message):
        read_published(tmp_path / "bad.pkl")


def test_fields_under_other_names(tmp_path):
    def change(data):
        meta = np.asarray(data["meta"])
        names = tuple("net" if n == "model" else n for n in meta.dtype.names)
        data["meta"] = meta.astype([(n, meta.dtype[i]) for i, n in enumerate(names)])

    published_file(tmp_path / "d.pkl", change)
    with pytest.raises(DataError, match="field for the architecture"):
        read_published(tmp_path / "d.pkl")
    networks = read_published(tmp_path / "d.pkl", fields={"architecture": "net"})
    assert {n.attrs["architecture"] for n in networks} == {"knet4", "resnet18_v2"}


def test_epochs_survive_an_export(tmp_path):
    """Those of the records, whatever their interval; the published file has none."""
    networks = [make_network(f"{i:012d}", epochs=(0, 1, 3, 10), seed=i) for i in range(2)]
    write_published(networks, tmp_path / "ours.pkl")
    for network in read_published(tmp_path / "ours.pkl"):
        assert network["epoch"].values.tolist() == [0, 1, 3, 10]
    with pytest.raises(DataError, match=r"record_every must be left out.*0, 1, 3, …; got 5"):
        read_published(tmp_path / "ours.pkl", record_every=5)
    published_file(tmp_path / "theirs.pkl")
    theirs = open_published(tmp_path / "theirs.pkl")
    assert not theirs.epochs_stored
    assert theirs.epochs == tuple(range(0, 101, 5))
    assert open_published(tmp_path / "ours.pkl").epochs_stored
    assert read_published(tmp_path / "theirs.pkl", record_every=2)[0]["epoch"].values[-1] == 40


def test_epochs_that_do_not_fit(tmp_path):
    path = tmp_path / "dataset.pkl"
    published_file(path, lambda data: data.update(epochs=np.arange(3)))
    with pytest.raises(DataError, match=r"epochs must be 21 integers, got int64 of shape \(3,\)"):
        read_published(path)


def test_import_says_which_epochs_it_assumes(tmp_path, capsys):
    published_file(tmp_path / "theirs.pkl")
    import_published(tmp_path / "theirs.pkl", tmp_path / "a", None, [])
    assert "epochs 0, 5, … 100, assumed: the file holds none; --record-every sets them" in (
        capsys.readouterr().out
    )
    import_published(tmp_path / "theirs.pkl", tmp_path / "b", 2, [])
    shown = capsys.readouterr().out
    assert "epochs 0, 2, … 40 →" in shown
    network = make_network(epochs=(0, 1, 2))
    network["observable"].values[:, :, 0] = np.nan
    others = [make_network(f"{i:012d}", epochs=(0, 1, 2), seed=i) for i in range(5)]
    write_published([network, *others], tmp_path / "ours.pkl")
    import_published(tmp_path / "ours.pkl", tmp_path / "c", None, [])
    told = capsys.readouterr()
    assert "epochs 0, 1, 2 →" in told.out
    assert told.err.strip().endswith("comparisons: 0123456789ab")
