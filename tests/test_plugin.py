"""The plugin in a user's own pytest run: options, fixtures, accounting of checks, xdist, interruption."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support.forked import run_pytest
from support.gating import outcomes, run_record

from clip_eval.files.folder_lock import owned
from clip_eval.run.declared_checks import declared_checks

pytest_plugins = ["pytester"]

SUITE = ("--pyargs", "clip_eval.suite")
MEDDLED = (*SUITE, "-p", "meddler")
"""The suite beside a plugin of the user's, the module `meddler`."""


@pytest.fixture(scope="module")
def model(smallest: Path) -> str:
    """The option that names a checkpoint with one layer a tower."""
    return f"--clip-model={smallest}"


def test_the_suite_without_a_checkpoint_is_a_usage_error(pytester: pytest.Pytester) -> None:
    """The suite needs --clip-model, and says so instead of skipping everything."""
    result = run_pytest(pytester.path, *SUITE)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *--clip-model CHECKPOINT"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clip-model=no-such-clip"], "ERROR: the checkpoint does not exist: no-such-clip.*"),
        (["--clip-model=.", "--clip-dtype=int8"], "ERROR: *no dtype 'int8'*float32*"),
        (["--clip-model=.", "--clip-dtype=fp16"], "ERROR: *no dtype 'fp16'*nearest is float16*"),
        (["--clip-model=.", "--clip-out=file/below"], "ERROR: the directory cannot be written*file/below*"),
        (["--clip-model="], "ERROR: --clip-model is empty.*"),
        (["--clip-model=CLIP", "--clip-out="], "ERROR: --clip-out is empty.*"),
        (["--clip-model=CLIP", "--clip-baseline="], "ERROR: --clip-baseline is empty.*"),
        (["--clip-model=CLIP", "--clip-device=gpu"], "ERROR: device 'gpu' is not available*"),
        (["--clip-model=CLIP", "--clip-attn=flash"], "ERROR: *no attention 'flash'*nearest is flash_attention_2*"),
        (["--clip-model=CLIP", "-knosuchcheck"], "ERROR: -k matches no check: nosuchcheck.*"),
    ],
    ids=["checkpoint", "dtype", "fp16", "out", "empty", "empty-out", "empty-pack", "device", "attention", "keyword"],
)
def test_bad_input_is_a_usage_error(pytester: pytest.Pytester, smallest: Path, arguments: list[str], said: str) -> None:
    """What cannot be read or written ends with exit code 4 before anything is collected, without a traceback."""
    (pytester.path / "file").touch()
    filled = [word.replace("CLIP", str(smallest)) for word in arguments]
    result = run_pytest(pytester.path, *SUITE, *filled)
    assert result.ret == 4
    result.stderr.fnmatch_lines([said])
    assert "Traceback" not in result.stderr.str()
    assert {path.name for path in pytester.path.iterdir() if path.is_file()} == {"file", "stdout", "stderr"}


