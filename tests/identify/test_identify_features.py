"""Features: the published order, the dynamics by hand, and nothing from another example."""

from __future__ import annotations

import numpy as np
import pytest

from goaldriven.errors import IdentificationError
from goaldriven.identify import features, layout_of

from .made_up import FEW, make_examples

STATS = FEW[1:4]


def test_published_order():
    """Position first, then trajectory after trajectory: column 3 + s·T + t is statistic s at t."""
    examples = make_examples(4)
    x = features(examples, STATS)
    n_epochs = examples.sizes["epoch"]
    assert x.shape == (12, 3 + 3 * n_epochs)
    np.testing.assert_array_equal(x[:3, :3], np.eye(3))  # early, middle, deep
    for s, name in enumerate(STATS):
        for t in range(n_epochs):
            expected = examples["value"].sel(statistic=name).isel(epoch=t).values
            np.testing.assert_array_equal(x[:, 3 + s * n_epochs + t], expected)


def test_the_published_size():
    """24 statistics × 21 epochs + 3 = 507 columns (504 numbers and the position)."""
    from goaldriven.specs import PUBLISHED_STATISTICS

    examples = make_examples(2, n_epochs=21, statistics=PUBLISHED_STATISTICS)
    assert features(examples, PUBLISHED_STATISTICS).shape == (6, 507)
    assert layout_of(examples, PUBLISHED_STATISTICS).n_features == 507


def test_names_and_groups_follow_the_columns():
    layout = layout_of(make_examples(2, n_epochs=2), STATS, "dynamics")
    assert layout.names[:9] == (
        "position_early", "position_middle", "position_deep",
        "weight_abs_median@0", "weight_abs_median@5",
        "weight_abs_median.change@0", "weight_abs_median.change@5",
        "weight_abs_median.path@0", "weight_abs_median.path@5",
    )  # fmt: skip
    assert len(layout.names) == layout.n_features == 3 + 3 * 3 * 2
    assert layout.groups == ("layer_position", *STATS)
    of = [layout.groups[g] for g in layout.group_of_feature]
    for name, group in zip(layout.names, of, strict=True):
        plain = name.split("@")[0].split(".")[0]
        assert group == (plain if plain in STATS else "layer_position")


def test_dynamics_by_hand():
    """v = 2, −4, 6: m = 4; changes 0, −1.5, 1; the way is 0, 6, 16 long, of 16."""
    examples = make_examples(1, n_layers=1, n_epochs=3)
    examples["value"].loc[{"statistic": STATS[0]}] = [2.0, -4.0, 6.0]
    x = features(examples, STATS[:1], "dynamics")
    np.testing.assert_allclose(x[0, 3:], [2, -4, 6, 0, -1.5, 1, 0, 0.375, 1], atol=1e-15)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_dynamics_do_not_depend_on_units(factor):
    examples = make_examples(4)
    scaled = examples.assign(value=examples["value"] * factor)
    n = examples.sizes["epoch"]
    a, b = (features(e, STATS, "dynamics")[:, 3:].reshape(12, 3, 3, n) for e in (examples, scaled))
    np.testing.assert_allclose(a[:, :, 1:], b[:, :, 1:], rtol=1e-12)


@pytest.mark.parametrize("views", ["published", "dynamics"])
def test_features_see_one_example_only(views):
    examples = make_examples(4)
    together = features(examples, STATS, views)
    for i in range(12):
        alone = features(examples.isel(example=[i]), STATS, views)
        np.testing.assert_array_equal(alone[0], together[i])


def test_zero_and_huge_trajectories_stay_finite():
    examples = make_examples(2)
    examples["value"].values[0] = 0
    examples["value"].values[1] = 1e300
    x = features(examples, STATS, "dynamics")
    assert np.isfinite(x.astype(np.float32)).all()
    assert not x[0, 3:].any()


def test_what_cannot_be_features():
    examples = make_examples(2)
    with pytest.raises(IdentificationError, match=r"got 'weight_abs_var'"):
        features(examples, ("weight_abs_var",))
    with pytest.raises(IdentificationError, match="views must be one of dynamics, published; got"):
        features(examples, STATS, "raw")
    with pytest.raises(IdentificationError, match="at least one statistic, got none"):
        features(examples, ())
    examples["value"].values[4, 2, 1] = np.inf
    with pytest.raises(
        IdentificationError,
        match=r"finite for every network, got 1 that are not: weight_abs_median in layer layer1 of "
        r"network net001",
    ):
        features(examples, FEW)
