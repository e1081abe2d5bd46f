"""Checkpoints in torchvision's naming, and the residual networks of an independent package."""

import pytest
import safetensors.torch
import torch
from pytorchcv.models import resnet as independent
from torch.utils.flop_counter import FlopCounterMode

from goaldriven.architectures import build, load_published
from goaldriven.errors import DataError
from goaldriven.heads import Readout
from goaldriven.specs.architectures import ResNet

DEPTHS = (18, 34, 50, 101, 152)
# As published with identity shortcuts wherever shapes agree (torchvision's counts), 1,000 classes.
PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
# Multiply-adds of one 224×224 image in convolutions and readout, in 10⁹ (He et al. 2016a, Table 1
# rounds to 1.8, 3.6, 3.8, 7.6, 11.3, with the stride in the first 1×1 of a bottleneck; here it is
# in the 3×3, as in the published code).
MULTIPLY_ADDS = {18: 1.814, 34: 3.664, 50: 4.089, 101: 7.801, 152: 11.514}
# The published code projects at the first block of stage 1 too; bottlenecks need to anyway.
EXTRA = {18: 64 * 64 + 2 * 64, 34: 64 * 64 + 2 * 64, 50: 0, 101: 0, 152: 0}


def make(depth, version="", width=1.0, shape=(3, 224, 224), classes=1000):
    spec = ResNet(name=f"resnet{depth}{version}", width=width)
    return build(spec, shape, Readout(classes), torch.Generator().manual_seed(0))


def torchvision_names(model):
    """An independent network's tensors under the names of torchvision's checkpoints."""
    named = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("features.init_block.conv.conv.", "conv1.")
        name = name.replace("features.init_block.conv.bn.", "bn1.").replace("output.", "fc.")
        name = name.replace(".identity_conv.conv.", ".downsample.0.")
        name = name.replace(".identity_conv.bn.", ".downsample.1.")
        if name.startswith("features.stage"):
            stage, unit, rest = name.removeprefix("features.stage").split(".", 2)
            rest = rest.removeprefix("body.")
            for i in (1, 2, 3):
                rest = rest.replace(f"conv{i}.conv.", f"conv{i}.").replace(
                    f"conv{i}.bn.", f"bn{i}."
                )
            name = f"layer{stage}.{int(unit.removeprefix('unit')) - 1}.{rest}"
        named[name] = tensor.clone()
    return named


def other(depth):
    torch.manual_seed(depth)
    model = getattr(independent, f"resnet{depth}" + ("b" if depth >= 50 else ""))()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics and scales that matter
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
    return model.eval()


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameter_counts(depth):
    assert sum(p.numel() for p in make(depth).parameters()) == PARAMETERS[depth] + EXTRA[depth]


@pytest.mark.parametrize("depth", [34, 50, 101, 152])
def test_parameter_counts_of_version_2(depth):
    """Version 2 has bn0 before each block in place of the last one behind it, none on shortcuts,
    and one more at the end."""
    one, two = make(depth), make(depth, "_v2")
    norms = [
        sum(p.numel() for n, p in m.named_parameters() if "bn" in n.rsplit(".", 2)[-2])
        for m in (one, two)
    ]
    assert sum(p.numel() for p in two.parameters()) - norms[1] == (
        sum(p.numel() for p in one.parameters()) - norms[0]
    )
    blocks = {34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth]
    n_in, expected = 64, 0
    for n_blocks, inside in zip(blocks, (64, 128, 256, 512), strict=True):
        out = inside * (4 if depth >= 50 else 1)
        per_block = 2 * inside if depth >= 50 else inside
        expected += n_in + (n_blocks - 1) * out + n_blocks * per_block
        n_in = out
    assert norms[1] == 2 * (expected + n_in)


@pytest.mark.parametrize("depth", DEPTHS)
def test_multiply_adds(depth):
    model = make(depth).eval()
    extra = 56 * 56 * 64 * 64 if depth < 50 else 0
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    counted = counter.get_total_flops() / 2 - extra
    assert counted / 1e9 == pytest.approx(MULTIPLY_ADDS[depth], abs=6e-4)


@pytest.mark.parametrize(
    ("depth", "layers"), list(zip(DEPTHS, (22, 38, 54, 105, 156), strict=True))
)
@pytest.mark.parametrize("version", ["", "_v2"])
def test_observed_layers_as_published(depth, version, layers):
    """conv0, the convolutions of each block, a projection per stage, dense."""
    assert len(make(depth, version, width=1 / 64, shape=(3, 32, 32)).layers) == layers


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_forward_pass_of_an_independent_implementation(depth, tmp_path):
    reference, ours = other(depth), make(depth).eval()
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(torchvision_names(reference), path)
    loaded = load_published(ours, path)
    assert loaded.missing == ()
    assert loaded.unused == ()
    assert loaded.identities == (() if depth >= 50 else ("stage1.block1.shortcut",))
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = reference(x), ours(x)
    assert (a - b).abs().max() <= 1e-5 * a.abs().max()


def test_readout_of_another_size_stays(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": torchvision_names(other(18))}, path)
    ours = make(18, classes=10)
    before = ours.dense.weight.clone()
    loaded = load_published(ours, path)
    assert loaded.missing == ("dense.weight", "dense.bias")
    assert loaded.unused == ("fc.weight", "fc.bias")
    assert torch.equal(ours.dense.weight, before)


class Malicious:
    def __reduce__(self):
        return (exec, ("raise SystemExit('executed')",))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_bad_checkpoints(name, tmp_path):
    path, model = tmp_path / name, make(18, width=1 / 64, shape=(3, 32, 32))
    before = model.conv0.weight.clone()
    with pytest.raises(DataError, match="must be a file"):
        load_published(model, path)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(DataError, match="cannot be read"):
        load_published(model, path)
    if name.endswith("pth"):
        torch.save(Malicious(), path)
        with pytest.raises(DataError, match="cannot be read"):
            load_published(model, path)
        torch.save([1, 2], path)
        with pytest.raises(DataError, match="must hold tensors by name"):
            load_published(model, path)
    else:
        safetensors.torch.save_file({"conv1.weight": torch.zeros(3, 3)}, path)
        with pytest.raises(DataError, match="got 1 tensors of which none fits"):
            load_published(model, path)
    assert torch.equal(model.conv0.weight, before)
