"""Build the `visus:emoji` image-text set: `python tools/build_emoji.py [--work DIR] [--out FILE]`.

Needs Node's npm and the extra `tools` (resvg-py). Fetches pinned packages of openly licensed emoji art, matches the drawings to
emoji, draws them at 128 px on white, halves them to 64 px and writes one Parquet file. Run again it writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from emoji_sources import Emoji, draw, encode, fetch, match, read_emoji, read_names
from emoji_split import choose_task, coarse, distances, join_near, split_concepts
from emoji_tables import ART_SETS, CLASSES, class_of
from emoji_twins import concept_of

OUT = Path(__file__).resolve().parents[1] / "src" / "visus" / "data" / "emoji.parquet"


def main() -> None:
    """Fetch, draw, split, write, and print what the data card says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for the packages (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=OUT, help="the Parquet file to write")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        modules = fetch(args.work or Path(temporary))
        rows, pixels = collect(modules)
    label(rows, pixels)
    write(rows, args.out)
    report(rows, pixels, args.out)


def collect(modules: Path) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Every drawing once: rows of what is known, and pixels uint8 [64, 64, 3] beside them."""
    emoji = read_emoji(modules)
    by_code: dict[str, Emoji] = {e.hexcode: e for e in emoji}
    tables = read_names(modules, emoji)
    found: list[tuple[Any, Emoji, np.ndarray]] = []
    for art in ART_SETS:
        icons = match(art, modules, emoji, tables)
        codes = sorted(icons, key=lambda code: by_code[code].order)
        drawn = list(draw(modules, art, [icons[code] for code in codes]))
        found += [(art, by_code[code], p) for code, p in zip(codes, drawn, strict=True) if p is not None]
        print(f"{art.name}: {len(codes)} emoji, {sum(p is None for p in drawn)} blank")
    # One picture, one row: of equal pixels the first set's stays, and in it the emoji of the shortest name (Norway, not
    # Svalbard & Jan Mayen; cook, not man cook).
    order = {art.name: i for i, art in enumerate(ART_SETS)}
    best: dict[bytes, int] = {}
    for i in sorted(
        range(len(found)), key=lambda i: (order[found[i][0].name], len(found[i][1].name), found[i][1].order)
    ):
        best.setdefault(found[i][2].tobytes(), i)
    kept = sorted(best.values())
    print(f"{len(found) - len(kept)} pictures with the pixels of another left out")
    rows = [
        {
            "emoji": e.text, "hexcode": e.hexcode, "name": e.name, "keywords": list(e.keywords), "group": e.group,
            "subgroup": e.subgroup, "artist": art.name, "hand": art.hand, "class": class_of(e.name, e.subgroup),
            "licence": art.licence, "split_artist": art.split,
        }
        for art, e, _ in (found[i] for i in kept)
    ]  # fmt: skip
    return rows, [found[i][2] for i in kept]


def label(rows: list[dict[str, Any]], pixels: list[np.ndarray]) -> None:
    """Add image, concept, split_concept and task to the rows."""
    codes = [row["hexcode"] for row in rows]
    concepts = [concept_of(row["name"], row["subgroup"]) for row in rows]
    concept = join_near(concepts, codes, [row["hand"] for row in rows], coarse(pixels))
    side = split_concepts(concept, {row["hexcode"]: row["class"] or row["group"] for row in rows})
    task = choose_task(codes, [row["class"] for row in rows])
    for row, picture in zip(rows, pixels, strict=True):
        code = row["hexcode"]
        row |= {"concept": concept[code], "split_concept": side[code], "task": code in task}
        row["image"] = {"bytes": encode(picture), "path": f"{row['artist']}/{code.lower()}.webp"}


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """One Parquet file whose schema says, in Hugging Face's way, that `image` is an image, and holds the pictures' digest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ("emoji", "hexcode", "name", "group", "subgroup", "artist", "hand", "class", "licence", "concept",
             "split_artist", "split_concept")  # fmt: skip
    fields = [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]
    fields += [(name, pa.string()) for name in texts[:3]] + [("keywords", pa.list_(pa.string()))]
    fields += [(name, pa.string()) for name in texts[3:]] + [("task", pa.bool_())]
    value = {"_type": "Value"}
    features: dict[str, Any] = {name: {"dtype": "string", **value} for name in texts}
    features |= {"image": {"_type": "Image"}, "task": {"dtype": "bool", **value}}
    features["keywords"] = {"feature": {"dtype": "string", **value}, "_type": "Sequence"}
    digest = hashlib.sha256()
    for row in rows:
        digest.update(len(row["image"]["bytes"]).to_bytes(8, "little") + row["image"]["bytes"])
    metadata = {
        "huggingface": json.dumps({"info": {"features": {name: features[name] for name, _ in fields}}}),
        "visus.digest": digest.hexdigest(),
    }
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields, metadata=metadata))
    out.parent.mkdir(parents=True, exist_ok=True)
    dictionary = [*texts[3:], "emoji", "hexcode", "name"]
    # WebP does not shrink further; every other column does.
    compression = {"image.bytes": "NONE", "image.path": "ZSTD", "keywords.list.element": "ZSTD", "task": "ZSTD"}
    compression |= dict.fromkeys(texts, "ZSTD")
    pq.write_table(table, out, row_group_size=2048, compression=compression, use_dictionary=dictionary)


def report(rows: list[dict[str, Any]], pixels: list[np.ndarray], out: Path) -> None:
    """Print the figures of docs/emoji.md."""
    print(f"{len(rows)} pictures, {len({r['hexcode'] for r in rows})} emoji, {len({r['concept'] for r in rows})} concepts, "
          f"{out.stat().st_size / 1e6:.1f} MB")  # fmt: skip
    print("artists", dict(Counter(r["artist"] for r in rows)))
    for name in ("split_artist", "split_concept"):
        emoji = {(r["hexcode"], r[name]) for r in rows}
        print(name, dict(Counter(r[name] for r in rows)), "emoji", dict(Counter(s for _, s in emoji)))
    print("| class | all | task | by artist: train / validation / test | by concept: train / validation / test |")
    for c in CLASSES:
        mine = [r for r in rows if r["class"] == c]
        task = [r for r in mine if r["task"]]
        counts = [Counter(r[name] for r in task) for name in ("split_artist", "split_concept")]
        cells = [" / ".join(str(n[s]) for s in ("train", "validation", "test")) for n in counts]
        print(f"| {c} | {len(mine)} | {len(task)} | {cells[0]} | {cells[1]} |")
    small = coarse(pixels)
    for name in ("split_artist", "split_concept"):
        sides = np.array([r[name] for r in rows])
        train = small[sides == "train"]
        for other in ("validation", "test"):
            nearest = distances(small[sides == other], train).min(1)
            shown = {t: int((nearest < t).sum()) for t in (1, 2, 4, 6, 8, 10)}
            print(f"{name}: {other} pictures whose nearest training picture is closer than RMSE: {shown}")


if __name__ == "__main__":
    main()
