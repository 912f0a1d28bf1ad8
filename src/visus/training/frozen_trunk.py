"""What a frozen front makes of the images, computed once: the input of the part that trains, kept for every epoch.

On a CPU the front runs through the same engine slots as feature extraction (OpenVINO where it is installed), one thread a core.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from visus import threads
from visus.features import engines, pipeline
from visus.features.batching import cpu_batch, peak_activation
from visus.memory import free_cached, halving
from visus.models.preprocess import Preprocess
from visus.progress import log, task
from visus.training.augment import augmented, draws
from visus.training.batches import allocate

CUDA_BATCH = 64
PRECISION = "fp32"


class FrozenTrunk(torch.nn.Module):
    """uint8 [b, h, w, 3] -> (float32 [b, d],): normalisation and the frozen front, flattened, for engines that trace.

    network: holds the weights. enter: what the trained part takes in, from a normalised batch; it must use `network` alone.
    """

    def __init__(
        self, network: torch.nn.Module, enter: Callable[[torch.nn.Module, torch.Tensor], torch.Tensor], p: Preprocess
    ) -> None:
        super().__init__()
        self.network, self.enter, self.preprocess = network, enter, p

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.enter(self.network, self.preprocess.normalize(batch)).flatten(1).float(),)


@dataclass
class _Rows:
    """Fills batches from images in memory; has the shape of features.pipeline.Filler."""

    images: np.ndarray
    size: tuple[int, int]
    batch: int
    dice: np.ndarray | None

    def __post_init__(self) -> None:
        self.stop = threading.Event()

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.batch, *self.size, 3)

    @property
    def dtype(self) -> np.dtype:
        return self.images.dtype

    def __call__(self, number: int, buffer: np.ndarray) -> pipeline.Bad:
        start = number * self.batch
        part = self.images[start : start + self.batch]
        buffer[len(part) :] = 0
        if self.dice is None:
            buffer[: len(part)] = part
        else:
            torch.set_num_threads(1)  # of this worker's own team
            with torch.inference_mode():
                views = augmented(torch.from_numpy(part), self.size, self.dice[start : start + self.batch])
                buffer[: len(part)] = views.round_().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return []


def entering_shape(front: FrozenTrunk, size: tuple[int, int]) -> tuple[int, ...]:
    """Shape, without the batch, of what the front gives before it is flattened."""
    with torch.inference_mode():
        x = front.preprocess.normalize(torch.zeros((1, *size, 3), dtype=torch.uint8))
        return tuple(front.enter(front.network, x).shape[1:])


def run_frozen_trunk(
    front: FrozenTrunk,
    images: np.ndarray,
    *,
    views: int = 0,
    seed: int = 0,
    device: str,
    engine: str = "auto",
    what: str = "the frozen front",
) -> np.ndarray:
    """float32 [max(views, 1), n, ...]: what the front gives for every image, in `views` augmented views or (0) as it stands.

    images: uint8 [n, h, w, 3], with a margin for crops when augmented. View v of image i depends on (seed, v, i) alone.
    """
    size = front.preprocess.size
    shape = entering_shape(front, size)
    front = front.eval()
    out = allocate((max(views, 1), len(images), *shape), np.float32)
    flat = out.reshape(len(out), len(images), -1)
    with task(what, len(out) * len(images)) as progress:
        for view in range(len(out)):
            dice = draws(len(images), seed=seed, epoch=view) if views else None
            run = _on_cpu if device == "cpu" else _on_cuda
            run(front, images, dice, flat[view], device, engine, progress.advance)
    return out


def _on_cpu(
    front: FrozenTrunk,
    images: np.ndarray,
    dice: np.ndarray | None,
    out: np.ndarray,
    device: str,
    engine: str,
    advance: Callable[[int], None],
) -> None:
    size = front.preprocess.size
    with torch.inference_mode():
        one = torch.from_numpy(np.zeros((1, *size, 3), images.dtype))
        batch = cpu_batch(peak_activation(front, lambda: front(one)))
    fill = _Rows(images, size, batch, dice)
    numbers = range(-(-len(images) // batch))
    workers = min(threads.count(), len(numbers))
    slots = _slots(front, fill, engine, workers)
    with engines.one_thread_each(), closing(pipeline.carry(numbers, fill, slots)) as results:  # type: ignore[arg-type]
        for number, (vectors,), _ in results:
            part = out[number * batch : (number + 1) * batch]
            part[:] = vectors[: len(part)]
            advance(len(part))


def _slots(front: FrozenTrunk, fill: _Rows, engine: str, workers: int) -> list[pipeline.Slot]:
    if engines.choose_engine(engine, "cpu") == "openvino":
        sample = np.zeros(fill.shape, fill.dtype)
        fill(0, sample)
        from visus.features.openvino_engine import openvino_slots  # an optional extra

        try:
            return openvino_slots(front, workers, PRECISION, sample)
        except engines.EngineError as error:
            log(f"{error}; PyTorch does it")
    return engines.torch_slots(front, workers, PRECISION)


def _on_cuda(
    front: FrozenTrunk,
    images: np.ndarray,
    dice: np.ndarray | None,
    out: np.ndarray,
    device: str,
    engine: str,
    advance: Callable[[int], None],
) -> None:
    fill = _Rows(images, front.preprocess.size, CUDA_BATCH, None)
    moved = front.to(device)
    try:

        def run(at: slice) -> np.ndarray:
            raw = torch.from_numpy(images[at]).to(device)
            with torch.inference_mode():
                if dice is not None:
                    views = augmented(raw, fill.size, dice[at])
                    raw = views.round_().to(torch.uint8).permute(0, 2, 3, 1)
                entered: np.ndarray = moved(raw)[0].cpu().numpy()
            return entered

        with engines.exact_cuda():
            for at, entered in halving(len(images), fill.batch, run, what="the frozen front"):
                out[at] = entered
                advance(len(entered))
    finally:
        front.to("cpu")
        free_cached()
