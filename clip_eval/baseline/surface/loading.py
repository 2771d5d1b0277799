"""Loading as users do it: default dtype, automatic classes, reports, and exceptions for bad files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clip_eval.baseline.surface.formatting import attempt, spelled
from clip_eval.families.roles import MODEL_CLASSES
from clip_eval.subject import dtype_on_load, transformers_module
from clip_eval.subject.observations import Clip
from clip_eval.subject.tiny_clip import STORED, write_stand_in
from clip_eval.verdict.plain_values import Json

__all__ = ["observe_loading"]

_AUTO = ("AutoConfig", "AutoModel", "AutoModelForImageClassification", "AutoModelForZeroShotImageClassification")


def observe_loading(clip: Clip) -> dict[str, Json]:
    """Return how tiny models of the checkpoint's kind load. The checkpoint's weights are not read."""
    entries: dict[str, Json] = {}
    name = clip.holds.main_class
    for stored in STORED:
        with TemporaryDirectory(prefix="clip-eval-") as directory:
            write_stand_in(directory, clip.subject.checkpoint, stored)
            entries[f"{name}.from_pretrained().dtype[{stored}]"] = dtype_on_load(clip.family, directory, name)
    with TemporaryDirectory(prefix="clip-eval-") as directory:
        stand_in = Path(directory) / "stand-in"
        stand_in.mkdir()
        write_stand_in(stand_in, clip.subject.checkpoint, "float32")
        entries |= {f"{auto}.from_pretrained()": attempt(_kind_of, auto, stand_in) for auto in _AUTO}
        entries[f"{name}.from_pretrained(case).*"] = _cases(clip, name, stand_in)
        entries |= _strangers(clip, stand_in)
    return entries


def _load(name: str, place: Path, **options: Any) -> Any:
    return getattr(transformers_module(), name).from_pretrained(str(place), local_files_only=True, **options)


def _kind_of(name: str, place: Path) -> str:
    return _kind(_load(name, place))


def _kind(value: Any) -> str:
    return type(value).__name__


def _cases(clip: Clip, name: str, stand_in: Path) -> dict[str, Json]:
    """Arguments and files that users get wrong, or that releases have changed their mind about."""
    field = "logit_scale_init_value" if clip.holds.whole else "layer_norm_eps"
    of_whole: dict[str, Callable[[], str]] = {
        "the attention of a tower": lambda: spelled(
            getattr(_load(name, stand_in), clip.family.text.module).config._attn_implementation
        ),
    }
    cases: Mapping[str, Callable[[], str]] = {
        "dtype=float16": lambda: str(_load(name, stand_in, dtype="float16").dtype),
        "torch_dtype=float16": lambda: str(_load(name, stand_in, torch_dtype="float16").dtype),
        "dtype=no_such_dtype": lambda: str(_load(name, stand_in, dtype="no_such_dtype").dtype),
        "attn_implementation=no_such_one": lambda: _kind(_load(name, stand_in, attn_implementation="no_such_one")),
        "an unknown argument": lambda: _kind(_load(name, stand_in, no_such_argument=1)),
        "a config field as an argument": lambda: spelled(getattr(_load(name, stand_in, **{field: 1.0}).config, field)),
        "output_hidden_states as an argument": lambda: spelled(
            _load(name, stand_in, output_hidden_states=True).config.output_hidden_states
        ),
        "no such directory": lambda: _kind(_load(name, stand_in / "none")),
        "the default attention": lambda: spelled(_load(name, stand_in).config._attn_implementation),
        **(of_whole if clip.holds.whole else {}),
        "the loading report": lambda: _report(name, stand_in),
        "no weights": lambda: _kind(_load(name, _copy(stand_in, keep=("config.json",)))),
        # The model itself would be made in full size where the release takes defaults instead.
        "no config": lambda: _kind(_load(_config_of(clip), _copy(stand_in, keep=("model.safetensors",)))),
        "weights of another width": lambda: _kind(_load(name, _wider(stand_in))),
        "weights of another width, ignored": lambda: _kind(_load(name, _wider(stand_in), ignore_mismatched_sizes=True)),
        "more layers than the file": lambda: _kind(_load(name, _deeper(stand_in))),
    }
    return {case: attempt(ask) for case, ask in cases.items()}


def _config_of(clip: Clip) -> str:
    return type(clip.subject.model(clip.holds.main_class).config).__name__


def _report(name: str, stand_in: Path) -> str:
    _, report = _load(name, stand_in, output_loading_info=True)
    return ", ".join(f"{key} {_kind(value)}" for key, value in sorted(report.items()))


def _copy(stand_in: Path, *, keep: tuple[str, ...], config: Mapping[str, object] | None = None) -> Path:
    """A part of the tiny model's files, with other fields of its text tower, or only one, in its config."""
    place = Path(stand_in.parent / f"copy-{len(list(stand_in.parent.iterdir()))}")
    place.mkdir()
    for name in keep:
        (place / name).write_bytes((stand_in / name).read_bytes())
    if config is not None:
        raw = json.loads((place / "config.json").read_text(encoding="utf-8"))
        raw.get("text_config", raw).update(config)
        (place / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return place


def _wider(stand_in: Path) -> Path:
    return _copy(stand_in, keep=("config.json", "model.safetensors"), config={"intermediate_size": 12})


def _deeper(stand_in: Path) -> Path:
    return _copy(stand_in, keep=("config.json", "model.safetensors"), config={"num_hidden_layers": 2})


def _strangers(clip: Clip, stand_in: Path) -> dict[str, Json]:
    """What a bare load_state_dict makes of names as they stand in the file, which older releases have in memory too."""
    entries: dict[str, Json] = {}
    for name in filter(clip.holds.has, MODEL_CLASSES):
        model = _load(name, stand_in)
        state = {clip.family.canonical_name(key, name): value for key, value in model.state_dict().items()}
        report = model.load_state_dict(state, strict=False)
        missing, unexpected = len(report.missing_keys), len(report.unexpected_keys)
        taken = "all" if not missing else "none" if missing == len(state) else "some"
        entries[f"{name}.load_state_dict(names of the file)"] = f"{taken} taken, {unexpected or 'none'} unexpected"
    return entries
