"""The `report` command. Option parsing only."""

from __future__ import annotations

from pathlib import Path

import click

from clip_eval.cli.option_values import a_name, a_place

__all__ = ["report"]

_FORMATS = "[html|markdown|junit|hub|ctrf]"


@click.command()
@click.argument("run", callback=a_place, metavar="RUN.json")
@click.argument("other", required=False, callback=a_place, metavar="[OTHER.json]")
@click.option(
    "--format",
    "form",
    callback=a_name,
    metavar=_FORMATS,
    help="Of two runs html or markdown.  [default: html; of two runs markdown]",
)
@click.option(
    "--out",
    callback=a_place,
    metavar="FILE",
    help="Where it goes; for the hub the folder of the model.  [default: html beside the run, all others on stdout]",
)
@click.option("--dataset-id", callback=a_name, metavar="ID", help="Of the dataset on the hub, which hub needs.")
@click.option("--to-mlflow", is_flag=True, help="Log it as a run of MLflow instead; needs clip-eval[mlflow].")
def report(
    run: Path, other: Path | None, form: str | None, out: Path | None, dataset_id: str | None, to_mlflow: bool
) -> None:
    """Render a run again, or show what moved between two.

    RUN.json is what a gate wrote, or its folder. One run: html, beside it as report.html; markdown as summary.md;
    junit; ctrf; or its scores for the hub, as model-index and .eval_results. Two runs: what moved from the first to
    the second, html beside the second as compared.html. A file that is no report of clip-eval is never replaced.

    Exit code 0 whatever the verdicts; 4 usage error.

    Example: clip-eval report reports/old reports/new
    """
    from clip_eval.report.rendering import beside, open_run, rendered, write_hub, write_report

    if to_mlflow:
        if other or form or out or dataset_id:
            raise click.UsageError("--to-mlflow logs one run with all its reports: leave the other options out")
        from clip_eval.report.mlflow_run import log_to_mlflow

        click.echo(f"MLflow run: {log_to_mlflow(open_run(run))}")
        return
    form = form or ("html" if other is None else "markdown")
    first, second = open_run(run), None if other is None else open_run(other)
    if form == "hub" and second is None and out is not None:
        written = write_hub(first, out, dataset_id=dataset_id)
        click.echo("\n".join(f"wrote {file}" for file in written), err=True)
        if len(written) == 1:
            click.echo("no .eval_results: this huggingface_hub does not know them", err=True)
        return
    text = rendered(first, second, form=form, dataset_id=dataset_id)
    if out is None and form != "html":
        click.echo(text, nl=False)
        return
    file = out or beside(other or run, two=other is not None)
    write_report(text, file, shared=out is None)
    click.echo(f"wrote {file}", err=True)
