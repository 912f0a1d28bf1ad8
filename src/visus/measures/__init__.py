"""From arrays to numbers: pure functions, no files, no plots, no models.

The public surface; each name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from visus.measures.calibration import ece, nll
    from visus.measures.cka import cka_matrix, unbiased_cka
    from visus.measures.compare import (
        McNemar,
        PairedDifference,
        holm,
        mcnemar,
        paired_bootstrap,
        paired_bootstrap_balanced_accuracy,
    )
    from visus.measures.confusion import (
        ClassRecall,
        ConfusedPair,
        balanced_accuracy,
        class_recall,
        confused_pairs,
        confusion_matrix,
    )
    from visus.measures.confusion_change import ConfusionChange, confusion_changes
    from visus.measures.frechet import Frechet, frechet_distance
    from visus.measures.front import pareto
    from visus.measures.intervals import wilson
    from visus.measures.knn import KnnAccuracy, KnnPredictions, Neighbours, knn_accuracy, knn_predict, top_k
    from visus.measures.latent import (
        ActiveUnits,
        AggregateMoments,
        LatentKl,
        MutualInformation,
        active_units,
        aggregate_moments,
        gaussian_kl,
        mutual_information,
    )
    from visus.measures.likelihood import Likelihood, importance_bound
    from visus.measures.manifold import Memorisation, PrecisionRecall, memorisation, nearest, precision_recall
    from visus.measures.maps import Map, Pca, layer_maps, pca, tsne_map, umap_map
    from visus.measures.objective_scale import EffectiveBeta, effective_beta
    from visus.measures.probe import ProbeResult, linear_probe
    from visus.measures.probe_null import PermutationNull, ProbeSetting, permutation_null
    from visus.measures.probe_solver import ProbePath, Solver, solve_path
    from visus.measures.procrustes import align, unit_radius
    from visus.measures.separability import Scatter, Silhouette, scatter_ratio, silhouette_cosine
    from visus.measures.trust import TrustFigures, neighbours_kept, trust_figures, trustworthiness

__all__ = [
    "ActiveUnits",
    "AggregateMoments",
    "ClassRecall",
    "ConfusedPair",
    "ConfusionChange",
    "EffectiveBeta",
    "Frechet",
    "KnnAccuracy",
    "KnnPredictions",
    "LatentKl",
    "Likelihood",
    "Map",
    "McNemar",
    "Memorisation",
    "MutualInformation",
    "Neighbours",
    "PairedDifference",
    "Pca",
    "PermutationNull",
    "PrecisionRecall",
    "ProbePath",
    "ProbeResult",
    "ProbeSetting",
    "Scatter",
    "Silhouette",
    "Solver",
    "TrustFigures",
    "active_units",
    "aggregate_moments",
    "align",
    "balanced_accuracy",
    "cka_matrix",
    "class_recall",
    "confused_pairs",
    "confusion_changes",
    "confusion_matrix",
    "ece",
    "effective_beta",
    "frechet_distance",
    "gaussian_kl",
    "holm",
    "importance_bound",
    "knn_accuracy",
    "knn_predict",
    "layer_maps",
    "linear_probe",
    "mcnemar",
    "memorisation",
    "mutual_information",
    "nearest",
    "neighbours_kept",
    "nll",
    "paired_bootstrap",
    "paired_bootstrap_balanced_accuracy",
    "pareto",
    "pca",
    "permutation_null",
    "precision_recall",
    "scatter_ratio",
    "silhouette_cosine",
    "solve_path",
    "top_k",
    "trust_figures",
    "trustworthiness",
    "tsne_map",
    "umap_map",
    "unbiased_cka",
    "unit_radius",
    "wilson",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibration": ["ece", "nll"],
        "cka": ["cka_matrix", "unbiased_cka"],
        "compare": [
            "McNemar",
            "PairedDifference",
            "holm",
            "mcnemar",
            "paired_bootstrap",
            "paired_bootstrap_balanced_accuracy",
        ],
        "confusion": [
            "ClassRecall",
            "ConfusedPair",
            "balanced_accuracy",
            "class_recall",
            "confused_pairs",
            "confusion_matrix",
        ],
        "confusion_change": ["ConfusionChange", "confusion_changes"],
        "frechet": ["Frechet", "frechet_distance"],
        "front": ["pareto"],
        "intervals": ["wilson"],
        "knn": ["KnnAccuracy", "KnnPredictions", "Neighbours", "knn_accuracy", "knn_predict", "top_k"],
        "latent": [
            "ActiveUnits",
            "AggregateMoments",
            "LatentKl",
            "MutualInformation",
            "active_units",
            "aggregate_moments",
            "gaussian_kl",
            "mutual_information",
        ],
        "likelihood": ["Likelihood", "importance_bound"],
        "manifold": ["Memorisation", "PrecisionRecall", "memorisation", "nearest", "precision_recall"],
        "maps": ["Map", "Pca", "layer_maps", "pca", "tsne_map", "umap_map"],
        "objective_scale": ["EffectiveBeta", "effective_beta"],
        "probe": ["ProbeResult", "linear_probe"],
        "probe_null": ["PermutationNull", "ProbeSetting", "permutation_null"],
        "probe_solver": ["ProbePath", "Solver", "solve_path"],
        "procrustes": ["align", "unit_radius"],
        "separability": ["Scatter", "Silhouette", "scatter_ratio", "silhouette_cosine"],
        "trust": ["TrustFigures", "neighbours_kept", "trust_figures", "trustworthiness"],
    },
)
