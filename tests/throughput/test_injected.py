"""Real clocks and real memory: a slow-down and a leak that are put into transformers' encoder from outside.

Slow, as every test that times something: a machine that does other things besides may leave the first one undecided.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.timing_stand_ins import Benchmark

from clip_eval.baseline import Pack
from clip_eval.run.evidence import Evidence
from clip_eval.run.session import Session
from clip_eval.run.settings import Settings
from clip_eval.suite.release import test_throughput as chapter
from clip_eval.throughput.pack_entry import measured_speed
from clip_eval.verdict.compare import Compare, Mismatch

MODEL = Path(__file__).parents[2] / "fixtures" / "shapes-clip"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pack() -> Pack:
    """A pack that knows how fast the shipped checkpoint is here, today."""
    clip = Session(Settings(model=str(MODEL))).candidate.clip
    return cast("Pack", SimpleNamespace(speeds=(measured_speed(clip),), config=clip.config))


def against(pack: Pack) -> Session:
    """Return a new session on the checkpoint against the pack."""
    session = Session(Settings(model=str(MODEL)))
    vars(session).update(pack=pack)
    return session


def encoder() -> Any:
    """The class whose forward is the stack of layers, in every release."""
    from transformers.models.clip import modeling_clip

    return modeling_clip.CLIPEncoder


@pytest.mark.parametrize("kind", ["images", "texts", "pairs"])
def test_a_slow_down_of_30_per_cent_fails(pack: Pack, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the ratio to the floor alone, against the pack's entry for this machine, with no other interpreter."""
    plain = encoder().forward

    def slower(self: Any, *arguments: Any, **keywords: Any) -> Any:
        start = time.thread_time()
        result = plain(self, *arguments, **keywords)
        end = time.thread_time() + 0.3 * (time.thread_time() - start)
        while time.thread_time() < end:
            pass
        return result

    monkeypatch.setattr(encoder(), "forward", slower)
    session, evidence = against(pack), Evidence([])
    with pytest.raises(Mismatch, match="times as long"):
        chapter.test_forward_is_timed(
            Benchmark(), session.candidate.clip, session, evidence, Compare(evidence.measurement), kind
        )


@pytest.mark.parametrize("kind", ["images", "texts", "pairs"])
def test_a_leak_of_8_mb_a_call_fails(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight MB that each forward of an encoder keeps, without touching them, fail the check of memory."""
    plain, kept = encoder().forward, []

    def leaking(self: Any, *arguments: Any, **keywords: Any) -> Any:
        kept.append(bytearray(8_000_000))
        return plain(self, *arguments, **keywords)

    monkeypatch.setattr(encoder(), "forward", leaking)
    with pytest.raises(Mismatch, match="MB that a call keeps"):
        chapter.test_calls_keep_no_memory(
            Session(Settings(model=str(MODEL))).candidate.clip, Compare(lambda _: None), kind
        )


@pytest.mark.parametrize("kind", ["images", "texts", "pairs"])
def test_an_unchanged_checkpoint_passes(pack: Pack, kind: str) -> None:
    """The same checkpoint a moment later is as fast as the pack says, or not decided, and keeps no memory."""
    session, evidence = against(pack), Evidence([])
    chapter.test_calls_keep_no_memory(session.candidate.clip, Compare(evidence.measurement), kind)
    chapter.test_forward_is_timed(
        Benchmark(), session.candidate.clip, session, evidence, Compare(evidence.measurement), kind
    )
