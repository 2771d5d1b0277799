"""`clip-eval path`: render, parse and lint. Records and paths are streamed, one line at a time.

Input and output are JSON Lines; at a terminal the output is a table.
"""

from __future__ import annotations

import click

from clip_eval.cli.path.lint import lint
from clip_eval.cli.path.parse import parse
from clip_eval.cli.path.render import render

__all__ = ["path"]


@click.group(invoke_without_command=True)
@click.pass_context
def path(context: click.Context) -> None:
    """Name files by a rule, and read names back.

    The rule, TEMPLATE, is literal text with fields in braces, such as 'pixiv/{user}/{title}_{id}'. At a terminal the
    commands write a table, in a pipe JSON Lines.

    Exit codes: 0 clean, 1 findings, or lines without an answer, 4 usage error.

    Example: clip-eval path render '{user}/{id}' --records manifest.jsonl
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (render, parse, lint):
    path.add_command(_command)
