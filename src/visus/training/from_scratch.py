"""Models from nothing: a small CLIP on images with captions, a small ViT on labelled images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xxhash
from safetensors.torch import save_file

from visus.errors import DataError
from visus.locks import locked
from visus.models.dual_new import ClipConfig, new_clip, save_dual, square
from visus.models.preprocess import Preprocess
from visus.outputs import mark
from visus.paths import atomic_path, write_text
from visus.training.augment import Augmentation
from visus.training.batches import decoded
from visus.training.captioned import artists, candidates, names_of, with_more
from visus.training.captions import keywords, learn_tokenizer
from visus.training.contrastive import CaptionedImages, ClipTrainer, Contrastive
from visus.training.devices import Devices
from visus.training.distillation import teacher_features
from visus.training.loop import Fit
from visus.training.objective import Objective
from visus.training.parts import Parts, parts_of
from visus.training.recipe import Recipe
from visus.training.resumable import SavedFit, fit_resumable
from visus.training.vectors import Meanings, add_words, meanings_for, start_from
from visus.training.views import Drop, Views
from visus.training.vit_multitask import UNKNOWN, Multitask, MultitaskImages, MultitaskViT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from visus.images import ImageSet
    from visus.models import Backbone
    from visus.training.vectors import WordVectors

VOCABULARY = 4000
# Drawings: crops keep most of the image; no mirrors, as left and right have names of their own. Stronger views slow short
# trainings down more than they help.
DRAWINGS = Augmentation(scale=(0.7, 1.0), mirror=0.0, jitter=0.3, turn=8.0, grey=0.05)
SETTINGS, CHECKPOINTS = "training.json", "checkpoints"


@dataclass(frozen=True)
class Plan:
    """What is trained and how, of either kind.

    drop: share of patches left out of training images. teacher: a backbone whose features of the training images the image tower
    learns beside (None: no teacher). vectors: of words, which the text tower learns beside (None: none); words: how many of them get a
    token. beside: captioned images that a CLIP is trained on as well (None: none). folder: where the model and its checkpoints go.
    allowed: seconds, or None.
    """

    parts: Parts
    sizes: ClipConfig
    recipe: Recipe
    folder: Path
    drop: float = 0.5
    teacher: Backbone | None = None
    vectors: WordVectors | None = None
    words: int = 16_000
    beside: ImageSet | None = None
    devices: Devices = field(default_factory=Devices)
    allowed: float | None = None

    def describe(self) -> dict[str, Any]:
        """Plain values that say what the plan is, and tell two plans apart."""
        return {
            "training images": len(self.parts.train),
            "validation images": len(self.parts.validation),
            "test images": len(self.parts.test),
            "sizes": asdict(self.sizes),
            "recipe": asdict(self.recipe),
            "patches dropped": self.drop,
            "teacher": self.teacher.spec if self.teacher else None,
            "word vectors": self.vectors.name if self.vectors else None,
            "words": self.words if self.vectors else None,
            "beside": self.beside.name if self.beside else None,
        }

    def content(self) -> dict[str, Any]:
        """Digests of what the plan's names stand for: a file of vectors or a teacher's weights may change under one name."""
        parts = [
            np.ascontiguousarray(p, np.int64).tobytes()
            for p in (self.parts.train, self.parts.validation, self.parts.test)
        ]
        return {
            "split": xxhash.xxh3_128_hexdigest(b"|".join(parts)),
            "teacher's content": self.teacher.fingerprint if self.teacher else None,
            "word vectors' content": self.vectors.digest if self.vectors else None,
        }

    def views(self, preprocess: Preprocess) -> Views:
        """How training images are shown."""
        return Views(preprocess, DRAWINGS, Drop(self.drop))

    def teacher_features(self, sources: Sequence[tuple[ImageSet, np.ndarray]]) -> np.ndarray | None:
        """The teacher's features of the training images."""
        if self.teacher is None:
            return None
        return teacher_features(sources, self.teacher, device=self.devices.kind, seed=self.recipe.seed)


@dataclass(frozen=True)
class Trained:
    """A finished training: its epochs, and the module in eval mode with the best epoch's weights. images: how many it saw an epoch. pixels:
    uint8 [n, 16], hashes of the decoded training and validation images, in the order of the plan's parts; empty where they were not taken."""

    fit: Fit
    module: Any
    preprocess: Preprocess
    parameters: int
    images: int
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((0, 16), np.uint8))


def train_clip(imageset: ImageSet, plan: Plan) -> tuple[Trained, Tokenizer]:
    """Train a CLIP on images with captions, saved to the plan's folder in transformers' format; resumed by the same call.

    The tokenizer is learned from the training captions alone. Raises DataError: captions missing, a batch larger than the set, other
    settings in the folder.
    """
    with _held(plan):
        return _train_clip(imageset, plan)


