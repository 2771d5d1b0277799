"""The `evaluate` command. Option parsing only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from clip_eval.cli.option_values import DTYPE_NAMES, a_dtype, a_name, a_place, quiet_option, settings_options
from clip_eval.run.settings import DEFAULT_OUT, FilesOptions

__all__ = ["evaluate"]


@click.command()
@click.argument("checkpoint", callback=a_name)
@settings_options(FilesOptions)
@click.option("--dataset", required=True, callback=a_name, metavar="DIR", help="The evaluation set.")
@click.option(
    "--task",
    "tasks",
    callback=a_name,
    multiple=True,
    metavar="NAME",
    help="Score this task, such as zero_shot; several are given several times.  [default: all that the dataset serves]",
)
@click.option("--against", callback=a_name, metavar="CHECKPOINT", help="Compare with another one, sample by sample.")
@click.option(
    "--margin", type=float, metavar="LOSS", help="The largest loss that passes with --against.  [default: 0.01]"
)
@click.option("--device", callback=a_name, default="cpu", show_default=True, help="A torch device, such as cuda:0.")
@click.option("--dtype", callback=a_dtype, metavar=DTYPE_NAMES, help="Default: the stored dtype.")
@click.option("--attn", "attention", callback=a_name, metavar="NAME", help="Default: transformers' choice.")
@click.option("--store", callback=a_name, metavar="DIR", help="Embeddings that embed stored; new ones are added.")
@click.option("--workers", type=click.IntRange(1), help="Threads that decode images, by default one a core.")
@click.option("--approximate", is_flag=True, help="Retrieve by FAISS, for very large datasets; needs clip-eval[faiss].")
@click.option("--out", callback=a_place, metavar="DIR", help="Where the reports go.  [default: reports/latest]")
@quiet_option
def evaluate(checkpoint: str, out: Path | None, tasks: tuple[str, ...], quiet: bool, **named: Any) -> int:
    """Measure what a checkpoint's embeddings are good for.

    Scores every task that the dataset can serve, each with its 95 % interval. Writes evaluation.json, evaluation.md,
    evaluation.html, samples.parquet, and CLIP_benchmark's results.

    Exit codes: 0 pass; 1 no better than guessing, or worse than the other checkpoint; 10 not decided.

    Example: clip-eval evaluate my-clip --dataset my-images --against my-old-clip
    """
    from clip_eval.evaluation import Options, run_and_write
    from clip_eval.evaluation.markdown import terminal
    from clip_eval.progress import say

    where = out or DEFAULT_OUT
    found = run_and_write(
        Options(model=checkpoint, tasks=tasks, **named),
        where,
        say=None if quiet else say,
        show=lambda found: click.echo("\n".join(terminal(found))),
    )
    click.echo(f"reports: {where / 'evaluation.html'}")
    return found.exit_code
