"""Figures as data, one frozen dataclass a kind; visus.report draws each with one function, for the page and as PNG, SVG and PDF.

Values are as they are in the tables: proportions are fractions, differences of them too; `unit` ('share', 'points', 's', 'nats', ...)
says how the axis is written. A number that is not known is None. Arrays stand in the figure itself; a saved result keeps each once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic.dataclasses import dataclass

from visus.fields import STRICT, Array, Key, Number, Numbers, Text, Texts, plain_number
from visus.fields import key_of as key_of
from visus.lazy import named


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Group:
    """Points of one colour: labels along x, values with 95 % intervals low to high, all of one length."""

    name: Text
    labels: Texts
    values: Numbers
    low: Numbers
    high: Numbers

    def __post_init__(self) -> None:
        _same_length(self, "labels", "values", "low", "high")


@dataclass(frozen=True, config=STRICT)
class Reference:
    """A dashed line at a known value."""

    label: Text
    value: Number


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
class Intervals(Figure):
    """Points with interval whiskers, one colour a group. unit: of the values."""

    kind: Literal["intervals"] = "intervals"
    x_label: Text = ""
    y_label: Text = ""
    unit: Text = ""
    groups: tuple[Group, ...]
    reference: tuple[Reference, ...] = ()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Series:
    """One curve: x and y of one length, with a band low to high where both are given."""

    name: Text
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None

    def __post_init__(self) -> None:
        _same_length(self, "x", "y", *(("low", "high") if self.low is not None and self.high is not None else ()))


@dataclass(frozen=True, config=STRICT)
class Mark:
    """A named place: a vertical line at x in Lines, a ring at (x, y) in Curves."""

    label: Text
    x: Number
    y: Number = None


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CurvePanel:
    """One case of the small multiples."""

    title: Text
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
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


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
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


@dataclass(frozen=True, kw_only=True, config=STRICT, eq=False)
class MapPanel:
    """One map of many. points: [n, 2] float32; row, column: its place."""

    row: Text
    column: Text
    points: Array
    trust: Mapping[str, Number] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
class Maps(Figure):
    """Many maps of the same n images in a grid on the same axes (align them first: visus.measures.align), with one legend; stands still."""

    kind: Literal["maps"] = "maps"
    panels: tuple[MapPanel, ...]
    labels: Array
    classes: Texts


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FrontPoint:
    """What one choice is worth, with its 95 % interval."""

    label: Text
    group: Text
    y: Number
    low: Number
    high: Number


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FrontPanel:
    """What each point costs: x and whether it lies on the front, in the order of the points. si: ticks as 2 T, 500 G."""

    x_label: Text
    x: Numbers
    front: tuple[bool, ...]
    si: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
class Front(Figure):
    """What each point costs against what it is worth: a panel for each cost (x logarithmic), the front's points joined by steps. unit: of y."""

    kind: Literal["front"] = "front"
    y_label: Text = ""
    unit: Text = ""
    points: tuple[FrontPoint, ...]
    panels: tuple[FrontPanel, ...]


@dataclass(frozen=True, kw_only=True, config=STRICT, repr=False, eq=False)
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