def _train_clip(imageset: ImageSet, plan: Plan) -> tuple[Trained, Tokenizer]:
    names, keys = names_of(imageset)
    checkpoints = claim(plan, "clip", imageset, plan.beside)
    parts, sizes, recipe = plan.parts, plan.sizes, plan.recipe
    captions = imageset.captions or ()
    preprocess = square(sizes.image)
    choice = candidates(keys, parts.validation, parts.train)
    drawn = artists(imageset)
    pixels = np.zeros((len(parts.train) + len(parts.validation), 16), np.uint8)
    train = CaptionedImages(
        decoded(imageset, parts.train, preprocess, what="training", pixels=pixels[: len(parts.train)]),
        [captions[i] for i in parts.train],
        keys[parts.train],
        None if drawn is None else drawn[parts.train],
    )
    sources, own = [(imageset, parts.train)], [captions[i][0] for i in parts.train]
    if plan.beside is not None:
        train, rows = with_more(train, plan.beside, imageset, parts, preprocess)
        sources += [(plan.beside, rows)]
    train = replace(train, teacher_features=plan.teacher_features(sources))
    tokenizer = learn_tokenizer((c for cs in train.captions for c in cs), size=VOCABULARY, context=sizes.context)
    meanings: Meanings | None = None
    if plan.vectors is not None:
        known = [text for cs in train.captions for text in (cs[0], *keywords(cs))]
        meanings = meanings_for(plan.vectors, own, known, plan.words)
        add_words(tokenizer, meanings.words)
    held = CaptionedImages(
        decoded(imageset, parts.validation, preprocess, what="validation", pixels=pixels[len(parts.train) :]),
        [captions[i] for i in parts.validation],
        np.searchsorted(choice, keys[parts.validation]),
    )
    objective = Contrastive(
        train, held, [names[k] for k in choice], tokenizer, plan.views(preprocess), recipe, meanings
    )
    clip = new_clip(tokenizer, sizes, seed=recipe.seed)
    if meanings is not None:
        start_from(clip, tokenizer, meanings, seed=recipe.seed)
    with _seeded(recipe.seed + 1):
        towers = ClipTrainer(clip, _width(train.teacher_features), _width(plan.vectors.rows if plan.vectors else None))
    folder = plan.folder  # alone: a plan holds image sets and a teacher, which other processes need not get

    def save() -> None:
        save_dual(folder, towers.whole(), tokenizer, preprocess)

    done = carry_out(towers, objective, plan, checkpoints, save)
    whole = towers.whole()
    count = sum(p.numel() for p in whole.parameters())
    return Trained(done, whole, preprocess, count, objective.n, pixels), tokenizer


def train_vit(imageset: ImageSet, plan: Plan, named: ImageSet | None = None) -> Trained:
    """Train a ViT on labelled images, saved to the plan's folder in timm's format; resumed by the same call.

    named: images whose names (first captions) are learned beside the classes, of its training part; copies of held-out images are
    left out. Raises DataError: no labels, a batch larger than the set, other settings in the folder.
    """
    with _held(plan):
        return _train_vit(imageset, plan, named)


def _train_vit(imageset: ImageSet, plan: Plan, named: ImageSet | None) -> Trained:
    if imageset.labels is None or len(imageset.classes) < 2:
        raise DataError(f"{imageset.name} has no classes to learn; give labelled images of at least two classes")
    checkpoints = claim(plan, "vit", imageset, named)
    parts, sizes, recipe = plan.parts, plan.sizes, plan.recipe
    preprocess = square(sizes.image)
    pixels = np.zeros((len(parts.train) + len(parts.validation), 16), np.uint8)
    held = MultitaskImages(
        decoded(imageset, parts.validation, preprocess, what="validation", pixels=pixels[len(parts.train) :]),
        imageset.labels[parts.validation],
        np.full(len(parts.validation), UNKNOWN),
    )
    images = decoded(imageset, parts.train, preprocess, what="training", pixels=pixels[: len(parts.train)])
    drawn = artists(imageset)
    train = MultitaskImages(
        images,
        imageset.labels[parts.train],
        np.full(len(parts.train), UNKNOWN),
        None if drawn is None else drawn[parts.train],
    )
    sources, names = [(imageset, parts.train)], 0
    if named is not None:
        tested = decoded(imageset, parts.test, preprocess, what="test")
        forbidden = {p.tobytes() for p in (*held.images, *tested)}
        rows = parts_of(named, seed=recipe.seed).train
        train, names, sources = _with_names(train, imageset, parts.train, named, rows, preprocess, forbidden)
    train = replace(train, teacher_features=plan.teacher_features(sources))
    vit = new_vit(sizes, len(imageset.classes), seed=recipe.seed)
    with _seeded(recipe.seed + 1):
        network = MultitaskViT(vit, names, _width(train.teacher_features))
    objective = Multitask(train, held, plan.views(preprocess), recipe)

    folder, classes = plan.folder, imageset.classes  # alone, as in _train_clip

    def save() -> None:
        save_vit(folder, vit, sizes, classes, preprocess)

    done = carry_out(network, objective, plan, checkpoints, save)
    return Trained(done, vit, preprocess, sum(p.numel() for p in vit.parameters()), objective.n, pixels)


