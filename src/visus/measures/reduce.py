"""Fewer columns for probes: principal components fitted on training rows alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from visus.measures._arrays import Array, features


def pca_from_train(
    x: Array, train: npt.NDArray[np.int64], *, dims: int = 256, seed: int = 0
) -> npt.NDArray[np.float32]:
    """Principal components fitted on the rows `train` and applied to all rows.

    x: [n, d]; train: positions. Returns float32 [n, min(dims, len(train) - 1, d)]. Nothing of the other rows enters the fit.
    Raises DataError on NaN or fewer than 2 training rows. Source: Halko et al. 2011 (scikit-learn's randomised PCA).
    """
    # scikit-learn takes most of a second, and most runs reduce nothing.
    from sklearn.decomposition import PCA

    fit = features(x[train], "the training rows", at_least=2)
    kept = min(dims, len(fit) - 1, fit.shape[1])
    model = PCA(n_components=kept, svd_solver="randomized", random_state=seed).fit(fit)
    return np.concatenate([model.transform(x[at : at + 4096]).astype(np.float32) for at in range(0, len(x), 4096)])