def test_a_folder_of_another_run_is_a_usage_error(pytester: pytest.Pytester, model: str) -> None:
    """In pytest's hands, too, a folder belongs to one run at a time: nothing is collected, and nothing touched."""
    (pytester.path / "out").mkdir()
    (pytester.path / "out" / "run.json").touch()
    with owned(pytester.path / "out"):
        result = run_pytest(pytester.path, *SUITE, model, "--clip-out=out", "-k", "no_such_check")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: another run is writing there (process *"])
    assert [path.name for path in (pytester.path / "out").iterdir()] == ["run.json"]


def test_a_refused_run_leaves_no_earlier_pass(pytester: pytest.Pytester) -> None:
    """Earlier reports go before anything is looked at."""
    (pytester.path / "out").mkdir()
    (pytester.path / "out" / "run.json").write_text("pass", encoding="utf-8")
    result = run_pytest(pytester.path, *SUITE, "--clip-model=no-such-clip", "--clip-out=out")
    assert result.ret == 4
    assert list((pytester.path / "out").iterdir()) == []


FULL_DISK = """
    import resource

    def pytest_collection_finish():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(os.name != "posix", reason="a limit of file sizes stands in for a full disk")
def test_reports_that_cannot_be_written(pytester: pytest.Pytester, model: str) -> None:
    """The verdict is said all the same, then one paragraph and exit code 4; no report stays, whole or half."""
    pytester.makepyfile(meddler=FULL_DISK)
    result = run_pytest(pytester.path, *MEDDLED, model, "--clip-out=out", "-k", "acceptances_are_in_force")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["inconclusive: *"])
    result.stderr.fnmatch_lines(["ERROR: the file cannot be written (file too large): */out/report.html. Make room *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    assert not (pytester.path / "out").exists()


CHANGING = """
    import shutil
    from pathlib import Path

    def pytest_collection_finish():
        {change}
"""


@pytest.mark.parametrize(
    ("change", "changed"),
    [("shutil.rmtree('clip')", "*"), ("Path('clip/tokenizer.json').write_text('{}')", "tokenizer.json")],
    ids=["gone", "tokenizer"],
)
def test_a_checkpoint_that_changes_is_not_judged(
    pytester: pytest.Pytester, smallest: Path, change: str, changed: str
) -> None:
    """What changes or vanishes after the first look makes the run inconclusive at best, and never breaks it down."""
    shutil.copytree(smallest, pytester.path / "clip")
    names = sorted(path.name for path in (pytester.path / "clip").glob(changed))  # releases write different files
    said = f"({', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''})"
    pytester.makepyfile(meddler=CHANGING.format(change=change))
    result = run_pytest(pytester.path, *MEDDLED, "--clip-model=clip", "--clip-out=out", "-k", "logits_are_symmetric")
    record = run_record(pytester.path / "out")
    assert result.ret in (1, 10), result.stdout.str()
    assert result.ret == {"fail": 1, "inconclusive": 10}[record["verdict"]]
    assert record["reasons"][0].startswith(f"The checkpoint changed while it was judged {said}")
    assert "the checkpoint changed while it was judged: " in record["scope"][0]["reason"]
    assert record["candidate"]["fingerprints"]["tokenizer"] is not None


OWN_TESTS = """
    import numpy as np
    from clip_eval.verdict.compare import Mismatch
    import pytest

    def test_own_logits(clip, oracle, compare):
        out = clip.forward(images=2, texts=3)
        compare.close(out.logits_per_text, oracle.forward(images=2, texts=3).logits_per_text, name="logits")

    def test_own_mismatch(compare):
        with pytest.raises(Mismatch):
            compare.equal(np.zeros(2), np.ones(2), name="values")

    def test_own_baseline(baseline):
        raise AssertionError("there is no pack")

    def test_own_deviations(deviations):
        with pytest.raises(KeyError):
            deviations.hold("no-such-deviation")
"""


def test_fixtures_serve_a_users_own_tests(pytester: pytest.Pytester, model: str) -> None:
    """With --clip-model a user's tests get candidate, oracle and comparison; such a run has no verdict of its own."""
    pytester.makepyfile(OWN_TESTS)
    result = run_pytest(pytester.path, model, "--clip-out=out")
    result.assert_outcomes(passed=3, skipped=1)
    assert result.ret == 0
    assert "inconclusive" not in result.stdout.str()
    assert not (pytester.path / "out").exists()


def test_without_a_checkpoint_only_tests_that_need_one_fail(pytester: pytest.Pytester) -> None:
    """Without --clip-model a test that asks for `clip` is an error that names the option; `compare` needs none."""
    pytester.makepyfile(OWN_TESTS)
    result = run_pytest(pytester.path)
    result.assert_outcomes(passed=1, errors=3)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*add --clip-model CHECKPOINT*"])


def test_a_users_test_of_a_checks_name_is_no_check(pytester: pytest.Pytester, model: str) -> None:
    """A user's file and function may be called as the suite's, node id and all: the check stays not run."""
    pytester.makepyfile(test_contrastive_head="def test_embeddings_have_unit_norm(): pass")
    chosen = "test_embeddings_have_unit_norm and own"
    pytester.makepyfile(
        meddler="""
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(config, items):
            for item in items:
                if item.path.parent == config.rootpath:
                    item.extra_keyword_matches.add("own")
    """
    )
    result = run_pytest(pytester.path, "test_contrastive_head.py", *MEDDLED, model, "--clip-out=out", "-k", chosen)
    result.assert_outcomes(passed=1, deselected=len(outcomes(pytester.path / "out")))
    assert result.ret == 10
    assert set(outcomes(pytester.path / "out").values()) == {"not_run"}


def test_what_cannot_be_asked_refers_to_what_failed(pytester: pytest.Pytester, smallest: Path) -> None:
    """A class that does not load is one failure that says what to write; what needs the class is not run because of it,
    and other classes are judged.
    """
    copy = Path(shutil.copytree(smallest, pytester.path / "clip"))
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["text_config"]["projection_dim"] = 7
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    chosen = "the_same_call_gives_the_same or every_weight_is_loaded"
    result = run_pytest(
        pytester.path, *SUITE, "--clip-model=clip", "--clip-out=out", "--clip-no-throughput", "-k", chosen
    )
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines(["cause *", "fail: contract (1 check failed, *"])
    found = {f"{check['id']}[{check['case']}]": check for check in run_record(pytester.path / "out")["checks"]}
    loading, call = "weights.every_weight_is_loaded[CLIPTextModelWithProjection]", "calls.the_same_call_gives_the_same"
    unasked = found[f"{call}[CLIPTextModelWithProjection]"]
    assert (unasked["outcome"], unasked["because"]) == ("not_run", loading)
    assert found[f"{call}[CLIPModel]"]["outcome"] == "passed"
    assert (found[loading]["outcome"], found[loading]["because"]) == ("failed", None)
    assert [name for name, check in found.items() if check["outcome"] == "failed"] == [loading]


def test_no_match_under_xdist_is_a_usage_error(pytester: pytest.Pytester, model: str) -> None:
    """-k that matches nothing ends with workers as it does without: a sentence, exit code 4 and no report."""
    result = pytester.runpytest_subprocess(
        *SUITE, model, "--clip-out=out", "-k", "nosuchcheck", "-n1", "-p", "no:benchmark"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: -k matches no check: nosuchcheck. *"])
    assert not list((pytester.path / "out").glob("*.*"))


def test_a_worker_that_dies_makes_its_check_an_error(pytester: pytest.Pytester, model: str) -> None:
    """A check that takes its xdist worker with it, even with exit code 0, is an error, and the run cannot pass.

    Checks that no worker is left for were not run, those whose worker never lived to hand them over too.
    """
    pytester.makepyfile(
        meddler="""
        import os, pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item):
            if item.name == "test_embeddings_have_unit_norm":
                os._exit(0)
            pytest.skip("not of interest")
    """
    )
    workers = ["-n1", "--max-worker-restart=0", "-p", "no:benchmark"]
    result = run_pytest(pytester.path, *MEDDLED, model, "--clip-out=out", "-k", "contrastive_head", *workers)
    record = run_record(pytester.path / "out")
    reasons = {check["id"].partition(".")[2]: check["reason"] for check in record["checks"]
               if check["chapter"] == "contrastive_head"}  # fmt: skip
    (error,) = [check for check in record["checks"] if check["outcome"] == "error"]
    assert error["id"] == "contrastive_head.embeddings_have_unit_norm"
    assert "crashed while running" in error["reason"]
    assert reasons["logits_are_symmetric"] == "skipped from outside: not of interest"
    assert reasons["loss_changes_nothing_else"] == "collected, but without a result"
    assert record["verdict"] == "inconclusive"
    assert result.ret not in (0, 1)


def test_an_interrupted_run_writes_what_there_is(pytester: pytest.Pytester, model: str) -> None:
    """Ctrl-C in a check ends with exit code 2 and reports in which that check and all later ones were not run."""
    pytester.makepyfile(
        meddler="""
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_setup(item):
            if item.name == "test_logits_are_symmetric[interior]":
                raise KeyboardInterrupt
            pytest.skip("not of interest")
    """
    )
    result = run_pytest(pytester.path, *MEDDLED, model, "--clip-out=out", "--clip-no-throughput")
    assert result.ret == 2
    record = run_record(pytester.path / "out")
    assert record["verdict"] == "inconclusive"
    cases = {check["case"]: check["reason"] for check in record["checks"]
             if check["id"] == "contrastive_head.logits_are_symmetric"}  # fmt: skip
    assert cases["padding"] == "skipped from outside: not of interest"
    assert cases["interior"] == cases["none"] == "collected, but without a result"
    assert {check["id"] for check in record["checks"]} == {check.id for check in declared_checks()}
