"""The classes that load a processor, what each builds from a checkpoint, and why one builds nothing.

AutoProcessor contains an image processor and a tokenizer: if one of these cannot be built, every class that contains it
raises the same error. The most basic class that raises it is the finding; checks that need another one are not run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from packaging.version import Version

from clip_eval.checkpoint.checkpoint import Absence, Checkpoint
from clip_eval.errors import CheckpointError, ClipEvalError, Finding, NotAskable
from clip_eval.files.read_write import read_json
from clip_eval.subject.field_at_fault import field_at_fault
from clip_eval.subject.loading import one_line
from clip_eval.subject.releases import provides, quiet, transformers_module, transformers_release

__all__ = ["BUILDERS", "Processors", "first_cause"]

_IMAGES = ("AutoImageProcessor", "CLIPImageProcessor", "CLIPImageProcessorPil", "CLIPImageProcessorFast")
_TOKENIZERS = ("AutoTokenizer", "CLIPTokenizer", "CLIPTokenizerFast")
_BOTH = ("CLIPProcessor", "AutoProcessor")

BUILDERS = (*_IMAGES, *_TOKENIZERS, *_BOTH)
"""Every class that loads a processor or a part of one, the parts first."""

_DECLARED: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = MappingProxyType(
    {
        "image": (
            ("preprocessor_config.json", ("image_processor_type",)),
            ("processor_config.json", ("image_processor", "image_processor_type")),
        ),
        "token": (("tokenizer_config.json", ("tokenizer_class",)),),
        "both": tuple(
            (file, ("processor_class",))
            for file in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
        ),
    }
)
"""The fields of the files that name a class."""

_PLAIN = {"image": "CLIPImageProcessor", "token": "CLIPTokenizer", "both": "CLIPProcessor"}


@dataclass(slots=True)
class Processors:
    """What the classes build from one checkpoint; each object is built once and kept."""

    checkpoint: Checkpoint
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)
    _tried: dict[str, Exception | None] = field(default_factory=dict, repr=False)
    _findings: dict[str, Finding] = field(default_factory=dict, repr=False)

    @property
    def usual(self) -> str:
        """The class that users load all of them by: AutoProcessor, or for a tower alone the one that it needs."""
        holds = self.checkpoint.holds
        return "AutoProcessor" if holds.whole else "AutoTokenizer" if holds.texts else "AutoImageProcessor"

    def load(self, route: str | None = None, *, source: Path | None = None, **options: Any) -> Any:
        """Load a processor, image processor or tokenizer through the transformers class named `route`; it is kept.

        Args:
            route: the name of a class with from_pretrained; by default the usual one.
            source: a directory other than the checkpoint's.
            options: passed on to from_pretrained, such as use_fast.

        Raises:
            NotApplicable: the class is for a tower that the checkpoint does not hold.
            NotAskable: the class should build one of the checkpoint's files and does not; check
                processor.every_class_builds_one says why.
        """
        route = route or self.usual
        if not self.serves(route):
            raise self.checkpoint.holds.lacking
        key = (route, source, tuple(sorted(options.items())))
        if key not in self._kept:
            try:
                self._kept[key] = _built(route, source or self.checkpoint.processor_path, options)
            except Exception as error:
                if source in (None, self.checkpoint.processor_path) and self._is_reported(route, error):
                    raise self._not_askable(route) from error
                raise
        return self._kept[key]

    def construct(self, class_name: str, *arguments: object, method: str | None = None, **settings: Any) -> Any:
        """Construct an object of a transformers class, such as an image processor from its defaults; nothing is kept.

        Args:
            class_name: the class.
            arguments: by position.
            method: a class method that makes the object, such as "from_pretrained"; the class itself by default.
            settings: by name.
        """
        owner = getattr(transformers_module(), class_name)
        with quiet():
            return (owner if method is None else getattr(owner, method))(*arguments, **settings)

    def process(self, processor: Any, *args: object, **options: object) -> Any:
        """Call a processor and return its result, silencing transformers' warnings about backends and padding."""
        with quiet():
            return processor(*args, **options)

    def process_at_once(self, processor: Any, batches: Sequence[Any], **options: Any) -> list[Any]:
        """Call a processor on all `batches` at the same time, one thread each; results in order."""
        with quiet(), ThreadPoolExecutor(len(batches)) as threads:
            return list(threads.map(lambda images: processor(images=images, **options), batches))

    def obstacle(self, route: str) -> str | None:
        """Return why a class of `BUILDERS` need not build anything here; None if it has all that it needs."""
        if not provides(route):
            return f"transformers {version('transformers')} has no {route} that can be used here"
        files = self.checkpoint.processor_path
        python = route == "CLIPTokenizer" and transformers_release() < Version("5.0.0.dev0")
        if python and not all((files / name).is_file() for name in ("vocab.json", "merges.txt")):
            return "the tokenizer written in Python needs vocab.json and merges.txt"
        refusal = self._refusal(route)
        return one_line(refusal) if isinstance(refusal, ImportError) else None

    def absence(self, route: str) -> Absence | None:
        """Return which part that a class of `BUILDERS` reads is not in the checkpoint; None if all are."""
        if not self.serves(route):
            return Absence(str(self.checkpoint.holds.lacking), missed=False)
        image = None if route in _TOKENIZERS else self.checkpoint.image_processor_absence
        return image or (None if route in _IMAGES else self.checkpoint.tokenizer_absence)

    def finding(self, route: str) -> ClipEvalError | None:
        """Return what keeps a class of `BUILDERS` from building; None where nothing does.

        It is a Finding, or NotAskable if a more basic class raises the same.
        """
        if self._refusal(route) is None:
            return None
        return self._described(route) if self._root(route) == route else self._not_askable(route)

    def serves(self, route: str) -> bool:
        """Whether a class is not for a tower that the checkpoint does not hold; a full processor is for both."""
        holds = self.checkpoint.holds
        for_images, for_texts = route in (*_IMAGES, *_BOTH), route in (*_TOKENIZERS, *_BOTH)
        return (holds.images or not for_images) and (holds.texts or not for_texts)

    def _is_reported(self, route: str, error: Exception) -> bool:
        """Whether a check of its own reports that this class builds nothing, so that no other check has to."""
        if isinstance(first_cause(error), (ImportError, MemoryError)) or route not in BUILDERS:
            return False
        return not (self.absence(route) or self.obstacle(route)) and self._refusal(route) is not None

    def _not_askable(self, route: str) -> NotAskable:
        root = self._root(route)
        finding, name = self._described(root), f"processor.every_class_builds_one[{root}]"
        return NotAskable(finding.what, finding=name, where=finding.where, fix=finding.fix)

    def _refusal(self, route: str) -> Exception | None:
        if route not in self._tried:
            try:
                self._kept[route, None, ()] = _built(route, self.checkpoint.processor_path, {})
                self._tried[route] = None
            except Exception as error:  # whatever from_pretrained raises keeps users from the class
                self._tried[route] = first_cause(error)
        return self._tried[route]

    def _root(self, route: str) -> str:
        """The most basic class that raises the same error."""
        before = (other for other in BUILDERS[: BUILDERS.index(route)] if not self.absence(other))
        judged = (other for other in before if not self.obstacle(other))
        return next((other for other in judged if self._error_text(other) == self._error_text(route)), route)

    def _error_text(self, route: str) -> str:
        """The error of building, in one line; empty if it works."""
        error = self._refusal(route)
        return "" if error is None else one_line(error)

    def _described(self, route: str) -> Finding:
        """Why a class builds nothing. Found once: every check that needs the class refers to it."""
        if route not in self._findings:
            self._findings[route] = self._explained(route)
        return self._findings[route]

    def _explained(self, route: str) -> Finding:
        release = f"transformers {version('transformers')}"
        kind = "image" if route in _IMAGES else "token" if route in _TOKENIZERS else "both"
        for file, place, value in self._unknown(kind):
            what = f"{route} builds nothing: {'.'.join(place)} is {value!r}, a class that {release} does not have"
            plain = _PLAIN[kind]
            works = plain != route and provides(plain) and self._refusal(plain) is None
            fix = f"Write {plain!r} there" + (f": {plain} builds one from the same files" if works else "")
            return Finding(what, where=file, fix=fix)
        fix = "Correct the file that it names, or save the processor again with save_pretrained"
        what, where = f"{route} of {release} builds nothing: {self._error_text(route)}", self.checkpoint.processor_path
        if fault := field_at_fault(where, lambda copy: _built(route, copy, {})):
            what += f"; {fault.name} is {fault.in_words}, and without it {route} builds one"
            where, fix = fault.file, f"Correct {fault.name}, or save the processor again with this release"
        return Finding(what, where=where, fix=fix)

    def _unknown(self, kind: str) -> Iterator[tuple[Path, tuple[str, ...], str]]:
        """File, field and value of each class name that this release does not know."""
        for name, place in _DECLARED[kind]:
            file = self.checkpoint.processor_path / name
            value = _read(file)
            for key in place:
                value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, str) and not provides(value) and not provides(f"{value}Fast"):
                yield file, place, value


def first_cause(error: Exception) -> Exception:
    """Return the error itself, or, if transformers 4 requires protobuf while handling another error, that one."""
    cause = error.__context__
    if isinstance(error, ImportError) and isinstance(cause, Exception) and not isinstance(cause, ImportError):
        return cause
    return error


def _built(route: str, source: Path, options: Mapping[str, Any]) -> Any:
    import transformers

    with quiet():
        return getattr(transformers, route).from_pretrained(str(source), local_files_only=True, **options)


def _read(file: Path) -> Any:
    """The JSON of a file; None if it is missing or cannot be read: transformers' message says so."""
    try:
        return read_json(file, error=CheckpointError) if file.is_file() else None
    except CheckpointError:
        return None
