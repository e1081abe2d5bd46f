"""Images per second that the loader delivers, against those that a training step takes.

    python benchmarks/loading.py [--image-size 64] [--architecture resnet18] [--device cpu]
                                 [--preprocessing resnet] [--source 375 500] [--batch-size 32]
                                 [--images 256] [--workers 1 2] [--folder DIR]

Photographs of the size of ImageNet's (JPEG, smooth noise) are written in three formats, unless
``--folder`` names a real ImageNet. For each format and number of threads the loader reads and
prepares an epoch by itself; a step of backprop on a batch that is there already gives the other
figure. Both come from one run, and their ratio is what counts: below 1 the loader would hold the
training up. On a CPU time is the process' CPU time, whatever else the machine does: the ratio then
says how many training threads one loading thread feeds. On a GPU it is the wall clock, and
``training fed`` is the speed of a whole epoch relative to the step alone. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from timing import clock_for

from goaldriven.specs import NetworkSpec
from goaldriven.tasks.base import Batch
from goaldriven.tasks.loader import WORKERS_VARIABLE
from goaldriven.training.network import Network, build

N_CLASSES = 4


def photographs(n: int, height: int, width: int) -> Iterator[bytes]:
    """JPEGs of smoothed noise: about as many bytes per pixel as ImageNet's."""
    rng = np.random.default_rng(0)
    for _ in range(n):
        noise = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        image = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.0))
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=90)
        yield stream.getvalue()


def write(folder: Path, n: int, height: int, width: int) -> dict[str, Path]:
    """The same images as class folders, parquet files and shards; a class in four of each."""
    import pyarrow as pa
    from pyarrow import parquet

    images = list(photographs(n, height, width))
    paths = {name: folder / name for name in ("class folders", "parquet", "webdataset")}
    for path in paths.values():
        path.mkdir()
    for split, count in (("train", n), ("val", N_CLASSES)):
        cells = [{"bytes": content, "path": f"{i}.jpg"} for i, content in enumerate(images[:count])]
        table = {"image": cells, "label": [i % N_CLASSES for i in range(count)]}
        parquet.write_table(pa.table(table), paths["parquet"] / f"{split}.parquet")
        with tarfile.open(paths["webdataset"] / f"{split}.tar", "w") as archive:
            for i, content in enumerate(images[:count]):
                path = paths["class folders"] / split / f"c{i % N_CLASSES}" / f"{i:06d}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                for name, part in ((f"{i}.jpg", content), (f"{i}.cls", b"%d" % (i % N_CLASSES))):
                    member = tarfile.TarInfo(name)
                    member.size = len(part)
                    archive.addfile(member, io.BytesIO(part))
    return paths


def make(arguments: argparse.Namespace, source: Path) -> Network:
    spec = NetworkSpec(
        task={
            "name": "imagenet",
            "source": str(source),
            "image_size": arguments.image_size,
            "preprocessing": arguments.preprocessing,
            "train_limit": arguments.images,
        },
        architecture={"name": arguments.architecture},
        rule="sgdm",
        batch_size=arguments.batch_size,
    )
    return build(spec, arguments.device)


def step(network: Network, batch: Batch) -> None:
    network.optimizer.zero_grad(set_to_none=True)
    network.credit.backward(lambda: network.task.loss(network.model, batch))
    network.optimizer.step()


def epoch(network: Network, each: Callable[[Batch], object]) -> int:
    """Number of images of an epoch in which ``each`` is done with every batch."""
    n = 0
    batches = network.task.train_batches(network.spec.batch_size, torch.Generator().manual_seed(0))
    for batch in batches:
        each(batch)
        n += len(batch)
    return n


def rates(clock: Callable[[], float], run: Callable[[], int], n: int) -> tuple[float, float]:
    """Median images per second of ``n`` runs: by ``clock`` and by the wall clock."""
    measured = []
    for _ in range(n):
        start, wall = clock(), time.perf_counter()
        images = run()
        measured.append((images / (clock() - start), images / (time.perf_counter() - wall)))
    one, other = (statistics.median(values) for values in zip(*measured, strict=True))
    return one, other


def step_rate(arguments: argparse.Namespace, network: Network) -> float:
    """Images per second of training steps on a batch that is there already."""
    network.model.train()
    first = network.task.train_batches(arguments.batch_size, torch.Generator().manual_seed(0))
    batch = next(first)
    first.close()  # type: ignore[attr-defined]
    step(network, batch)  # loads code, chooses kernels

    def some_steps() -> int:
        for _ in range(2):
            step(network, batch)
        return 2 * arguments.batch_size

    clock = clock_for(arguments.device, 1)
    return rates(clock, some_steps, max(2, arguments.repetitions))[0]


def measure(arguments: argparse.Namespace, name: str, network: Network, trained: float) -> None:
    clock = clock_for(arguments.device, 1)
    for workers in arguments.workers:
        os.environ[WORKERS_VARIABLE] = str(workers)
        loaded, waited = rates(
            clock, lambda: epoch(network, lambda batch: None), arguments.repetitions
        )
        fed = ""
        if arguments.device != "cpu":
            run = rates(clock, lambda: epoch(network, lambda b: step(network, b)), 1)
            fed = f"{run[0] / trained:.2f}"
        print(
            f"| {name} | {workers} | {loaded:.0f} | {waited:.0f} | {trained:.1f} "
            f"| {loaded / trained:.1f} | {fed} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--preprocessing", default="resnet", choices=("resnet", "inception"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--source", type=int, nargs=2, default=(375, 500))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| format | threads | loader (img/s) | by the wall clock | step (img/s) | ratio "
          "| training fed |", flush=True)  # fmt: skip
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("HF_DATASETS_CACHE", str(Path(folder) / "cache"))
        if arguments.folder is not None:
            sources = {str(arguments.folder): arguments.folder}
        else:
            sources = write(Path(folder), arguments.images, *arguments.source)
        trained = None
        for name, path in sources.items():
            network = make(arguments, path)
            if trained is None:
                trained = step_rate(arguments, network)
            measure(arguments, name, network, trained)


if __name__ == "__main__":
    sys.exit(main())
