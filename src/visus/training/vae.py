"""Training a variational autoencoder: the ELBO in nats per image, with beta, warm-up and free bits (protocol P11)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash

from visus.errors import DataError
from visus.features.latents import as_floats
from visus.locks import locked
from visus.memory import halving
from visus.models.vae import Decoder, Vae, VaeSizes, kl_terms, new_vae, wrap
from visus.models.vae_open import save_vae
from visus.training.devices import Devices, computed_in
from visus.training.loop import Fit
from visus.training.objective import Objective, shuffled, weight
from visus.training.recipe import Recipe
from visus.training.resumable import SavedFit, fit_resumable
from visus.training.together import share, total
from visus.training.vae_passes import CpuPasses

if TYPE_CHECKING:
    from lightning_fabric import Fabric

EVALUATED = 500  # held-out images a forward pass
FORMAT = 1  # of what is kept; a change makes old trainings strangers


@dataclass(frozen=True)
class KLSchedule:
    """What the KL costs. beta: its weight on the ELBO's scale. warmup: epochs over which beta rises from 0 (Bowman et al. 2016; 0: none).
    free_bits: nats of every dimension's batch-mean KL that cost nothing (Kingma et al. 2016; 0: none)."""

    beta: float = 1.0
    warmup: int = 0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        """Raise DataError for what is no schedule."""
        if not 0 <= self.beta < float("inf") or not 0 <= self.free_bits < float("inf") or self.warmup < 0:
            raise DataError(
                f"beta {self.beta}, warm-up {self.warmup} and free bits {self.free_bits} must be 0 or more, and finite"
            )

    def beta_at(self, epoch: int) -> float:
        """Beta in epoch 0, 1, ...: beta x min(1, epoch / warmup)."""
        return self.beta * min(1.0, epoch / self.warmup) if self.warmup else self.beta

    def cost(self, kl: torch.Tensor) -> torch.Tensor:
        """What is multiplied by beta: the sum over dimensions of max(free_bits, batch mean of the KL). kl: float [b, d], nats."""
        mean = kl.mean(dim=0)
        return (mean.clamp(min=self.free_bits) if self.free_bits else mean).sum()


Network = Callable[..., tuple[torch.Tensor, ...]]  # as ConvVae.forward


