"""The linear probe's path of 45 lambdas against scikit-learn's LogisticRegression: seconds, and objectives at every lambda.

    python benchmarks/probe.py [--runs 3] [--n 20000] [--d 384] [--classes 10] [--threads 2]

Data are made here: classes in a power-law spectrum under a random rotation, with overlap ("overlapping", about 90 % right)
or nearly without ("separable"). scikit-learn walks the same path from the largest lambda to the smallest, each fit
starting from the last, in float32 and float64, at its default tolerance and at those that approach our objective.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

from _common import alternate, fair_environment, record


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="alternated runs at scikit-learn's default tolerance")
    parser.add_argument("--tight-runs", type=int, default=1, help="alternated runs at each tight tolerance")
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=384)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", nargs="+", default=["overlapping", "separable"], choices=["overlapping", "separable"])
    parser.add_argument("--tight", type=float, nargs="*", default=[1e-6, 1e-8], help="scikit-learn's tight tolerances")
    parser.add_argument("--cap", type=float, default=600, help="seconds after which a scikit-learn path is given up")
    parser.add_argument(
        "--choice", type=int, default=0, metavar="RUNS", help="time the choice of lambda instead, alternated runs"
    )
    parser.add_argument("--dry", action="store_true", help="print, do not write docs/benchmarks.md")
    return parser.parse_args()


def make_data(n: int, d: int, classes: int, separation: float, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Standardised features float32 and labels, for training and (5,000 rows) for testing."""
    import numpy as np

    rng = np.random.default_rng(seed)
    m = n + 5000
    y = rng.integers(0, classes, m)
    scale = np.arange(1, d + 1) ** -0.5
    centres = rng.standard_normal((classes, d)) * separation
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    x = ((centres[y] + rng.standard_normal((m, d))) * scale) @ rotation
    x += 0.1 * np.abs(x)  # skewed, as features behind a rectifier are
    train, test = x[:n], x[n:]
    mean, std = train.mean(0), train.std(0)
    return ((train - mean) / std).astype(np.float32), y[:n], ((test - mean) / std).astype(np.float32), y[n:]


def objectives(x: Any, y: Any, w: Any, b: Any, lambdas: Any) -> Any:
    """float64 [L], of w [L, d, C] and b [L, C], by a formula that keeps the digits of vanishing losses."""
    import numpy as np

    rows = np.arange(len(y))
    x64 = x.astype(np.float64)
    out = np.zeros(len(lambdas))
    for k, lam in enumerate(lambdas):
        z = x64 @ w[k].astype(np.float64) + b[k]
        u = z - z[rows, y][:, None]
        top = np.maximum(u.max(1), 0)
        e = np.exp(u - top[:, None])
        e[rows, y] = 0
        loss = top + np.log1p(e.sum(1) + np.expm1(-top))
        out[k] = loss.mean() + lam / 2 * (w[k].astype(np.float64) ** 2).sum()
    return out


