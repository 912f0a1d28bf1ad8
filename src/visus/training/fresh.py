"""Models from nothing: a small CLIP on pictures with captions, a small ViT on labelled pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from visus.errors import DataError
from visus.models.base import Preprocess
from visus.models.dual import Towers, new_clip, save_dual, square
from visus.paths import atomic_path, write_text
from visus.training.augment import Augmentation
from visus.training.captions import learn_tokenizer
from visus.training.contrastive import CaptionedPictures, Contrastive, Drop
from visus.training.contrastive import Towers as ClipTowers
from visus.training.devices import Devices, with_fabric
from visus.training.feeds import decoded
from visus.training.guide import guides
from visus.training.loop import Fit, fit
from visus.training.named import UNKNOWN, Named, NamedPictures, NamedViT
from visus.training.objective import Objective
from visus.training.recipe import Recipe

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from tokenizers import Tokenizer

    from visus.images import ImageSet
    from visus.models import Backbone

VOCABULARY = 4000
# Drawings: crops keep most of the picture; no mirrors, as left and right have names of their own. Stronger views slow short
# trainings down more than they help.
VIEWS = Augmentation(scale=(0.7, 1.0), mirror=0.0, jitter=0.3, turn=8.0, grey=0.05)
SETTINGS, CHECKPOINTS = "training.json", "checkpoints"


@dataclass(frozen=True)
class Parts:
    """Positions in an image set: what is trained on, what chooses the epoch, what is looked at once."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def parts_of(imageset: ImageSet, *, seed: int) -> Parts:
    """The set's own split (protocol P0); where it has five folds, the first of them."""
    splits = imageset.split(seed=seed)
    return Parts(*splits.folds[0], splits.test)


@dataclass(frozen=True)
class Trained:
    """A finished training: its epochs, and the module in eval mode with the best epoch's weights."""

    fit: Fit
    module: Any
    preprocess: Preprocess
    parameters: int


def names_of(imageset: ImageSet) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct first captions, and int64 [n]: which one each picture bears. Raises DataError for a set without captions."""
    if imageset.captions is None:
        raise DataError(
            f"{imageset.name} has no captions; put a metadata.csv with file_name,text beside the pictures, or use visus:emoji"
        )
    empty = [imageset.ids[i] for i, c in enumerate(imageset.captions) if not c or not c[0].strip()]
    if empty:
        raise DataError(
            f"{len(empty)} pictures of {imageset.name} have no caption, the first: {empty[0]}; give each one"
        )
    names, keys = np.unique([c[0] for c in imageset.captions], return_inverse=True)
    return tuple(str(n) for n in names), keys.astype(np.int64)


def artists(imageset: ImageSet) -> np.ndarray | None:
    """int64 [n]: who drew each picture, where the set says so in its column 'artist'."""
    column = imageset.meta.get("artist")
    return None if column is None else np.unique(list(column), return_inverse=True)[1].astype(np.int64)


def candidates(keys: np.ndarray, part: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The names that a held-out part chooses from: all, where training knows most of the part's; else the part's own."""
    own = np.unique(keys[part])
    return np.unique(keys) if np.isin(own, keys[train]).mean() > 0.5 else own


