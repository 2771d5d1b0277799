"""dataset.toml: what is read, and what is refused with the key that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.dataset.settings import ZeroShot, read_settings
from clip_eval.errors import DatasetError

TEMPLATE = 'template = "{id}"\n'


def read(tmp_path: Path, text: str | bytes) -> object:
    """Read settings with this content."""
    file = tmp_path / "dataset.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_settings(file)


def test_template_alone_is_enough(tmp_path: Path) -> None:
    """A dataset without [zero_shot] sets no such task."""
    settings = read(tmp_path, TEMPLATE)
    assert settings.zero_shot is None
    assert settings.template.render({"id": "7"}, extension="png") == "7.png"


def test_texts_put_every_class_into_every_prompt() -> None:
    """All prompts of a class come in a row; braces of a class name stay as they are."""
    task = ZeroShot(classes=("a {x}", "b"), prompts=("the {}", "{}!"))
    assert task.texts() == ["the a {x}", "a {x}!", "the b", "b!"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "`template` is missing"),
        ("template = 3", "`template` is missing or not a text"),
        ('template = "{nobody}"', "`template` is wrong"),
        ("template = ", "not TOML"),
        (b'template = "\xff"', "not TOML"),
        (TEMPLATE + "zero_shot = 1", "`zero_shot` is not a table"),
        (TEMPLATE + "[zero_shot]\nclasses = ['a', 'b']", "`zero_shot.prompts` is not a list of texts"),
        (TEMPLATE + "[zero_shot]\nprompts = ['{}']", "`zero_shot.classes` is not a list of texts"),
        (TEMPLATE + "[zero_shot]\nprompts = ['{}']\nclasses = []", "`zero_shot.classes` is not a list of texts"),
        (TEMPLATE + "[zero_shot]\nprompts = ['{}']\nclasses = ['a', 1]", "`zero_shot.classes` is not a list of texts"),
        (TEMPLATE + "[zero_shot]\nprompts = ['{}']\nclasses = ['a', 'a']", "holds 'a' twice"),
        (TEMPLATE + "[zero_shot]\nprompts = ['{}']\nclasses = ['a']", "has one class only"),
        (TEMPLATE + "[zero_shot]\nprompts = ['a photo']\nclasses = ['a', 'b']", "does not have one {}"),
        (TEMPLATE + "[multi_label]\nprompts = ['{}']", "`multi_label.tags` is not a list of texts"),
        (TEMPLATE + "[multi_label]\nprompts = ['a']\ntags = ['b']", "does not have one {}"),
        (TEMPLATE + "[zero_shot]\nprompts = ['{} {}']\nclasses = ['a', 'b']", "does not have one {}"),
    ],
)
def test_refusals_name_the_key(tmp_path: Path, text: str | bytes, said: str) -> None:
    """Each mistake is one paragraph that names the key and the file."""
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
    assert "dataset.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.fix


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    """A directory in the file's place is told with the system's reason."""
    (tmp_path / "dataset.toml").mkdir()
    with pytest.raises(DatasetError, match="cannot be read"):
        read_settings(tmp_path / "dataset.toml")
