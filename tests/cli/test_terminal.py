"""Text for a terminal: widths, folding, and what must not reach a terminal as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clip_eval.cli.terminal import columns, folded, hanging, visible


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("abc", 3), ("山田", 4), ("ｱ", 1), ("Ａ", 2), ("e\u0301", 1), ("🎆", 2), ("a\u200bb", 2), ("\u3000", 2)],
)
def test_columns_are_those_of_a_terminal(text: str, expected: int) -> None:
    """Wide characters take two columns, marks and invisible characters none."""
    assert columns(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b/山\u3000田", "a b/山\u3000田"),
        ("\x1b[31mred\n", "\\x1b[31mred\\n"),
        ("\u202egnp", "\\u202egnp"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, expected: str) -> None:
    """Controls, direction marks and broken bytes are shown as escapes; words in any script stay."""
    assert visible(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(2, 60))
def test_folding_loses_nothing_and_fits(text: str, width: int) -> None:
    """The lines together are the text, and none is wider than it may be."""
    lines = folded(text, width)
    assert "".join(lines) == text
    assert all(columns(line) <= width for line in lines)


def test_lines_end_behind_separators() -> None:
    """A line ends behind the last separator that fits, if that does not leave it nearly empty."""
    assert folded("pixiv/some one/name_of_file.jpg", 16) == ["pixiv/some one/", "name_of_file.jpg"]
    assert folded("\u200b\u0301", 16) == ["\u200b\u0301"]
    assert folded("a/" + "b" * 30, 16) == ["a/" + "b" * 14, "b" * 16]


def test_what_is_folded_hangs_below_its_start() -> None:
    """The head stands once, and the text keeps to its column."""
    assert hanging("  1  ", "one two three four five six", 25) == "  1  one two three four \n     five six"
