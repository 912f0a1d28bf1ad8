"""Which classes stopped being taken for which: two sets of predictions for the same images, mistake by mistake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binom

from visus.measures._arrays import Array, Ints
from visus.measures.compare import holm
from visus.measures.confusion import confusion_matrix


@dataclass(frozen=True)
class ConfusionChange:
    """Images of class `true` that were called `predicted`, before and after, of the `images` that the class has.

    p: exact McNemar, that the mistake is as frequent after as before; holm: corrected for all pairs that were compared.
    """

    true: int
    predicted: int
    before: int
    after: int
    images: int
    p: float
    holm: float

    @property
    def change(self) -> int:
        """after - before: negative where the mistake became rarer."""
        return self.after - self.before


def confusion_changes(y_true: Array, before: Array, after: Array, *, n_classes: int) -> list[ConfusionChange]:
    """Every mistake (true class, predicted class) made before or after, those that fell the most first.

    y_true, before, after: int [n] below n_classes, for the same images in the same order. p is McNemar's exact test over
    the images of the true class: of those with this mistake in one set of predictions alone, as many in either. All
    mistakes at once: binomial tails of counts, no loop. Equal changes are ordered by p, then by class. Raises DataError on
    lengths that differ or labels that do not fit. Source: McNemar 1947; Holm 1979.
    """
    first = confusion_matrix(y_true, before, n_classes=n_classes)
    second = confusion_matrix(y_true, after, n_classes=n_classes)
    true, early, late = (np.asarray(v, dtype=np.int64) for v in (y_true, before, after))
    same = early == late
    both = confusion_matrix(true[same], early[same], n_classes=n_classes)
    wrong = ~np.eye(n_classes, dtype=bool)
    rows, columns = np.nonzero(((first > 0) | (second > 0)) & wrong)
    was, now = first[rows, columns], second[rows, columns]
    lost, gained = was - both[rows, columns], now - both[rows, columns]
    # At one half the binomial is symmetric: two sides are twice the smaller tail, or all of it where both are equal.
    p = np.minimum(1.0, 2 * binom.cdf(np.minimum(lost, gained), lost + gained, 0.5))
    corrected = holm(p)
    images: Ints = first.sum(axis=1)
    return [
        ConfusionChange(
            true=int(rows[i]),
            predicted=int(columns[i]),
            before=int(was[i]),
            after=int(now[i]),
            images=int(images[rows[i]]),
            p=float(p[i]),
            holm=float(corrected[i]),
        )
        for i in np.lexsort((columns, rows, p, now - was))
    ]
