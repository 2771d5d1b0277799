"""Folders that are named by a template, without a manifest: what is read back from paths, and what is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from clip_eval.dataset import Dataset, Sample, open_dataset
from clip_eval.errors import DatasetError
from clip_eval.paths import TEXT, WORD, PathTemplate, RecordError

SETTINGS = """
template = "{genre}/{artist}_{id}"

[fields]
label = "genre"
group = "artist"

[zero_shot]
classes = ["red square", "blue"]
prompts = ["a {}"]
"""


def write(root: Path, settings: str, *paths: str) -> Path:
    """Write dataset.toml, and a small image or an empty text file at each path; returns `root`."""
    (root / "dataset.toml").write_text(settings, encoding="utf-8")
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".txt"):
            (root / path).touch()
        else:
            Image.new("RGB", (8, 8)).save(root / path, "PNG")
    return root


def problems(dataset: Dataset) -> dict[str, str | None]:
    """Return the problems of a dataset by place, images read."""
    return {entry.where: entry.problem for entry in dataset.entries() if entry.problem}


def test_labels_and_groups_are_read_from_paths(tmp_path: Path) -> None:
    """In the order of the paths; "_" may stand for a space of a class, and an ending may be in capitals."""
    root = write(tmp_path, SETTINGS, "red_square/Ann_2.png", "blue/Bo_1_p0.JPG", "blue/Ann_B_3.png", "blue/.x/a.png")
    dataset = open_dataset(root)
    assert dataset.require_complete() == 3
    assert [(sample.id, sample.label, sample.group) for sample in dataset.samples()] == [
        ("blue/Ann_B_3.png", "blue", "Ann_B"), ("blue/Bo_1_p0.JPG", "blue", "Bo"),
        ("red_square/Ann_2.png", "red square", "Ann"),
    ]  # fmt: skip
    before = dataset.digest()
    (root / "blue/Bo_1_p0.JPG").rename(root / "blue/Cy_1_p0.JPG")
    assert dataset.digest() != before


def test_captions_come_from_a_field_or_a_text_file(tmp_path: Path) -> None:
    """A file counts instead of the field; tags are joined; a file without an image, or without text, is told."""
    settings = 'template = "{user}/{tags_transl_only}_{id}"\n[fields]\ncaption = "tags_transl_only"\n'
    root = write(
        tmp_path, settings, "A/sky,sea_1.png", "A/sun_2.png", "A/sun_2.txt", "A/sun_3.txt", "A/dew_4.png", "A/dew_4.txt"
    )
    (root / "A/sun_2.txt").write_text("the sun\n\nit shines\n", encoding="utf-8")
    (root / "A/dew_4.txt").write_bytes(b"\xff")
    dataset = open_dataset(root)
    captions = {entry.sample.id: entry.sample.captions for entry in dataset.entries() if entry.sample}
    assert captions == {"A/sky,sea_1.png": ("sky, sea",), "A/sun_2.png": ("the sun", "it shines")}
    told = problems(dataset)
    assert told["A/sun_3.txt"] == "it holds captions, but there is no image of that name"
    assert str(told["A/dew_4.png"]).startswith("its captions cannot be read")


def test_a_path_that_reads_back_in_two_ways_is_told(tmp_path: Path) -> None:
    """Where readings differ in what is asked for, none of them is taken; elsewhere they may differ."""
    settings = 'template = "{user}_{title}_{id}"\n[fields]\ngroup = "user"\ncaption = "title"\n'
    root = write(tmp_path, settings, "Ann_x_1.png", "Ann_x_y_2.png", "Bo_x_3.png")
    (told,) = problems(open_dataset(root)).items()
    assert told == ("Ann_x_y_2.png", "its path reads back in two ways: the group is 'Ann' or 'Ann_x'")
    with pytest.raises(DatasetError, match="1 of 3 samples cannot be read: Ann_x_y_2"):
        open_dataset(root).require_complete()
    write(tmp_path, settings.partition("[fields]")[0] + "[fields]\n")
    assert problems(open_dataset(root)) == {}


def test_paths_that_do_not_match_are_told(tmp_path: Path) -> None:
    """A label of no class, a folder too many or too few, no number, no image, and bytes that are no text."""
    names = ("red/A_1.png", "blue/A_2/A_3.png", "A_4.png", "blue/A_x.png", "blue/A_5.psd", "blue/A_6.png")
    root = write(tmp_path, SETTINGS, *names)
    with open(os.fsencode(root / "blue") + b"/A\xff_7.png", "wb"):  # noqa: PTH123 - a name that is not text
        pass
    (root / "linked").symlink_to(root / "blue")
    told = problems(open_dataset(root))
    missing = (
        "its path does not match the template '{genre}/{artist}_{id}' with a value for artist, genre; "
        "id is a work number such as 123, or 123_p0 for a page unless [kinds] says otherwise"
    )
    assert told.pop("linked") == "links to directories are not followed"
    assert told.pop("red/A_1.png") == "the label 'red' is not one of zero_shot.classes"
    assert told == dict.fromkeys(
        ["A_4.png", "blue/A_2/A_3.png", "blue/A_5.psd", "blue/A_x.png", "blue/A\\udcff_7.png"], missing
    )


def test_kinds_say_what_fields_can_be(tmp_path: Path) -> None:
    """An id that is a word has letters and digits, and no separator."""
    kinds = '[kinds]\nyear = "digits"\nid = "word"\n'
    settings = 'template = "{year}-{name}_{id}"\n' + kinds + '[fields]\nlabel = "year"\ngroup = "name"\n'
    dataset = open_dataset(write(tmp_path, settings, "1999-cat_é1.png", "1999-cat_x_1.png"))
    assert list(dataset.samples()) == [
        Sample(id="1999-cat_x_1.png", path="1999-cat_x_1.png", label="1999", captions=(), group="cat_x"),
        Sample(id="1999-cat_é1.png", path="1999-cat_é1.png", label="1999", captions=(), group="cat"),
    ]


def test_a_word_is_written_as_it_is() -> None:
    """Letters and digits of any script; a separator or nothing at all is refused."""
    template = PathTemplate("{name}_{id}", {"name": TEXT, "id": WORD})
    assert template.render({"name": "a", "id": "é1"}, extension="png") == "a_é1.png"
    for wrong in ("a_b", "a b", "", None):
        with pytest.raises(RecordError, match="letters and digits"):
            template.render({"name": "a", "id": wrong})


def test_classes_and_prompts_may_lie_in_files(tmp_path: Path) -> None:
    """One a line, with `{}` or `{c}` for the class; they are no captions, and a change of them is another dataset."""
    settings = SETTINGS.partition("classes")[0] + 'classes = "classes.txt"\nprompts = "texts/prompts.txt"\n'
    root = write(tmp_path, settings, "blue/A_1.png", "texts/prompts.txt")
    (root / "classes.txt").write_text("red square\nblue\n", encoding="utf-8")
    (root / "texts/prompts.txt").write_text("a {c}\nthe {}!\n", encoding="utf-8")
    dataset = open_dataset(root)
    assert dataset.zero_shot is not None
    assert dataset.zero_shot.texts() == ["a red square", "the red square!", "a blue", "the blue!"]
    assert dataset.require_complete() == 1
    before = dataset.digest()
    (root / "classes.txt").write_text("red square\nblue\ngreen\n", encoding="utf-8")
    assert open_dataset(root).digest() != before
    (root / "classes.txt").unlink()
    with pytest.raises(DatasetError, match=r"`zero_shot.classes` names a file that does not exist.*classes.txt"):
        open_dataset(root)
    with pytest.raises(DatasetError, match="not a place in the dataset"):
        open_dataset(write(root, settings.replace("classes.txt", "../classes.txt")))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (SETTINGS.replace('label = "genre"', ""), "`template` is wrong: unknown field"),
        (SETTINGS.replace("{genre}/", "").replace('label = "genre"', 'label = "type"'), "not a field of the template"),
        (SETTINGS.replace("group", "groups"), "unknown key 'groups'"),
        (SETTINGS.replace('"artist"', "1"), "`fields.group` is not a text"),
        (SETTINGS + '[kinds]\ngenre = "words"\n', "`kinds.genre` is 'words'"),
        (SETTINGS.replace("template", "templates"), "`template` is missing"),
        ('template = "{id}"\n', "has no manifest.jsonl"),
        (SETTINGS.replace('label = "genre"', 'caption = "genre"'), "`fields.label` is missing"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, settings: str, said: str) -> None:
    """In one paragraph; without `[fields]` a manifest may have been lost."""
    with pytest.raises(DatasetError, match=said):
        open_dataset(write(tmp_path, settings, "blue/A_1.png"))
