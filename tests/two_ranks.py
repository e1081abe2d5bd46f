"""Cases that are trained by one process, or by two over gloo, in float64.

`python two_ranks.py RANK FOLDER MODULE` is one rank: it trains all of ``FOLDER/cases.json`` by
the function ``trained(case, ranks)`` of MODULE, a name below ``tests``, and leaves its tensors in
``FOLDER/RANK.pt``.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from goaldriven.training.ranks import Ranks

Tensors = dict[str, torch.Tensor]


def train_on_two_ranks(
    folder: Path, module: str, cases: Mapping[str, Any], seconds: float = 480
) -> tuple[Tensors, Tensors]:
    """What either rank has in the end: ``case|name`` → tensor."""
    (folder / "cases.json").write_text(json.dumps(cases))
    script = [sys.executable, __file__]
    processes = [
        subprocess.Popen([*script, str(rank), str(folder), module], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=seconds)
        assert process.returncode == 0, errors.decode()
    first, second = (torch.load(folder / f"{rank}.pt") for rank in range(2))
    return first, second


def assert_equal_networks(
    name: str, ranks: tuple[Tensors, Tensors], alone: Tensors, rtol: float, atol: float
) -> None:
    """Both ranks have the same bits, and those of one process to rounding."""
    first, second = ranks
    for key, tensor in alone.items():
        ours = first[f"{name}|{key}"]
        assert torch.equal(ours, second[f"{name}|{key}"]), f"{name}: {key}"
        torch.testing.assert_close(
            ours, tensor.detach(), rtol=rtol, atol=atol, msg=f"{name}: {key}"
        )


def main(rank: int, folder: Path, module: str) -> None:
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    torch.set_num_threads(1)
    ranks = Ranks(distributed.group.WORLD, rank, 2)
    trained = importlib.import_module(module).trained
    cases = json.loads((folder / "cases.json").read_text())
    found = {
        f"{name}|{key}": tensor.detach()
        for name, case in cases.items()
        for key, tensor in trained(case, ranks).items()
    }
    torch.save(found, folder / f"{rank}.pt")
    distributed.barrier()  # neither rank may close the connection the other still reads
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the interpreter's teardown can abort on gloo's threads, after all is written
