"""Weights of trained networks through learning, as synapses through days: the same analyses.

A study that was run with ``--keep-checkpoints`` holds the weights of every recorded epoch. A sample
of the synapses of each layer is followed through them; its size is |w|, its unit the layer's own:
the mean over the 40th to 60th percentile of the layer's |w| at its first checkpoint, as dendrites
are normalised, but by one number for all epochs, for nothing but learning changes the weights of a
network.
Weight decay takes the weights of units that fell silent to 0 but never onto it: below a thousandth
of the unit a synapse is absent, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from safetensors import SafetensorError, safe_open

from goaldriven.errors import DataError, unknown
from goaldriven.synapses.comparison import compare_models
from goaldriven.synapses.kesten import binned_moments, fit_kesten
from goaldriven.synapses.kesten_pairs import Floats
from goaldriven.trajectories import load_networks

GROUPS = ("rule", "architecture", "position", "layer")
ESTIMATORS = ("likelihood", "binned", "binned multiplicative")
NETWORK_MODELS = (
    "kesten", "kesten additive", "kesten multiplicative", "log-OU", "markov", "random walk",
    "log random walk", "no memory",
)  # fmt: skip
_SUFFIX = ".safetensors"
_MIDDLE = (40.0, 60.0)
ABSENT = 1e-3
"""Size, in units of the layer's middling synapse, below which a synapse counts as absent."""


def network_weights(
    folder: str | Path,
    *,
    rng: np.random.Generator,
    synapses: int = 20,
    epochs: tuple[int, int] | None = None,
) -> xr.Dataset:
    """|w| of sampled synapses of every layer of every trained network with checkpoints.

    Parameters
    ----------
    folder : a study folder, run with ``--keep-checkpoints``; networks without are left out.
    synapses : how many to follow per layer, drawn without replacement.
    epochs : the first and the last to read; all recorded ones by default.

    Returns
    -------
    ``weight`` (synapse, epoch), 1 a middling synapse of its layer before learning, 0 an absent one;
    along ``synapse`` the coordinates ``network``, ``rule``, ``architecture``, ``layer`` and
    ``position``.

    Raises
    ------
    DataError : no checkpoints, networks recorded at different epochs, or a damaged checkpoint.
    """
    if synapses < 1:
        raise DataError(f"synapses must be 1 or more, got {synapses}")
    pieces: list[xr.Dataset] = []
    for network in load_networks(folder):
        home = Path(folder) / "checkpoints" / network.attrs["network_id"]
        if network.attrs["outcome"] == "trained" and home.is_dir():
            pieces += _of_network(network, home, rng, synapses, epochs)
    if not pieces:
        raise DataError(
            f"{folder} must hold checkpoints of trained networks "
            "(goaldriven run STUDY --keep-checkpoints), got none"
        )
    if len({tuple(piece["epoch"].values) for piece in pieces}) > 1:
        raise DataError(f"networks of {folder} must be recorded at the same epochs; give epochs")
    return xr.concat(pieces, dim="synapse")


def _of_network(
    network: xr.Dataset,
    home: Path,
    rng: np.random.Generator,
    synapses: int,
    epochs: tuple[int, int] | None,
) -> Iterator[xr.Dataset]:
    first, last = epochs or (0, np.iinfo(np.int64).max)
    kept = sorted(int(p.stem) for p in home.glob("*" + _SUFFIX) if p.stem.isdigit())
    start, kept = kept[:1], [epoch for epoch in kept if first <= epoch <= last]
    if len(kept) < 2:
        raise DataError(f"{home} must hold two or more checkpoints of the epochs, got {len(kept)}")
    layers = [str(name) for name in network["layer"].values]
    values = _read(home, kept, layers, rng, synapses)
    whole = _read(home, start, layers, rng, None)
    for layer, position in zip(layers, network["position"].values, strict=True):
        size = np.abs(values[layer]) / _middling(np.abs(whole[layer]))
        size[size < ABSENT] = 0.0
        labels = {
            "network": network.attrs["network_id"],
            "rule": network.attrs["rule"],
            "architecture": network.attrs["architecture"],
            "layer": layer,
            "position": str(position),
        }
        coordinates = {k: ("synapse", np.full(len(size), v)) for k, v in labels.items()}
        yield xr.Dataset({"weight": (("synapse", "epoch"), size)}, {"epoch": kept, **coordinates})


def _middling(size: Floats) -> float:
    low, high = np.percentile(size, _MIDDLE)
    return float(size[(size >= low) & (size <= high)].mean())


