"""How bright a colour looks: luma by ITU-R 601, as Pillow's mode L. Stands alone at the root."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

WEIGHTS = (0.299, 0.587, 0.114)


def luma(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Luma of colours [..., 3] of floats: [...], in their type and on their scale."""
    found: npt.NDArray[Any] = rgb @ np.array(WEIGHTS, rgb.dtype)
    return found
