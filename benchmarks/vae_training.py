"""Training a convolutional VAE: visus against a plain DataLoader + ToTensor loop and against pythae's trainer.

python benchmarks/vae_training.py [--quick] [--runs N] [--epochs N] [--threads N]

All three train the same network on the same pictures, with the same batch, Adam and learning rate, and all
validate after every epoch on the same 1,000 pictures. Each peer gets what is fastest for it here: memory format, Adam's
implementation, loader workers. What each does beyond that is in the notes.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _common import alternate, fair_environment, median_ratio, record
from peers import pythae_env

BATCH, LR, CLIP, SEED, EVALUATED = 128, 2e-3, 5.0, 0, 500
TARGETS = {"cpu": {"plain": 1.3, "pythae": 1.5}, "cuda": {"plain": 4.0, "pythae": 4.0}}
WORKERS = {"cpu": (0, 1, 2), "cuda": (0, 2, 4, 8)}
NAMES = {"plain": "plain DataLoader + ToTensor loop", "pythae": "pythae's trainer"}


@dataclass(frozen=True)
class Choice:
    """What a peer may be given."""

    channels_last: bool = False
    fused: bool = False
    workers: int = 0

    def __str__(self) -> str:
        return (
            f"{'channels_last' if self.channels_last else 'contiguous'}, {'fused' if self.fused else 'default'} Adam, "
            f"{self.workers} workers"
        )


FASTEST = Choice(channels_last=True, fused=True)


@dataclass(frozen=True)
class Data:
    """uint8 [n, 28, 28, 1]: pictures to train on, pictures to validate on."""

    train: Any
    validation: Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small case, nothing recorded")
    parser.add_argument("--known", action="store_true", help="give the peers what was fastest on a CPU so far, untried")
    parser.add_argument("--dry", action="store_true", help="nothing recorded")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2, help="of every run")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    fair_environment()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    home = Path(tempfile.mkdtemp(prefix="visus-bench-"))
    os.environ["VISUS_HOME"] = str(home)
    peer = pythae_env.importable()

    import torch

    torch.set_num_threads(args.threads)
    data = pictures(quick=args.quick)
    runs = 1 if args.quick else args.runs
    rows: list[dict[str, Any]] = []
    notes = [
        f"{len(data.train):,} training pictures, 28 x 28 x 1, made of 4,000 of visus:digits, shifted by up to 2 pixels; "
        f"{len(data.validation):,} for validation after every epoch.",
        f"Batch {BATCH}, Adam at {LR:g}, float32, the lab's VAE at its default sizes (the peers': the same layers); every run has another seed; "
        f"images/s count training pictures in a whole training of {args.epochs} epochs, validation included.",
        f"{args.threads} threads; medians of {runs} alternated runs; the ratio is the median over pairs. Warm-up is not timed.",
        "bf16: what --precision auto takes on a CPU that has it in hardware (weights, loss and validation stay float32; benchmarks/vae_precision.py "
        "asks what it costs); neither peer has it on a CPU.",
        "visus: train_vae as users call it; inside its time are the network's making, the gradient's clipping, a checkpoint after every "
        "epoch (weights and Adam's state, synced to disk), the best epoch's weights and the saved model.",
        "Plain loop: a data set as torchvision's MNIST class (Image.fromarray, ToTensor), DataLoader(shuffle, drop_last), the gradient "
        "clipped as ours, one .item() an epoch; no checkpoints.",
        f"{peer}, on our torch ({torch.__version__}): trainer made, then trainer.train(), on pictures that are floats in memory before its "
        "time starts; its own objective (half the squared error + KL), no gradient clipping, the best epoch's copy kept, one saved model at the end.",
    ]
    try:
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            found, said = measure(device, data, home, runs=runs, epochs=args.epochs, known=args.known)
            rows += found
            notes += said
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if not torch.cuda.is_available():
        notes.append("No GPU here; the same script measures one where it is (target: at least 4 x both).")
    record("Training a VAE (benchmarks/vae_training.py)", rows, notes, dry=args.quick or args.dry)


def pictures(*, quick: bool) -> Data:
    """visus:digits, repeated with shifts; whole batches only, so that all sides see the same number."""
    import numpy as np

    from visus.images import load_images

    images = load_images("visus:digits")
    rng = np.random.default_rng(SEED)
    order = rng.permutation(5000)[: 1600 if quick else None]
    plain = np.stack([np.asarray(images.source.read(int(i))) for i in order])[..., None]
    held = 200 if quick else 1000
    validation, fit = plain[:held], plain[held:]
    shifts = [(0, 0), (0, 2), (2, 0), (0, -2), (-2, 0)][: 1 if quick else None]
    train = np.concatenate([np.roll(fit, shift, axis=(1, 2)) for shift in shifts])
    train = train[rng.permutation(len(train))[: len(train) // BATCH * BATCH]]
    return Data(np.ascontiguousarray(train), np.ascontiguousarray(validation))


def measure(
    device: str, data: Data, home: Path, *, runs: int, epochs: int, known: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row a peer, and what to say below."""
    makers = {"plain": plain_loop, "pythae": pythae_trainer}
    chosen = {n: FASTEST if known else best(m, device, data, home, rounds=min(runs, 3)) for n, m in makers.items()}

    ends: dict[str, list[float]] = {}

    def noted(name: str, work: Callable[[], float]) -> Callable[[], None]:
        return lambda: ends.setdefault(name, []).append(work())

    work = {"visus": ours(device, data, home, epochs), "visus bf16": ours(device, data, home, epochs, "bf16")}
    work |= {name: maker(device, data, home, epochs, chosen[name]) for name, maker in makers.items()}
    work |= {f"{name} as it comes": maker(device, data, home, epochs, Choice()) for name, maker in makers.items()}
    for warm in (ours, *((lambda *a, m=m: m(*a, FASTEST)) for m in makers.values() if known)):
        warm(device, part(data), home, 1)()  # else the peers are warm from their trials
    seconds = alternate(runs, **{name: noted(name, function) for name, function in work.items()})
    checked(ends)
    speed = {name: len(data.train) * epochs / statistics.median(took) for name, took in seconds.items()}
    rows = [
        {
            "peer": NAMES[name],
            "device": device,
            "visus images/s": round(speed["visus"]),
            "peer's images/s": round(speed[name]),
            "ratio": median_ratio(seconds[name], seconds["visus"]),
            "target": f">= {TARGETS[device][name]}",
            "ratio, peer as it comes": median_ratio(seconds[f"{name} as it comes"], seconds["visus"]),
            "visus bf16, images/s": round(speed["visus bf16"]),
            "ratio, visus bf16": median_ratio(seconds[name], seconds["visus bf16"]),
        }
        for name in makers
    ]
    said = [
        f"{device}, the peer's fastest: {NAMES[name]}: {choice}; as it comes: {Choice()}."
        for name, choice in chosen.items()
    ]
    val = {name: statistics.mean(values) for name, values in ends.items()}
    said.append(
        f"{device}, validation objective of the last epoch, nats/image: visus {val['visus']:.2f}, in bf16 "
        f"{val['visus bf16']:.2f}, plain loop {val['plain']:.2f} "
        f"(the same objective), pythae {val['pythae']:.2f} (its own). Within two epochs a network has begun to use its code (some 40 "
        "nats) or not yet (52): mostly its first weights decide, which differ by run on our side alone."
    )
    return rows, said


