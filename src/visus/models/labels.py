"""Names of a classifier's outputs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=8)
def imagenet_labels(classes: int) -> tuple[str, ...] | None:
    """WordNet synonyms of the outputs of an ImageNet classifier ('tabby, tabby cat'), by the number of its classes.

    Known: ImageNet-1k, 12k, 21k, 22k in the orders that timm's checkpoints use. None for any other number.
    """
    info = imagenet(classes)
    return tuple(info.label_descriptions()) if info else None


def imagenet(classes: int) -> Any:
    """timm's description of the ImageNet whose classes have this number; None for any other number."""
    # More than a second, and models of other libraries bring names of their own as a rule.
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": classes})
    return ImageNetInfo(subset) if subset else None


def short(label: str) -> str:
    """The first synonym of a label: 'tabby, tabby cat' -> 'tabby'."""
    return label.split(",")[0].strip()


def numbered(classes: int) -> tuple[str, ...]:
    """Names for outputs that nobody named: 'class 0', 'class 1', ..."""
    return tuple(f"class {i}" for i in range(classes))
