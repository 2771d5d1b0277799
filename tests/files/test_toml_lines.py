"""The line of a key, however it is written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clip_eval.files.toml_lines import line_of

TEXT = """# a comment
require = [
  "a",  # another
  "b",
]

[tasks."a b"]
least = 1
most.x = 2

[[warned]]
check = 'x'

[[warned]]
check = '''
[tasks.c]
least = 5
'''
reason = {"in line" = 1}
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["require"], 2),
        (["require", 1], 2),
        (["tasks"], 7),
        (["tasks", "a b"], 7),
        (["tasks", "a b", "least"], 8),
        (["tasks", "a b", "most", "x"], 9),
        (["warned", 0], 11),
        (["warned", 1], 14),
        (["warned", 1, "check"], 15),
        (["warned", 1, "reason", "in line"], 19),
        (["tasks", "c"], None),
        (["warned", 2], None),
        (["require", "a"], None),
    ],
)
def test_the_line_of_a_key(path: Sequence[str | int], line: int | None) -> None:
    """Where its statement begins; a key that only a text mentions is not there."""
    assert line_of(TEXT, path) == line


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 999])
def test_every_line_is_found(count: int) -> None:
    """A key is found wherever it stands among comments and values of several lines."""
    for place in {0, count // 2, count - 1}:
        lines = ["# c", "", "x = [\n1]"] * count
        lines.insert(3 * place, "wanted = 1")
        text = "".join(f"{line.replace('x', f'x{number}')}\n" for number, line in enumerate(lines))
        assert text.split("\n")[(line_of(text, ["wanted"]) or 0) - 1] == "wanted = 1"


def test_a_long_text_is_not_searched() -> None:
    """The line is a help, and no reason to wait."""
    assert line_of("x = 1\n" + "#\n" * 60_000, ["x"]) is None
