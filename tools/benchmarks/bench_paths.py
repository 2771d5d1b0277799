"""How fast paths are rendered and linted, against what else people use. Run on demand: `tox run -e bench-paths`.

One realistic record: ten tags, texts in Japanese. All programs render it in turn, in every round, so that what the
machine does meanwhile is shared; ratios are medians over rounds. Nothing compares seconds of different runs.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import pathvalidate
import pytest
from yt_dlp import YoutubeDL

from clip_eval.paths import PathTemplate

RULE = (
    "pixiv/{AI}/{user}/{series_id}{series_title}/{series_order}_{page_title}_{page_tag}_{type}_{tags_transl_only}_{id}"
)
RECORD: dict[str, object] = {
    "AI": True,
    "user": "山田太郎",
    "series_id": "9876",
    "series_title": "夏の物語",
    "series_order": 3,
    "page_title": "#初音ミク - pixiv",
    "page_tag": "初音ミク",
    "type": "Manga",
    "tags_transl_only": [
        *("Hatsune Miku", "fireworks", "夏", "浴衣", "night sky"),
        *("花火大会", "original", "女の子", "summer festival", "風景"),
    ],
    "id": "123456789_p0",
}
EXTENSION = "jpg"
EXPECTED = (
    "pixiv/AI/山田太郎/9876夏の物語/#3_#初音ミク - pixiv_初音ミク_Manga_Hatsune Miku,fireworks,夏,浴衣,night sky,"
    "花火大会,original,女の子,summer festival,風景_123456789_p0.jpg"
)

ROUNDS = 15
# Long enough for the clock, short enough that a disturbance hits one round of many.
ROUND_S = 0.02

# What this project promises, each as rate against rate.
AGAINST_FORMAT_MAP = 0.05
AGAINST_YT_DLP = 10
AGAINST_PATHVALIDATE = 5
RENDERS_PER_S = 50_000

LINTED = 1_000_000
LINT_S = 60
LINT_BYTES = 2**30

TEXTS = {**RECORD, "AI": "AI", "series_order": "#3", "tags_transl_only": ",".join(RECORD["tags_transl_only"])}  # type: ignore[arg-type]
RULE_OF_YT_DLP = RULE.replace("{", "%(").replace("}", ")s") + ".%(ext)s"


def clip_eval() -> Callable[[], str]:
    """PathTemplate, from the record as it is in a manifest."""
    render = PathTemplate(RULE).render
    return lambda: render(RECORD, extension=EXTENSION)


def format_map() -> Callable[[], str]:
    """Plain formatting, nothing safe, from texts that somebody else has joined."""
    text = RULE + "." + EXTENSION
    return lambda: text.format_map(TEXTS)


def whole_path_sanitized() -> Callable[[], str]:
    """Plain formatting, then pathvalidate for the whole path: a slash in a value still makes a folder."""
    text = RULE + "." + EXTENSION
    return lambda: str(pathvalidate.sanitize_filepath(text.format_map(TEXTS), platform="universal"))


def values_sanitized() -> Callable[[], str]:
    """Plain formatting of values that pathvalidate has made safe one by one."""
    text = RULE + "." + EXTENSION

    def render() -> str:
        safe = {name: pathvalidate.sanitize_filename(str(value), platform="universal") for name, value in TEXTS.items()}
        return text.format_map(safe)

    return render


def yt_dlp() -> Callable[[], str]:
    """yt-dlp's own output template, with names that Windows takes."""
    program = YoutubeDL({"outtmpl": RULE_OF_YT_DLP, "windowsfilenames": True, "quiet": True})
    information = {**TEXTS, "ext": EXTENSION}
    return lambda: str(program.prepare_filename(information))


PROGRAMS = {
    "clip-eval": clip_eval,
    "str.format_map": format_map,
    "format_map + pathvalidate, path": whole_path_sanitized,
    "format_map + pathvalidate, values": values_sanitized,
    "yt-dlp prepare_filename": yt_dlp,
}


def _rate(function: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        function()
    return count / (time.perf_counter() - start)


@pytest.fixture(scope="module")
def rates() -> dict[str, list[float]]:
    """Renders a second of each program in each round, the programs in turn."""
    functions = {name: make() for name, make in PROGRAMS.items()}
    counts = {name: max(1, int(_rate(function, 20) * ROUND_S)) for name, function in functions.items()}
    found: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            found[name].append(_rate(function, counts[name]))
    return found


def _ratio(rates: dict[str, list[float]], other: str) -> float:
    """The median over rounds of this project's rate by the other's."""
    return statistics.median(ours / theirs for ours, theirs in zip(rates["clip-eval"], rates[other], strict=True))


@pytest.mark.parametrize("name", [name for name in PROGRAMS if "yt-dlp" not in name])
def test_the_programs_do_the_same_work(name: str) -> None:
    """On this record, which holds nothing unsafe, all programs agree: none is fast by leaving work out."""
    assert PROGRAMS[name]()() == EXPECTED


def test_yt_dlp_does_the_same_work_in_its_own_letters() -> None:
    """yt-dlp differs in where it puts what it replaces, not in what it puts together."""
    path = PROGRAMS["yt-dlp prepare_filename"]()().replace("\\", "/")
    assert path == EXPECTED


def test_rendering_keeps_its_promises(rates: dict[str, list[float]]) -> None:
    """Fast enough against plain formatting, or fast enough outright; much faster than what else is safe."""
    for name, of_rounds in rates.items():
        ratio = f", clip-eval is {_ratio(rates, name):.3g} x that" if name != "clip-eval" else ""
        print(f"{name:<34} {statistics.median(of_rounds):>12,.0f} renders/s{ratio}")
    assert (
        statistics.median(rates["clip-eval"]) >= RENDERS_PER_S or _ratio(rates, "str.format_map") >= AGAINST_FORMAT_MAP
    )
    assert _ratio(rates, "yt-dlp prepare_filename") >= AGAINST_YT_DLP
    assert _ratio(rates, "format_map + pathvalidate, path") >= AGAINST_PATHVALIDATE
    assert _ratio(rates, "format_map + pathvalidate, values") >= AGAINST_PATHVALIDATE


def _records() -> Iterator[dict[str, object]]:
    """A million records of works of three pages, twelve to a series, fifty to a user."""
    for number in range(LINTED):
        yield {
            **RECORD,
            "id": f"{100_000_000 + number // 3}_p{number % 3}",
            "series_id": str(number // 12),
            "user": f"山田{number // 50}",
        }


def test_a_million_records_are_linted() -> None:
    """A library of a million records is linted within a minute and 1 GiB; time is that of the process, at work."""
    start = time.process_time()
    findings = sum(1 for _ in PathTemplate(RULE).lint(_records(), extension=EXTENSION))
    taken_s = time.process_time() - start
    unit_bytes = 1 if sys.platform == "darwin" else 1024
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit_bytes
    print(f"lint: {LINTED:,} records in {taken_s:.1f} s, {peak_bytes / 2**20:,.0f} MiB at most")
    assert findings == 0
    assert taken_s <= LINT_S
    assert peak_bytes <= LINT_BYTES
