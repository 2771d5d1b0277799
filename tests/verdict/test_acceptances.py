"""Acceptances: what a file of them must say, what each excuses, and what becomes of those that excuse nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from clip_eval.errors import UsageError
from clip_eval.verdict.acceptances import Acceptance, GroupAcceptance, draft, read_acceptances, rule
from clip_eval.verdict.changes import grouped
from clip_eval.verdict.run_record import SurfaceChange

TODAY = date(2027, 1, 31)
ENTRY = 'id = "A()"\nbefore = "a tensor"\nafter = "a tuple"\nreason = "Our code unpacks it"\n'
GROUP = 'cause = "towers-are-flat"\nchanges = 2\ndigest = "0123456789abcdef"\nreason = "We read no modules"\n'
NO_REASON = 'id = "A"\nbefore = "0"\nafter = "1"\n'


def change(identity: str = "A()", before: str = "a tensor", after: str = "a tuple") -> SurfaceChange:
    """A difference that nobody has accepted."""
    return SurfaceChange(id=identity, what="the value", before=before, after=after, check="c", accepted=None)


def accepted(**details: object) -> Acceptance:
    """An acceptance of `change()`, with other details."""
    return Acceptance(**{"id": "A()", "before": "a tensor", "after": "a tuple", "reason": "wanted"} | details)  # type: ignore[arg-type]


def written(tmp_path: Path, text: str) -> Path:
    """A file of acceptances."""
    file = tmp_path / "accepted.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_is_read_in_order(tmp_path: Path) -> None:
    """Every key arrives, the optional ones too."""
    text = (
        f'[[accepted]]\n{ENTRY}\n[[accepted]]\nid = "B"\nbefore = ""\nafter = "1"\nreason = "r"\nexpires = 2027-01-31'
    )
    first, second = read_acceptances(written(tmp_path, text))
    assert first == Acceptance(id="A()", before="a tensor", after="a tuple", reason="Our code unpacks it")
    assert second == Acceptance(id="B", after="1", reason="r", before="", expires=TODAY)
    assert second.note == "r (until 2027-01-31)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[accepted]", "is not TOML"),
        ("", r"no \[\[accepted\]\] table"),
        (f"[[accept]]\n{ENTRY}", "holds accept beside"),
        ("accepted = 3", "holds no beside"),
        ("accepted = [3]", "entry 1 is not a table"),
        ('[[accepted]]\nafter = "1"\nreason = "r"', r"entry 1 \(without an id\) has no id"),
        ('[[accepted]]\nid = "A"\nreason = "r"', r"entry 1 \(A\) has no before"),
        ('[[accepted]]\nid = "A"\nbefore = "0"\nreason = "r"', r"entry 1 \(A\) has no after"),
        (f"[[accepted]]\n{NO_REASON}", r"entry 1 \(A\) has no reason"),
        (f'[[accepted]]\n{NO_REASON}reason = " "', r"the reason of entry 1 \(A\) is empty.*Say why"),
        ('[[accepted]]\nid = "A"\nbefore = "0"\nafter = 1\nreason = "r"', r"the after of entry 1 \(A\) is not a text"),
        (f'[[accepted]]\n{ENTRY}expires = "2027-01-31"', "Write a day without quotes"),
        (f"[[accepted]]\n{ENTRY}expires = 2027-01-31T10:00:00", "Write a day without quotes"),
        (
            f'[[accepted]]\n{ENTRY}until = "never"',
            r"has the unknown keys until.*Known keys are id, before, after, reason, expires",
        ),
        (f"[[accepted]]\n{ENTRY}[[accepted]]\n{ENTRY}", r"accepts A\(\) 2 times"),
        (f"[[accepted]]\n{GROUP}[[accepted]]\n{GROUP}", "accepts towers-are-flat 2 times"),
        ('[[accepted]]\ncause = "c"\nchanges = 1\nreason = "r"', r"entry 1 \(c\) has no digest"),
        ('[[accepted]]\narea = "a"\ndigest = "d"\nreason = "r"', r"the changes of entry 1 \(a\) are not a number"),
        (f'[[accepted]]\n{GROUP}id = "A"', r"unknown keys id.*Known keys are cause, changes, digest"),
    ],
)
def test_a_file_that_says_less_or_more_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The message names the file, the entry and what to do."""
    with pytest.raises(UsageError, match=message) as caught:
        read_acceptances(written(tmp_path, text))
    assert "accepted.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file is a usage error, not an empty one."""
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_acceptances(tmp_path / "none.toml")


