"""The index of keys against a set of Python."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_eval.dataset import key_index
from clip_eval.dataset.key_index import KeyIndex

HALF = st.sampled_from([bytes(8), b"\xff" * 8, b"\x80" + bytes(7), b"\x00" * 7 + b"\x01"])
KEY = st.one_of(st.binary(min_size=16, max_size=16), st.tuples(HALF, HALF).map(b"".join))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(parts=st.lists(st.lists(KEY, max_size=12), max_size=6), others=st.lists(KEY, max_size=20))
def test_it_is_a_set(parts: list[list[bytes]], others: list[bytes]) -> None:
    """Whatever was added is there, once, and nothing else: with equal first halves and after merges, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "_LEAST_MERGED", 5)
        index, expected = KeyIndex(), set[bytes]()
        for part in parts:
            index.add(part)
            expected.update(part)
            assert len(index) == len(expected)
            assert all(key in index for key in expected)
        assert [key in index for key in others] == [key in expected for key in others]