def train_clip(
    imageset: ImageSet,
    parts: Parts,
    sizes: Towers,
    recipe: Recipe,
    *,
    drop: float,
    teacher: Backbone | None,
    devices: Devices,
    folder: Path,
    allowed: float | None = None,
) -> tuple[Trained, Tokenizer]:
    """Train a CLIP on the pictures at `parts.train`, saved to `folder` in transformers' format; resumed by the same call.

    The tokenizer is learned from the training captions alone. teacher: a backbone whose features of the training pictures the image
    tower learns beside (None: no teacher). Raises DataError: captions missing, a batch larger than the set, other
    settings in the folder.
    """
    names, keys = names_of(imageset)
    _enough(parts.train, recipe)
    captions = imageset.captions or ()
    said = [captions[i] for i in parts.train]
    tokenizer = learn_tokenizer((c for cs in said for c in cs), size=VOCABULARY, context=sizes.context)
    preprocess = square(sizes.image)
    key = {"kind": "clip", "images": imageset.fingerprint, **_settings(parts, sizes, recipe, drop, teacher)}
    checkpoints = _claim(folder, key)
    choice = candidates(keys, parts.validation, parts.train)
    drawn = artists(imageset)
    train = CaptionedPictures(
        decoded(imageset, parts.train, preprocess, what="training"),
        said,
        keys[parts.train],
        None if drawn is None else drawn[parts.train],
        guides([(imageset, parts.train)], teacher, device=devices.kind, seed=recipe.seed) if teacher else None,
    )
    held = CaptionedPictures(
        decoded(imageset, parts.validation, preprocess, what="validation"),
        [captions[i] for i in parts.validation],
        np.searchsorted(choice, keys[parts.validation]),
    )
    objective = Contrastive(train, held, [names[k] for k in choice], tokenizer, preprocess, VIEWS, recipe, Drop(drop))
    clip = new_clip(tokenizer, sizes, seed=recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        towers = ClipTowers(clip, 0 if train.guides is None else train.guides.shape[1])

    def save() -> None:
        save_dual(folder, clip, tokenizer, preprocess)

    done = _run(towers, objective, recipe, devices, checkpoints, save, allowed=allowed, what="clip")
    return Trained(done, clip, preprocess, sum(p.numel() for p in clip.parameters())), tokenizer


def train_vit(
    imageset: ImageSet,
    parts: Parts,
    sizes: Towers,
    recipe: Recipe,
    *,
    named: ImageSet | None,
    named_rows: np.ndarray | None,
    drop: float,
    teacher: Backbone | None,
    devices: Devices,
    folder: Path,
    allowed: float | None = None,
) -> Trained:
    """Train a ViT on the labelled pictures at `parts.train`, saved to `folder` in timm's format; resumed by the same call.

    named, named_rows: pictures whose names (first captions) are learned beside the classes; copies of held-out pictures are left out.
    Raises DataError: no labels, a batch larger than the set, other settings in the folder.
    """
    if imageset.labels is None or len(imageset.classes) < 2:
        raise DataError(f"{imageset.name} has no classes to learn; give labelled images of at least two classes")
    preprocess = square(sizes.image)
    labels = imageset.labels
    held = NamedPictures(
        decoded(imageset, parts.validation, preprocess, what="validation"),
        labels[parts.validation],
        np.full(len(parts.validation), UNKNOWN),
    )
    _enough(parts.train, recipe)
    pictures = decoded(imageset, parts.train, preprocess, what="training")
    classes, bears, drawn, names = labels[parts.train], np.full(len(parts.train), UNKNOWN), artists(imageset), 0
    balance = None if drawn is None else drawn[parts.train]
    sources = [(imageset, parts.train)]
    if named is not None and named_rows is not None:
        forbidden = {p.tobytes() for p in held.pictures}
        forbidden |= {p.tobytes() for p in decoded(imageset, parts.test, preprocess, what="test")}
        pictures, classes, bears, balance, names, sources = _with_names(
            pictures, classes, named, named_rows, preprocess, forbidden, imageset, parts.train
        )
    guided = guides(sources, teacher, device=devices.kind, seed=recipe.seed) if teacher else None
    train = NamedPictures(pictures, classes, bears, balance, guided)
    key = {"kind": "vit", "images": imageset.fingerprint, "named": named.fingerprint if named else ""}
    checkpoints = _claim(folder, {**key, **_settings(parts, sizes, recipe, drop, teacher)})
    vit = new_vit(sizes, len(imageset.classes), seed=recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        network = NamedViT(vit, names, 0 if guided is None else guided.shape[1])
    objective = Named(train, held, preprocess, VIEWS, recipe, Drop(drop))

    def save() -> None:
        save_vit(folder, vit, sizes, imageset.classes, preprocess)

    done = _run(network, objective, recipe, devices, checkpoints, save, allowed=allowed, what="vit")
    return Trained(done, vit, preprocess, sum(p.numel() for p in vit.parameters()))


def _with_names(
    pictures: np.ndarray,
    classes: np.ndarray,
    named: ImageSet,
    rows: np.ndarray,
    preprocess: Preprocess,
    forbidden: set[bytes],
    labelled: ImageSet,
    train: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, int, list[tuple[ImageSet, np.ndarray]]]:
    """The labelled pictures and the named ones as one set: pictures, classes, names, balance, number of names, where they are from."""
    _names, keys = names_of(named)
    extra = decoded(named, rows, preprocess, what="named")
    kept = np.array([p.tobytes() not in forbidden for p in extra], bool)
    rows, extra = rows[kept], extra[kept]
    at = {labelled.ids[i]: k for k, i in enumerate(train)}
    known = np.array([at.get(named.ids[i], UNKNOWN) for i in rows], np.int64)
    # Pictures of both sets are one row with a class and a name; the rest have one of the two.
    alone = np.setdiff1d(np.arange(len(train)), known)
    both = np.where(known == UNKNOWN, UNKNOWN, classes[known])
    used, bears = np.unique(keys[rows], return_inverse=True)
    drawn = artists(named)
    balance = drawn[rows] if drawn is not None and not len(alone) else None
    return (
        np.concatenate([extra, pictures[alone]]),
        np.concatenate([both, classes[alone]]),
        np.concatenate([bears.astype(np.int64), np.full(len(alone), UNKNOWN)]),
        balance,
        len(used),
        [(named, rows), (labelled, train[alone])],
    )


def new_vit(sizes: Towers, classes: int, *, seed: int) -> Any:
    """timm's VisionTransformer of these sizes, randomly initialised from `seed`."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, num_classes=classes, **_vit_args(sizes)
        ).eval()


def _vit_args(sizes: Towers) -> dict[str, Any]:
    return {
        "img_size": sizes.image,
        "patch_size": sizes.patch,
        "embed_dim": sizes.width,
        "depth": sizes.layers,
        "num_heads": max(sizes.width // 64, 1),
    }


def save_vit(
    folder: Path, vit: Any, sizes: Towers, classes: Sequence[str], preprocess: Preprocess, *, half: bool = False
) -> Path:
    """Write a folder that timm (local-dir:) and visus open: config.json and model.safetensors (half: as float16)."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in vit.state_dict().items()}
    if half:
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": len(classes),
        "model_args": _vit_args(sizes),
        "label_names": list(classes),
        "pretrained_cfg": {
            "architecture": "vit_tiny_patch16_224",
            "input_size": [3, sizes.image, sizes.image],
            "fixed_input_size": True,
            "interpolation": preprocess.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "num_classes": len(classes),
            "classifier": "head",
            "first_conv": "patch_embed.proj",
        },
    }
    write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return folder


def _run(
    network: torch.nn.Module,
    objective: Objective,
    recipe: Recipe,
    devices: Devices,
    checkpoints: Path,
    save: Callable[[], None],
    *,
    allowed: float | None,
    what: str,
) -> Fit:
    """Train, save the best epoch's weights and the record of the epochs; the same in every process."""
    file = checkpoints / "fit.json"

    def work(fabric: Fabric) -> None:
        done = fit(
            network,
            objective,
            recipe,
            fabric=fabric,
            train_mode=network.train,
            folder=checkpoints,
            allowed=allowed,
            what=what,
        )
        network.to("cpu").eval()
        if fabric.global_rank == 0:
            save()
            write_text(file, json.dumps(asdict(done)))

    with_fabric(work, devices)
    from visus.training import checkpoint
    from visus.training.records import Epoch

    body = json.loads(file.read_text("utf-8"))
    if devices.count > 1:
        checkpoint.put_back(network, (checkpoint.load(checkpoints / checkpoint.BEST) or {}).get("tensors", {}))
    network.requires_grad_(requires_grad=False).eval()
    return Fit(**{**body, "epochs": tuple(Epoch(**e) for e in body["epochs"])})


def _settings(parts: Parts, sizes: Towers, recipe: Recipe, drop: float, teacher: Backbone | None) -> dict[str, Any]:
    taught = teacher.spec if teacher else None
    return {
        "train": len(parts.train),
        "sizes": asdict(sizes),
        "recipe": asdict(recipe),
        "drop": drop,
        "teacher": taught,
    }


def _claim(folder: Path, key: Mapping[str, Any]) -> Path:
    """The folder of the checkpoints; raises DataError when the folder holds a training with other settings."""
    file = folder / SETTINGS
    text = json.dumps(key, indent=1) + "\n"
    if file.is_file() and file.read_text("utf-8") != text:
        raise DataError(
            f"{folder} holds a training with other settings or images; choose another --out, or delete that one"
        )
    if not file.is_file():
        write_text(file, text)
    return folder / CHECKPOINTS


def _enough(rows: np.ndarray, recipe: Recipe) -> None:
    if len(rows) < recipe.batch:
        raise DataError(
            f"a batch of {recipe.batch} is larger than the {len(rows)} training pictures; give --batch {max(len(rows) // 4, 2)}"
        )
