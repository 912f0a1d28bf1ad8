"""Made for test_clip_embeddings, test_clip_embeddings_read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from safetensors.numpy import save_file

from visus.progress import Remarks, collecting
from visus.studies.clip.embeddings.read import from_file
from visus.studies.clip.gap.retrieval import Retrieval, measure_retrieval
from visus.studies.clip.pairs import PairedEmbeddings


def read(path: Path) -> tuple[PairedEmbeddings, Remarks]:
    """The file's pairs, and what was said while it was read."""
    with collecting() as remarks:
        return from_file(path), remarks


def retrieval(path: Path) -> tuple[Retrieval, ...]:
    """Retrieval alone: the maps beside it take long."""
    return measure_retrieval(from_file(path))


def recalls(path: Path) -> dict[tuple[str, int], float]:
    return {(one.way, r.k): r.recall.value for one in retrieval(path) for r in one.recalls}


def coco(n: int = 60, k: int = 5, d: int = 32, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """n images [n, d] and k captions of each [n * k, d], those of an image together, near it."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, d)).astype(np.float32)
    texts = np.repeat(images, k, axis=0) + (0.1 + noise) * rng.normal(size=(n * k, d)).astype(np.float32)
    return images, texts


def slow_recall(queries: np.ndarray, base: np.ndarray, own: Callable[[int], set[int]], k: int) -> float:
    """Share of queries that have one of their own among the first k, in plain Python."""
    hits = 0
    for i, q in enumerate(queries):
        scores = [float(q @ b) / float(np.linalg.norm(q) * np.linalg.norm(b)) for b in base]
        best = max(scores[j] for j in own(i))
        hits += sum(1 for j, s in enumerate(scores) if j not in own(i) and s >= best) < k
    return hits / len(queries)


IMAGES, TEXTS = coco(n=30, k=5)


REPEATED = np.repeat(IMAGES, 5, axis=0)


OWNER = np.repeat(np.arange(30), 5)


SHUFFLED = np.random.default_rng(5).permutation(150)


UNIT = IMAGES / np.linalg.norm(IMAGES, axis=1, keepdims=True)


def make_torch(path: Path, *, legacy: bool = False, **arrays: np.ndarray) -> None:
    tensors = {
        k: torch.from_numpy(v).bfloat16() if v.dtype.kind == "f" else torch.from_numpy(v) for k, v in arrays.items()
    }
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)


def make_safetensors(path: Path, **arrays: np.ndarray) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)


def make_parquet(path: Path, columns: dict[str, Any]) -> None:
    parquet.write_table(pa.table(columns), path)


def frame(path: Path) -> None:
    pd.DataFrame(
        {
            "image_id": OWNER + 391895,
            "caption": [f"caption {i}" for i in range(150)],
            "image_embedding": list(REPEATED),
            "text_embedding": list(TEXTS),
        }
    ).to_parquet(path)


def wide(path: Path) -> None:
    names = [f"image_emb_{i}" for i in range(32)], [f"text_emb_{i}" for i in range(32)]
    frame = pd.concat([pd.DataFrame(REPEATED, columns=names[0]), pd.DataFrame(TEXTS, columns=names[1])], axis=1)
    frame.sample(frac=1, axis=1, random_state=0).to_parquet(path)  # the columns in any order


def fixed(path: Path) -> None:
    def vectors(x: np.ndarray) -> Any:
        return pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float16).reshape(-1)), 32)

    make_parquet(path, {"image": vectors(REPEATED), "text": vectors(TEXTS), "url": [None] * 150})


def make_retrieval(path: Path) -> None:
    """As clip-retrieval writes them: numbered shards, more than ten of them."""
    for name, x in (("img_emb", REPEATED), ("text_emb", TEXTS)):
        (path / name).mkdir(parents=True)
        for i, part in enumerate(np.array_split(x.astype(np.float16), 12)):
            np.save(path / name / f"{name}_{i}.npy", part)
    (path / "metadata").mkdir()
    make_parquet(
        path / "metadata" / "metadata_0.parquet",
        {"image_path": [f"{i}.jpg" for i in OWNER], "caption": [f"caption {i}" for i in range(150)]},
    )


def shards(path: Path) -> None:
    path.mkdir()
    for name, x in (("img_emb", REPEATED), ("text_emb", TEXTS)):
        for i, part in enumerate(np.array_split(x, 11)):
            np.save(path / f"{name}_{i}.npy", part)


def ragged(path: Path) -> None:
    """A row an image, its captions a list; one has fewer, another more."""
    lists = np.split(np.arange(150), [5, 9, 15, *range(20, 150, 5)])
    images = [IMAGES[i].tolist() for i in range(30)]
    texts = [[(TEXTS[j] - TEXTS[j] + IMAGES[i] + 0.05 * TEXTS[j]).tolist() for j in own] for i, own in enumerate(lists)]
    make_parquet(path, {"image": images, "text": texts})


def folder(path: Path) -> None:
    path.mkdir()
    np.save(path / "images.npy", IMAGES)
    np.save(path / "texts.npy", TEXTS)
    np.save(path / "text_image.npy", OWNER)


FORMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a row of texts a caption": ("a.npz", lambda p: np.savez(p, images=REPEATED, texts=TEXTS)),
    "texts [n, k, d]": ("a.npz", lambda p: np.savez(p, images=IMAGES, texts=TEXTS.reshape(30, 5, 32))),
    "texts [k, n, d]": ("a.npz", lambda p: np.savez(p, images=IMAGES, texts=TEXTS.reshape(30, 5, 32).swapaxes(0, 1))),
    "images [n, 1, d]": ("a.npz", lambda p: np.savez(p, images=REPEATED[:, None], texts=TEXTS[:, None])),
    "text_image": ("a.npz", lambda p: np.savez(p, images=IMAGES, texts=TEXTS[SHUFFLED], text_image=OWNER[SHUFFLED])),
    "image_index of texts": ("a.npz", lambda p: np.savez(p, image_features=IMAGES, text_features=TEXTS, image_index=OWNER)),
    "ids of both": (
        "a.npz",
        lambda p: np.savez(p, img_emb=IMAGES, txt_emb=TEXTS[SHUFFLED], image_ids=np.arange(30) + 900, caption_image_id=OWNER[SHUFFLED] + 900),
    ),
    "names of files": (
        "a.npz",
        lambda p: np.savez(
            p, image_embeds=IMAGES, text_embeds=TEXTS, image_names=np.array([f"{i}.jpg" for i in range(30)]),
            text_image_names=np.array([f"{i}.jpg" for i in OWNER]),
        ),
    ),
    "unnormalised": ("a.npz", lambda p: np.savez(p, images=7 * REPEATED, texts=0.01 * TEXTS)),
    "transposed": ("a.npz", lambda p: np.savez(p, images=UNIT[OWNER].T, texts=(TEXTS / np.linalg.norm(TEXTS, axis=1, keepdims=True)).T)),
    "transposed, with ids": ("a.npz", lambda p: np.savez(p, images=REPEATED.T, texts=TEXTS.T, image_ids=OWNER)),
    "a frame of lists": ("a.parquet", frame),
    "a frame of columns": ("a.parquet", wide),
    "fixed lists": ("a.parquet", fixed),
    "clip-retrieval": ("emb", make_retrieval),
    "a folder of npy": ("emb", folder),
    "shards beside one another": ("emb", shards),
    "a ragged list of captions": ("a.parquet", ragged),
    "a matrix": ("a.npz", lambda p: np.savez(p, images=IMAGES, texts=TEXTS, image_text=np.arange(30)[:, None] == OWNER)),
    "rows of each image's captions": (
        "a.npz",
        lambda p: np.savez(p, image_encodings=IMAGES, text_encodings=TEXTS, image_to_text_map=np.arange(150).reshape(30, 5)),
    ),
    "both maps": (
        "a.npz",
        lambda p: np.savez(
            p, image_encodings=IMAGES, text_encodings=TEXTS, text_to_image_map=OWNER, image_to_text_map=np.arange(150).reshape(30, 5)
        ),
    ),
    "whole numbers as floats": ("a.npz", lambda p: np.savez(p, images=IMAGES, texts=TEXTS, text_image=OWNER.astype(float))),
    "torch, before 1.6": ("a.pt", lambda p: make_torch(p, legacy=True, images=REPEATED, texts=TEXTS)),
    "torch": ("a.pt", lambda p: make_torch(p, image_features=REPEATED, text_features=TEXTS)),
    "safetensors": ("a.safetensors", lambda p: make_safetensors(p, images=IMAGES, texts=TEXTS, text_image=OWNER)),
}  # fmt: skip


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "five times as many texts": ({"images": IMAGES, "texts": TEXTS}, r"30 images and 150 texts are not pairs; .*text_image \[150\]"),
    "both 3-D": ({"images": REPEATED.reshape(30, 5, 32), "texts": TEXTS.reshape(30, 5, 32)}, "which belong together is open"),
    "rows from 1": ({"images": IMAGES, "texts": TEXTS, "text_image": OWNER + 1}, "counts from 1 to 30; count rows from 0"),
    "rows out of range": ({"images": IMAGES, "texts": TEXTS, "text_image": OWNER + 9}, "from 9 to 38; it must be rows from 0 to 29"),
    "rows or ids": (
        {"images": IMAGES, "texts": TEXTS, "image_ids": np.arange(30)[::-1], "text_image": OWNER},
        "may be rows or ids",
    ),
    "captions out of range": (
        {"images": IMAGES, "texts": TEXTS, "img2txt": np.arange(150).reshape(30, 5) + 1},
        "goes from 1 to 150; rows go from 0 to 149",
    ),
    "a matrix that fits nothing": ({"images": IMAGES, "texts": TEXTS, "image_text": np.ones((30, 30), bool)}, r"it must be \[30, 150\]"),
    "two of a kind": ({"image_embeds": REPEATED, "image_features": REPEATED, "texts": TEXTS}, "image_embeds, image_features, each of which"),
    "dimensions first": (
        {"images": np.random.default_rng(0).normal(size=(64, 150)), "texts": np.random.default_rng(1).normal(size=(64, 150))},
        "may be 64 pairs or 64 dimensions",
    ),
    "ids of different images": ({"images": REPEATED, "texts": TEXTS, "image_ids": OWNER // 2}, "have one id .or wording. and different vectors"),
    "packed bits": ({"images": np.abs(REPEATED * 40).astype(np.uint8), "texts": TEXTS}, "packed bits or shifted integers"),
    "one vector": ({"images": np.ones((9, 4)), "texts": np.random.default_rng(0).normal(size=(9, 4))}, "all 9 images are one vector"),
    "pictures": ({"images": np.zeros((9, 8, 8, 3), np.uint8), "texts": TEXTS}, r"images is uint8 \[9, 8, 8, 3\]"),
    "an image without captions": (
        {"images": IMAGES, "texts": np.concatenate([np.zeros((1, 5, 32)), TEXTS.reshape(30, 5, 32)[1:]])},
        "1 of 30 images have no texts but zeros",
    ),
}  # fmt: skip
