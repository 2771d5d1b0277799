"""The clip-eval command. Option parsing only: each command is one call into the package."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from clip_eval.cli.bench import bench
from clip_eval.cli.exit_code import ends_the_process
from clip_eval.cli.option_values import DTYPE_NAMES, a_dtype, a_name, a_place
from clip_eval.cli.path import path
from clip_eval.errors import ClipEvalError
from clip_eval.run.settings import Settings
from clip_eval.version import __version__

if TYPE_CHECKING:
    from clip_eval.verdict.decide import DeclaredCheck

__all__ = ["main"]

_USAGE_ERROR = 4
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it


@ends_the_process
def main() -> None:
    """Run the command line: errors that a user can mend are one paragraph and exit code 4, never a traceback."""
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
    except BrokenPipeError:  # a reader that leaves, as `head` does, is no error of ours
        with contextlib.suppress(OSError, ValueError):  # what is left in buffers must not be written at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_BROKEN_PIPE)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> NoReturn:
    """One paragraph on stderr; bytes of a name that are no UTF-8 are shown by their numbers."""
    shown = message.encode(errors="backslashreplace").decode()
    from clip_eval.report.text import paragraph

    click.echo(paragraph(shown, first="clip-eval: "), err=True)
    sys.exit(code)


@click.group(
    invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.version_option(__version__, prog_name="clip-eval")
@click.pass_context
def cli(context: click.Context) -> None:
    """The release gate for CLIP models.

    Exit codes: 0 pass, 1 fail, 2 interrupted, 3 internal error, 4 usage error, 10 inconclusive.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _placing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where and with which attention a checkpoint runs."""
    for option in (
        click.option(
            "--attn",
            "attention",
            callback=a_name,
            metavar="NAME",
            help="Attention implementation: eager, sdpa. Default: the library's.",
        ),
        click.option(
            "--device",
            callback=a_name,
            default="cpu",
            show_default=True,
            metavar="DEVICE",
            help="A torch device, such as cuda:0.",
        ),
    ):
        function = option(function)
    return function


def _loading(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a checkpoint is loaded."""
    dtype = click.option(
        "--dtype", callback=a_dtype, metavar=DTYPE_NAMES, help="Default: the dtype the checkpoint is stored in."
    )
    return _placing(dtype(function))


@cli.command()
@click.argument("checkpoint", callback=a_name)
@click.option("--baseline", callback=a_name, metavar="PACK", help="Compare with the last approved release.")
@click.option(
    "--accepted", callback=a_name, metavar="FILE", help="Differences from the pack that are wanted, with reasons."
)
@click.option("--new-weights", is_flag=True, help="The weights differ from the pack's on purpose.")
@click.option("--dataset", callback=a_name, metavar="DIR", help="Evaluation set for task scores.")
@click.option("--out", callback=a_place, metavar="DIR", help="Where the reports go.  [default: reports/latest]")
@_loading
@click.option(
    "-k",
    "keyword",
    callback=a_name,
    metavar="EXPR",
    help="Run only matching checks, by id or words; the verdict is then inconclusive at best.",
)
@click.option("--no-throughput", is_flag=True, help="Do not time the model.")
@click.option("--compile", is_flag=True, help="Judge the model under torch.compile, too; takes tens of seconds.")
@click.option(
    "--policy",
    callback=a_name,
    metavar="FILE",
    help="What is asked beyond the rules, such as scopes that must be judged.",
)
@click.option(
    "--baseline-python",
    callback=a_name,
    metavar="EXE",
    help="Compare with the same checkpoint under this Python: its own transformers, the same clip-eval.",
)
@click.option(
    "--repro", callback=a_name, metavar="DIR", help="Leave a script there that shows each failed check by itself."
)
def gate(checkpoint: str, keyword: str | None, no_throughput: bool, **options: Any) -> int:
    """Judge a CLIP checkpoint.

    CHECKPOINT is a directory, or a hub id with or without @revision. Writes run.json, report.html, summary.md and
    junit.xml.

    Example: clip-eval gate my-clip --baseline packs/my-clip --out reports/new
    """
    from clip_eval.run.hermetic_pytest import run_gate
    from clip_eval.run.keywords import require_match

    settings = Settings(model=checkpoint, throughput=not no_throughput, **options)
    require_match(keyword)
    return run_gate(settings, keyword=keyword)


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
@click.option("--dataset", callback=a_name, metavar="DIR", help="Record the answers to this evaluation set too.")
@click.option("--throughput", "speeds", is_flag=True, help="Record how fast it is on this machine too.")
@click.option("--report", "reports", callback=a_place, metavar="DIR", help="Keep the reports of the suite there.")
@_placing
def record(
    checkpoint: str, pack: Path | None, existing: Path | None, speeds: bool, reports: Path | None, **options: Any
) -> int:
    """Record an approved release as a pack.

    The checkpoint must pass the suite in float32; a later gate compares its candidate with the pack.

    Example: clip-eval record my-clip --out packs/my-clip
    """
    from clip_eval.report.text import paragraph
    from clip_eval.run.approval import record as approve

    if (pack is None) == (existing is None):
        raise click.UsageError("give either --out PACK for a new pack, or --add-to PACK for an existing one")
    settings = Settings(model=checkpoint, throughput=False, **options)
    approval = approve(
        settings, out=pack, add_to=existing, speeds=speeds, reports=reports, say=lambda line: click.echo(line, err=True)
    )
    click.echo(paragraph(approval.message))
    for reason in approval.reasons:
        click.echo(paragraph(reason, first="- "))
    return approval.exit_code


cli.add_command(bench)
cli.add_command(path)


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

    found = declared_checks() if check is None else find_checks(check)
    if len(found) > 1:
        click.echo("\n".join(_listing(found)))
        return
    explained = explain_check(found[0].id)
    paragraphs = [f"{found[0].id}  ({found[0].scope})", found[0].promise, *explained.why.split("\n\n")]
    if found[0].needs:
        paragraphs.append(f"Needs of the runtime: {', '.join(found[0].needs)}.")
    click.echo("\n\n".join(paragraph(text) for text in paragraphs if text))


def _listing(found: Sequence[DeclaredCheck]) -> list[str]:
    """The checks with their promises, a blank line between chapters."""
    from clip_eval.report.text import paragraph

    lines: list[str] = []
    for number, declared in enumerate(found):
        if number and declared.chapter != found[number - 1].chapter:
            lines.append("")
        lines += [declared.id, paragraph(declared.promise, first="    ", rest="    ")]
    return lines
