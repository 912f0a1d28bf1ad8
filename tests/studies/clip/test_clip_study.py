"""The CLIP study: what a planted space must say, files made elsewhere, search, and what it refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import visus
from visus.app.cli import main
from visus.errors import DataError, SpecError
from visus.images import load_images
from visus.models.dual import DualEncoder
from visus.studies.clip import alignment, encoding
from visus.studies.clip.alignment.judge import sides
from visus.studies.clip.pairs import PairedEmbeddings


def rows(result: visus.Result, table: str) -> list[dict[str, Any]]:
    return result.tables[table].records()


@pytest.fixture(scope="module")
def emoji() -> visus.Result:
    return visus.clip(limit=700, seed=0, control=False)


def planted(
    path: Path, *, n: int = 240, d: int = 16, k: int = 4, gap: float = 1.0, several: bool = False, **more: Any
) -> Path:
    """Pairs around k class directions, texts pushed `gap` off along an axis of their own."""
    rng = np.random.default_rng(0)
    centres = np.eye(d)[:k]
    labels = np.arange(n) % k
    images = centres[labels] + 0.15 * rng.normal(size=(n, d))
    texts = images + 0.02 * rng.normal(size=(n, d))
    texts[:, -1] += gap
    y: np.ndarray = np.eye(k, dtype=bool)[labels] if several else labels
    np.savez(path, images=images.astype(np.float32), texts=texts.astype(np.float32), labels=y, **more)
    return path


def test_zero_shot_is_that_of_a_plain_loop_over_the_model(emoji: visus.Result) -> None:
    imageset = load_images("visus:emoji").limit(700, seed=0)
    test = imageset.split(seed=0).test
    encoder = visus.load_dual("visus:emoji-clip")
    x = encoder.encode_images(imageset, test)
    labels = np.asarray(imageset.labels)[test]
    for row, template in zip(rows(emoji, "zero-shot"), ("{}", "a photo of a {}"), strict=False):
        w = encoder.encode_texts([template.format(c) for c in imageset.classes])
        said = (x @ w.T).argmax(1)
        assert row["n"] == len(test)
        assert row["accuracy"] == pytest.approx(np.mean(said == labels), abs=1e-12)
    assert rows(emoji, "zero-shot")[0]["accuracy"] > 0.5
    ensemble = rows(emoji, "zero-shot")[2]
    assert (ensemble["prompts"], ensemble["templates"]) == ("variants", 8)
    assert len(emoji.tables["prompt-pairs"].rows) == 3


def test_the_gap_and_alignment_stand_beside_each_other(emoji: visus.Result) -> None:
    assert 0.1 < rows(emoji, "gap")[0]["centroid_distance"] < 0.8
    both = [r for r in rows(emoji, "alignment") if r["alignment"] == "Procrustes" and r["moves"] == "both"]
    for r in both:
        base = next(
            b for b in rows(emoji, "alignment") if b["alignment"] == "none" and b["fitted_on"] == r["fitted_on"]
        )
        for column in r:
            if column.endswith(("held_out", "in_sample")):
                assert r[column] == pytest.approx(base[column], abs=1e-6), column
    retrieval = {(r["way"], r["k"]): r for r in rows(emoji, "retrieval")}
    assert retrieval["image to text", 10]["recall"] > retrieval["image to text", 1]["recall"] > 0.3
    assert set(emoji.figures) >= {
        "zero_shot",
        "confusion",
        "hardest",
        "flipped",
        "modality_tsne",
        "modality_umap",
        "gap_shift",
        "gap_loss",
    }
    assert any("under 576 pairs believe the held-out columns alone" in t.note for t in emoji.tables.values())
    assert any("too few for 192 dimensions" in f.caption for f in emoji.figures.values())
    assert any("believe their held-out columns alone" in w for w in emoji.cautions)


def test_the_tables_list_the_images_that_flip_and_the_hardest(emoji: visus.Result) -> None:
    imageset = load_images("visus:emoji").limit(700, seed=0)
    test = imageset.split(seed=0).test
    encoder = visus.load_dual("visus:emoji-clip")
    x, labels = encoder.encode_images(imageset, test), np.asarray(imageset.labels)[test]
    said = [
        (x @ encoder.encode_texts([t.format(c) for c in imageset.classes]).T).argmax(1)
        for t in ("{}", "a photo of a {}")
    ]
    flips = {r["image"]: r for r in rows(emoji, "images-by-prompts")}
    for i in np.flatnonzero((said[0] == labels) != (said[1] == labels)):
        row = flips[imageset.ids[test[i]]]
        assert (row["answer_plain"], row["answer_short"]) == tuple(imageset.classes[s[i]] for s in said)
        assert 0 < row["sets_right"] < 3
    hardest = rows(emoji, "hardest-images")
    assert len(hardest) == (said[0] != labels).sum()
    shares = [r["p_class"] for r in hardest]
    assert shares == sorted(shares)


def test_a_random_space_is_the_controls_of_alignment_too() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 16)).astype(np.float32)
    keys: dict[str, Any] = {
        "image_keys": np.arange(160),
        "text_keys": np.arange(160),
        "ids": tuple(map(str, range(160))),
    }
    y = x + 0.5 * rng.normal(size=x.shape).astype(np.float32)
    known = PairedEmbeddings(name="known", images=x, texts=y, **keys)
    cones = [(4 * np.sign(rng.normal(size=16)) + rng.normal(size=x.shape)).astype(np.float32) for _ in range(2)]
    random = PairedEmbeddings(name="random", images=cones[0], texts=cones[1], **keys)
    measured = alignment.measure(known, sizes=(60,), seed=0, control=random)
    control = {r["alignment"]: r for r in alignment.tables(measured)[1].records()}
    assert control["Procrustes"]["cosine_held_out"] > control["none"]["cosine_held_out"] + 0.3
    assert control["Procrustes"]["image_to_text_1_held_out"] < 0.1
    assert any("neither cosine nor gap says" in f.text for f in alignment.findings(measured))


def test_a_planted_gap_is_found_and_centring_closes_it(tmp_path: Path) -> None:
    result = visus.clip(embeddings=str(planted(tmp_path / "pairs.npz")))
    gap = rows(result, "gap")[0]
    assert gap["separable"] > 0.98
    assert gap["centroid_distance"] > 0.5
    most = max(r["fitted_on"] for r in rows(result, "alignment"))
    found = {r["alignment"]: r for r in rows(result, "alignment") if r["fitted_on"] == most and r["moves"] != "both"}
    assert found["none"]["gap_held_out"] > 0.5
    assert found["centring"]["gap_held_out"] < 0.2 * found["none"]["gap_held_out"]
    assert found["Procrustes"]["cosine_held_out"] > found["none"]["cosine_held_out"] + 0.1
    shifts = {round(r["moved"], 2): r for r in rows(result, "gap-shift")}
    assert shifts[1.0]["centroid_distance"] < 0.1 * shifts[0.0]["centroid_distance"] + 0.05
    assert rows(result, "zero-shot")[0]["accuracy"] > 0.95
    assert rows(result, "zero-shot")[0]["top_5"] is None  # of four classes five answers are all
    assert any(f.startswith("Centring on 100 pairs closes most of the gap on other pairs") for f in result.findings)
    assert any("which flatters the zero-shot figures" in w for w in result.cautions)


def test_the_studys_held_out_figures_are_those_of_a_reimplementation(tmp_path: Path) -> None:
    path = planted(tmp_path / "pairs.npz", n=120, class_texts=np.eye(16)[:4] + 0.1)
    result = visus.clip(embeddings=str(path), part=["alignment"], pairs="50", seed=3)
    with np.load(path) as stored:
        x, y, labels, classes = (stored[k].astype(np.float64) for k in ("images", "texts", "labels", "class_texts"))
    keys = np.unique(y, axis=0, return_inverse=True)[1]
    x, y, classes = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y, classes))
    on = sides(120, 50, keys.reshape(-1), seed=3)
    u, _, vt = np.linalg.svd(x[on.used].T @ y[on.used])
    a, b = x[on.held] @ u @ vt, y[on.held]
    scores = a @ b.T
    own = np.diag(scores)
    places = [(s >= own[:, None]).sum(1) for s in (scores, scores.T)]
    row = next(r for r in rows(result, "alignment") if (r["alignment"], r["moves"]) == ("Procrustes", "images"))
    expected = {"cosine_held_out": own.mean(), "gap_held_out": np.linalg.norm(a.mean(0) - b.mean(0)),
                "zero_shot_held_out": ((a @ classes.T).argmax(1) == labels[on.held]).mean()}  # fmt: skip
    for way, found in zip(("image_to_text", "text_to_image"), places, strict=True):
        for k in (1, 5, 10):
            expected[f"{way}_{k}_held_out"] = (found <= k).mean()
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-6), name


def test_an_improvement_that_is_memory_of_few_pairs_is_called_fiction(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    images = rng.normal(size=(200, 64))
    texts = images + 2.5 * rng.normal(size=(200, 64))
    np.savez(tmp_path / "few.npz", images=images, texts=texts)
    result = visus.clip(embeddings=str(tmp_path / "few.npz"), part=["alignment"], pairs="60")
    (at,) = (i for i, f in enumerate(result.findings) if "the improvement is fiction, 60 pairs for 64 dimensions" in f)
    assert result.findings[at - 1].startswith("Fitted on 60 pairs")
    assert any("Alignments on 60 pairs have under three times as many pairs" in w for w in result.cautions)


def test_few_texts_and_no_more_candidates_than_counted_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    y = np.arange(90) % 9
    centres = rng.normal(size=(9, 20))
    np.savez(tmp_path / "named.npz", images=centres[y] + rng.normal(size=(90, 20)), texts=centres[y], labels=y)
    result = visus.clip(embeddings=str(tmp_path / "named.npz"), part=["alignment"], pairs="45")
    assert any("say 9 different texts, in 20 dimensions" in w for w in result.cautions)
    assert {r["image_to_text_10_held_out"] for r in rows(result, "alignment")} == {None}


def test_several_labels_a_picture_are_mean_average_precision(tmp_path: Path) -> None:
    result = visus.clip(embeddings=str(planted(tmp_path / "pairs.npz", several=True)), part=["zero-shot"])
    assert "mean average precision" in result.findings[0]
    assert min(r["average_precision"] for r in rows(result, "average-precision")) > 0.9


def test_parquet_is_the_same_as_npz(tmp_path: Path) -> None:
    with np.load(planted(tmp_path / "pairs.npz", n=80)) as stored:
        columns = {"images": list(stored["images"]), "texts": list(stored["texts"]), "label": stored["labels"]}
    parquet.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    a, b = (visus.clip(embeddings=str(tmp_path / f"pairs.{kind}"), part=["alignment"]) for kind in ("npz", "parquet"))
    assert a.tables["alignment"].rows == b.tables["alignment"].rows


def test_search_finds_by_text_and_by_picture(tmp_path: Path) -> None:
    imageset = load_images("visus:emoji?task=all&artist=twemoji")
    assert imageset.captions is not None
    at = next(i for i, c in enumerate(imageset.captions) if c[0] == "banana")
    imageset.decode(at).save(tmp_path / "query.png")
    result = visus.clip(
        images="visus:emoji?task=all&artist=twemoji",
        search=["banana", str(tmp_path / "query.png"), "red " * 50 + "fruit"],
        shown=5,
        limit=None,
    )
    found = rows(result, "found")
    assert len(found) == 15
    assert any(w.startswith("1 of the queries are longer than the 32 tokens") for w in result.cautions)
    assert found[5]["image"] == imageset.ids[at]
    assert found[5]["cosine"] == pytest.approx(1.0, abs=1e-3)
    assert "banana" in [r["text"] for r in found[:5]]
    assert all(a["cosine"] >= b["cosine"] for a, b in pairwise(found[:5]))


def test_prompt_files_and_synonyms_in_one_pass_over_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[str] = []
    texts: list[str] = []
    embed, zero_shot = encoding.embed, DualEncoder.zero_shot
    monkeypatch.setattr(encoding, "embed", lambda *a, device: passes.append(device) or embed(*a, device=device))
    monkeypatch.setattr(
        DualEncoder, "zero_shot", lambda *a, device: texts.append(device) or zero_shot(*a, device=device)
    )
    (tmp_path / "mine.txt").write_text("# mine\n{}\n{} emoji\n")
    (tmp_path / "words.json").write_text(json.dumps({"person": ["person", "man", "woman"]}))
    result = visus.clip(
        prompts=["plain", str(tmp_path / "mine.txt")],
        synonyms=str(tmp_path / "words.json"),
        part=["zero-shot"],
        limit=300,
        control=False,
    )
    assert [r["templates"] for r in rows(result, "zero-shot")] == [1, 2]
    assert (passes, texts) == ([result.provenance["device"]], 2 * [result.provenance["device"]])
    (tmp_path / "words.json").write_text(json.dumps({"nobody": ["x"]}))
    with pytest.raises(DataError, match="'nobody', which is no class"):
        visus.clip(synonyms=str(tmp_path / "words.json"), limit=300, control=False)


def test_texts_over_the_context_are_named(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("{} " + "and another thing " * 30 + "\n")
    result = visus.clip(prompts=[str(tmp_path / "long.txt")], part=["zero-shot"], limit=300, control=False)
    (said,) = (w for w in result.cautions if "longer than the 32 tokens" in w)
    assert "cut to their first 31 and the end token" in said
    assert "another th…' (" in said
    assert "17 more" in said


PAIRS = {"images": np.ones((9, 4)), "texts": np.ones((9, 4))}
BAD = {
    "unpaired": ({"images": np.ones((9, 4)), "texts": np.ones((8, 4))}, "9 images and 8 texts are not pairs"),
    "dimensions": ({"images": np.ones((9, 4)), "texts": np.ones((9, 5))}, "4 dimensions, texts 5"),
    "zero": ({"images": np.ones((9, 4)), "texts": np.zeros((9, 4))}, "row 0 of texts is all zeros"),
    "nan": ({"images": np.full((9, 4), np.nan), "texts": np.ones((9, 4))}, "images holds NaN or infinity"),
    "missing": ({"images": np.ones((9, 4))}, "no 'texts'"),
    "labels": ({**PAIRS, "labels": np.zeros(3, int)}, "3 labels for 9 pairs"),
    "empty class": (
        {**PAIRS, "labels": np.repeat([0, 2], [4, 5])},
        "class 1 has no image",
    ),
    "zero class": (
        {**PAIRS, "labels": np.arange(9) % 2, "class_texts": np.zeros((2, 4))},
        "no row all zeros",
    ),
    "shares for labels": ({**PAIRS, "labels": np.full((9, 2), 0.5)}, "labels are float64"),
    "scale": ({**PAIRS, "scale": "big"}, "scale is no single number"),
    "no scale": ({**PAIRS, "scale": np.nan}, "scale is nan"),
    "one dimension": ({"images": np.ones((9, 1)), "texts": np.ones((9, 1))}, "d of at least 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_embeddings_are_told_in_one_line_and_exit_code_2(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    columns, said = BAD[what]
    np.savez(tmp_path / "bad.npz", **columns)
    monkeypatch.setattr(
        "sys.argv", ["visus", "clip", "--embeddings", str(tmp_path / "bad.npz"), "--out", str(tmp_path)]
    )
    with pytest.raises(SystemExit, match="2"):
        main()
    (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("visus: "))
    assert said in line


def test_classes_without_a_picture_are_warned_of(tmp_path: Path) -> None:
    y = np.repeat([0, 2, 3], 20)
    rng = np.random.default_rng(0)
    x = np.eye(8)[y] + 0.2 * rng.normal(size=(60, 8))
    for labels in (y, np.eye(4, dtype=bool)[y]):
        np.savez(tmp_path / "gone.npz", images=x, texts=x, labels=labels, class_texts=np.eye(8)[:4])
        result = visus.clip(embeddings=str(tmp_path / "gone.npz"), part=["zero-shot"])
        assert any(w.startswith("1 of 4 classes have no test image (the first: 1)") for w in result.cautions)


def test_labels_may_be_names_and_one_class_is_no_classification(tmp_path: Path) -> None:
    with np.load(planted(tmp_path / "pairs.npz", n=80)) as stored:
        columns = dict(stored)
    a = visus.clip(embeddings=str(tmp_path / "pairs.npz"), part=["zero-shot"])
    np.savez(tmp_path / "names.npz", **{**columns, "labels": np.array(["ant", "bee", "cat", "dog"])[columns["labels"]]})
    b = visus.clip(embeddings=str(tmp_path / "names.npz"), part=["zero-shot"])
    assert a.tables["zero-shot"].rows == b.tables["zero-shot"].rows
    assert {r["class"] for r in rows(b, "zero-shot-confused")} <= {"ant", "bee", "cat", "dog"}
    np.savez(tmp_path / "one.npz", **{**columns, "labels": np.zeros(80, int)})
    one = visus.clip(embeddings=str(tmp_path / "one.npz"), part=["zero-shot"])
    assert any("no labels of two classes or more" in w for w in one.warnings)
    assert not one.tables


def test_parquet_with_holes_is_told(tmp_path: Path) -> None:
    for images, said in (
        ([[1.0, 2.0], None] * 4, "images is missing in row 1"),
        ([[1.0, 2.0], [1.0]] * 4, "1 to 2 numbers"),
    ):
        parquet.write_table(pa.table({"images": images, "texts": [[1.0, 2.0]] * 8}), tmp_path / "bad.parquet")
        with pytest.raises(DataError, match=said):
            visus.clip(embeddings=str(tmp_path / "bad.parquet"))


def test_other_mistakes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "pickled.npz", images=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="without pickles"):
        visus.clip(embeddings=str(tmp_path / "pickled.npz"))
    with pytest.raises(DataError, match="no file"):
        visus.clip(embeddings=str(tmp_path / "none.npz"))
    with pytest.raises(DataError, match="unknown prompt set 'loud'"):
        visus.clip(prompts=["loud"], limit=300)
    with pytest.raises((DataError, SpecError)):
        visus.clip(model="visus:emoji-vit", limit=300)
    with pytest.raises(DataError, match="some must be left"):
        visus.clip(embeddings=str(planted(tmp_path / "few.npz", n=40)), pairs="40")
    with pytest.raises(DataError, match="whole numbers"):
        visus.clip(pairs="many")
    with pytest.raises(DataError, match="--prompts is empty"):
        visus.clip(prompts=[""])
    with pytest.raises(DataError, match="--part is empty"):
        visus.clip(part=[","])
    with pytest.raises(DataError, match="--prompts needs a model that reads texts"):
        visus.clip(prompts=["plain"], embeddings=str(tmp_path / "few.npz"))
    for more in ({"limit": 9}, {"labels": "labels.csv"}):
        with pytest.raises(DataError, match="is of images, which --embeddings has not"):
            visus.clip(embeddings=str(tmp_path / "few.npz"), **more)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is empty"):
        visus.clip(search=[" "], limit=300)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match="is no npz or Parquet file"):
        visus.clip(embeddings=str(tmp_path / "text.npz"))
    monkeypatch.setattr("sys.argv", ["visus", "clip", "--embeddings", str(tmp_path / "none.npz")])
    with pytest.raises(SystemExit, match="2"):
        main()