def checked(ends: Mapping[str, Sequence[float]]) -> None:
    """The plain loop must have learnt about as much as ours: what is compared is the same work.

    In two epochs a network may or may not have begun to use its code (some 52 nats or 41), on either side; mostly its first weights decide.
    """
    mine, plain = statistics.mean(ends["visus"]), statistics.mean(ends["plain"])
    assert abs(mine - plain) < 0.3 * mine, (mine, plain)


def best(maker: Callable[..., Callable[[], float]], device: str, data: Data, home: Path, *, rounds: int) -> Choice:
    """The fastest choice: memory format and Adam without workers on a part of the pictures, then workers on whole epochs."""
    some = part(data)

    def fastest(choices: Sequence[Choice], on: Data) -> Choice:
        tries = {str(c): maker(device, on, home, 1, c) for c in choices}
        seconds = alternate(rounds, **tries)
        print(
            *(f"{device} {maker.__name__}: {k}: {min(v):.2f} s" for k, v in seconds.items()), sep="\n", file=sys.stderr
        )
        return min(choices, key=lambda c: statistics.median(seconds[str(c)]))

    maker(device, some, home, 1, Choice())()  # warm-up
    first = fastest([Choice(last, fused) for last in (False, True) for fused in (False, True)], some)
    return fastest([replace(first, workers=n) for n in WORKERS[device] if n <= max(os.cpu_count() or 1, 2)], data)


def part(data: Data) -> Data:
    """A few batches."""
    return Data(data.train[: 40 * BATCH], data.validation)


def ours(device: str, data: Data, home: Path, epochs: int, precision: str = "fp32") -> Callable[[], float]:
    """One training of visus; gives the last epoch's validation objective."""
    from visus.models.vae import Decoder, VaeSizes
    from visus.training.devices import Devices
    from visus.training.recipe import Recipe
    from visus.training.vae import KLSchedule, VaePlan, train_vae

    recipe = Recipe(
        LR, epochs=epochs, batch=BATCH, clip=CLIP, patience=0, optimizer="adam", schedule="constant", seed=SEED
    )
    seeds = itertools.count(SEED)

    def train() -> float:
        seeded = replace(recipe, seed=next(seeds))
        folder = Path(tempfile.mkdtemp(dir=home))
        plan = VaePlan("ours", VaeSizes(28, 28), Decoder(), KLSchedule(), seeded, Devices(device, 1, precision))
        done = train_vae(data.train, data.validation, plan, content="benchmark", root=folder)
        return done.fit.epochs[-1].val_loss

    return train


