"""How far a mean over splits may be from that of other networks."""

from __future__ import annotations

import numpy as np
import pandas as pd


def corrected_sem(values: pd.Series, ratio: float) -> float:
    """Standard error of a mean over splits, s √(1/n + test/train); NaN for a single split.

    Splits share most of what they train on, so that their accuracies scatter less than those of
    new networks would: s/√n is too small by a factor that grows with n.

    Parameters
    ----------
    ratio : how many are tested in a split, over how many are trained on.

    Source: Nadeau & Bengio 2003, Mach. Learn. 52, 239.
    """
    return float(values.std(ddof=1) * np.sqrt(1 / len(values) + ratio))
