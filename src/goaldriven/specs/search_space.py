"""What a search may change: distributions, settings that follow from others, field paths."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from goaldriven.specs.base import Spec, explain, merge

Values = Mapping[str, Any]
"""Drawn values by name: field paths of the network and variables."""

_Model = TypeVar("_Model", bound=BaseModel)


class Range(Spec):
    """Numbers from ``low`` to ``high``, uniform or (``log``) uniform in their logarithm."""

    low: float
    high: float
    log: bool = False
    integer: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low must be less than high ({self.high:g}), got {self.low:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be greater than 0 where log is true, got {self.low:g}")
        for field, value in (("low", self.low), ("high", self.high)):
            if self.integer and not value.is_integer():
                raise ValueError(
                    f"{field} must be a whole number where integer is true, got {value:g}"
                )
        return self

    @property
    def examples(self) -> tuple[float | int, ...]:
        """Both ends and a number between them that is not round."""
        between = self.low + 0.6180339887 * (self.high - self.low)
        values = (self.low, self.high, between)
        return tuple(round(v) for v in values) if self.integer else values

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        number = as_number(value)
        whole = "a whole number " if self.integer else ""
        fits = number is not None and self.low <= number <= self.high
        if number is None or not fits or (self.integer and not float(number).is_integer()):
            return f"must be {whole}between {self.low:g} and {self.high:g}, got {value!r}"
        return None


class Choice(Spec):
    """One of ``choices``: numbers, switches, names, or whole mappings."""

    choices: Annotated[tuple[Any, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _no_repeats(self) -> Choice:
        labels = self.labels
        repeated = [label for i, label in enumerate(labels) if label in labels[:i]]
        if repeated:
            raise ValueError(f"choices must not repeat one, got {repeated[0]} twice")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """One text per choice, which is what the sampler and its database know it by."""
        return tuple(map(label_of, self.choices))

    @property
    def examples(self) -> tuple[Any, ...]:
        return self.choices

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, if anything."""
        if label_of(value) not in self.labels:
            return f"must be one of {', '.join(self.labels)}; got {value!r}"
        return None


def label_of(value: Any) -> str:
    """A choice as text: names as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def as_number(value: Any) -> float | int | None:
    """A number, also from text such as ``1e-3``, which YAML takes for a string; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, (int, float)) else None


def parse(model: type[_Model], value: Any) -> _Model:
    """Validate a part; its complaints become one line, to which the caller's field is added."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ValueError("; ".join(explain(error, model).splitlines())) from None


def _distribution(value: Any) -> Range | Choice:
    if isinstance(value, (Range, Choice)):
        return value
    if isinstance(value, (list, tuple)):
        return parse(Choice, {"choices": value})
    if not isinstance(value, Mapping):
        raise ValueError(f"must be {{low: …, high: …}} or a list of choices, got {value!r}")
    return parse(Choice, value) if "choices" in value else parse(Range, value)


Distribution = Annotated[Range | Choice, BeforeValidator(_distribution)]


class SameAs(Spec):
    """The value of another setting."""

    same_as: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.same_as,)

    def value(self, lookup: Callable[[str], Any]) -> Any:
        return lookup(self.same_as)


def _factors(value: Any) -> Any:
    """Let one factor stand for a list of it, and text such as ``1e-3`` for a number."""
    factors = value if isinstance(value, (list, tuple)) else [value]
    return tuple(f if (number := as_number(f)) is None else number for f in factors)


Factors = Annotated[tuple[float | str, ...], BeforeValidator(_factors)]


class Product(Spec):
    """Π ``product`` / Π ``divided_by``; a factor is a number or the name of a setting."""

    product: Annotated[Factors, Field(min_length=1)]
    divided_by: Factors = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f for f in (*self.product, *self.divided_by) if isinstance(f, str))

    def value(self, lookup: Callable[[str], Any]) -> float:
        def number(factor: float | str) -> float:
            found = lookup(factor) if isinstance(factor, str) else factor
            value = as_number(found)
            if value is None:
                raise ValueError(f"factor {factor!r} must be a number, got {found!r}")
            return value

        result = 1.0
        for factor in self.product:
            result *= number(factor)
        for factor in self.divided_by:
            if (divisor := number(factor)) == 0:
                raise ValueError(f"divided_by must not be 0, got {factor!r}, which is")
            result /= divisor
        return result


def _derived(value: Any) -> SameAs | Product:
    if isinstance(value, (SameAs, Product)):
        return value
    if not isinstance(value, Mapping) or not {"same_as", "product"} & set(value):
        raise ValueError(f"must be {{same_as: NAME}} or {{product: [FACTORS]}}, got {value!r}")
    return parse(SameAs, value) if "same_as" in value else parse(Product, value)


Derived = Annotated[SameAs | Product, BeforeValidator(_derived)]

Variation = dict[str, Any]
"""Field path → value: one of the networks that a setting is tried on."""


def _variations(value: Any) -> Any:
    """A list of variations as it stands; a mapping of lists as its Cartesian product."""
    if not isinstance(value, Mapping):
        return value
    for path, levels in value.items():
        if not isinstance(levels, (list, tuple)) or not levels:
            raise ValueError(f"{path} must have at least 1 entry in a list, got {levels!r}")
    return [dict(zip(value, levels, strict=True)) for levels in itertools.product(*value.values())]


Variations = Annotated[
    Annotated[tuple[Variation, ...], Field(min_length=1)], BeforeValidator(_variations)
]


def put(fields: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """``fields`` with the field at a dotted path set; a name on the way becomes a mapping.

    >>> put({"rule": "ia"}, "rule.optimizer.learning_rate", 0.1)
    {'rule': {'name': 'ia', 'optimizer': {'learning_rate': 0.1}}}

    Raises
    ------
    ValueError : something on the way is not made of fields.
    """
    head, _, rest = path.partition(".")
    if not rest:
        return merge(fields, {head: value})
    inner = fields.get(head, {})
    if isinstance(inner, str):
        inner = {"name": inner}
    if not isinstance(inner, Mapping):
        raise ValueError(f"{head!r} must be made of fields to set {rest!r} of it, got {inner!r}")
    return {**fields, head: put(inner, rest, value)}


def get(fields: Mapping[str, Any], path: str) -> Any:
    """The field at a dotted path.

    Raises
    ------
    KeyError : there is none.
    """
    found: Any = fields
    for part in path.split("."):
        if not isinstance(found, Mapping):
            raise KeyError(path)
        found = found[part]
    return found


def significant(value: Any, digits: int | None) -> Any:
    """A float to so many significant digits; anything else, and None digits, as it is.

    >>> significant(0.012345, 2), significant(7, 1), significant(0.0, 2)
    (0.012, 7, 0.0)
    """
    if digits is None or not isinstance(value, float):
        return value
    return float(f"{value:.{digits - 1}e}")
