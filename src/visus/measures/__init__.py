"""From arrays to numbers: pure functions, no files, no plots, no models. Names are imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "KnnAccuracy": "knn",
    "KnnPredictions": "knn",
    "Neighbours": "knn",
    "knn_accuracy": "knn",
    "knn_predict": "knn",
    "top_k": "knn",
    "Scatter": "separability",
    "Silhouette": "separability",
    "scatter_ratio": "separability",
    "silhouette_cosine": "separability",
    "cka_matrix": "cka",
    "unbiased_cka": "cka",
    "wilson": "intervals",
    "McNemar": "compare",
    "PairedDifference": "compare",
    "holm": "compare",
    "mcnemar": "compare",
    "paired_bootstrap": "compare",
    "paired_bootstrap_balanced_accuracy": "compare",
    "ClassRecall": "confusion",
    "ConfusedPair": "confusion",
    "ConfusionChange": "confusion_change",
    "confusion_changes": "confusion_change",
    "class_recall": "confusion",
    "confused_pairs": "confusion",
    "confusion_matrix": "confusion",
    "Map": "maps",
    "Pca": "maps",
    "layer_maps": "maps",
    "pca": "maps",
    "tsne_map": "maps",
    "umap_map": "maps",
    "TrustFigures": "trust",
    "neighbours_kept": "trust",
    "trust_figures": "trust",
    "trustworthiness": "trust",
    "linear_probe": "probe",
    "ProbeResult": "probe",
    "PermutationNull": "probe_null",
    "permutation_null": "probe_null",
    "ProbePath": "probe_solver",
    "solve_path": "probe_solver",
    "pareto": "front",
    "align": "procrustes",
    "unit_radius": "procrustes",
    "ece": "calibration",
    "balanced_accuracy": "confusion",
    "nll": "calibration",
    "ActiveUnits": "latent",
    "AggregateMoments": "latent",
    "LatentKl": "latent",
    "MutualInformation": "latent",
    "active_units": "latent",
    "aggregate_moments": "latent",
    "gaussian_kl": "latent",
    "mutual_information": "latent",
    "Frechet": "frechet",
    "frechet_distance": "frechet",
    "Memorisation": "manifold",
    "PrecisionRecall": "manifold",
    "memorisation": "manifold",
    "nearest": "manifold",
    "precision_recall": "manifold",
    "Likelihood": "likelihood",
    "importance_bound": "likelihood",
    "EffectiveBeta": "objective_scale",
    "effective_beta": "objective_scale",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