def _with_names(
    labelled: MultitaskImages,
    imageset: ImageSet,
    train: np.ndarray,
    named: ImageSet,
    rows: np.ndarray,
    preprocess: Preprocess,
    forbidden: set[bytes],
) -> tuple[MultitaskImages, int, list[tuple[ImageSet, np.ndarray]]]:
    """The labelled images and the named ones as one set, the number of names, and where the images are from, in order."""
    _, keys = names_of(named)
    extra = decoded(named, rows, preprocess, what="named")
    kept = np.array([p.tobytes() not in forbidden for p in extra], bool)
    rows, extra = rows[kept], extra[kept]
    at = {imageset.ids[i]: k for k, i in enumerate(train)}
    known = np.array([at.get(named.ids[i], UNKNOWN) for i in rows], np.int64)
    # Images of both sets are one row with a class and a name; the rest have one of the two.
    alone = np.setdiff1d(np.arange(len(train)), known)
    both = np.where(known == UNKNOWN, UNKNOWN, labelled.classes[known])
    used, bears = np.unique(keys[rows], return_inverse=True)
    drawn = artists(named)
    found = MultitaskImages(
        np.concatenate([extra, labelled.images[alone]]),
        np.concatenate([both, labelled.classes[alone]]),
        np.concatenate([bears.astype(np.int64), np.full(len(alone), UNKNOWN)]),
        drawn[rows] if drawn is not None and not len(alone) else None,
    )
    return found, len(used), [(named, rows), (imageset, train[alone])]


def new_vit(sizes: ClipConfig, classes: int, *, seed: int) -> Any:
    """timm's VisionTransformer of these sizes, randomly initialised from `seed`."""
    import timm  # seconds, which a CLIP does not need

    with _seeded(seed):
        return timm.create_model(
            "vit_tiny_patch16_224", pretrained=False, num_classes=classes, **_vit_args(sizes)
        ).eval()


def _vit_args(sizes: ClipConfig) -> dict[str, Any]:
    return {
        "img_size": sizes.image,
        "patch_size": sizes.patch,
        "embed_dim": sizes.width,
        "depth": sizes.layers,
        "num_heads": max(sizes.width // 64, 1),
    }


def save_vit(
    folder: Path, vit: Any, sizes: ClipConfig, classes: Sequence[str], preprocess: Preprocess, *, half: bool = False
) -> Path:
    """Write a folder that timm (local-dir:) and visus open: config.json and model.safetensors (half: as float16)."""
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


def carry_out(
    network: torch.nn.Module, objective: Objective, plan: Plan, checkpoints: Path, save: Callable[[], object]
) -> Fit:
    """Train, save the best epoch's weights and the record of the epochs; the same in every process."""
    done = fit_resumable(
        network,
        objective,
        plan.recipe,
        plan.devices,
        saved=SavedFit(checkpoints, checkpoints / "fit.json"),
        allowed=plan.allowed,
        what="training",
        save=save,
    )
    if not (plan.folder / "model.safetensors").is_file():
        save()  # it was taken away after the training had ended
    return done


def _held(plan: Plan) -> AbstractContextManager[None]:
    """The lock of the plan's folder: a second command with the same --out waits, then reads what the first has finished."""
    return locked(plan.folder, waiting=f"another command trains into {plan.folder}; waiting until it has ended")


def claim(plan: Plan, kind: str, *sets: ImageSet | None) -> Path:
    """The folder of the checkpoints. Raises DataError: the folder holds another training, a batch larger than the set."""
    n = len(plan.parts.train)
    if n < plan.recipe.batch:
        raise DataError(
            f"a batch of {plan.recipe.batch} is larger than the {n} training pictures; give --batch {max(n // 4, 2)}"
        )
    file = plan.folder / SETTINGS
    content = {"images": [_content(s) for s in sets if s], **plan.content()}
    text = json.dumps({"kind": kind, **content, **plan.describe()}, indent=1) + "\n"
    if file.is_file() and file.read_text("utf-8") != text:
        raise DataError(
            f"{plan.folder} holds a training with other settings or images; choose another --out, or delete that one"
        )
    mark(
        plan.folder, [f"{CHECKPOINTS}/"]
    )  # the settings are no image, and stay when a new page takes the place of the old one
    if not file.is_file():
        write_text(file, text)
    return plan.folder / CHECKPOINTS


def _content(imageset: ImageSet) -> str:
    """What tells two sets apart for training: images, labels, captions."""
    labels = None if imageset.labels is None else imageset.labels.tolist()
    return f"{imageset.fingerprint} {xxhash.xxh3_128(repr((labels, imageset.classes, imageset.captions)).encode()).hexdigest()}"


def _width(predicted: np.ndarray | None) -> int:
    return 0 if predicted is None else int(predicted.shape[1])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
