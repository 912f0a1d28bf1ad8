"""Embeddings made elsewhere, in the formats in which people have them: the same image several times, several partners, links, ids, rounding."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.numpy import save_file

import visus
from visus.errors import DataError
from visus.progress import Remarks, collecting
from visus.studies.clip import alignment, gap
from visus.studies.clip.alignment.judge import sides
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


def test_an_image_of_five_captions_is_one_image_and_any_of_them_is_right(tmp_path: Path) -> None:
    images, texts = coco(noise=1.4)
    np.savez(tmp_path / "coco.npz", images=np.repeat(images, 5, axis=0), texts=texts)
    found = recalls(tmp_path / "coco.npz")
    for k in (1, 5, 10):
        assert found["image to text", k] == pytest.approx(
            slow_recall(images, texts, lambda i: set(range(5 * i, 5 * i + 5)), k)
        )
        assert found["text to image", k] == pytest.approx(slow_recall(texts, images, lambda i: {i // 5}, k))
    assert 0.1 < found["text to image", 1] < 0.9


def test_planted_captions_that_lie_at_their_image_are_all_found(tmp_path: Path) -> None:
    images, texts = coco()
    np.savez(tmp_path / "coco.npz", images=np.repeat(images, 5, axis=0), texts=texts)
    result = visus.clip(embeddings=str(tmp_path / "coco.npz"), part=["alignment"], pairs="100")
    there, back = retrieval(tmp_path / "coco.npz")
    assert {r.recall.value for one in (there, back) for r in one.recalls} == {1.0}
    assert (there.candidates, there.recalls[0].recall.n, there.partners, there.most_partners) == (300, 60, 5.0, 5)
    assert (back.candidates, back.recalls[0].recall.n, back.partners, back.most_partners) == (60, 300, 1.0, 1)
    assert there.recalls[0].chance == pytest.approx(5 / 300)
    assert back.recalls[0].chance == pytest.approx(1 / 60)
    base = next(r for r in result.tables["alignment"].records() if r["alignment"] == "none")
    assert base["image_to_text_1_held_out"] == base["text_to_image_1_held_out"] == 1.0
    assert any(
        "300 pairs are 60 different images and 300 different texts, taken as captions" in n for n in result.notes
    )


def test_held_out_pairs_share_neither_image_nor_text_with_fitted_ones(tmp_path: Path) -> None:
    images, texts = coco(n=100, k=3)
    said = texts.copy()
    said[4::50] = said[1::50]  # six captions are said of two images each
    np.savez(tmp_path / "pairs.npz", images=np.repeat(images, 3, axis=0), texts=said)
    s = from_file(tmp_path / "pairs.npz")
    on = sides(300, 120, s.groups, seed=0)
    assert not set(s.image_keys[on.used]) & set(s.image_keys[on.held])
    assert not set(s.text_keys[on.used]) & set(s.text_keys[on.held])
    assert not set(map(bytes, said[on.used])) & set(map(bytes, said[on.held]))
    assert len(on.inside) == len(on.held)


@pytest.mark.parametrize(
    ("rounded", "noise"),
    [
        (lambda x: x, 0.0),
        (lambda x: x, 1e-6),  # another batch
        (lambda x: x.astype(np.float64), 1e-7),
        (lambda x: x.astype(np.float16), 2e-4),
        (lambda x: x.astype(np.float16).astype(np.float32), 2e-4),
        (lambda x: (x.view(np.uint32) & 0xFFFF0000).view(np.float32), 1e-3),  # bfloat16, kept as float32
        (lambda x: x.astype(np.float16).astype(np.float32) / np.float32(3), 5e-4),  # computed in half, then scaled
        (lambda x: np.rint(40 * x).clip(-127, 127).astype(np.int8), 0.0),
    ],
)
def test_the_same_image_is_the_same_up_to_its_rounding(
    tmp_path: Path, rounded: Callable[[np.ndarray], np.ndarray], noise: float
) -> None:
    images, texts = coco(n=40)
    again = np.repeat(images, 5, axis=0)
    again *= 1 + noise * np.random.default_rng(1).normal(size=again.shape)
    np.savez(tmp_path / "pairs.npz", images=rounded(again.astype(np.float32)), texts=texts)
    s = from_file(tmp_path / "pairs.npz")
    assert [len(set(s.image_keys[5 * i : 5 * i + 5])) for i in range(40)] == [1] * 40
    assert len(set(s.image_keys)) == 40
    assert len(set(s.text_keys)) == 200


def test_frames_that_differ_by_little_are_images_of_their_own_and_that_is_said(tmp_path: Path) -> None:
    images, texts = coco(n=50, k=1)
    images[1::10] = images[::10] * 1.0005 + 0.001 * np.eye(32, dtype=np.float32)[0]
    np.savez(tmp_path / "frames.npz", images=images, texts=texts)
    s, remarks = read(tmp_path / "frames.npz")
    assert len(set(s.image_keys)) == 50
    assert any(w.startswith("5 of 50 different images lie within") and "save image_ids" in w for w in remarks.cautions)
    np.savez(
        tmp_path / "ids.npz",
        images=images,
        texts=texts,
        image_ids=np.arange(50) // 10 * 10 + np.maximum(np.arange(50) % 10, 1),
    )
    assert len(set(from_file(tmp_path / "ids.npz").image_keys)) == 45


def test_a_narrow_cone_keeps_its_images_apart(tmp_path: Path) -> None:
    images, texts = coco(n=80, k=1)
    far = 1e4 * np.ones(32, np.float32)
    np.savez(tmp_path / "cone.npz", images=images + far, texts=texts + far)
    assert len(set(from_file(tmp_path / "cone.npz").image_keys)) == 80


def test_some_repeated_captions_are_captions_and_few_texts_are_class_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, texts = coco(n=500, k=1)
    texts[:57] = texts[100:157]
    np.savez(tmp_path / "some.npz", images=images, texts=texts)
    s, remarks = read(tmp_path / "some.npz")
    assert not s.texts_are_classes
    assert [(one.way, one.recalls[0].recall.n, one.candidates) for one in retrieval(tmp_path / "some.npz")] == [
        ("image to text", 500, 443),
        ("text to image", 443, 500),
    ]
    assert any("500 different images and 443 different texts, taken as captions" in n for n in remarks.notes)
    y = np.arange(200) % 10
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(10, 32))
    shown = centres[y] + 0.3 * rng.normal(size=(200, 32))
    np.savez(tmp_path / "few.npz", images=shown, texts=centres[y])
    few, remarks = read(tmp_path / "few.npz")
    assert few.texts_are_classes
    assert any("few for many images: taken as class names" in n for n in remarks.notes)
    assert alignment.measure(few, sizes=(100,), seed=0).fits
    np.savez(tmp_path / "labels.npz", images=shown, texts=centres[y], labels=y)
    named = from_file(tmp_path / "labels.npz")
    assert named.texts_are_classes
    monkeypatch.setattr(sys.modules[gap.measure.__module__], "layer_maps", lambda x, **_: {})
    for s, there in ((few, True), (named, False)):  # without labels nothing else says how well the names are found
        assert bool(gap.measure(s, seed=0).retrieval) is there


def test_a_repeated_image_counts_once_in_zero_shot(tmp_path: Path) -> None:
    images, texts = coco(n=40)
    y = np.repeat(np.arange(40) % 4, 5)
    np.savez(tmp_path / "pairs.npz", images=np.repeat(images, 5, axis=0), texts=texts, labels=y, class_texts=images[:4])
    result = visus.clip(embeddings=str(tmp_path / "pairs.npz"), part=["zero-shot"])
    assert result.tables["zero-shot"].column("n")[0] == 40
    y[1] = 3
    np.savez(tmp_path / "other.npz", images=np.repeat(images, 5, axis=0), texts=texts, labels=y, class_texts=images[:4])
    other = visus.clip(embeddings=str(tmp_path / "other.npz"), part=["zero-shot"])
    assert any(w.startswith("1 images have different labels in different rows") for w in other.warnings)


def test_one_caption_that_ties_most_images_together_is_judged_on_and_not_fitted_on(tmp_path: Path) -> None:
    images, texts = coco(n=90, k=2)
    texts[:120:2] = texts[0]  # 'no findings', of sixty images
    np.savez(tmp_path / "reports.npz", images=np.repeat(images, 2, axis=0), texts=texts)
    s = from_file(tmp_path / "reports.npz")
    result = visus.clip(embeddings=str(tmp_path / "reports.npz"), part=["alignment"])
    assert {r["fitted_on"] for r in result.tables["alignment"].records()} <= set(range(25, 62))
    on = sides(180, 50, s.groups, seed=0)
    assert not set(s.image_keys[on.used]) & set(s.image_keys[on.held])
    with pytest.raises(DataError, match="120 of 180 pairs hang together"):
        visus.clip(embeddings=str(tmp_path / "reports.npz"), part=["alignment"], pairs="90")


IMAGES, TEXTS = coco(n=30, k=5)
REPEATED = np.repeat(IMAGES, 5, axis=0)
OWNER = np.repeat(np.arange(30), 5)
SHUFFLED = np.random.default_rng(5).permutation(150)
UNIT = IMAGES / np.linalg.norm(IMAGES, axis=1, keepdims=True)


def _torch(path: Path, *, legacy: bool = False, **arrays: np.ndarray) -> None:
    tensors = {
        k: torch.from_numpy(v).bfloat16() if v.dtype.kind == "f" else torch.from_numpy(v) for k, v in arrays.items()
    }
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)


def _safetensors(path: Path, **arrays: np.ndarray) -> None:
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)


def _parquet(path: Path, columns: dict[str, Any]) -> None:
    parquet.write_table(pa.table(columns), path)


def _frame(path: Path) -> None:
    pd.DataFrame(
        {
            "image_id": OWNER + 391895,
            "caption": [f"caption {i}" for i in range(150)],
            "image_embedding": list(REPEATED),
            "text_embedding": list(TEXTS),
        }
    ).to_parquet(path)


def _wide(path: Path) -> None:
    names = [f"image_emb_{i}" for i in range(32)], [f"text_emb_{i}" for i in range(32)]
    frame = pd.concat([pd.DataFrame(REPEATED, columns=names[0]), pd.DataFrame(TEXTS, columns=names[1])], axis=1)
    frame.sample(frac=1, axis=1, random_state=0).to_parquet(path)  # the columns in any order


def _fixed(path: Path) -> None:
    def vectors(x: np.ndarray) -> Any:
        return pa.FixedSizeListArray.from_arrays(pa.array(x.astype(np.float16).reshape(-1)), 32)

    _parquet(path, {"image": vectors(REPEATED), "text": vectors(TEXTS), "url": [None] * 150})


def _retrieval(path: Path) -> None:
    """As clip-retrieval writes them: numbered shards, more than ten of them."""
    for name, x in (("img_emb", REPEATED), ("text_emb", TEXTS)):
        (path / name).mkdir(parents=True)
        for i, part in enumerate(np.array_split(x.astype(np.float16), 12)):
            np.save(path / name / f"{name}_{i}.npy", part)
    (path / "metadata").mkdir()
    _parquet(
        path / "metadata" / "metadata_0.parquet",
        {"image_path": [f"{i}.jpg" for i in OWNER], "caption": [f"caption {i}" for i in range(150)]},
    )


def _shards(path: Path) -> None:
    path.mkdir()
    for name, x in (("img_emb", REPEATED), ("text_emb", TEXTS)):
        for i, part in enumerate(np.array_split(x, 11)):
            np.save(path / f"{name}_{i}.npy", part)


def _ragged(path: Path) -> None:
    """A row an image, its captions a list; one has fewer, another more."""
    lists = np.split(np.arange(150), [5, 9, 15, *range(20, 150, 5)])
    images = [IMAGES[i].tolist() for i in range(30)]
    texts = [[(TEXTS[j] - TEXTS[j] + IMAGES[i] + 0.05 * TEXTS[j]).tolist() for j in own] for i, own in enumerate(lists)]
    _parquet(path, {"image": images, "text": texts})


def _folder(path: Path) -> None:
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
    "a frame of lists": ("a.parquet", _frame),
    "a frame of columns": ("a.parquet", _wide),
    "fixed lists": ("a.parquet", _fixed),
    "clip-retrieval": ("emb", _retrieval),
    "a folder of npy": ("emb", _folder),
    "shards beside one another": ("emb", _shards),
    "a ragged list of captions": ("a.parquet", _ragged),
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
    "torch, before 1.6": ("a.pt", lambda p: _torch(p, legacy=True, images=REPEATED, texts=TEXTS)),
    "torch": ("a.pt", lambda p: _torch(p, image_features=REPEATED, text_features=TEXTS)),
    "safetensors": ("a.safetensors", lambda p: _safetensors(p, images=IMAGES, texts=TEXTS, text_image=OWNER)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_set_of_pairs(tmp_path: Path, form: str) -> None:
    name, write = FORMS[form]
    write(tmp_path / name)
    s = from_file(tmp_path / name)
    assert (len(s.images), len(set(s.image_keys)), len(set(s.text_keys)), s.texts_are_classes) == (150, 30, 150, False)
    assert sorted(s.partners.sum(axis=1)) == ([4] + [5] * 28 + [6] if form == "a ragged list of captions" else [5] * 30)
    cosines = np.einsum(
        "nd,nd->n",
        *(x.astype(float) / np.linalg.norm(x.astype(float), axis=1, keepdims=True) for x in (s.images, s.texts)),
    )
    assert cosines.min() > 0.9


def test_filled_up_captions_are_left_out(tmp_path: Path) -> None:
    texts = TEXTS.reshape(30, 5, 32).copy()
    texts[3, 3:] = 0
    texts[4, 1:] = np.nan
    np.savez(tmp_path / "filled.npz", images=IMAGES, texts=texts)
    s = from_file(tmp_path / "filled.npz")
    assert sorted(np.bincount(s.image_keys)) == [1, 3] + [5] * 28


def test_several_images_a_text_are_right_each(tmp_path: Path) -> None:
    np.savez(tmp_path / "views.npz", images=TEXTS, texts=IMAGES, image_text=OWNER)
    assert [
        (one.recalls[0].recall.n, one.partners, one.recalls[0].recall.value)
        for one in retrieval(tmp_path / "views.npz")
    ] == [
        (150, 1.0, 1.0),
        (30, 5.0, 1.0),
    ]


def test_every_image_with_every_text_is_no_set_of_class_names(tmp_path: Path) -> None:
    a, b = np.divmod(np.arange(100), 10)
    np.savez(tmp_path / "all.npz", images=IMAGES[a], texts=IMAGES[10 + b])
    s = from_file(tmp_path / "all.npz")
    assert not s.texts_are_classes
    assert len(set(s.groups)) == 1
    found = alignment.measure(s, sizes=None, seed=0)
    assert "make 1 groups that share no image or text, too few" in found.left_out
    assert not found.fits


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


@pytest.mark.parametrize("what", REFUSED)
def test_what_may_be_read_in_two_ways_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    arrays, said = REFUSED[what]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=said) as error:
        from_file(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


def test_a_single_npy_a_pickle_and_a_csv_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    with pytest.raises(DataError, match="holds one array; put images"):
        from_file(tmp_path / "images.npy")
    (tmp_path / "pairs.pkl").write_bytes(pickle.dumps({"images": IMAGES}))
    (tmp_path / "pairs.csv").write_text("image,text\n1,2\n")
    for name in ("pairs.pkl", "pairs.csv"):
        with pytest.raises(DataError, match="is no npz or Parquet file"):
            from_file(tmp_path / name)

    torch.save([torch.ones(3)], tmp_path / "list.pt")
    with pytest.raises(DataError, match="holds a list without names"):
        from_file(tmp_path / "list.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no npy and no Parquet file"):
        from_file(tmp_path / "empty")


@pytest.mark.parametrize(
    ("given", "scale"),
    [({"logit_scale": np.log(50)}, 50), ({"logit_scale": 50.0}, 50), ({"temperature": 0.02}, 50), ({"scale": 50}, 50), ({}, 100),
     ({"temperature": np.full(60, 20.0)}, 100)],
)  # fmt: skip
def test_the_scale_is_read_as_it_is_its_logarithm_or_inverted(
    tmp_path: Path, given: dict[str, Any], scale: float
) -> None:
    images, texts = coco(k=1)
    np.savez(tmp_path / "a.npz", images=images, texts=texts, **given)
    assert read(tmp_path / "a.npz")[0].scale == pytest.approx(scale)


@pytest.mark.parametrize("labels", [np.arange(60.0) % 3, (np.arange(60) % 3)[:, None], np.arange(60) % 3])
def test_labels_may_be_whole_floats_or_a_column(tmp_path: Path, labels: np.ndarray) -> None:
    images, texts = coco(k=1)
    np.savez(tmp_path / "a.npz", images=images, texts=texts, labels=labels)
    subject = read(tmp_path / "a.npz")[0]
    assert subject.labels is not None
    assert subject.labels.tolist() == [0, 1, 2] * 20
    assert len(subject.classes) == 3


def test_labels_below_0_are_told(tmp_path: Path) -> None:
    images, texts = coco(k=1)
    np.savez(tmp_path / "a.npz", images=images, texts=texts, labels=np.where(np.arange(60) == 7, -1, 0))
    with pytest.raises(DataError, match=r"1 labels are below 0 \(the first in row 7\)"):
        read(tmp_path / "a.npz")