class Elbo(Objective):
    """Reconstruction + beta x KL, in nats per image, of images that are kept in memory as bytes.

    train, validation: uint8 [n, h, w, c]. `parts` tells the training and validation means of the epoch: reconstruction, kl, beta.
    Validation: one sample of z an image, the same noise in every epoch; its loss is the objective at the full beta.
    """

    def __init__(self, train: np.ndarray, validation: np.ndarray, schedule: KLSchedule, *, seed: int) -> None:
        self.train, self.validation, self.schedule, self.seed = train, validation, schedule, seed
        self._beta = schedule.beta
        self._seen: list[tuple[float, torch.Tensor]] = []
        self._parts: dict[str, float] = {}
        self._kl = torch.zeros(0)  # of the last batch, by dimension
        self._passes: tuple[torch.nn.Module, CpuPasses] | None = None

    @property
    def cuts(self) -> bool:
        """Free bits look at the mean over the whole batch."""
        return not self.schedule.free_bits

    @property
    def n(self) -> int:
        """Training images."""
        return len(self.train)

    def batches(self, recipe: Recipe, epoch: int) -> list[np.ndarray]:
        """A permutation, cut; the last short batch is left out."""
        self._seen, self._beta = [], self.schedule.beta_at(epoch)
        return shuffled(self.n, recipe, epoch)

    def loss(
        self, model: torch.nn.Module, rows: np.ndarray, *, epoch: int, fabric: Fabric, whole: np.ndarray | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, int]:
        """(their part of the objective in nats per image, 0, 0): nothing is right or wrong here."""
        own = rows if self.cuts else share(rows, fabric)
        part = weight(own, rows if whole is None else whole)
        x = as_floats(self.train[own], fabric.device)
        loss, reconstruction, kl = self.terms(self._fastest(model, fabric), x, self._beta)
        if not self.cuts and fabric.world_size > 1:
            # What free bits cost is looked up in the mean over the whole batch: every process holds all of it and adds its part.
            loss = reconstruction + self._beta * self.schedule.cost(total(part * self._kl)[None])
        loss = part * loss
        # Steps whose passes were cut count once; what a process saw of a step is its part of it.
        self._seen.append((part, torch.stack([reconstruction.detach(), kl.detach()])))
        return loss, torch.zeros((), dtype=torch.long, device=fabric.device), 0

    def _fastest(self, model: torch.nn.Module, fabric: Fabric) -> Network:
        """The model, or what computes the same on this device in less time; in the training's precision."""
        network = inside(model)  # Fabric's wrapper casts as autocast does, on all devices alike
        if not CpuPasses.suits(network, fabric.device):
            return model
        if self._passes is None or self._passes[0] is not network:
            self._passes = network, CpuPasses(network, computed_in(fabric))
        return self._passes[1]

    def terms(self, model: Network, x: torch.Tensor, beta: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(objective, reconstruction, KL) of float images [b, c, h, w], in nats per image."""
        reconstruction, mu, logvar = model(x)
        kl = kl_terms(mu, logvar)
        reconstruction = reconstruction.mean()
        self._kl = kl.mean(dim=0)
        return reconstruction + beta * self.schedule.cost(kl), reconstruction, self._kl.sum()

    def validate(self, model: torch.nn.Module, fabric: Fabric) -> tuple[float, float]:
        """(objective at the full beta, 0); in float32, whatever the training's precision."""
        network = inside(model)
        passes: Network = CpuPasses(network) if CpuPasses.suits(network, fabric.device) else network
        draw = torch.Generator().manual_seed(self.seed)
        reconstruction, terms = 0.0, torch.zeros((), dtype=torch.float64)
        for start in range(0, len(self.validation), EVALUATED):
            images = self.validation[start : start + EVALUATED]
            noise = torch.randn(len(images), latent_of(model), generator=draw)

            def run(at: slice, images: np.ndarray = images, noise: torch.Tensor = noise) -> tuple[float, torch.Tensor]:
                nats, mu, logvar = passes(as_floats(images[at], fabric.device), noise[at].to(fabric.device))
                return float(nats.double().sum()), kl_terms(mu, logvar).double().sum(dim=0).cpu()

            for _, (nats, kls) in halving(len(images), EVALUATED, run, what="validation"):
                reconstruction += nats
                terms = terms + kls
        n = len(self.validation)
        by_dimension = terms / n
        kl = float(by_dimension.sum())
        trained = self._trained(fabric)
        self._parts = {
            "reconstruction": trained[0],
            "kl": trained[1],
            "val_reconstruction": reconstruction / n,
            "val_kl": kl,
            "beta": self._beta,
        }
        cost = float(self.schedule.cost(by_dimension[None]))
        return reconstruction / n + self.schedule.beta * cost, 0.0

    def _trained(self, fabric: Fabric) -> list[float]:
        """Means of the epoch's reconstruction and KL, over all passes and processes."""
        if not self._seen:
            return [float("nan")] * 2
        weights = torch.tensor([part for part, _ in self._seen], device=fabric.device)
        seen = torch.stack([both for _, both in self._seen])
        if fabric.world_size == 1 and bool((weights == 1).all()):
            found: list[float] = seen.mean(dim=0).tolist()
            return found
        sums = fabric.all_reduce(torch.cat([(seen * weights[:, None]).sum(0), weights.sum()[None]]), reduce_op="sum")
        return [float(v) for v in sums[:2] / sums[2]]

    def parts(self) -> Mapping[str, float]:
        """Means in nats per image of the epoch that was just validated, and the beta it was trained with."""
        return self._parts


def inside(model: Any) -> torch.nn.Module:
    """The network itself, wrapped by Fabric or not."""
    found: torch.nn.Module = getattr(model, "module", model)
    return found


def latent_of(model: Any) -> int:
    """Latent dimensions of a ConvVae, wrapped by Fabric or not."""
    return int(inside(model).sizes.latent)  # type: ignore[union-attr,arg-type]


@dataclass(frozen=True)
class VaePlan:
    """What is trained and how: a name that people read, sizes, likelihood, schedule, recipe. allowed: seconds, or None."""

    name: str
    sizes: VaeSizes
    decoder: Decoder
    schedule: KLSchedule
    recipe: Recipe
    devices: Devices = field(default_factory=Devices)
    allowed: float | None = None

    def describe(self) -> dict[str, Any]:
        """Plain values that tell two plans apart, whatever their names."""
        return {
            "sizes": asdict(self.sizes),
            "decoder": asdict(self.decoder),
            "pressure": asdict(self.schedule),  # called so in the keys of trainings that are kept
            "recipe": asdict(self.recipe),
            "devices": asdict(self.devices),
            "seconds": self.allowed,
        }

    def key(self, content: str) -> str:
        """What names the folder of a training on images told apart by `content`: finished ones are found by it."""
        body = json.dumps([FORMAT, content, self.describe()], sort_keys=True)
        return f"vae-{xxhash.xxh3_128_hexdigest(body.encode())[:24]}"


@dataclass(frozen=True)
class TrainedVae:
    """A finished training: its epochs, the model with the best epoch's weights, and the folder that `load_vae` opens."""

    plan: VaePlan
    fit: Fit
    vae: Vae
    folder: Path


def train_vae(train: np.ndarray, validation: np.ndarray, plan: VaePlan, *, content: str, root: Path) -> TrainedVae:
    """Train a ConvVae on images in memory, uint8 [n, h, w, c]; resumed, and read when it is finished, by the same call.

    content: what tells these images from others. root: a folder; each training has one of its own in it, named by the content and the
    plan. Raises DataError: a batch larger than the set, images of other sizes, constant images; DivergedError (naming the step; the
    last whole epoch is kept).
    """
    check_images(train, plan)
    folder = root / plan.key(content)
    model = folder / "model"
    network = new_vae(plan.sizes, plan.decoder, seed=plan.recipe.seed)
    objective = Elbo(train, validation, plan.schedule, seed=plan.recipe.seed)
    waiting = f"another process is training {plan.name} in {folder}; waiting for it, its result will be used"
    with locked(folder, waiting=waiting):
        done = fit_resumable(
            network,
            objective,
            plan.recipe,
            plan.devices,
            saved=SavedFit(folder / "checkpoints", folder / "fit.json"),
            allowed=plan.allowed,
            what=f"training {plan.name}",
            save=lambda: save_vae(model, network, info={"name": plan.name, **plan.describe()}),
        )
    return TrainedVae(plan, done, wrap(network, plan.name, info={"folder": str(model)}), model)


def check_images(train: np.ndarray, plan: VaePlan) -> None:
    """Raise DataError for images that this plan cannot be trained on."""
    s = plan.sizes
    if train.ndim != 4 or train.shape[1:] != (s.height, s.width, s.channels):
        raise DataError(
            f"pictures have shape {list(train.shape[1:])}, the VAE wants [{s.height}, {s.width}, {s.channels}]"
        )
    if len(train) < plan.recipe.batch:
        raise DataError(
            f"a batch of {plan.recipe.batch} is larger than the {len(train)} training pictures; give --batch {max(len(train) // 4, 1)}"
        )
    if (train == train[:1]).all():
        raise DataError("all training pictures are the same, so there is nothing to encode; give pictures that differ")
