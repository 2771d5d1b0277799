"""Ray Data gives the rows of the local engine. What needs no Ray runs every time, the rest by `tox run -e ray`."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.datasets import samples, write_dataset
from support.small_clip import write_small_clip
from support.stores import stored

from clip_eval.dataset import open_dataset
from clip_eval.embedding import on_ray
from clip_eval.embedding.engines import fill
from clip_eval.embedding.fill import EmbedOptions, Tally
from clip_eval.embedding.on_ray import _Cursor, _explained, _parts, _Pool, _pool
from clip_eval.embedding.pipeline import BLOCK
from clip_eval.errors import DatasetError, ProcessError, UsageError

OPTIONS = EmbedOptions(model="clip", dataset=Path("dataset"), out=Path("store"))


@pytest.mark.parametrize(
    ("device", "workers", "cpus", "gpus", "node", "expected"),
    [
        ("cpu", None, 2.0, 0, 2.0, _Pool(1, 1, 0)),
        ("cpu", 2, 2.0, 0, 2.0, _Pool(2, 0.5, 0)),
        ("cpu", 1, 1.0, 0, 1.0, _Pool(1, 0.5, 0)),
        ("cpu", None, 64.0, 0, 16.0, _Pool(16, 3, 0)),
        ("cuda", None, 64.0, 4, 64.0, _Pool(4, 15, 1)),
        ("cuda", None, 32.0, 2, 16.0, _Pool(2, 15, 1)),
    ],
)
def test_a_pool_leaves_cpus(
    device: str, workers: int | None, cpus: float, gpus: int, node: float, expected: _Pool
) -> None:
    """Actors that ask for every CPU would wait for ever; each must fit on a node."""
    options = replace(OPTIONS, device=device, workers=workers)
    pool = _pool(options, {"CPU": cpus, "GPU": gpus}, node)
    assert pool == expected
    assert 0 < pool.actors * pool.cpus < cpus


def test_more_workers_than_gpus_are_refused() -> None:
    """Before any of them waits for one."""
    for workers, gpus in ((3, 2), (None, 0)):
        with pytest.raises(UsageError, match="need a GPU each, and the cluster has"):
            _pool(replace(OPTIONS, device="cuda", workers=workers), {"CPU": 8.0, "GPU": gpus}, 8.0)


@pytest.mark.parametrize("entries", [0, 1, BLOCK, BLOCK + 1, 50 * BLOCK, 1000 * BLOCK + 7])
def test_parts_are_whole_blocks(entries: int) -> None:
    """They begin where the local engine's blocks begin, and hold every entry; the first one is the prompts."""
    prompts, *parts = _parts(entries, actors=3)
    assert prompts["count"] == 0
    assert all(part["start"] % BLOCK == part["count"] % BLOCK == 0 for part in parts)
    assert sum(part["count"] for part in parts) >= entries
    assert [part["start"] for part in parts] == list(range(0, entries, parts[0]["count"] if parts else 1))


def test_a_cursor_gives_any_part(tmp_path: Path) -> None:
    """In order, again, and back: the entries with their bytes, as the dataset gives them."""
    dataset = open_dataset(write_dataset(tmp_path, samples(9)))
    expected = list(dataset.entries())
    cursor = _Cursor(dataset)
    for start, count in ((0, 2), (4, 3), (7, 5), (1, 2), (3, 0), (8, 1)):
        assert list(cursor.part(start, count)) == expected[start : start + count]


@pytest.mark.parametrize("answers", [True, False])
def test_a_standstill_ends_with_an_error(monkeypatch: pytest.MonkeyPatch, *, answers: bool) -> None:
    """Where Ray never gives a row, the run ends after a while, and says what it asked for and what there is.

    It does so where the counter of what is finished does not answer, either.
    """

    def answer(value: int, timeout: float) -> int:
        if not answers:
            raise TimeoutError(timeout)
        return value

    class Ray:
        """Answers what is asked of Ray."""

        exceptions = SimpleNamespace(GetTimeoutError=TimeoutError)
        get = staticmethod(answer)
        cluster_resources = staticmethod(lambda: {"CPU": 2.0})

    class Rows:
        """Rows that never come."""

        def iter_rows(self) -> Any:
            """Wait longer than any test."""
            threading.Event().wait(60)
            return iter(())

    counter = SimpleNamespace(entries=SimpleNamespace(remote=lambda: 0))
    monkeypatch.setitem(sys.modules, "ray", Ray)
    monkeypatch.setattr(on_ray, "PATIENCE_S", 0.2)
    monkeypatch.setattr(on_ray, "_LOOK_S", 0.05)
    with pytest.raises(
        ProcessError, match="nothing for 0 s, with 2 workers that ask for 1 CPUs each; the cluster has 2"
    ):
        on_ray._gathered(Rows(), counter, _Pool(2, 1, 0), None)


def test_a_problem_of_a_worker_comes_out_of_what_wraps_it() -> None:
    """The user's own error, and not Ray's."""
    inner = DatasetError("the manifest cannot be read")
    outer = RuntimeError("a task failed")
    outer.__cause__ = inner
    assert _explained(outer) is inner
    other = RuntimeError("something else")
    assert _explained(other) is other


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One paragraph that says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    dataset = open_dataset(write_dataset(tmp_path, samples(1)))
    with pytest.raises(UsageError, match=r"clip-eval\[ray\]"):
        on_ray.fill_on_ray(OPTIONS, dataset, 1, None)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_rows_are_those_of_the_local_engine(tmp_path: Path) -> None:
    """Two workers, three blocks, an image that cannot be read; a second run computes nothing, and one resumes."""
    count = 2 * BLOCK + 30
    entries = [
        {**sample, "caption": f"{'cat ' * (n % 5)}{n}", "extension": "png"} for n, sample in enumerate(samples(count))
    ]
    dataset = write_dataset(tmp_path / "dataset", entries)
    rng = np.random.default_rng(3)
    paths = [dataset / sample.path for sample in open_dataset(dataset).samples()]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)).save(path)
    paths[5].write_bytes(b"no image")
    model = str(write_small_clip(tmp_path / "checkpoint"))
    local = EmbedOptions(model=model, dataset=dataset, out=tmp_path / "local")
    ray = replace(local, out=tmp_path / "ray", engine="ray", workers=2)
    expected = fill(local, quiet=True)
    found = fill(ray, quiet=True)
    assert {name: getattr(found, name) for name in Tally.__slots__} == {
        name: getattr(expected, name) for name in Tally.__slots__
    }
    for kind in ("images", "texts"):
        assert stored(ray.out, kind) == stored(local.out, kind)
    again = fill(ray, quiet=True)
    assert (again.images, again.new_images, again.new_texts) == (count - 1, 0, 0)
