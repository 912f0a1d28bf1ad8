"""extract: ImageSet x Backbone -> Features. Finds what the store has, computes what it lacks, never computes twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visus.arguments import checked
from visus.features.base import Features
from visus.features.load import load
from visus.features.plan import Cost, Job, planned
from visus.features.request import SHARD_ROWS, Options, requested
from visus.features.run import run
from visus.features.write import write
from visus.images.base import ImageSet
from visus.models.base import Backbone


@checked
def extract(
    images: ImageSet,
    backbone: Backbone,
    taps: Sequence[str] = ("early", "middle", "late"),
    *,
    pool: str | None = "mean",
    precision: str = "fp32",
    engine: str = "auto",
    device: str = "auto",
    batch: int | None = None,
    workers: int | None = None,
    store: Path | None = None,
    shard_rows: int = SHARD_ROWS,
    labelled: bool = False,
) -> Features:
    """Features of `images` at `taps`, from the store where it has them, else by one streaming pass over the images.

    taps: names or aliases. pool: 'mean' (over positions or patches), 'cls' (that token), 'cls+mean' (one behind the other),
    'flatten' or None (everything, [n, c*h*w]).
    precision: 'fp32' or 'bf16' (stored as float32). engine: 'auto', 'openvino', 'torch'. device: 'auto', 'cpu', 'cuda',
    'cuda:N'. batch: images a forward pass (found by itself). workers: threads (one a core). store: folder of all features
    (default paths.features_home()). shard_rows: images a shard at most; a killed run loses less than one. labelled: have the store's
    label column say the labels of `images`, also where the features were computed under others (labels are not part of the key).

    A run that was stopped goes on where it stopped, and leaves the same bytes as one that was not. Two processes that ask for
    the same thing compute it once. Undecodable images are left out of the rows and named in `quarantine`.
    Raises SpecError (unknown tap), DataError (no images, bad option, every image undecodable), StoreError (disk full,
    no permission), MissingExtraError (OpenVINO asked for and not installed).
    """
    options = Options(pool or "flatten", precision, engine, device, batch, workers, shard_rows, labelled)
    request = requested(images, backbone, taps, options, store)

    def compute(job: Job) -> Cost:
        with run(job) as stream:
            return write(job, stream)

    with planned(request) as plan:
        cost = plan.carried_out(compute)
    return load(request, cost)
