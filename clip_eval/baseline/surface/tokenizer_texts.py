"""How hard and malformed texts are read, by every way to get a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from clip_eval.baseline.surface.formatting import attempt, spelled
from clip_eval.baseline.surface.tokenizer_calls import CALLED, by_route, listed, observe_calls
from clip_eval.errors import NotAskable
from clip_eval.probes.texts import HARD_TEXTS, ODD_TEXTS, around
from clip_eval.subject.observations import Clip
from clip_eval.subject.tokenizers import COPIES, LOADED, PARTS, encoder_of, tokenizer_by, tokenizer_of
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_texts"]

_MOST_NAMES = 8
_ALONE = ("half-a-pair",)  # raises, so it cannot be in a batch
_OWN = "AutoTokenizer"
_FILES = {"vocab_file": "vocab.json", "merges_file": "merges.txt", "vocab": "vocab.json", "merges": "merges.txt"}
# arguments that releases treat differently or ignore
_BUILT = {
    f"{name}({', '.join(f'{keyword}=' for keyword in keywords)})": (name, keywords)
    for name in ("CLIPTokenizer", "CLIPTokenizerFast")
    for keywords in (("vocab_file", "merges_file"), ("vocab", "merges"))
}


def observe_texts(clip: Clip) -> dict[str, Json]:
    """Return the tokenizer's results for texts and calls outside any contract, by every way to get one.

    Nothing in it depends on the checkpoint's size or dtype; ids are the tokenizer's own.
    """
    if not clip.subject.checkpoint.has_tokenizer:
        return {}
    base = _ids_of_loaded(clip, _OWN)
    others = (route for route in LOADED if route != _OWN and clip.processors.serves(route))
    return {
        f"{_OWN}(text).input_ids[*]": dict(base),
        **{f"{route}(text).input_ids": _against(base, _ids_of_loaded(clip, route)) for route in others},
        "tokenizer made of(files).input_ids[*]": _built(clip, base),
        "tokenizer that was(copied).decode()[*]": _copied(clip),
        **observe_calls(clip),
    }


def _texts(clip: Clip) -> dict[str, str]:
    hard = {entry.name: entry.text for entry in (*HARD_TEXTS, *ODD_TEXTS)}
    tokens = (token.content for token in encoder_of(clip).added)
    return hard | {text: text for token in tokens for text in (*around(token), f"a {token.upper()} b")}


def _ids_of_loaded(clip: Clip, route: str) -> dict[str, str]:
    return _ids(clip, lambda: clip.processors.load(route))


def _ids(clip: Clip, make: Callable[[], Any]) -> dict[str, str]:
    """Name of each text to its ids, formatted; if making the tokenizer raises, that is every text's result."""
    try:
        loaded = make()
    except NotAskable:
        raise
    except Exception as error:
        return dict.fromkeys(_texts(clip), f"raises {type(error).__name__}")
    texts = _texts(clip)
    try:
        rows = clip.processors.process(loaded, text=[texts[name] for name in texts if name not in _ALONE])["input_ids"]
    except Exception:  # some text is refused: each by itself tells which
        return {name: _alone(clip, loaded, text) for name, text in texts.items()}
    read = iter(rows)
    return {name: _alone(clip, loaded, text) if name in _ALONE else listed(next(read)) for name, text in texts.items()}


def _alone(clip: Clip, loaded: Any, text: str) -> str:
    return attempt(lambda: listed(clip.processors.process(loaded, text=text)["input_ids"]))


def _against(base: Mapping[str, str], other: Mapping[str, str]) -> str:
    """Differences from AutoTokenizer: the names of the texts, and a digest of their ids."""
    different = [name for name in base if base[name] != other[name]]
    if not different:
        return f"as by {_OWN}"
    if len(set(other.values())) == 1:
        return other[different[0]]
    digest = sha256("\n".join(other[name] for name in different).encode()).hexdigest()[:8]
    more = f" and {len(different) - _MOST_NAMES} more" if len(different) > _MOST_NAMES else ""
    return f"as by {_OWN} but for {', '.join(map(repr, different[:_MOST_NAMES]))}{more} (ids {digest})"


def _built(clip: Clip, base: Mapping[str, str]) -> dict[str, Json]:
    ways = {way: entry for way, entry in PARTS.items() if entry.obstacle(clip) is None}
    found: dict[str, Json] = {
        way: _against(base, _ids(clip, lambda way=way: tokenizer_by(clip, way)))  # type: ignore[misc]
        for way in ways
    }
    files = clip.subject.checkpoint.processor_path
    if all((files / name).is_file() for name in _FILES.values()):
        for call, (name, keywords) in _BUILT.items():
            arguments = {keyword: str(files / _FILES[keyword]) for keyword in keywords}
            found[call] = _against(base, _ids(clip, lambda n=name, a=arguments: clip.processors.construct(n, **a)))  # type: ignore[misc]
    return found


def _copied(clip: Clip) -> dict[str, Json]:
    ids = encoder_of(clip).encode("a photo of two dogs")
    return {
        copied: by_route(
            {
                route: attempt(lambda route=route, make=make: spelled(tokenizer_of(make(clip, route)).decode(ids)))
                for route in CALLED
            }
        )
        for copied, make in COPIES.items()
    }
