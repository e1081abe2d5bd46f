"""How kernels are filled. The same object fills a layer's forward and backward weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Initializer = Callable[[Tensor, torch.Generator], None]

# Standard deviation of a unit normal cut off at ±2, by which TensorFlow's variance scaling divides.
_TRUNCATED_STD = 0.87962566103423978


@dataclass(frozen=True)
class Normal:
    """Fills a tensor in place with independent draws from N(0, ``std``²)."""

    std: float

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        with torch.no_grad():
            tensor.normal_(0.0, self.std, generator=generator)


@dataclass(frozen=True)
class TruncatedNormal:
    """Fills a tensor in place with a normal cut off at two deviations, of final deviation ``std``.

    The underlying normal has standard deviation ``std``/0.8796…, so that the truncated draws have
    variance ``std``² (TensorFlow's ``variance_scaling_initializer``).
    """

    std: float

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        # By the inverse of the distribution function: a fixed number of draws, unlike rejection.
        untruncated = self.std / _TRUNCATED_STD
        within = math.erf(math.sqrt(2.0))  # probability of two deviations either way
        with torch.no_grad():
            tensor.uniform_(-within, within, generator=generator)
            tensor.erfinv_().mul_(math.sqrt(2.0) * untruncated)


@dataclass(frozen=True)
class CutNormal:
    """Fills a tensor in place from N(0, ``std``²) cut off at two deviations.

    Unlike `TruncatedNormal`, ``std`` is that of the normal before it is cut; afterwards it is
    0.8796 ``std`` (TensorFlow's ``truncated_normal_initializer``).
    """

    std: float

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        TruncatedNormal(self.std * _TRUNCATED_STD)(tensor, generator)


@dataclass(frozen=True)
class Uniform:
    """Fills a tensor in place with independent draws from U(−``limit``, ``limit``)."""

    limit: float

    def __call__(self, tensor: Tensor, generator: torch.Generator) -> None:
        with torch.no_grad():
            tensor.uniform_(-self.limit, self.limit, generator=generator)


def glorot_uniform(fan_in: int, fan_out: int) -> Uniform:
    """Uniform of variance 2/(fan_in + fan_out). Source: Glorot & Bengio 2010."""
    return Uniform(math.sqrt(6.0 / (fan_in + fan_out)))


def he_normal(fan_in: int) -> Normal:
    """N(0, 2/fan_in): keeps the variance through ReLU layers. Source: He et al. 2015."""
    return Normal(math.sqrt(2.0 / fan_in))


def lecun_normal(fan_in: int) -> Normal:
    """N(0, 1/fan_in): keeps the variance through linear and narrow tanh layers.

    Source: LeCun et al. 1998.
    """
    return Normal(math.sqrt(1.0 / fan_in))


def variance_scaling(fan_in: int) -> TruncatedNormal:
    """Truncated normal of variance 1/fan_in, TensorFlow's default variance scaling."""
    return TruncatedNormal(math.sqrt(1.0 / fan_in))
