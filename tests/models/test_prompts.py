"""Prompt sets: by name, from a file, and wordings of classes; what is wrong with a file is said by its line."""

from __future__ import annotations

import json

import pytest
from open_clip import zero_shot_metadata as theirs

from visus.errors import DataError
from visus.models.prompts import SETS, class_wordings, template_set


def test_every_set_has_one_place_for_the_class_and_the_sizes_that_its_name_says():
    assert template_set("plain") == ("{}",)
    assert template_set("short") == ("a photo of a {}",)
    assert [len(template_set(n, dataset="stl10")) for n in SETS] == [1, 1, 8, 80, 7, 2]
    assert all(t.count("{}") == 1 for n in SETS for t in template_set(n, dataset="cifar10"))
    assert all(len(set(template_set(n, dataset="cifar100"))) == len(template_set(n, dataset="cifar100")) for n in SETS)


@pytest.mark.parametrize("name", ["openai-80", "simple-7"])
def test_open_clips_functions_and_our_templates_give_the_same_texts(name):
    made = theirs.OPENAI_IMAGENET_TEMPLATES if name == "openai-80" else theirs.SIMPLE_IMAGENET_TEMPLATES
    assert [t.format("sea slug") for t in template_set(name)] == [f("sea slug") for f in made]


def test_a_file_gives_its_lines_without_comments_and_blanks(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_text("# photographs\n\na photo of a {}\n  ein Bild von {}  \n#{}\n", "utf-8")
    assert template_set(str(file)) == template_set(file) == ("a photo of a {}", "ein Bild von {}")


def test_what_is_no_prompt_set_is_said_in_one_line(tmp_path):
    with pytest.raises(
        DataError, match=r"'opnai' for pets; choose plain, short, variants, openai-80, simple-7"
    ) as error:
        template_set("opnai", dataset="pets")
    assert "\n" not in str(error.value)
    file = tmp_path / "mine.txt"
    for text, said in (
        ("# nothing\n\n", "holds no template"),
        ("a photo of a {}\na photo\n", r"line 2 of .*'a photo'"),
        ("{} or {}\n", "line 1"),
        ("a {name} {}\n", "line 1"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            template_set(file)
    file.write_bytes(b"\xff\xfe\x00{}")
    with pytest.raises(DataError, match="cannot be read"):
        template_set(file)


def test_wordings_are_read_and_checked(tmp_path):
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"cat": ["cat", "tabby"], "dog": ["dog"]}))
    assert class_wordings(file) == {"cat": ("cat", "tabby"), "dog": ("dog",)}
    for text, said in (
        ("{", "is no JSON"),
        ("[]", "holds no wordings"),
        ("{}", "holds no wordings"),
        ('{"cat": []}', "'cat'"),
        ('{"cat": "tabby"}', "'cat'"),
        ('{"cat": ["tabby", " "]}', "'cat'"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            class_wordings(file)
    with pytest.raises(DataError, match="cannot be read"):
        class_wordings(tmp_path / "none.json")


def test_a_set_without_templates_of_its_own_is_told_which_have_them() -> None:
    assert len(template_set("own", dataset="cifar10")) == 18
    assert "{} emoji" in template_set("own", dataset="visus:emoji?task=all")
    with pytest.raises(DataError, match="folder:x has no templates of its own; the sets that have are cifar10"):
        template_set("own", dataset="folder:x")