def _read(
    home: Path,
    epochs: Sequence[int],
    layers: Sequence[str],
    rng: np.random.Generator,
    n: int | None,
) -> dict[str, Floats]:
    """Layer → weights of the same ``n`` synapses (or all) at every epoch: (synapse, epoch)."""
    chosen: dict[str, np.ndarray] = {}
    columns: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}
    for epoch in epochs:
        path = home / f"{epoch}{_SUFFIX}"
        try:
            with safe_open(path, framework="numpy") as file:
                for layer in layers:
                    flat = file.get_tensor(f"forward/{layer}.weight").ravel()
                    if layer not in chosen:
                        chosen[layer] = rng.choice(
                            flat.size, min(n or flat.size, flat.size), replace=False
                        )
                    columns[layer].append(flat[chosen[layer]].astype(float))
        except (OSError, SafetensorError) as error:
            raise DataError(f"checkpoint {path} cannot be read: {error}") from None
    return {layer: np.stack(column, axis=1) for layer, column in columns.items()}


def fit_networks(
    folder: str | Path,
    *,
    rng: np.random.Generator,
    by: Sequence[str] = ("rule",),
    synapses: int = 5,
    epochs: tuple[int, int] | None = None,
    bootstraps: int = 100,
    folds: int = 5,
) -> pd.DataFrame:
    """Kesten fits and the comparison of rules, per group of networks' synapses; see `fit_weights`.

    Raises
    ------
    DataError : as `network_weights`; or a name in ``by`` that is not rule, architecture, position
        or layer.
    """
    _check_groups(by)
    weights = network_weights(folder, rng=rng, synapses=synapses, epochs=epochs)
    return fit_weights(weights, rng=rng, by=by, bootstraps=bootstraps, folds=folds)


def fit_weights(
    weights: xr.Dataset,
    *,
    rng: np.random.Generator,
    by: Sequence[str] = ("rule",),
    bootstraps: int = 100,
    folds: int = 5,
) -> pd.DataFrame:
    """`fit_networks` from weights that have been read. Networks are the clusters.

    Returns
    -------
    The columns of ``by``, then ``kind, name, estimator, value, low, high``: ``kind`` ``"kesten"``
    has parameters by estimator, ``"comparison"`` the models' difference in held-out log density
    from the best (nats per pair; networks held out whole).
    """
    frames = []
    for names, w, networks in _groups(weights, by):
        days = weights["epoch"].values
        fit = fit_kesten(w, days, networks, bootstraps=bootstraps, rng=rng).table()
        fit = fit[fit["estimator"].isin(ESTIMATORS)]
        fit = fit.rename(columns={"parameter": "name", "estimate": "value"}).assign(kind="kesten")
        compared = compare_models(
            w, days, networks, folds=folds, rng=rng, models=NETWORK_MODELS, bootstraps=1000
        )
        compared = compared[compared["metric"] == "difference"]
        compared = compared.rename(columns={"model": "name"}).assign(
            kind="comparison", estimator="held out"
        )
        frames += [fit.assign(**names), compared.assign(**names)]
    columns = [*by, "kind", "name", "estimator", "value", "low", "high"]
    return pd.concat(frames, ignore_index=True)[columns]


def weight_moments(
    weights: xr.Dataset, by: Sequence[str] = ("rule",), bins: int = 20
) -> pd.DataFrame:
    """`kesten.binned_moments` per group, with the columns of ``by``: what a figure shows."""
    days = weights["epoch"].values
    return pd.concat(
        [
            binned_moments(w, bins, days=days).assign(**names)
            for names, w, _ in _groups(weights, by)
        ],
        ignore_index=True,
    )


def _groups(
    weights: xr.Dataset, by: Sequence[str]
) -> Iterator[tuple[dict[str, str], Floats, np.ndarray]]:
    """Labels of a group, its weights (synapse, epoch) and its synapses' networks."""
    _check_groups(by)
    labels = pd.DataFrame({name: weights[name].values for name in (*by, "network")})
    names = list(by)
    for keys, rows in labels.groupby(names, sort=True):
        part = rows.index.to_numpy()
        yield (
            {name: str(value) for name, value in zip(by, keys, strict=True)},
            np.asarray(weights["weight"].values[part], float),
            labels["network"].to_numpy()[part],
        )


def _check_groups(by: Sequence[str]) -> None:
    if not by:
        raise DataError(f"by must name one or more of {', '.join(GROUPS)}, got none")
    for name in by:
        if name not in GROUPS:
            raise DataError(unknown("by", name, GROUPS))
