"""The transformer against PyTorch's own encoder."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from goaldriven.identify.transformer import EpochTransformer, sinusoids

N_TIMES, N_CHANNELS = 7, 4
SMALL = {"width": 8, "heads": 2, "hidden": 12}


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=40)
    trajectories = rng.normal(size=(40, N_CHANNELS, N_TIMES)) + 0.7 * y[:, None, None]
    position = np.eye(3)[rng.integers(3, size=40)]
    return np.hstack([position, trajectories.reshape(40, -1)]), np.array(["a", "b", "c"])[y]


class Reference(nn.Module):
    """The same network from torch.nn, with the weights of a fitted `EpochTransformer`."""

    def __init__(self, fitted: EpochTransformer) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            fitted.width, fitted.heads, fitted.hidden, dropout=0.0, batch_first=True,
            norm_first=True,
        )  # fmt: skip
        norm = nn.LayerNorm(fitted.width)
        self.embed = nn.Linear(3 + N_CHANNELS, fitted.width)
        self.encoder = nn.TransformerEncoder(
            layer, fitted.layers, norm=norm, enable_nested_tensor=False
        )
        self.readout = nn.Linear(fitted.width, len(fitted.classes_))
        self.load_state_dict(
            {k: torch.from_numpy(w.copy()) for k, w in self.named(fitted.weights_).items()}
        )

    def named(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Our weights by torch's names."""
        names = {
            "embed": "embed.weight", "embed_offset": "embed.bias", "readout": "readout.weight",
            "readout_offset": "readout.bias", "last_scale": "encoder.norm.weight",
            "last_shift": "encoder.norm.bias",
        }  # fmt: skip
        parts = {
            "first_scale": "norm1.weight", "first_shift": "norm1.bias",
            "mix": "self_attn.in_proj_weight", "mix_offset": "self_attn.in_proj_bias",
            "attended": "self_attn.out_proj.weight", "attended_offset": "self_attn.out_proj.bias",
            "second_scale": "norm2.weight", "second_shift": "norm2.bias",
            "inner": "linear1.weight", "inner_offset": "linear1.bias",
            "outer": "linear2.weight", "outer_offset": "linear2.bias",
        }  # fmt: skip
        for i in range(len(self.encoder.layers)):
            names |= {f"{i}/{k}": f"encoder.layers.{i}.{v}" for k, v in parts.items()}
        return {names[k]: w for k, w in weights.items()}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = x[:, :3, None].expand(-1, -1, N_TIMES)
        tokens = torch.cat([position, x[:, 3:].reshape(-1, N_CHANNELS, N_TIMES)], dim=1)
        state = self.embed(tokens.transpose(1, 2))
        state = state + torch.tensor(sinusoids(N_TIMES, state.shape[2]))
        return self.readout(self.encoder(state).mean(dim=1))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("heads", [1, 4])
def test_forward_is_torchs(data, layers, heads):
    x, y = data
    net = EpochTransformer(N_TIMES, 8, heads, layers, 12, epochs=3, batch_size=16).fit(x, y)
    with torch.no_grad():
        expected = torch.softmax(Reference(net)(torch.tensor(x, dtype=torch.float32)), dim=1)
    np.testing.assert_allclose(net.predict_proba(x), expected.numpy(), atol=1e-5)


def test_fitting_is_adamw_on_the_cross_entropy(data):
    """Twenty steps of full batches end where torch.nn with AdamW and this schedule does."""
    x, y = data
    common = SMALL | {"layers": 2, "dropout": 0.0, "learning_rate": 0.01, "weight_decay": 0.1,
                      "batch_size": 40, "seed": 4}  # fmt: skip
    start = EpochTransformer(N_TIMES, epochs=0, **common).fit(x, y)
    fitted = EpochTransformer(N_TIMES, epochs=20, **common).fit(x, y)
    model = Reference(start)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    inputs = torch.tensor(x, dtype=torch.float32)
    targets = torch.tensor(np.unique(y, return_inverse=True)[1])
    for step in range(20):
        share = (step + 1) / 2 if step < 2 else 0.5 + 0.5 * math.cos(math.pi * (step - 2) / 18)
        optimizer.param_groups[0]["lr"] = 0.01 * share
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    expected = model.state_dict()
    moved = Reference(fitted).state_dict()
    for name in expected:
        # A bias of the keys moves no score: its gradient is rounding, whose sign Adam follows.
        keys = range(8, 16) if name.endswith("in_proj_bias") else ()
        ours, theirs = (np.delete(w[name].numpy(), keys, axis=0) for w in (moved, expected))
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(
        fitted.predict_proba(x), torch.softmax(model(inputs), 1).detach().numpy(), atol=1e-4
    )


