"""What was probably meant by a name that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from clip_eval.nearest import DTYPE_ALIASES, beside, listed, nearest, nearest_path
from clip_eval.user_values import DTYPES


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("fp16", "float16"), ("half", "float16"), ("torch.float16", "float16"), ("FLOAT32", "float32"),
        ("bf16", "bfloat16"), ("bfloat", "bfloat16"), ("float64", "float32"), ("flaot16", "float16"),
        ("int8", None), ("", None), (" ", None),
    ],
)  # fmt: skip
def test_the_nearest_dtype(wanted: str, found: str | None) -> None:
    """People's words for dtypes, torch's spelling, another case and a slip all lead to the name; others to none."""
    assert nearest(wanted, DTYPES, DTYPE_ALIASES) == found


def test_a_beginning_is_nearer_than_a_likeness() -> None:
    """A shortened name leads to the first of those that begin so."""
    assert nearest("flash", ["eager", "flex", "flash_attention_2", "flash_attention_3"]) == "flash_attention_2"


def test_what_to_do_names_the_others() -> None:
    """The nearest comes first; a name that exists and cannot be used is not its own remedy."""
    assert listed("eagr", ["eager", "sdpa"]) == "The nearest is eager; others are sdpa"
    assert listed("x", ["eager", "sdpa"]) == "Choose from eager, sdpa"
    assert listed("cuda:9", ["cpu"]) == "There is only cpu"
    assert listed("flash", ["eager", "flash"]) == "There is only eager"


def test_the_nearest_path(tmp_path: Path) -> None:
    """The first name that is not there is replaced, if what follows it is below what replaces it."""
    (tmp_path / "baselines" / "shapes").mkdir(parents=True)
    (tmp_path / "baseliner").mkdir()
    assert nearest_path(tmp_path / "baseline" / "shapes") == tmp_path / "baselines" / "shapes"
    assert nearest_path(tmp_path / "baselines" / "shape") == tmp_path / "baselines" / "shapes"
    assert nearest_path(tmp_path / "baseline" / "circles") is None
    assert nearest_path(tmp_path / "reports") is None
    assert nearest_path(tmp_path / "baseliner") is None, "it is there"
    assert beside(tmp_path / "reports", "Name one") == "Name one"
    assert beside(tmp_path / "baselines" / "shape", "x").endswith(str(tmp_path / "baselines" / "shapes"))


def test_a_path_below_a_file_or_too_long_has_none(tmp_path: Path) -> None:
    """What no file system takes is no error here."""
    (tmp_path / "file").touch()
    assert nearest_path(tmp_path / "file" / "below") is None
    assert nearest_path(tmp_path / ("x" * 5000) / "y") is None
