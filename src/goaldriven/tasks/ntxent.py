"""SimCLR's contrastive objective."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(projections: Tensor, temperature: float, *, added: bool = False) -> Tensor:
    """Normalised temperature-scaled cross-entropy of the two views of N stimuli.

    With unit vectors z and j(i) the other view of the stimulus that view i shows,

        L = (1/2N) Σ_i −log [ exp(z_i·z_j(i)/τ) / Σ_{k≠i} exp(z_i·z_k/τ) ] ,

    the mean over both orders of all N pairs; 0 for a single pair.

    Parameters
    ----------
    projections : (2N, features), the first views of all stimuli, then the second in that order.
    temperature : τ > 0.
    added : 2L instead: the means over the two orders are added, as in the published studies' code.

    Source: Chen et al. 2020, equation 1; lr-identify ``contrastive_loss.py`` for ``added``.
    """
    n_views = projections.shape[0]
    unit = functional.normalize(projections, dim=1)
    similarity = unit @ unit.T / temperature
    itself = torch.eye(n_views, dtype=torch.bool, device=unit.device)
    other_view = torch.arange(n_views, device=unit.device).roll(n_views // 2)
    mean = functional.cross_entropy(similarity.masked_fill(itself, -torch.inf), other_view)
    return 2 * mean if added else mean