def test_places_are_sines_and_cosines():
    places = sinusoids(30, 6)
    for t in (0, 1, 29):
        for k in range(3):
            angle = t / 10000 ** (2 * k / 6)
            assert places[t, 2 * k] == pytest.approx(math.sin(angle), abs=1e-6)
            assert places[t, 2 * k + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_initial_matrices_are_glorot_uniform_and_offsets_zero(data):
    weights = EpochTransformer(N_TIMES, 64, 4, 1, 96, epochs=0).fit(*data).weights_
    for name, shape in {"0/mix": (192, 64), "0/inner": (96, 64), "embed": (64, 7)}.items():
        assert weights[name].shape == shape
        bound = math.sqrt(6 / sum(shape))
        assert np.abs(weights[name]).max() == pytest.approx(bound, rel=3e-2)
        assert weights[name].std() == pytest.approx(bound / math.sqrt(3), rel=6e-2)
    assert all(not w.any() for k, w in weights.items() if k.endswith(("_offset", "_shift")))
    assert all((w == 1).all() for k, w in weights.items() if k.endswith("_scale"))


def test_small_batches_and_dropout_learn(data):
    x, y = data
    net = EpochTransformer(N_TIMES, dropout=0.2, batch_size=16, epochs=60).fit(x, y)
    assert (net.predict(x) == y).mean() > 0.95


def test_the_order_of_records_matters(data):
    x, y = data
    net = EpochTransformer(N_TIMES, **SMALL, epochs=5).fit(x, y)
    turned = x.copy()
    turned[:, 3:] = x[:, 3:].reshape(40, N_CHANNELS, N_TIMES)[:, :, ::-1].reshape(40, -1)
    assert np.abs(net.predict_proba(turned) - net.predict_proba(x)).max() > 1e-3


def pulses(n: int, n_times: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A rise before a fall (0) or after it (1), anywhere in a circular time, in two channels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    pulse = np.zeros(n_times)
    pulse[:2], pulse[2:4] = 1, -1
    shifts = rng.integers(n_times, size=n)
    drawn = [np.roll((1 - 2 * k) * pulse, s) for k, s in zip(y, shifts, strict=True)]
    x = np.array(drawn)[:, None] + 0.2 * rng.normal(size=(n, 2, n_times))
    return np.hstack([np.tile([1.0, 0, 0], (n, 1)), x.reshape(n, -1)]), y


def test_the_order_of_events_is_found_where_single_epochs_say_nothing():
    (x, y), (x_test, y_test) = pulses(600, 8, 0), pulses(400, 8, 1)
    net = EpochTransformer(8, learning_rate=0.01, dropout=0.0).fit(x, y)
    assert (net.predict(x_test) == y_test).mean() > 0.95
    linear = LogisticRegression().fit(x, y)
    assert abs((linear.predict(x_test) == y_test).mean() - 0.5) < 3 * 0.5 / math.sqrt(400)


def test_same_seed_same_bits_and_nothing_global_changes(data):
    x, y = data
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    one, two, other = (
        EpochTransformer(N_TIMES, **SMALL, epochs=3, batch_size=16, seed=s).fit(x, y)
        for s in (1, 1, 2)
    )
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert one.predict_proba(x).tobytes() == two.predict_proba(x).tobytes()
    assert one.predict_proba(x).tobytes() != other.predict_proba(x).tobytes()


def test_dropout_is_for_fitting_alone(data):
    x, y = data
    net = EpochTransformer(N_TIMES, **SMALL, epochs=2, dropout=0.5).fit(x, y)
    assert net.predict_proba(x).tobytes() == net.predict_proba(x).tobytes()
    plain = EpochTransformer(N_TIMES, **SMALL, epochs=2, dropout=0.0).fit(x, y)
    assert np.abs(net.weights_["readout"] - plain.weights_["readout"]).max() > 1e-4


def test_applying_what_was_fitted_needs_no_torch(data):
    x, y = data
    net = EpochTransformer(N_TIMES, **SMALL, epochs=2).fit(x, y)
    weights = {k: w.tolist() for k, w in net.weights_.items()}
    code = (
        "import sys, json, numpy as np\n"
        "from goaldriven.identify.transformer import EpochTransformer\n"
        "import goaldriven.identify\n"
        "weights, x = json.load(sys.stdin)\n"
        f"net = EpochTransformer({N_TIMES}, 8, 2, 1, 12)\n"
        "net.classes_ = np.arange(3)\n"
        "net.weights_ = {k: np.array(w, dtype='f4') for k, w in weights.items()}\n"
        "print(json.dumps([net.predict_proba(np.array(x)).tolist(), 'torch' in sys.modules]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([weights, x.tolist()]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    p, torch_was_loaded = json.loads(run.stdout)
    np.testing.assert_allclose(p, net.predict_proba(x), atol=1e-6)
    assert torch_was_loaded is False