def test_an_acceptance_excuses_its_change_alone() -> None:
    """The change carries the reason; others stay open."""
    ruling = rule([change(), change("B")], [accepted(expires=TODAY)], today=TODAY)
    assert [entry.accepted for entry in ruling.changes] == ["wanted (until 2027-01-31)", None]
    assert [entry.id for entry in ruling.open] == ["B"]
    assert ruling.idle == ()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (accepted(id="B"), "B matches no change"),
        (accepted(after="a list"), r"accepts 'a list', and it is now 'a tuple'"),
        (accepted(before="a list"), r"accepts a change from 'a list', and it was 'a tensor'"),
        (accepted(expires=date(2027, 1, 30)), "expired on 2027-01-30"),
    ],
)
def test_an_acceptance_that_excuses_nothing_says_why(entry: Acceptance, why: str) -> None:
    """Another change, another value or a day that is past: the change stays open, the acceptance is told."""
    ruling = rule([change()], [entry], today=TODAY)
    assert [entry.accepted for entry in ruling.changes] == [None]
    assert len(ruling.idle) == 1
    assert why in str(ruling.idle[0])


def test_a_draft_lacks_nothing_but_the_reasons(tmp_path: Path) -> None:
    """The draft is refused as it is, and accepts every change once reasons are written, whatever the values hold."""
    changes = [change(), change("B[quotes \" and ' and \\]", after="line\none, \x7f, \u200b, \N{GRINNING FACE}")]
    with pytest.raises(UsageError, match="is empty"):
        read_acceptances(written(tmp_path, draft(changes)))
    entries = read_acceptances(written(tmp_path, draft(changes).replace('reason = ""', 'reason = "r"')))
    assert rule(changes, entries, today=TODAY).open == ()


def many() -> list[SurfaceChange]:
    """Changes of one declared cause and of one area."""
    flat = [replace(change(f"CLIPTextModel.state_dict().{number}"), cause="towers-are-flat") for number in range(3)]
    return [*flat, *(change(f"CLIPModel().field{number}") for number in range(4))]


def test_a_draft_of_many_changes_has_an_entry_for_each_cause(tmp_path: Path) -> None:
    """With reasons it accepts all of them, by cause where one is declared and by area and kind where not."""
    text = draft(many())
    assert text.count("[[accepted]]") == 2
    assert 'cause = "towers-are-flat"\nchanges = 3\n' in text
    assert 'area = "outputs and calls: types or fields differ"\nchanges = 4\n' in text
    entries = read_acceptances(written(tmp_path, text.replace('reason = ""', 'reason = "reviewed"')))
    assert all(isinstance(entry, GroupAcceptance) for entry in entries)
    ruling = rule(many(), entries, today=TODAY)
    assert ruling.open == ()
    assert ruling.idle == ()
    assert {entry.accepted for entry in ruling.changes} == {"reviewed"}


def test_an_accepted_cause_excuses_no_later_change() -> None:
    """One change more, one less or another value of its changes: all of them are open, and the entry says why."""
    changes = many()[:3]
    (group,) = grouped(changes)
    entry = GroupAcceptance(key="cause", id=group.name, changes=3, digest=group.digest, reason="r")
    assert rule(changes, [entry], today=TODAY).open == ()
    for others in (changes[:2], [*changes[:2], replace(changes[2], after="a list")]):
        ruling = rule(others, [entry], today=TODAY)
        assert len(ruling.open) == len(others)
        assert "towers-are-flat accepts other changes, 3 of digest" in str(ruling.idle[0])
    assert "matches no change" in str(rule(changes, [replace(entry, key="area")], today=TODAY).idle[0])
    late = replace(entry, expires=date(2027, 1, 30))
    assert "expired on 2027-01-30" in str(rule(changes, [late], today=TODAY).idle[0])


def test_an_entry_for_a_change_comes_before_its_cause() -> None:
    """A change with an entry of its own has that reason, wherever the entry stands."""
    changes = many()[:3]
    (group,) = grouped(changes)
    whole = GroupAcceptance(key="cause", id=group.name, changes=3, digest=group.digest, reason="all")
    one = accepted(id=changes[0].id, reason="this one")
    ruling = rule(changes, [one, whole], today=TODAY)
    assert [entry.accepted for entry in ruling.changes] == ["this one", "all", "all"]


def test_what_nobody_uses_is_accepted_with_that_reason() -> None:
    """Names are whole words of an id; an entry's own reason counts more; the checkpoint's files count always."""
    names = ("get_image_features|get_text_features(x)", "CLIPModelX()", "config.eos_token_id", "CLIPTokenizer()", "A()")
    uses = ["get_text_features", "CLIPModel"]
    ruling = rule([change(name) for name in names], [accepted(reason="mine")], today=TODAY, uses=uses)
    unused = "nothing that the policy's [surface] uses names"
    assert [entry.accepted for entry in ruling.changes] == [None, unused, None, unused, "mine"]


def test_an_error_names_the_line(tmp_path: Path) -> None:
    """It is the one at which the entry begins."""
    file = written(tmp_path, f"# reviewed\n[[accepted]]\n{ENTRY}\n[[accepted]]\n{NO_REASON}")
    with pytest.raises(UsageError, match=r"accepted\.toml, line 8\. "):
        read_acceptances(file)
