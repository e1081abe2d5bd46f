"""The base of every spec, and the one place where pydantic's complaints become ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from goaldriven.errors import SpecError, unknown


class Spec(BaseModel):
    """Frozen; unknown keys, infinities and NaN are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )


class NamedSpec(Spec):
    """A spec told apart from its siblings by ``name``; ``summary`` is its line in a listing."""

    @classmethod
    def summary(cls) -> str:
        return (cls.__doc__ or "").strip().splitlines()[0]


class RootSpec(Spec):
    """A spec that users construct by themselves: validation failures arrive as `SpecError`."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise SpecError(explain(error, type(self))) from None


def name_only(value: Any) -> Any:
    """Let ``knet4`` stand for ``{name: knet4}``."""
    return {"name": value} if isinstance(value, str) else value


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, nested mappings key by key.

    A nested mapping that changes its ``name`` is another variant: it replaces the old one whole.
    """
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        same_variant = (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and ("name" not in value or value["name"] == old.get("name"))
        )
        merged[key] = merge(old, value) if same_variant else value  # type: ignore[arg-type]
    return merged


def explain(error: ValidationError, root: type[BaseModel] | None = None) -> str:
    """One line per complaint: the field's path, what is allowed, what was given."""
    complaints = error.errors()
    # A list whose entries are invalid also counts as too short: that is no complaint of its own.
    inner = {e["loc"][:-1] for e in complaints if e["loc"] and isinstance(e["loc"][-1], int)}
    inner |= {e["loc"][:i] for e in complaints for i in range(1, len(e["loc"]))}
    real = [e for e in complaints if e["type"] != "too_short" or e["loc"] not in inner]
    return "\n".join(dict.fromkeys(_explain_one(e, root) for e in real))


_PLAIN = {
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "tuple_type": "a list",
    "model_type": "a name or a mapping",
    "model_attributes_type": "a name or a mapping",
    "string_type": "text",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
}


def _path(location: tuple[int | str, ...], tags: set[str]) -> str:
    """``rules[1].optimizer.learning_rate``; a union's tag repeats the name and is left out."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part not in tags:
            text += f".{part}" if text else part
    return text


def _known_fields(location: tuple[int | str, ...], root: type[BaseModel] | None) -> list[str]:
    """The field names allowed at a location, found by walking the spec classes."""
    from goaldriven.specs.tables import spec_class_at

    found = spec_class_at(root, location) if root is not None else None
    return list(found.model_fields) if found is not None else []


def _explain_one(complaint: Any, root: type[BaseModel] | None) -> str:
    from goaldriven.specs.tables import VARIANT_NAMES

    location, given, kind = complaint["loc"], complaint.get("input"), complaint["type"]
    context = complaint.get("ctx", {})
    field = _path(location, VARIANT_NAMES)
    if kind == "union_tag_invalid":
        allowed = [t.strip(" '") for t in context["expected_tags"].split(",")]
        return unknown(f"{field}.name", context["tag"], allowed)
    if kind == "union_tag_not_found":
        return f"{field} must be a name or a mapping with a 'name', got {given!r}"
    if kind == "extra_forbidden":
        allowed = _known_fields(location[:-1], root)
        where = _path(location[:-1], VARIANT_NAMES)
        return unknown(f"{where}: every key" if where else "every key", location[-1], allowed)
    if kind == "missing":
        return f"{field} is required and was not given"
    if kind == "value_error":
        return str(context["error"]) if not field else _prefixed(field, str(context["error"]))
    if kind == "too_short":
        return f"{field} must have at least {context['min_length']} entry, got {given!r}"
    if kind == "string_pattern_mismatch":
        return (
            f"{field} must be made of letters, digits, '.', '_', '-' (and begin with a letter or "
            f"digit), got {given!r}"
        )
    message = complaint["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    message = _PLAIN.get(kind, message)
    return f"{field} must be {message}, got {given!r}"


def _prefixed(field: str, message: str) -> str:
    last = field.rsplit(".", 1)[-1].split("[")[0]
    return message if message.startswith(last) else f"{field}: {message}"
