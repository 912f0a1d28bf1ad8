"""Which choices nothing beats: the Pareto front of a cost and a value."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from visus.errors import DataError
from visus.measures._arrays import Array, as_array


def pareto(cost: Array, value: Array) -> npt.NDArray[np.bool_]:
    """Whether each of n choices is on the Pareto front: no other costs as little and is worth as much, one of the two strictly better.

    cost, value: real [n]; lower cost and higher value are better. Returns bool [n]. Choices equal in both are on the front
    together or off it together; one whose cost or value is NaN is off it and beats nobody. O(n log n). Raises DataError
    when the two are not vectors of one length. Source: Kung, Luccio and Preparata 1975, in two dimensions.
    """
    c, v = as_array(cost, "cost", real=True), as_array(value, "value", real=True)
    if c.ndim != 1 or c.shape != v.shape:
        raise DataError(f"cost has shape {list(c.shape)} and value {list(v.shape)}; give one of each per choice")
    known = ~(np.isnan(c) | np.isnan(v))
    on = np.zeros(len(c), dtype=np.bool_)
    if not known.any():
        return on
    prices, group = np.unique(c[known], return_inverse=True)
    top = np.full(len(prices), -np.inf)
    np.maximum.at(top, group, v[known])
    cheaper = np.concatenate([[-np.inf], np.maximum.accumulate(top)[:-1]])
    # The best at its price, and better than everything cheaper; at the lowest price there is nothing cheaper to beat.
    on[known] = (v[known] == top[group]) & ((v[known] > cheaper[group]) | (group == 0))
    return on
