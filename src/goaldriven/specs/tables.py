"""Lookups over the spec classes themselves, for error messages."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from goaldriven.specs.architectures import ARCHITECTURES
from goaldriven.specs.credit import CREDITS
from goaldriven.specs.optimizers import OPTIMIZERS
from goaldriven.specs.tasks import TASKS

VARIANT_NAMES: set[str] = {
    *TASKS,
    *ARCHITECTURES,
    *(str(part.model_fields["name"].default) for part in (*CREDITS, *OPTIMIZERS)),
}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model class that an annotation can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models(inner)


def spec_class_at(root: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The spec class at a pydantic error location below ``root``."""
    candidates = [root]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [c.model_fields[part].annotation for c in candidates if part in c.model_fields]
        if fields:
            candidates = [m for annotation in fields for m in _models(annotation)]
        else:  # a union's tag
            candidates = [c for c in candidates if part in _tags(c)]
    return candidates[0] if candidates else None


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    name = model.model_fields.get("name")
    return typing.get_args(name.annotation) if name is not None else ()