def compare(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the table for one data set."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from visus.measures.probe import PROTOCOLS, solve_path

    separation = {"overlapping": 0.17, "separable": 0.5}[name]
    x, y, test_x, test_y = make_data(options.n, options.d, options.classes, separation)
    lambdas = PROTOCOLS["visus"].lambdas(len(x))
    kept: dict[str, Any] = {}

    def ours() -> None:
        path = solve_path(x, y, lambdas=lambdas, n_classes=options.classes)
        shift = np.einsum("d,ldc->lc", path.mean, path.W.astype(np.float64))
        kept["visus"] = path.W, path.b - shift

    def peer(dtype: str, tol: float) -> Any:
        data = x.astype(dtype)

        def walk() -> None:
            model = LogisticRegression(tol=tol, max_iter=100_000, warm_start=True)
            found = []
            start = time.perf_counter()
            for lam in lambdas:
                if time.perf_counter() - start > options.cap:
                    # Given up: what is left unsolved is NaN, and the ratio is a lower bound.
                    blank = np.full_like(found[-1][0], np.nan), np.full_like(found[-1][1], np.nan)
                    found.append(blank)
                    continue
                model.C = 1 / (lam * len(x))
                model.fit(data, y)
                found.append((model.coef_.T.copy(), model.intercept_.copy()))
            kept[f"{dtype}, tol {tol:g}"] = np.stack([w for w, _ in found]), np.stack([b for _, b in found])

        return walk

    ours()  # once before the clock, as the first product starts the thread pools
    seconds: dict[str, tuple[list[float], list[float]]] = {}
    for dtype, tol in [("float32", 1e-4), ("float64", 1e-4)] + [("float64", t) for t in options.tight]:
        runs = options.runs if tol == 1e-4 else options.tight_runs
        if not runs:
            continue
        times = alternate(runs, visus=ours, peer=peer(dtype, tol))
        seconds[f"{dtype}, tol {tol:g}"] = times["visus"], times["peer"]
    values = {key: objectives(x, y, w, b, lambdas) for key, (w, b) in kept.items()}
    w, b = kept["visus"]
    accuracy = max(float(((test_x @ w[k] + b[k]).argmax(1) == test_y).mean()) for k in range(len(lambdas)))
    print(f"{name}: best test accuracy of the path {accuracy:.3f}")
    for k, lam in enumerate(lambdas):
        print(f"  lambda {lam:.2e} " + "  ".join(f"{key}: {v[k]:.9f}" for key, v in values.items()))
    rows = []
    for key, (mine, theirs) in seconds.items():
        difference = values["visus"] / values[key] - 1
        rows.append(
            {
                "data": f"{name} ({100 * accuracy:.0f} % right)",
                "scikit-learn": key,
                "scikit-learn s": statistics.median(theirs),
                "visus s": statistics.median(mine),
                "ratio": statistics.median(t / m for t, m in zip(theirs, mine, strict=True)),
                "visus objective above, at most (relative)": float(np.nanmax(difference)),
                "scikit-learn objective above, at most (relative)": float(np.nanmax(-difference)),
                "lambdas that scikit-learn solved": int(np.isfinite(values[key]).sum()),
                "runs": len(mine),
            }
        )
    return rows


def choose(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row: lambda chosen on a tenth of the rows, then the refit, by `linear_probe` and by scikit-learn along the same path."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from visus.measures.probe import PROTOCOLS, linear_probe

    x, y, test_x, test_y = make_data(
        options.n, options.d, options.classes, {"overlapping": 0.17, "separable": 0.5}[name]
    )
    n, held = len(x), len(x) // 10
    both, labels = np.concatenate([x, test_x]), np.concatenate([y, test_y])
    rows = np.arange(len(labels))
    lambdas = PROTOCOLS["visus"].lambdas(n - held)
    chosen: dict[str, tuple[float, float]] = {}

    def ours() -> None:
        found = linear_probe(
            both, labels, folds=[(rows[held:n], rows[:held])], train=rows[:n], test=rows[n:], n_classes=options.classes
        )
        chosen["visus"] = found.lambda_, found.top1

    def peer() -> None:
        mean, std = x[held:].mean(0), x[held:].std(0)
        fit, validation = (x[held:] - mean) / std, (x[:held] - mean) / std
        model = LogisticRegression(max_iter=100_000, warm_start=True)
        right = []
        for lam in lambdas:
            model.C = 1 / (lam * len(fit))
            right.append(float((model.fit(fit, y[held:]).predict(validation) == y[:held]).mean()))
        best = lambdas[int(np.argmax(right))]
        last = LogisticRegression(C=1 / (best * n), max_iter=100_000).fit((x - x.mean(0)) / x.std(0), y)
        chosen["scikit-learn"] = best, float((last.predict((test_x - x.mean(0)) / x.std(0)) == test_y).mean())

    ours()
    times = alternate(options.choice, visus=ours, peer=peer)
    return {
        "data": name,
        "scikit-learn s": statistics.median(times["peer"]),
        "visus s": statistics.median(times["visus"]),
        "ratio": statistics.median(t / m for t, m in zip(times["peer"], times["visus"], strict=True)),
        "scikit-learn chose (lambda, test accuracy)": "{:.2g}, {:.4f}".format(*chosen["scikit-learn"]),
        "visus chose": "{:.2g}, {:.4f}".format(*chosen["visus"]),
        "target": ">= 20",
    }


def main() -> None:
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
    import sklearn
    import torch

    torch.set_num_threads(options.threads)
    if options.choice:
        found = [choose(name, options) for name in options.data]
        said = [
            f"One of 45 lambdas chosen on a tenth of {options.n:,} x {options.d} x {options.classes} classes, and the refit; "
            f"{options.threads} threads both; scikit-learn {sklearn.__version__} (lbfgs, float32, default tolerance, warm along the whole path), "
            f"torch {torch.__version__}."
        ]
        record("Linear probe: the choice of lambda", found, said, dry=options.dry)
        return
    rows = [row for name in options.data for row in compare(name, options)]
    notes = [
        f"45 lambdas from 1e2 to 1e-6, {options.n:,} x {options.d} x {options.classes} classes, {options.threads} threads both; "
        f"visus chooses float32 products with float64 sums; scikit-learn {sklearn.__version__} (lbfgs, warm start), "
        f"torch {torch.__version__}.",
        f"A path of scikit-learn is given up after {options.cap:g} s, between lambdas; then the ratio is a lower bound.",
        "Objectives in float64 from the weights. A negative 'visus objective above' means that visus is lower at every lambda.",
    ]
    tight = "Linear probe: scikit-learn at a tight tolerance"
    record("Linear probe: a path of 45 lambdas" if options.runs else tight, rows, notes, dry=options.dry)


if __name__ == "__main__":
    fair_environment()
    main()