def layers() -> tuple[Any, Any, Any]:
    """(encoder, dense part of the decoder, deconvolutions): PyTorch's own layers, with the weights that ours starts from.

    The peers train these, not ConvVae, so that nothing that visus does inside its network reaches them.
    """
    from torch import nn

    from visus.models.vae import Decoder, VaeSizes, new_vae

    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, 40),
    )  # fmt: skip
    dense = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 3136), nn.ReLU())
    up = nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1))
    first = new_vae(VaeSizes(28, 28), Decoder(), seed=SEED)
    for mine, of in ((encoder, first.encoder), (dense, first.dense), (up, first.deconvolutions)):
        mine.load_state_dict(of.state_dict())
    return encoder, dense, up


def plain_loop(device: str, data: Data, home: Path, epochs: int, choice: Choice) -> Callable[[], float]:
    """One training as a careful user would write it; gives the last epoch's validation objective."""
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision.transforms import ToTensor

    class Network(torch.nn.Module):
        """The VAE."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.dense, self.up = layers()

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            mu, logvar = self.encoder(x).chunk(2, dim=1)
            z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
            return torch.sigmoid(self.up(self.dense(z).view(-1, 64, 7, 7))), mu, logvar

    def objective(x: torch.Tensor, found: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Summed over the batch, in nats."""
        mean, mu, logvar = found
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()
        return torch.nn.functional.mse_loss(mean, x, reduction="sum") + kl

    class Pictures(Dataset):  # type: ignore[type-arg]
        """As torchvision.datasets.MNIST: bytes in memory, a PIL image a picture, a transform."""

        def __init__(self, pictures: Any) -> None:
            self.data, self.transform = torch.from_numpy(pictures[..., 0]), ToTensor()

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> torch.Tensor:
            found: torch.Tensor = self.transform(Image.fromarray(self.data[index].numpy()))
            return found

    seeds = itertools.count(SEED)

    def train() -> float:
        seed = next(seeds)
        torch.manual_seed(seed)
        settings = {"num_workers": choice.workers, "pin_memory": device == "cuda"}
        settings["persistent_workers"] = choice.workers > 0
        draw = torch.Generator().manual_seed(seed)
        loader = DataLoader(Pictures(data.train), BATCH, shuffle=True, drop_last=True, generator=draw, **settings)
        held = DataLoader(Pictures(data.validation), EVALUATED, **settings)
        layout = torch.channels_last if choice.channels_last else torch.contiguous_format
        network = Network().to(device, memory_format=layout)
        optimizer = torch.optim.Adam(network.parameters(), lr=LR, **({"fused": True} if choice.fused else {}))
        value = 0.0
        for _ in range(epochs):
            network.train()
            losses = []
            for x in loader:
                x = x.to(device, non_blocking=True)
                loss = objective(x, network(x)) / len(x)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
                optimizer.step()
                losses.append(loss.detach())
            assert torch.stack(losses).mean().item() > 0
            network.eval()
            with torch.inference_mode():
                total = torch.zeros((), device=device)
                for x in held:
                    x = x.to(device, non_blocking=True)
                    total += objective(x, network(x))
            value = total.item() / len(data.validation)
        return value

    return train


def pythae_trainer(device: str, data: Data, home: Path, epochs: int, choice: Choice) -> Callable[[], float]:
    """One training by pythae, its trainer made anew; gives its last epoch's validation loss."""
    import torch
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        """The encoder in pythae's words."""

        def __init__(self, encoder: Any) -> None:
            super().__init__()
            self.layers = encoder

        def forward(self, x: torch.Tensor) -> Any:
            mu, logvar = self.layers(x).chunk(2, dim=1)
            return ModelOutput(embedding=mu, log_covariance=logvar)

    class Mirror(BaseDecoder):
        """The decoder in pythae's words."""

        def __init__(self, dense: Any, up: Any) -> None:
            super().__init__()
            self.dense, self.up = dense, up

        def forward(self, z: torch.Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.up(self.dense(z).view(-1, 64, 7, 7))))

    def held(pictures: Any) -> BaseDataset:
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float().div_(255)
        return BaseDataset(x, torch.zeros(len(x)))

    fit, validation = held(data.train), held(data.validation)

    seeds = itertools.count(SEED)

    def train() -> float:
        encoder, dense, up = layers()
        config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="mse")
        model = VAE(config, Encoder(encoder), Mirror(dense, up))
        if choice.channels_last:
            model = model.to(memory_format=torch.channels_last)
        settings = BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(dir=home),
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=EVALUATED,
            num_epochs=epochs,
            learning_rate=LR,
            optimizer_cls="Adam",
            optimizer_params={"fused": True} if choice.fused else None,
            train_dataloader_num_workers=choice.workers,
            eval_dataloader_num_workers=choice.workers,
            seed=next(seeds),
            no_cuda=device == "cpu",
        )
        ends: list[float] = []
        with redirect_stderr(io.StringIO()):  # its progress bars
            trainer = BaseTrainer(model, fit, validation, training_config=settings)
            evaluate = trainer.eval_step
            trainer.eval_step = lambda epoch: ends.append(evaluate(epoch)) or ends[-1]
            trainer.train()
        return ends[-1]

    return train


if __name__ == "__main__":
    main()
