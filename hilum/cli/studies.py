"""The verbs of studies: from a data set to a table and a cache of pixels."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hilum.cli.arguments import options_of
from hilum.cli.says import recipe_for, say_next, say_unreadable


def import_(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="chexpert, folder, mimic, mimic-cxr-lt, nih, nih-cxr-lt, padchest, phantom, synthetic or vindr."
        ),
    ],
    root: Annotated[Path | None, typer.Argument(help="Where the data lies (phantom: none).")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder, or a .parquet file.")] = Path(
        "studies.parquet"
    ),
    patients: Annotated[
        Literal["known", "unknown"], typer.Option(help="unknown: the data does not say who the patients are.")
    ] = "known",
) -> None:
    """Read a data set into a study table. Further options (--table, --patient-column, --studies ...) go to the source."""
    from hilum.progress import shown
    from hilum.sources import import_studies

    extra = context.args
    if root is not None and str(root).startswith("--"):  # a source without a root: the first option was taken for one
        root, extra = None, [str(root), *extra]
    options = options_of(extra)
    table, imported = import_studies(source, root, output, patients=patients, progress=shown, **options)
    for note in imported.notes:
        print(note)
    studies = imported.studies["study_id"].n_unique()
    print(f"{imported.studies.height:,} images of {studies:,} studies in {table}")
    say_next("hilum", "cache", table, "--size", 224, "-o", "cache")


def merge(
    tables: Annotated[list[str], typer.Argument(help="Study tables; NAME=TABLE says where its images are from.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The united study table.")] = Path("all.parquet"),
    parents: Annotated[
        bool, typer.Option("--parents", help="A finding is also present where one that implies it is.")
    ] = False,
) -> None:
    """Unite study tables of different label sets; what a table does not label stays unknown in its rows."""
    from hilum.sources.merge import merge as work
    from hilum.tables import finding_names

    merged = work(tables, output, parents=parents)
    for note in merged.notes:
        print(note)
    rows = merged.studies
    count = len(finding_names(rows))
    print(f"{rows.height:,} images of {rows['study_id'].n_unique():,} studies, {count} findings in {output}")
    say_next("hilum", "check", output)


def cache(
    studies: Annotated[Path, typer.Argument(help="A study table.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The cache folder.")] = Path("cache"),
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 224,
    fit: Annotated[Literal["pad", "stretch", "crop"], typer.Option(help="How an image becomes square.")] = "pad",
    tone: Annotated[
        Literal["as_is", "equalize_hist", "window"], typer.Option(help="The tone of the images.")
    ] = "as_is",
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; one per core by default.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also compare every shard with its checksum.")] = False,
) -> None:
    """Decode every image once into memory-mapped shards; go on where an interrupted run stopped."""
    from hilum.data.cache import build_cache
    from hilum.data.images import none_readable
    from hilum.progress import shown
    from hilum.tables import read_studies

    table = read_studies(studies)
    images = build_cache(table, output, size=size, fit=fit, tone=tone, workers=workers, progress=shown)
    if verify:
        images.verify()
    say_unreadable(images.unreadable)
    if not (images.rows(table["image_id"].to_list()) >= 0).any():
        raise none_readable(images, table)
    print(f"{len(images.image_ids):,} images of {size} x {size} px in {output}")
    say_next("hilum", "train", *recipe_for(table), f"studies={studies}", f"cache.folder={output}", f"cache.size={size}")


def check(
    studies: Annotated[Path, typer.Argument(help="A study table.")],
    cache: Annotated[Path | None, typer.Option(help="A cache folder to take pixels from.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for check.html.")] = None,
) -> None:
    """Count what a study table holds and list its faults; exit code 2 if it has any."""
    from hilum.data.check import check as work
    from hilum.data.check_text import check_text
    from hilum.progress import shown

    report = work(studies, cache=cache, progress=shown)
    print(check_text(report))
    if output is not None:
        from hilum.data.check_page import write_page

        print(f"\nPage: {write_page(report, output, title=studies.name)}")
    if report.faults:
        raise typer.Exit(2)
    say_next("hilum", "cache", studies, "--size", 224, "-o", "cache")


def views(
    studies: Annotated[Path, typer.Argument(help="A study table.")],
    cache: Annotated[Path, typer.Option(help="A cache folder to use and keep.")] = Path("cache"),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The classifier's folder; with --fill the new study table.")
    ] = None,
    fill: Annotated[Path | None, typer.Option(help="Fill in unknown views with this classifier, train none.")] = None,
    confidence: Annotated[float, typer.Option(help="With --fill: less sure views stay unknown.")] = 0.9,
    steps: Annotated[int, typer.Option(help="Training steps of 32 images.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Train a classifier of views on images whose view is known; with --fill, tell the views that are not."""
    from hilum.progress import shown

    if fill is not None:
        from hilum.inference.fill_views import fill_views

        target = output or studies.with_name(f"{studies.stem}-filled.parquet")
        done = fill_views(studies, fill, target, cache=cache, confidence=confidence, device=device, progress=shown)
        told = ", ".join(f"{count:,} {view}" for view, count in done.filled.items())
        print(f"{done.unknown:,} images of unknown view: {told or 'none'} filled in, {done.left:,} left unknown")
        if done.confidence:
            print(f"confidence of what was filled in: mean {done.confidence[0]:.3f}, least {done.confidence[1]:.3f}")
        for view in done.unseen:
            print(f"The classifier never saw {view}: it calls such images something else.")
        print(f"Every guess: {target.with_name(f'{target.stem}-views.parquet')}")
        say_next("hilum", "check", target)
        return
    from hilum.evaluation.view_report import view_lines
    from hilum.training.view_classifier import views as work

    folder = output or Path("views")
    print(
        "\n".join(view_lines(work(studies, folder, cache=cache, steps=steps, seed=seed, device=device, progress=shown)))
    )
    say_next(
        "hilum",
        "views",
        studies,
        "--cache",
        cache,
        "--fill",
        folder,
        "-o",
        studies.with_name(f"{studies.stem}-filled.parquet"),
    )
