"""A folder of images that are named by a template, without a manifest: what a path says of its image is read back.

`[fields]` in dataset.toml says which fields of the template are the label, the caption and the group. A text file
beside an image, with the same name, holds captions too, one a line, and counts instead of the field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clip_eval.dataset.folder_walk import Found, files_below, read_captions
from clip_eval.dataset.manifest import MANIFEST, SETTINGS, check_label
from clip_eval.dataset.sample import Entry, Piece, Sample, printable, read_file
from clip_eval.dataset.settings import DatasetSettings, ZeroShot, read_settings
from clip_eval.dataset.toml_values import text_table
from clip_eval.errors import DatasetError
from clip_eval.files.untrusted import shown
from clip_eval.nearest import listed
from clip_eval.paths import AmbiguousPath, Assumptions, MismatchError, PathError

__all__ = ["TemplateFolder", "open_template_folder"]

Role = Literal["label", "caption", "group"]
_ROLES: tuple[Role, ...] = ("label", "caption", "group")


@dataclass(frozen=True, slots=True)
class TemplateFolder:
    """The samples of a folder with a template.

    Attributes:
        root: the dataset's directory.
        settings: from its dataset.toml.
        fields: the template's field for a role; each has a value in every path.
    """

    root: Path
    settings: DatasetSettings
    fields: Mapping[str, str]

    @property
    def zero_shot(self) -> ZeroShot | None:
        """The zero-shot task; None if dataset.toml has none."""
        return self.settings.zero_shot

    def entries(self, *, images: bool) -> Iterator[Entry]:
        """Yield every file in order; the names of one directory are in memory at once."""
        for found in self._found():
            where = printable(found.path)
            try:
                sample = self._sample(found)
            except ValueError as problem:
                yield Entry(where, None, None, printable(str(problem)))
                continue
            yield read_file(where, sample, f"{self.root}/{found.path}", images=images)

    def files(self) -> Iterator[Piece]:
        """Yield the settings, the lists and every file, in order: its name has what is known of it."""
        yield Piece(self.root / SETTINGS)
        yield from (Piece(self.root / name, name) for name in self.settings.lists)
        for found in self._found():
            yield Piece(self.root / found.path, found.path)
            if found.captions is not None:
                yield Piece(found.captions, found.captions.name)

    def _found(self) -> Iterator[Found]:
        return files_below(self.root, self.root, apart={SETTINGS, *self.settings.lists})

    def _sample(self, found: Found) -> Sample:
        if found.problem is not None:
            raise ValueError(found.problem)
        values = self._values(found.path)
        label = values.get("label")
        if self.zero_shot is not None:
            label = _class(label or "", self.zero_shot)
            check_label(label, self.zero_shot)
        caption = values.get("caption")
        captions: tuple[str, ...] = (caption,) if caption else ()
        if found.captions is not None:
            captions = read_captions(found.captions)
        return Sample(id=found.path, path=found.path, label=label, captions=captions, group=values.get("group"))

    def _values(self, path: str) -> dict[str, str]:
        """Return the text of each role.

        Raises:
            ValueError: the path does not match, or reads back in two ways that differ in one of them.
        """
        template, present = self.settings.template, frozenset(self.fields.values())
        stem, dot, extension = path.rpartition(".")
        try:
            return self._texts(
                template.parse(stem + dot + extension.lower(), assume=Assumptions(present=present))  # .JPG is common
            )
        except AmbiguousPath as problem:
            return self._agreed(problem)
        except MismatchError:
            needed = f" with a value for {', '.join(sorted(present))}" if present else ""
            expected = {name: template.fields[name].expects for name in template.names if template.fields[name].pattern}
            kinds = "".join(f"; {name} is {what} unless [kinds] says otherwise" for name, what in expected.items())
            raise ValueError(f"its path does not match the template {template.text!r}{needed}{kinds}") from None
        except PathError as problem:  # too many ways to read it were tried
            raise ValueError(f"its path cannot be read back ({problem})") from problem

    def _agreed(self, problem: AmbiguousPath) -> dict[str, str]:
        """The one reading of the roles among those of the whole path; fields without a role may differ."""
        readings = [self._texts(record) for record in problem.candidates if isinstance(record, Mapping)]
        first = readings[0]
        for role, text in first.items():
            other = next((reading[role] for reading in readings if reading[role] != text), None)
            if other is not None:
                raise ValueError(f"its path reads back in two ways: the {role} is {shown(text)} or {shown(other)}")
        if not problem.complete:
            raise ValueError("its path reads back in too many ways to compare them all")
        return first

    def _texts(self, record: Mapping[str, object]) -> dict[str, str]:
        return {role: _text(record[field]) for role, field in self.fields.items()}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _class(label: str, task: ZeroShot) -> str:
    """The name of the class, which a path may write with "_" for spaces."""
    spaced = label.replace("_", " ")
    return spaced if label not in task.classes and spaced in task.classes else label


def open_template_folder(root: Path, raw: Mapping[str, object]) -> TemplateFolder:
    """Open a folder whose dataset.toml has a template and `[fields]`; no file is looked for yet.

    Raises:
        DatasetError: the settings are invalid, or name a field that the template does not have.
    """
    file = root / SETTINGS
    fields = text_table(raw, "fields", file, _ROLES)
    settings = read_settings(file)
    for role, name in fields.items():
        if name not in settings.template.names:
            what = f"`fields.{role}` is {shown(name)}, which is not a field of the template"
            raise DatasetError(what, where=file, fix=listed(name, settings.template.names))
    if settings.zero_shot is not None and "label" not in fields:
        fix = f'Write which field it is, such as label = "user", or add {MANIFEST}'
        raise DatasetError("`fields.label` is missing, and [zero_shot] needs it", where=file, fix=fix)
    return TemplateFolder(root, settings, fields)
