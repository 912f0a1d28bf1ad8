"""Figures as data, one frozen dataclass a kind; visus.report draws each with one function, for the page and as PNG, SVG and PDF.

Values are as they are in the tables: proportions are fractions, differences of them too; `unit` ('share', 'points', 's', 'nats', ...)
says how the axis is written. A number that is not known is None. Arrays stand in the figure itself; a saved result keeps each once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic.dataclasses import dataclass
from pydantic_core.core_schema import SerializationInfo

from visus.lazy import named

_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def plain_number(value: Any) -> float | None:
    """A Python float; None for None, NaN and infinities, which JSON lacks."""
    if value is None:
        return None
    number = float(value)
    return number if np.isfinite(number) else None


def plain_text(value: Any) -> str:
    """Text that UTF-8 can hold: of a file name with undecodable bytes, those are spelled out (backslash udcff)."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


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


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Figure:
    """What every figure has. key: unique in the result, lower-case; the name of its files. caption: how to read it."""

    key: Key
    title: Text
    caption: Text = ""

    def arrays(self) -> Iterator[tuple[str, np.ndarray]]:
        """(name, array) of every array in it, the name beginning with the figure's key."""
        yield from _arrays(self, self.key)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key!r}: {self.title!r})"

    def _repr_html_(self) -> str:
        """The figure drawn, for a notebook's cell."""
        return str(named("visus.report.notebook:figure_html")(self))


def _arrays(value: Any, name: str) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield name, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _arrays(getattr(value, field.name), f"{name}/{field.name}")
    elif isinstance(value, tuple):
        for i, one in enumerate(value):
            yield from _arrays(one, f"{name}/{i}")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Group:
    """Points of one colour: labels along x, values with 95 % intervals low to high, all of one length."""

    name: Text
    labels: Texts
    values: Numbers
    low: Numbers
    high: Numbers

    def __post_init__(self) -> None:
        _same_length(self, "labels", "values", "low", "high")


@dataclass(frozen=True, config=_STRICT)
class Reference:
    """A dashed line at a known value."""

    label: Text
    value: Number


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Intervals(Figure):
    """Points with interval whiskers, one colour a group. unit: of the values."""

    kind: Literal["intervals"] = "intervals"
    x_label: Text = ""
    y_label: Text = ""
    unit: Text = ""
    groups: tuple[Group, ...]
    reference: tuple[Reference, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Series:
    """One curve: x and y of one length, with a band low to high where both are given."""

    name: Text
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None

    def __post_init__(self) -> None:
        _same_length(self, "x", "y", *(("low", "high") if self.low is not None and self.high is not None else ()))


@dataclass(frozen=True, config=_STRICT)
class Mark:
    """A named place: a vertical line at x in Lines, a ring at (x, y) in Curves."""

    label: Text
    x: Number
    y: Number = None


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Lines(Figure):
    """Curves on one pair of axes. unit: of y; x_unit: of x."""

    kind: Literal["lines"] = "lines"
    x_label: Text = ""
    y_label: Text = ""
    x_unit: Text = ""
    unit: Text = ""
    x_log: bool = False
    y_log: bool = False
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CurvePanel:
    """One case of the small multiples."""

    title: Text
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Curves(Figure):
    """Small multiples on the same axes: a name has one colour in all panels (and may come twice in a panel: repeats); marks are rings.

    own_y: each panel has a y axis of its own. unit: of y; x_unit: of x.
    """

    kind: Literal["curves"] = "curves"
    x_label: Text = ""
    y_label: Text = ""
    x_unit: Text = ""
    unit: Text = ""
    x_log: bool = False
    y_log: bool = False
    own_y: bool = False
    panels: tuple[CurvePanel, ...]


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Map(Figure):
    """A scatter that the page lets one explore.

    points: [n, 2] float32. labels: [n] int64, -1 where an image has no class. ids: n names, or none. sprite: uint8 [n, s, s, 3], the
    thumbnail of each point (several maps may hold the same array). trust: {'trustworthiness', 'neighbours_kept'} in [0, 1].
    """

    kind: Literal["map"] = "map"
    points: Array
    labels: Array
    classes: Texts
    ids: Texts = ()
    sprite: Array | None = None
    trust: Mapping[str, Number] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_STRICT, eq=False)
class MapPanel:
    """One map of many. points: [n, 2] float32; row, column: its place."""

    row: Text
    column: Text
    points: Array
    trust: Mapping[str, Number] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Maps(Figure):
    """Many maps of the same n images in a grid on the same axes (align them first: visus.measures.align), with one legend; stands still."""

    kind: Literal["maps"] = "maps"
    panels: tuple[MapPanel, ...]
    labels: Array
    classes: Texts


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Heatmap(Figure):
    """A matrix in colour: values [rows][columns]. low, high: ends of the scale; label and unit: of the values."""

    kind: Literal["heatmap"] = "heatmap"
    values: Annotated[
        Sequence[Sequence[float | None]],
        PlainValidator(lambda rows: tuple(tuple(map(plain_number, row)) for row in rows)),
        WithJsonSchema({"type": "array", "items": {"type": "array"}}),
    ]
    rows: Texts
    columns: Texts
    label: Text = ""
    unit: Text = ""
    low: Number = None
    high: Number = None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FrontPoint:
    """What one choice is worth, with its 95 % interval."""

    label: Text
    group: Text
    y: Number
    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class FrontPanel:
    """What each point costs: x and whether it lies on the front, in the order of the points. si: ticks as 2 T, 500 G."""

    x_label: Text
    x: Numbers
    front: tuple[bool, ...]
    si: bool = False


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Front(Figure):
    """What each point costs against what it is worth: a panel for each cost (x logarithmic), the front's points joined by steps. unit: of y."""

    kind: Literal["front"] = "front"
    y_label: Text = ""
    unit: Text = ""
    points: tuple[FrontPoint, ...]
    panels: tuple[FrontPanel, ...]


@dataclass(frozen=True, kw_only=True, config=_STRICT, repr=False, eq=False)
class Gallery(Figure):
    """Images with captions. images: uint8 [n, h, w, 3]. groups: the row of the gallery that each stands in; columns: images in a row."""

    kind: Literal["gallery"] = "gallery"
    images: Array
    captions: Texts
    groups: Texts | None = None
    columns: int | None = None


def _same_length(value: Any, *names: str) -> None:
    lengths = {name: len(getattr(value, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(value).__name__} {value.name!r}: of different lengths: {lengths}")


AnyFigure = Annotated[Intervals | Lines | Map | Maps | Heatmap | Gallery | Front | Curves, Field(discriminator="kind")]
