"""How often rules are named right without looking at anything."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def chance(train: Iterable[str], test: Iterable[str]) -> float:
    """Expected accuracy on ``test`` of what knows only how often ``train`` has each rule.

    The better of naming rules at random, as often as the training part has them, and of always
    naming its commonest (the mean over those that tie).

    >>> chance("aabb", "ab"), chance("aaab", "aaab"), chance("aaab", "bbbb")
    (0.5, 0.75, 0.25)
    """
    rules, counts = np.unique(np.array(list(train)), return_counts=True)
    tested = np.array(list(test))
    shares = np.array([np.mean(tested == rule) for rule in rules])
    guessing = counts / counts.sum() @ shares
    commonest = shares[counts == counts.max()].mean()
    return float(max(guessing, commonest))
