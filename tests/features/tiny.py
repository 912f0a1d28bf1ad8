"""A tiny network and tiny images whose features are known."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import torch
import xxhash
from PIL import Image

from visus.images.base import ImageSet
from visus.models.base import Backbone
from visus.models.preprocess import Preprocess
from visus.models.tap import Tap

SIZE = 16


@dataclass(frozen=True)
class Pictures:
    """PNG files in memory; `broken` rows hold bytes that are no image; `reads` counts what was asked for."""

    files: tuple[bytes, ...]
    name: str = "tiny"
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, i: int) -> bytes:
        self.reads.append(i)
        return self.files[i]

    def digest(self) -> str:
        return xxhash.xxh3_128_hexdigest(b"|".join(self.files))


def color(i: int) -> tuple[int, int, int]:
    """The colour of the i-th image: its index, readable."""
    return (i % 251, (i * 7) % 241, i // 251)


def plain_images(n: int, broken: tuple[int, ...] = ()) -> ImageSet:
    """n images of one colour each."""
    files = []
    for i in range(n):
        buffer = io.BytesIO()
        Image.new("RGB", (SIZE, SIZE), color(i)).save(buffer, "PNG")
        files.append(b"\x89PNG no image %d" % i if i in broken else buffer.getvalue())
    return ImageSet("tiny", Pictures(tuple(files)), np.arange(n), tuple(f"p/{i}.png" for i in range(n)))


def noise(n: int, seed: int = 0) -> ImageSet:
    """n images of noise."""
    rng = np.random.default_rng(seed)
    files = []
    for _ in range(n):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return ImageSet("noise", Pictures(tuple(files)), np.arange(n), tuple(f"{i}.png" for i in range(n)))


class Net(torch.nn.Module):
    """Mean colour first (tap 'eyes' is the image itself), then two convolutions with BatchNorm, then a head."""

    def __init__(self) -> None:
        super().__init__()
        self.eyes = torch.nn.Identity()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())
        self.body = torch.nn.Sequential(torch.nn.Conv2d(8, 12, 3, 2, 1), torch.nn.BatchNorm2d(12), torch.nn.GELU())
        self.head = torch.nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(self.stem(self.eyes(x)))
        return self.head(x.mean((2, 3)))


def backbone(seed: int = 0) -> Backbone:
    """The tiny network as a backbone, with BatchNorm statistics that are not the trivial ones."""
    generator = torch.Generator().manual_seed(seed)
    net = Net().eval().requires_grad_(False)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.abs_().add_(0.5)
    taps = (
        Tap("eyes", "eyes", "spatial", 0.0, (3, SIZE, SIZE)),
        Tap("stem", "stem", "spatial", 0.3, (8, 8, 8)),
        Tap("body", "body", "spatial", 0.7, (12, 4, 4)),
        Tap("head", "head", "vector", 1.0, (5,)),
    )
    preprocess = Preprocess((SIZE, SIZE), None, "bilinear", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    return Backbone("tiny", net, taps, {"early": "stem", "middle": "body", "late": "head"}, preprocess)


def reference(images: ImageSet, model: Backbone, tap: str, pool: str = "mean") -> np.ndarray:
    """float32 [n, d]: image by image, plain PyTorch, hooks by hand."""
    rows, caught = [], []
    module = model.module.get_submodule(next(t.module for t in model.taps if t.name == tap))
    handle = module.register_forward_hook(lambda _m, _i, out: caught.append(out))
    with torch.no_grad():
        for i in range(len(images)):
            pixels = torch.from_numpy(np.asarray(images.decode(i)).copy())
            x = pixels.permute(2, 0, 1)[None].float() / 255
            mean, std = torch.tensor(model.preprocess.mean), torch.tensor(model.preprocess.std)
            model.module((x - mean[:, None, None]) / std[:, None, None])
            out = caught.pop()
            if out.ndim == 4 and pool == "mean":
                out = out.mean((2, 3))
            rows.append(out.flatten().numpy())
    handle.remove()
    return np.stack(rows)
