"""Speeds in packs: recorded when asked for, sealed like every other file, and absent from older packs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.packs import SOME_SURFACE, changed_copy, record_small, reseal, session_on
from support.small_clip import write_small_clip
from support.timing_stand_ins import a_speed

from clip_eval.baseline import open_pack
from clip_eval.baseline.write_pack import MANIFEST, SPEEDS, add_speed, write_pack
from clip_eval.errors import PackError
from clip_eval.run import approval
from clip_eval.run.approval import Approval, record
from clip_eval.run.settings import Settings
from clip_eval.throughput import pack_entry as entry
from clip_eval.throughput.clock import Clock
from clip_eval.throughput.conditions import conditions_of
from clip_eval.throughput.pack_entry import measured_speed
from clip_eval.throughput.ratio import Ratio, Speed
from clip_eval.throughput.trial import KINDS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint, stored in bfloat16."""
    return write_small_clip(tmp_path_factory.mktemp("model") / "clip", processor=False, dtype="bfloat16")


@pytest.fixture(scope="module")
def plain(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its pack, without speeds."""
    directory = tmp_path_factory.mktemp("packs") / "clip"
    record_small(model, directory, SOME_SURFACE)
    return directory


@pytest.fixture
def pack(plain: Path, tmp_path: Path) -> Path:
    """A copy of the pack, to be changed."""
    return changed_copy(plain, tmp_path / "pack")


def test_packs_without_speeds_are_packs(plain: Path) -> None:
    """A pack that was recorded without speeds has none, and no file of them."""
    assert open_pack(plain).speeds == ()
    assert not (plain / SPEEDS).exists()


def test_speeds_are_added_and_sealed(pack: Path) -> None:
    """Each added entry is read back; nothing else of the pack changes; the manifest seals the file."""
    before = open_pack(pack)
    add_speed(pack, before, a_speed("4.57.6"))
    add_speed(pack, open_pack(pack), a_speed("5.23.0"))
    after = open_pack(pack)
    assert after.speeds == (a_speed("4.57.6"), a_speed("5.23.0"))
    assert (after.environments, after.fingerprints) == (before.environments, before.fingerprints)
    assert SPEEDS in json.loads((pack / MANIFEST).read_text(encoding="utf-8"))["files"]
    (pack / SPEEDS).write_bytes((pack / SPEEDS).read_bytes().replace(b"1.2", b"9.2"))
    with pytest.raises(PackError, match=SPEEDS):
        open_pack(pack)


def test_speeds_are_written_with_the_pack(pack: Path, tmp_path: Path) -> None:
    """A new pack that knows speeds holds them from the first."""
    write_pack(tmp_path / "new", replace(open_pack(pack), speeds=(a_speed(),)))
    assert open_pack(tmp_path / "new").speeds == (a_speed(),)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"[1]", b'[{"conditions": {}}]', b"null"])
def test_a_file_that_holds_no_speeds_is_refused(pack: Path, content: bytes) -> None:
    """A sealed file of another form is damage that no digest shows: it is a refusal."""
    reseal(pack, SPEEDS, content)
    with pytest.raises(PackError, match="does not hold speeds"):
        open_pack(pack)


def test_every_kind_is_timed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry states its conditions, its release, and a ratio for each kind of trial."""
    monkeypatch.setattr(entry, "clock_of", lambda _: Clock(lambda call: 2.0 if call() is not None else 0.0, "fixed"))
    monkeypatch.setattr(entry, "pilot", lambda _: 8)
    clip = session_on(model, dtype="bfloat16").candidate.clip
    speed = measured_speed(clip)
    assert speed.ratios == {name: Ratio(1.0, 1.0, 1.0) for name in KINDS.values()}
    assert speed.conditions == conditions_of(clip)
    assert (speed.conditions.dtype, speed.conditions.threads, speed.conditions.attention) == ("bfloat16", 1, "eager")
    assert speed.transformers == str(clip.release)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Puts an entry in the place of a measurement, and an approval in that of a gate; returns what was timed."""
    asked: list[Settings] = []

    def measured(clip: object) -> Speed:
        asked.append(clip)  # type: ignore[arg-type]
        return a_speed()

    monkeypatch.setattr(entry, "measured_speed", measured)
    monkeypatch.setattr(approval, "_approve", lambda settings, directory, gated: Approval(0, "approved"))
    return asked


def test_another_machine_is_recorded_once(
    model: Path, pack: Path, timed: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --add-to the speed on this machine joins the pack; what the pack knows already stays as it is."""
    first = record(Settings(model=str(model)), add_to=pack, speeds=True)
    assert first.message == "approved; its speed on this machine is recorded"
    assert [clip.dtype for clip in timed] == ["bfloat16"]  # the dtype that a gate takes by default
    again = record(Settings(model=str(model)), add_to=pack, speeds=True)
    assert again.message == "approved; its speed on this machine was recorded before"
    assert open_pack(pack).speeds == (a_speed(),)
    monkeypatch.setattr(approval, "_approve", lambda settings, directory, gated: Approval(1, "refused"))
    assert record(Settings(model=str(model)), add_to=pack, speeds=True).message == "refused"


def test_nobody_asked_for_speeds(model: Path, pack: Path, timed: list[Settings]) -> None:
    """Without --throughput nothing is timed."""
    record(Settings(model=str(model)), add_to=pack)
    assert timed == []
    assert open_pack(pack).speeds == ()
