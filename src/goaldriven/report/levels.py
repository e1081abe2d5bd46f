"""The order in which levels of an experiment's condition are shown."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = ("early", "middle", "deep", "late")
"""Words with an order of their own."""

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.])")
"""A number that stands by itself: not those of ``knet4`` and ``conv1d``."""


def in_order(levels: Sequence[object]) -> list[object]:
    """Each level once: words as they came, then numbers by size, those of one kind together.

    Kinds differ in the words around their numbers; those with fewer come first.

    >>> in_order(["none", "128/0", "32/1", "32/0", "none"]), in_order([9, 2.0, 4])
    (['none', '32/0', '32/1', '128/0'], [2.0, 4, 9])
    >>> in_order(["constant 0.3 s.d.", "1 s.d.", "0.3 s.d.", "none", "0.01"])
    ['none', '0.01', '0.3 s.d.', '1 s.d.', 'constant 0.3 s.d.']
    >>> in_order(["late", "early", "middle"])
    ['early', 'middle', 'late']
    """
    once = list(dict.fromkeys(levels))
    words = [level for level in once if not _NUMBER.search(str(level))]
    if all(word in _WORDS for word in words):
        words.sort(key=lambda word: _WORDS.index(str(word)))
    return [*words, *sorted((level for level in once if level not in words), key=_size)]


def _size(level: object) -> tuple[int, str, tuple[float, ...]]:
    """How long the words are, what they are, and the numbers between them."""
    kind = _NUMBER.sub("#", str(level))
    return len(kind), kind, tuple(float(number) for number in _NUMBER.findall(str(level)))
