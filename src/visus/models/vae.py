"""Variational autoencoders: the convolutional one that the lab trains, its decoder's likelihood, and the noun that studies examine."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from visus.errors import DataError
from visus.spec import unknown

DecoderKind = Literal["gaussian", "learned-gaussian", "bernoulli"]
DECODERS: tuple[DecoderKind, ...] = ("gaussian", "learned-gaussian", "bernoulli")
LOG_VARIANCE = (-30.0, 20.0)  # of the posterior; exp() of anything beyond is no float32
SMALLEST_MAP = 8  # pixels: strides of 2 are added until the deepest feature map is no larger
LEVELS = 6
NARROW = 4  # output channels up to which a deconvolution is faster as a matrix product
NEAREST = 1e-6
PIXELS = (-3, -2, -1)
TensorMap = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Decoder:
    """p(x | z), its mean in [0, 1]: 'gaussian' of a fixed variance, 'learned-gaussian' (one variance for all pixels, learned with
    the weights; Rybkin et al. 2021), 'bernoulli' (each pixel a grey level's probability).

    variance: of the fixed Gaussian; at 1/2, the default, the negative log-likelihood is the sum of squared errors and a constant.
    """

    kind: DecoderKind = "gaussian"
    variance: float = 0.5

    def __post_init__(self) -> None:
        """Raise SpecError for an unknown kind, DataError for a variance that is not above 0."""
        if self.kind not in DECODERS:
            raise unknown("--decoder", self.kind, DECODERS)
        if not 0 < self.variance < math.inf:
            raise DataError(f"a decoder's variance must be above 0, not {self.variance}")

    @property
    def density(self) -> bool:
        """Whether it is a density over pixels in [0, 1]; Bernoulli is none where pixels are grey."""
        return self.kind != "bernoulli"

    def nats(self, raw: torch.Tensor, x: torch.Tensor, log_variance: torch.Tensor | None = None) -> torch.Tensor:
        """The reconstruction term that training minimises, in nats summed over pixels: float [b].

        raw: logits of the mean, float [..., c, h, w]; x: the images, in [0, 1]. 'gaussian': squared error / (2 variance), without the
        constant. 'learned-gaussian' and 'bernoulli': the whole negative log-likelihood; log_variance is the learned one.
        """
        if self.kind == "bernoulli":
            return functional.binary_cross_entropy_with_logits(raw, x.expand_as(raw), reduction="none").sum(PIXELS)
        return self.nats_of_mean(torch.sigmoid(raw), x, log_variance)

    def nats_of_mean(
        self, mean: torch.Tensor, x: torch.Tensor, log_variance: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`nats`, of the mean itself instead of its logits; a Bernoulli mean is kept a millionth away from 0 and 1."""
        if self.kind == "bernoulli":
            certain = mean.clamp(NEAREST, 1 - NEAREST)
            return functional.binary_cross_entropy(certain, x.expand_as(mean), reduction="none").sum(PIXELS)
        squared = (mean - x).square().sum(PIXELS)
        if self.kind == "gaussian":
            return squared if self.variance == 0.5 else squared / (2 * self.variance)
        if log_variance is None:
            raise DataError("a learned-gaussian decoder needs its log_variance; for another's module say gaussian")
        pixels = math.prod(x.shape[-3:])
        return 0.5 * (squared * torch.exp(-log_variance) + pixels * (log_variance + math.log(2 * math.pi)))

    def constant(self, pixels: int) -> float:
        """What `nats` leaves out of the negative log-likelihood of an image."""
        return 0.5 * pixels * math.log(2 * math.pi * self.variance) if self.kind == "gaussian" else 0.0


@dataclass(frozen=True)
class VaeSizes:
    """height, width, channels: of the images. latent: dimensions of z. hidden: width of the dense layers. first: channels of the
    first convolution; every further one, each at stride 2, has twice as many."""

    height: int
    width: int
    channels: int = 1
    latent: int = 20
    hidden: int = 256
    first: int = 32

    def __post_init__(self) -> None:
        """Raise DataError for sizes that no network has."""
        if self.latent < 1:
            raise DataError(f"--latent is {self.latent}; a VAE needs at least 1 latent dimension")
        if min(self.height, self.width) < 4:
            raise DataError(
                f"pictures of {self.width} x {self.height} pixels are too small; give a --size of 4 or more"
            )
        if min(self.channels, self.hidden, self.first) < 1:
            raise DataError("channels and widths of a VAE must be at least 1")

    @property
    def levels(self) -> int:
        """Convolutions at stride 2: two up to 32 pixels (the report's network), one more for every doubling."""
        side = max(self.height, self.width)
        return min(max(2, math.ceil(math.log2(side / SMALLEST_MAP))), LEVELS)

    @property
    def padded(self) -> tuple[int, int]:
        """(height, width) that every stride divides."""
        step = 2**self.levels
        return -(-self.height // step) * step, -(-self.width // step) * step


class NarrowDeconvolution(nn.ConvTranspose2d):
    """nn.ConvTranspose2d(a, b, 4, 2, 1) for few output channels: the same weights and answers, on a CPU by one matrix product and a fold.

    oneDNN has no fast kernel for it: from 32 channels to 1 it takes twice as long, forwards four times.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, 4, 2, 1)

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """float [n, a, h, w] -> [n, b, 2 h, 2 w]."""
        if x.device.type != "cpu" or self.out_channels > NARROW or output_size is not None:
            return super().forward(x, output_size)
        n, a, h, w = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, a) @ self.weight.reshape(a, -1)
        columns = rows.view(n, h * w, -1).transpose(1, 2)
        spread = functional.fold(columns, (2 * h, 2 * w), kernel_size=4, padding=1, stride=2)
        assert self.bias is not None
        return spread + self.bias.view(1, -1, 1, 1)


class ConvVae(nn.Module):
    """Convolutions at stride 2, a dense layer, a diagonal Gaussian posterior, and the mirror image of it all.

    At 28 x 28 x 1: conv 32, conv 64 (4 x 4, stride 2), dense 256, 20 latent dimensions, dense 256, dense 3,136, deconvolutions 32 and 1.
    `encode`: float [b, c, h, w] in [0, 1] -> (mu, logvar), float [b, latent]. `decode`: z -> the mean in [0, 1], float [b, c, h, w].
    """

    def __init__(self, sizes: VaeSizes, decoder: Decoder) -> None:
        super().__init__()
        self.sizes, self.decoder = sizes, decoder
        widths = [sizes.channels, *(sizes.first * 2**k for k in range(sizes.levels))]
        height, width = (side // 2**sizes.levels for side in sizes.padded)
        self.deepest = (widths[-1], height, width)
        flat = math.prod(self.deepest)
        down = [m for a, b in itertools.pairwise(widths) for m in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        self.encoder = nn.Sequential(
            *down, nn.Flatten(), nn.Linear(flat, sizes.hidden), nn.ReLU(), nn.Linear(sizes.hidden, 2 * sizes.latent)
        )
        self.dense = nn.Sequential(
            nn.Linear(sizes.latent, sizes.hidden), nn.ReLU(), nn.Linear(sizes.hidden, flat), nn.ReLU()
        )
        mirror = widths[::-1]
        up: list[nn.Module] = []
        for a, b in itertools.pairwise(mirror[:-1]):
            up += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
        self.deconvolutions = nn.Sequential(*up, NarrowDeconvolution(*mirror[-2:]))
        # The spread of pixels around any mean is well below the spread of pixels; from 1 on, learning would start slowly.
        self.log_variance = nn.Parameter(torch.tensor(math.log(0.1))) if decoder.kind == "learned-gaussian" else None

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(mu, logvar) of the posterior, float [b, latent] each."""
        return self._posterior(self.encoder, x)

    def logits(self, z: torch.Tensor) -> torch.Tensor:
        """Logits of the decoder's mean, float [b, c, h, w]."""
        return self._cropped(self._padded_logits(z))

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """The decoder's mean in [0, 1], float [b, c, h, w]."""
        return torch.sigmoid(self.logits(z))

    def forward(self, x: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """(reconstruction [b] in nats, mu, logvar): one sample of z an image, from `noise` [b, latent] or the global generator."""
        return self.passed(self.encoder, self._padded_logits, x, noise)

    def passed(
        self, code: TensorMap, logits: TensorMap, x: torch.Tensor, noise: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """What `forward` gives, with the layers computed by `code` (padded images -> mu, logvar) and `logits` (z -> padded logits)."""
        mu, logvar = self._posterior(code, x)
        noise = torch.randn_like(mu) if noise is None else noise
        raw = self._cropped(logits(torch.addcmul(mu, torch.exp(0.5 * logvar), noise)))
        return self.decoder.nats(raw.float(), x, self.log_variance), mu.float(), logvar.float()

    def _posterior(self, code: TensorMap, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (h, w), (ph, pw) = (self.sizes.height, self.sizes.width), self.sizes.padded
        if (ph, pw) != (h, w):
            x = functional.pad(x, (0, pw - w, 0, ph - h))
        mu, logvar = code(x).chunk(2, dim=1)
        return mu, logvar.clamp(*LOG_VARIANCE)

    def _padded_logits(self, z: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.deconvolutions(self.dense(z).view(-1, *self.deepest))
        return found

    def _cropped(self, images: torch.Tensor) -> torch.Tensor:
        return images[..., : self.sizes.height, : self.sizes.width]

    def config(self) -> dict[str, Any]:
        """Plain values that `ConvVae(VaeSizes(**sizes), Decoder(**decoder))` is made of."""
        return {"sizes": asdict(self.sizes), "decoder": asdict(self.decoder)}


def new_vae(sizes: VaeSizes, decoder: Decoder, *, seed: int) -> ConvVae:
    """A ConvVae, randomly initialised from `seed`; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvVae(sizes, decoder).eval()


def kl_terms(mu: torch.Tensor, logvar: torch.Tensor) -> torch.Tensor:
    """KL of N(mu, exp(logvar)) from N(0, 1) by dimension, in nats: 1/2 mu^2 + 1/2 (sigma^2 - log sigma^2 - 1); the shape of mu."""
    return 0.5 * (mu.square() + torch.exp(logvar) - logvar - 1)


@dataclass
class Vae:
    """A trained variational autoencoder, whoever made it.

    spec: what the user typed. module: in eval mode, gradients off. shape: (c, h, w) of the images, in [0, 1]. latent: dimensions of z.
    decoder: its likelihood (of another's module: as the user says). encode: float [b, c, h, w] -> (mu, logvar) [b, latent]. decode: z ->
    mean [b, c, h, w]. loss: another's own training loss of a batch, a scalar, or None. info: how it was made.
    """

    spec: str
    module: nn.Module
    shape: tuple[int, int, int]
    latent: int
    decoder: Decoder
    encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    decode: Callable[[torch.Tensor], torch.Tensor]
    loss: Callable[[torch.Tensor], torch.Tensor] | None = None
    random: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Numbers in an image."""
        return math.prod(self.shape)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def log_variance(self) -> torch.Tensor | None:
        """The learned variance of the decoder, if it has one."""
        found = getattr(self.module, "log_variance", None)
        return found if isinstance(found, torch.Tensor) else None

    def nats(self, mean: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The reconstruction term of decoded means, float [...] in nats (see Decoder.nats)."""
        return self.decoder.nats_of_mean(mean, x, self.log_variance)

    @contextmanager
    def on(self, device: str) -> Iterator[Vae]:
        """Move the module to `device` for the duration of the block."""
        self.module.to(device)
        try:
            yield self
        finally:
            self.module.to("cpu")


def wrap(module: ConvVae, spec: str, *, info: Mapping[str, Any] | None = None, random: bool = False) -> Vae:
    """Our own network as a Vae, frozen."""
    module.eval().requires_grad_(requires_grad=False)
    s = module.sizes
    return Vae(
        spec, module, (s.channels, s.height, s.width), s.latent, module.decoder, module.encode, module.decode,
        random=random, info=info or {},
    )  # fmt: skip
