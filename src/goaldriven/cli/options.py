"""Arguments and options that commands take, with what ``--help`` says of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Executor(StrEnum):
    """Where networks are trained."""

    local = "local"
    ray = "ray"


class Precision(StrEnum):
    """Of training steps."""

    float32 = "float32"
    tf32 = "tf32"
    bf16 = "bf16"


class BatchNorm(StrEnum):
    """What batch norm averages over where several devices train together."""

    joined = "joined"
    per_rank = "per_rank"


# Of several commands.
StudyDir = Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder.")]
StudyFile = Annotated[str, typer.Argument(help="A study file (YAML) or the name of a shipped one.")]
Only = Annotated[
    str | None, typer.Option("--only", help="Factor levels, e.g. rule=ia,architecture=knet4.")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="Processes; default one per core.")
]
Device = Annotated[str, typer.Option(help="Torch device of the workers.")]
Threads = Annotated[int, typer.Option(min=1, help="Torch threads per worker.")]

# Of ``run``: what it keeps and measures.
Out = Annotated[
    str | None,
    typer.Option("--out", "-o", metavar="PATH|URL", help="Folder or URL; default results/<study>."),
]
KeepCheckpoints = Annotated[
    bool,
    typer.Option(
        "--keep-checkpoints", help="Store weights at recorded epochs, to measure them later."
    ),
]
Measurements = Annotated[
    str | None,
    typer.Option(
        "--measurements", help="Measure at recorded epochs: a file or a shipped one's name."
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Train again the networks that failed.")
]
CheckpointEvery = Annotated[
    str | None,
    typer.Option(
        "--checkpoint-every", metavar="5|30min", help="Store networks in training, to resume."
    ),
]
KeepLast = Annotated[
    bool, typer.Option("--keep-last", help="Keep the last of these when finished.")
]

# Of ``run``: how it computes.
Stack = Annotated[
    str,
    typer.Option(
        metavar="off|auto|N", help="Networks that train as one program; auto tries what pays."
    ),
]
OfSteps = Annotated[Precision, typer.Option(help="Of training steps; records are float32.")]
ChannelsLast = Annotated[
    bool, typer.Option("--channels-last", help="Channels innermost in memory.")
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Compile training steps by torch.compile.")
]
MicroBatch = Annotated[
    int | None, typer.Option("--micro-batch", min=1, help="Stimuli at once, accumulated.")
]
Averages = Annotated[BatchNorm, typer.Option(help="Over all devices' stimuli, or those of each.")]
Devices = Annotated[int, typer.Option(min=1, help="Devices that train each network together.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines with so many devices.")]

# Of ``run``: where.
Where = Annotated[Executor, typer.Option(help="This machine's processes, or a Ray cluster.")]
Address = Annotated[
    str,
    typer.Option(help="Of the Ray cluster: auto, HOST:PORT, ray://HOST:PORT; local makes one."),
]
GpusPerNetwork = Annotated[
    float | None,
    typer.Option(min=0, help="Ray: share of a GPU; default 0.25 with --device cuda, else 0."),
]
CpusPerNetwork = Annotated[float | None, typer.Option(min=0, help="Ray: cores; default --threads.")]
