"""What GPUs can do, by their makers' data sheets (dense, without sparsity)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from goaldriven.errors import SpecError, unknown

Precision = Literal["float32", "tf32", "bf16"]

UTILISATION: dict[Precision, float] = {"float32": 0.4, "tf32": 0.2, "bf16": 0.2}
"""Assumed share of the peak that training reaches, an assumption and not a measurement: residual
networks at 224 pixels are held back by memory traffic, the more the faster the products are."""

SECONDS_PER_OPERATION = 10e-6
"""Assumed time to start one operation from Python: what small networks pay."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: peak FLOP/s by precision (fp16 where there is no bf16), memory in bytes."""

    name: str
    float32: float
    tf32: float
    bf16: float
    memory: float

    def peak(self, precision: Precision) -> float:
        return float(getattr(self, precision))


def _gpu(name: str, float32: float, tf32: float, bf16: float, gigabytes: float) -> Gpu:
    return Gpu(name, float32 * 1e12, tf32 * 1e12, bf16 * 1e12, gigabytes * 1e9)


GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        _gpu("T4", 8.1, 8.1, 65.0, 16),
        _gpu("V100", 15.7, 15.7, 125.0, 32),
        _gpu("RTX3090", 35.6, 35.6, 71.0, 24),
        _gpu("RTX4090", 82.6, 82.6, 165.2, 24),
        _gpu("A10", 31.2, 62.5, 125.0, 24),
        _gpu("L4", 30.3, 60.0, 121.0, 24),
        _gpu("A100", 19.5, 156.0, 312.0, 80),
        _gpu("H100", 67.0, 494.7, 989.4, 80),
        _gpu("H200", 67.0, 494.7, 989.4, 141),
    )
}
"""Without tf32 (T4, V100), or where it is no faster (GeForce), its column is that of float32."""

DEFAULT_GPUS = ("A100", "H100")


def gpu_named(name: str) -> Gpu:
    """The GPU of that name.

    Raises
    ------
    SpecError : there is none in the table.
    """
    found = {known.lower(): gpu for known, gpu in GPUS.items()}.get(name.lower())
    if found is None:
        raise SpecError(unknown("gpu", name, GPUS))
    return found
