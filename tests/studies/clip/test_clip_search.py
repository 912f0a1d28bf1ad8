"""What a search says of hand-made measures."""

from __future__ import annotations

from tests.studies.clip.sample import check_findings, search_measures

from visus.studies.clip import search
from visus.studies.common.section import section


def test_every_hit_is_a_row_and_a_picture() -> None:
    m = search_measures()
    (table,) = search.tables(m)
    assert table.column("place") == (1, 2, 1)
    assert table.records()[2] == {
        "query": "cat.png", "place": 1, "image": "7.png", "text": "7.png", "class": None, "cosine": 0.9,
    }  # fmt: skip
    (gallery,) = search.figures(m)
    assert gallery.captions == ("0.30 dog 0", "0.20 dog 1", "0.90 7.png")
    assert gallery.groups == ("a dog", "a dog", "cat.png")
    assert gallery.images is m.pictures
    assert gallery.caption.endswith("nearest first, of 9 images.")


def test_the_nearest_stands_beside_the_mean() -> None:
    made = section(search, search_measures())
    check_findings(made)
    assert made.findings[0].text == "Nearest to 'a dog': dog 0 (cosine 0.30; the mean over all 9 images is 0.10)."
    assert [f.metrics[0] for f in made.findings] == [m.key for m in made.metrics]
    assert [m.value for m in made.metrics] == [0.3, 0.9]
    assert made.metrics[0].key == "a-clip/search/query-1/cosine"
