"""One map laid over another, so that two maps of the same images can be compared by eye."""

from __future__ import annotations

import numpy as np
from scipy.linalg import orthogonal_procrustes

from visus.errors import DataError
from visus.measures._arrays import Array, Floats, features


def unit_radius(points: Array) -> Floats:
    """The points around their mean, at a root mean square distance of 1 from it; not turned.

    points: [n, d]. Returns float64 [n, d]; points that all lie on one spot come back as zeros. Raises DataError on NaN.
    """
    return _shape(features(points, "points"))[0]


def align(points: Array, reference: Array) -> Floats:
    """The points moved, scaled and rotated or reflected onto the reference, whose axes they then share.

    points, reference: [n, d], row i of both the same image. Returns float64 [n, d] with the reference's mean and root mean
    square radius. The rotation is the orthogonal Procrustes solution: of all rotations and reflections the one with the
    smallest sum of squared distances to the reference. The scale is that of the radius, not the least-squares one, which
    would shrink maps that fit badly. Distances keep their ratios, so nothing of the map is lost. Raises DataError on NaN,
    or shapes that differ. Source: Schönemann 1966; Gower 1975.
    """
    points, reference = features(points, "points"), features(reference, "the reference")
    if points.shape != reference.shape:
        raise DataError(
            f"points have shape {list(points.shape)} and the reference {list(reference.shape)}; give the same images in the same order"
        )
    shape, _ = _shape(points)
    goal, radius = _shape(reference)
    rotation, _ = orthogonal_procrustes(shape, goal)
    moved: Floats = shape @ rotation * radius + reference.mean(axis=0, dtype=np.float64)
    return moved


def _shape(points: Array) -> tuple[Floats, float]:
    """The points around their mean at a root mean square radius of 1 (zeros where they are one spot), and that radius."""
    centred: Floats = points.astype(np.float64)
    size = float(np.abs(centred).max())
    centred -= centred.mean(axis=0)
    radius = float(np.sqrt((centred**2).sum(axis=1).mean()))
    # What rounding of the mean leaves of points on one spot has no shape.
    if radius <= 1e-12 * size:
        return np.zeros_like(centred), 0.0
    return centred / radius, radius
