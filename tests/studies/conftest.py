"""Tiny studies: real training on a handful of digits, a second or two."""

from __future__ import annotations

import pytest

from goaldriven.specs import Study


@pytest.fixture
def tiny_study() -> Study:
    return Study(
        name="tiny",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm", "fa"],
        batch_sizes=[32],
        model_seeds=[0, 1],
        epochs=2,
        record_every=1,
    )
