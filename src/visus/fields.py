"""The fields of results and figures: what is made of the values given, and how they stand in result.json. Stands alone at the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core.core_schema import SerializationInfo

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def plain_number(value: Any) -> float | None:
    """A Python float; None for None, NaN and infinities, which JSON lacks."""
    if value is None:
        return None
    number = float(value)
    return number if np.isfinite(number) else None


def plain_text(value: Any) -> str:
    """Text that UTF-8 can hold: of a file name with undecodable bytes, those are spelled out (backslash udcff)."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def plain_value(value: Any) -> Any:
    """Numpy scalars, arrays, tuples and paths as what JSON holds; non-finite floats as None."""
    if value is None or isinstance(value, bool | np.bool_):
        return None if value is None else bool(value)
    if isinstance(value, Mapping):
        return {plain_text(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain_value(value.tolist())
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return plain_number(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain_value(v) for v in value]
    return plain_text(value)


def _key(value: Any) -> str:
    text = plain_text(value)
    if not text or text != text.lower() or any(map(str.isspace, text)):
        raise ValueError(f"a key is lower-case text without spaces, not {text!r}; make it with key_of")
    return text


def key_of(*parts: object) -> str:
    """A key of its parts, by slashes, lower-case, spaces as dashes: ('timm:ViT', 'late', 'top 1') -> 'timm:vit/late/top-1'."""
    return "/".join("-".join(plain_text(part).lower().split()) for part in parts if str(part).strip())


def _array_in(value: Any, info: ValidationInfo) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    stored = (info.context or {}).get("arrays", {})
    if isinstance(value, Mapping) and value.get("array") in stored:
        return np.asarray(stored[value["array"]])
    raise ValueError("an array is missing; arrays.npz belongs beside result.json")


def _array_out(value: np.ndarray, info: SerializationInfo) -> dict[str, Any]:
    name = (info.context or {}).get("names", {}).get(id(value))
    return {"array": name, "shape": list(value.shape), "dtype": str(value.dtype)}


Number = Annotated[float | None, BeforeValidator(plain_number)]
Numbers = Annotated[
    Sequence[float | None],
    PlainValidator(lambda values: tuple(map(plain_number, values))),
    WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "number"}, {"type": "null"}]}}),
]
Text = Annotated[str, BeforeValidator(plain_text)]
Texts = Annotated[
    Sequence[str],
    PlainValidator(lambda values: tuple(map(plain_text, values))),
    WithJsonSchema({"type": "array", "items": {"type": "string"}}),
]
Key = Annotated[str, BeforeValidator(_key)]
Array = Annotated[
    np.ndarray,
    PlainValidator(_array_in),
    PlainSerializer(_array_out),
    WithJsonSchema({"type": "object", "properties": {"array": {"type": "string"}}, "required": ["array"]}),
]
