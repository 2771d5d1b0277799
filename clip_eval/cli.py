"""The clip-eval command. Option parsing only: each command is one call into the package."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from clip_eval import __version__
from clip_eval.bench_command import bench
from clip_eval.errors import ClipEvalError
from clip_eval.leaving import ends_the_process
from clip_eval.path_commands import path
from clip_eval.settings import DTYPES, Settings

__all__ = ["main"]

_USAGE_ERROR = 4


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
        _complain(f"{error.format_message()} See {command} --help.", _USAGE_ERROR)
    except click.ClickException as error:
        _complain(error.format_message(), _USAGE_ERROR)
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str, code: int) -> NoReturn:
    """One paragraph on stderr."""
    click.echo(_wrapped(f"clip-eval: {message}"), err=True)
    sys.exit(code)


def _wrapped(text: str, *, indent: str = "") -> str:
    """A paragraph of 80 columns; paths and ids stay whole, so that they can be copied."""
    return textwrap.fill(
        text, 80, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


@click.group(no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="clip-eval")
def cli() -> None:
    """The release gate for CLIP models.

    Exit codes: 0 pass, 1 fail, 2 interrupted, 3 internal error, 4 usage error, 10 inconclusive.
    """


def _placing(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where and with which attention a checkpoint runs."""
    for option in (
        click.option(
            "--attn", "attention", metavar="NAME", help="Attention implementation: eager, sdpa. Default: the library's."
        ),
        click.option(
            "--device", default="cpu", show_default=True, metavar="DEVICE", help="A torch device, such as cuda:0."
        ),
    ):
        function = option(function)
    return function


def _loading(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a checkpoint is loaded."""
    dtype = click.option("--dtype", type=click.Choice(DTYPES), help="Default: the dtype the checkpoint is stored in.")
    return _placing(dtype(function))


@cli.command()
@click.argument("checkpoint")
@click.option("--baseline", metavar="PACK", help="Compare with the last approved release.")
@click.option("--accepted", metavar="FILE", help="Differences from the pack that are wanted, with reasons.")
@click.option("--new-weights", is_flag=True, help="The weights differ from the pack's on purpose.")
@click.option("--library", metavar="DIR", help="Evaluation set for task scores.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Where the reports go.  [default: reports/latest]"
)
@_loading
@click.option(
    "-k", "keyword", metavar="EXPR", help="Run only matching checks; the verdict is then inconclusive at best."
)
@click.option("--no-throughput", is_flag=True, help="Do not time the model.")
@click.option("--compile", is_flag=True, help="Judge the model under torch.compile, too; takes tens of seconds.")
@click.option("--policy", metavar="FILE", help="What is asked beyond the rules, such as scopes that must be judged.")
@click.option(
    "--baseline-python",
    metavar="EXE",
    help="Compare with the same checkpoint under this Python: its own transformers, the same clip-eval.",
)
@click.option("--repro", metavar="DIR", help="Leave a script there that shows each failed check by itself.")
def gate(checkpoint: str, keyword: str | None, no_throughput: bool, **options: Any) -> int:
    """Judge a CLIP checkpoint.

    CHECKPOINT is a directory, or a hub id with or without @revision. Writes run.json, report.html, summary.md and
    junit.xml.

    Example: clip-eval gate my-clip --baseline packs/my-clip --out reports/new
    """
    from clip_eval.hermetic import run_gate

    return run_gate(Settings(model=checkpoint, throughput=not no_throughput, **options), keyword=keyword)


@cli.command()
@click.argument("checkpoint")
@click.option("--out", "pack", type=click.Path(path_type=Path), metavar="PACK", help="Write a new pack there.")
@click.option(
    "--add-to",
    "existing",
    type=click.Path(path_type=Path),
    metavar="PACK",
    help="Approve one more environment in this pack.",
)
@click.option("--library", metavar="DIR", help="Record the answers to this evaluation set too.")
@click.option("--throughput", "speeds", is_flag=True, help="Record how fast it is on this machine too.")
@_placing
def record(checkpoint: str, pack: Path | None, existing: Path | None, speeds: bool, **options: Any) -> int:
    """Record an approved release as a pack.

    The checkpoint must pass the suite in float32; a later gate compares its candidate with the pack.

    Example: clip-eval record my-clip --out packs/my-clip
    """
    from clip_eval.approval import record as approve

    if (pack is None) == (existing is None):
        raise click.UsageError("give either --out PACK for a new pack, or --add-to PACK for an existing one")
    click.echo(f"running the suite on {checkpoint} in float32", err=True)
    settings = Settings(model=checkpoint, throughput=False, **options)
    approval = approve(settings, out=pack, add_to=existing, speeds=speeds)
    click.echo(_wrapped(approval.message))
    for reason in approval.reasons:
        click.echo(_wrapped(f"- {reason}"))
    return approval.exit_code


cli.add_command(bench)
cli.add_command(path)


@cli.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Directory for the new checkpoint."
)
def convert(checkpoint: Path, out: Path) -> None:
    """Rewrite pytorch_model.bin as safetensors.

    The file is read weights-only in a child process: no code in it runs.

    Example: clip-eval convert old-clip --out old-clip-safetensors
    """
    from clip_eval.convert import convert as run_convert

    run_convert(checkpoint, out)
    click.echo(f"wrote {out / 'model.safetensors'}")


@cli.command()
@click.argument("check", required=False, metavar="[ID]")
def checks(check: str | None) -> None:
    """List the checks, or explain one.

    Example: clip-eval checks contrastive_head.logits_are_symmetric
    """
    from clip_eval.checks import declared_checks, explain_check

    if check is not None:
        found = explain_check(check)
        paragraphs = [f"{found.check.id}  ({found.check.scope})", found.check.promise, *found.why.split("\n\n")]
        click.echo("\n\n".join(_wrapped(paragraph) for paragraph in paragraphs if paragraph))
        return
    for declared in declared_checks():
        click.echo(declared.id)
        click.echo(_wrapped(declared.promise, indent="    "))
