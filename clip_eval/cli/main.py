"""The clip-eval command. Option parsing only: each command is one call into the package."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from clip_eval.cli.bench import bench
from clip_eval.cli.embed import embed
from clip_eval.cli.evaluate import evaluate
from clip_eval.cli.exit_code import ends_the_process
from clip_eval.cli.history import history
from clip_eval.cli.option_values import a_name, a_place, quiet_option, settings_options, settings_values
from clip_eval.cli.path import path
from clip_eval.cli.report import report
from clip_eval.errors import ClipEvalError
from clip_eval.run.settings import DEFAULT_OUT, GateOptions, RecordOptions, Settings
from clip_eval.version import __version__

if TYPE_CHECKING:
    from clip_eval.verdict.decide import DeclaredCheck

__all__ = ["main"]

_USAGE_ERROR = 4
_DECIDED = (0, 1, 10)
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


@ends_the_process
def main() -> None:
    """Run the command line: errors that the user can fix are one paragraph and exit code 4, never a traceback."""
    try:
        code = cli(standalone_mode=False)
    except ClipEvalError as error:
        _complain(str(error), error.exit_code)
    except click.exceptions.Abort:
        sys.exit(2)
    except click.UsageError as error:
        command = "clip-eval" if error.ctx is None else error.ctx.command_path
        _complain(f"{error.format_message().rstrip('.')}. See {command} --help.", _USAGE_ERROR)
    except click.ClickException as error:
        _complain(error.format_message(), _USAGE_ERROR)
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        with contextlib.suppress(OSError, ValueError):  # what is left in buffers must not be written at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> NoReturn:
    """One paragraph on stderr; bytes that are not UTF-8 are shown as escapes."""
    shown = message.encode(errors="backslashreplace").decode()
    from clip_eval.report.text import paragraph

    click.echo(paragraph(shown, first="clip-eval: "), err=True)
    sys.exit(code)


def _print_versions(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """The versions that decide what a gate finds, from the metadata of what is installed: nothing is imported."""
    if asked and not context.resilient_parsing:
        installed = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
        click.echo(f"clip-eval, version {__version__} ({installed})")
        context.exit()


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_versions,
    help="Show the versions of clip-eval, torch and transformers.",
)
@click.pass_context
def cli(context: click.Context) -> None:
    """The release gate for CLIP models.

    Exit codes: 0 pass, 1 fail, 2 interrupted, 3 internal error, 4 usage error, 10 inconclusive.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("checkpoint", callback=a_name)
@settings_options(GateOptions)
@click.option(
    "-k",
    "keyword",
    callback=a_name,
    metavar="EXPR",
    help="Run only matching checks, by id or words; the verdict is then inconclusive at best.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each check as it ends.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but the verdict.")
@click.option("--margins", is_flag=True, help="Print the twenty checks that come nearest to their bounds.")
def gate(checkpoint: str, keyword: str | None, verbose: bool, quiet: bool, margins: bool, **options: Any) -> int:
    """Judge a CLIP checkpoint.

    CHECKPOINT is a directory, or a hub id with or without @revision: a whole CLIP, one tower with or without its
    projection, or an image classifier. Writes run.json, report.html, summary.md and junit.xml.

    Example: clip-eval gate my-clip --baseline packs/my-clip --out reports/new
    """
    from clip_eval.run.hermetic_pytest import run_gate
    from clip_eval.run.keywords import require_match

    if verbose and quiet:
        raise click.UsageError("give either --verbose or --quiet")
    settings = Settings(model=checkpoint, **settings_values(options)).with_project_policy()
    require_match(keyword)
    code = run_gate(settings, keyword=keyword, quiet=quiet, verbose=verbose)
    if code in _DECIDED and (quiet or margins):
        from clip_eval.cli.closing import print_closing

        print_closing(settings.out or DEFAULT_OUT, headline=quiet, table=margins)
    return code


@cli.command()
@click.argument("checkpoint", callback=a_name)
@click.option("--out", "pack", callback=a_place, metavar="PACK", help="Write a new pack there.")
@click.option(
    "--add-to",
    "existing",
    callback=a_place,
    metavar="PACK",
    help="Approve one more environment in this pack.",
)
@click.option("--throughput", "speeds", is_flag=True, help="Record how fast it is on this machine too.")
@click.option("--report", "reports", callback=a_place, metavar="DIR", help="Keep the reports of the suite there.")
@settings_options(RecordOptions)
@quiet_option
def record(
    checkpoint: str,
    pack: Path | None,
    existing: Path | None,
    speeds: bool,
    reports: Path | None,
    quiet: bool,
    **options: Any,
) -> int:
    """Record an approved release as a pack.

    The checkpoint must pass the suite in float32; a later gate compares its candidate with the pack.

    Example: clip-eval record my-clip --out packs/my-clip
    """
    from clip_eval.report.text import paragraph
    from clip_eval.run.approval import record as approve

    if (pack is None) == (existing is None):
        raise click.UsageError("give either --out PACK for a new pack, or --add-to PACK for an existing one")
    settings = Settings(model=checkpoint, throughput=False, **settings_values(options))
    approval = approve(settings, out=pack, add_to=existing, speeds=speeds, reports=reports, quiet=quiet)
    click.echo(paragraph(approval.message))
    for reason in approval.reasons:
        click.echo(paragraph(reason, first="- "))
    return approval.exit_code


cli.add_command(bench)
cli.add_command(embed)
cli.add_command(evaluate)
cli.add_command(history)
cli.add_command(path)
cli.add_command(report)


@cli.command()
@click.argument("checkpoint", callback=a_place)
@click.option("--out", required=True, callback=a_place, metavar="DIR", help="Directory for the new checkpoint.")
def convert(checkpoint: Path, out: Path) -> None:
    """Rewrite pytorch_model.bin as safetensors.

    The file is read weights-only in a child process: no code in it runs.

    Example: clip-eval convert old-clip --out old-clip-safetensors
    """
    from clip_eval.checkpoint.convert import convert as run_convert

    run_convert(checkpoint, out)
    click.echo(f"wrote {out / 'model.safetensors'}")


@cli.command()
@click.argument("check", required=False, callback=a_name, metavar="[ID]")
def checks(check: str | None) -> None:
    """List the checks, or explain one.

    ID is the id of a check, the end of it, or a chapter, whose checks are listed.

    Example: clip-eval checks contrastive_head.logits_are_symmetric
    """
    from clip_eval.report.text import paragraph
    from clip_eval.run.declared_checks import declared_checks, explain_check, find_checks

    matching = declared_checks() if check is None else find_checks(check)
    if len(matching) > 1:
        click.echo("\n".join(_listing(matching)))
        return
    explained = explain_check(matching[0].id)
    paragraphs = [f"{matching[0].id}  ({matching[0].scope})", matching[0].promise, *explained.why.split("\n\n")]
    if matching[0].needs:
        paragraphs.append(f"Needs of the runtime: {', '.join(matching[0].needs)}.")
    click.echo("\n\n".join(paragraph(text) for text in paragraphs if text))


def _listing(matching: Sequence[DeclaredCheck]) -> list[str]:
    """The checks with their promises, a blank line between chapters."""
    from clip_eval.report.text import paragraph

    lines: list[str] = []
    for number, declared in enumerate(matching):
        if number and declared.chapter != matching[number - 1].chapter:
            lines.append("")
        lines += [declared.id, paragraph(declared.promise, first="    ", rest="    ")]
    return lines
