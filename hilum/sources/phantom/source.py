"""The phantom as a data set: images drawn by several processes, the study table (mined), the truth and the boxes."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from hilum.atomic import ensure_folder
from hilum.builders import listed
from hilum.errors import InputError, MachineError, from_os_error
from hilum.progress import Progress, silent
from hilum.sources.imported import Imported
from hilum.sources.phantom.benchmarks import BENCHMARKS, Benchmark, cohort, keep_labels
from hilum.sources.phantom.difficulty import VERSION
from hilum.sources.phantom.files import boxes_of, write
from hilum.sources.phantom.indications import indications
from hilum.sources.phantom.labels import mined_labels, truth_of
from hilum.sources.phantom.patients import Study, first_studies
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.worlds import FLOAT, WORLDS, World
from hilum.tables import check_studies, finding_names

NOTE = "Phantom images: no result on them is a clinical claim."
_CHUNK = 16  # studies handed to a worker at a time

Boxes = list[tuple[str, str, int, int, int, int]]


@dataclass(frozen=True)
class _Failure:
    """Why a study was not drawn, in a form that every process can pass on; errno where the operating system refused."""

    study_id: str
    text: str
    errno: int | None


def import_phantom(
    root: Path, *, benchmark: str | None = None, studies: int | None = None, size: int | None = None,
    seed: int | None = None, findings: str | None = None, workers: int | None = None, progress: Progress = silent,
) -> Imported:  # fmt: skip
    """Draw phantom studies as PNGs (size, size) under `root`/images.

    benchmark: a name of BENCHMARKS, which fixes everything; the study table then has a split, and the semi-supervised form
        comes with it. Without one the first `studies` studies (2000) of this `seed` (0) are drawn at `size` (128).
    findings: cxr-lt-2023 (26, the default) or cxr-lt-2024 (all 45).
    workers: processes that draw, by default one per core. An image that is already there whole is not drawn again.
    Raises InputError for numbers out of range, MachineError where a worker fails (the message names the study).
    """
    if benchmark is not None:
        given = {"studies": studies, "size": size, "seed": seed, "findings": findings}
        if fixed := [name for name, value in given.items() if value is not None]:
            raise InputError(f"a benchmark fixes {' and '.join(fixed)} itself", do=f"leave out --{' --'.join(fixed)}")
        return draw_benchmark(root, benchmark, listed("benchmark", BENCHMARKS, benchmark), workers, progress)
    studies, size, seed = (
        default if value is None else value for value, default in ((studies, 2000), (size, 128), (seed, 0))
    )
    world = listed("findings", WORLDS, findings or "cxr-lt-2023")
    if studies < 1:
        raise InputError(f"{studies} studies cannot be drawn", do="ask for one or more")
    if not 32 <= size <= 2048:
        raise InputError(f"phantom images of {size} pixels cannot be drawn", do="choose 32 to 2048 pixels")
    if seed < 0:
        raise InputError(f"seed {seed} is negative", do="choose 0 or more")
    return _imported(root, world, list(first_studies(seed, studies, world)), size, workers, progress)


def draw_benchmark(
    root: Path, name: str, benchmark: Benchmark, workers: int | None = None, progress: Progress = silent
) -> Imported:
    """Draw a benchmark's cohort; the tables say the split, and `partly` leaves all but the first training patients unlabelled."""
    parts = cohort(benchmark)
    split = {study.study_id: part for part, studies in parts.items() for study in studies}
    every = [study for studies in parts.values() for study in studies]
    made = _imported(root, benchmark.world, every, benchmark.size, workers, progress)
    said = pl.col("study_id").replace_strict(split, return_dtype=pl.String).alias("split")
    made.studies = check_studies(made.studies.with_columns(said), "phantom")
    made.truth = None if made.truth is None else check_studies(made.truth.with_columns(said), "phantom")
    labelled = keep_labels(parts["train"], benchmark.labelled)
    known = (pl.col("split") != "train") | pl.col("study_id").is_in(labelled)
    made.partly = made.studies.with_columns(pl.when(known).then(pl.col(finding_names(made.studies))))
    made.notes.insert(
        0, f"{name}: " + ", ".join(f"{len(studies):,} {part}" for part, studies in parts.items()) + " studies."
    )
    made.notes.append(f"In the partly labelled table {len(labelled):,} training studies keep their labels.")
    return made


def _imported(
    root: Path, world: World, drawn: list[Study], size: int, workers: int | None, progress: Progress
) -> Imported:
    seed = drawn[0].seed
    # World, size, seed and version name the folder, so an image found there was made with the same ones.
    named = f"phantom{VERSION}-{world.name}-seed{seed}-{size}px"
    folder = ensure_folder(Path(root).resolve() / "images" / named)
    boxes: Boxes = []
    done = _drawn(drawn, folder, size, workers or _cores())
    for found in progress(done, total=len(drawn), label="drawing", unit="studies"):
        boxes += found
    images = sum(len(study.images) for study in drawn)
    truth, mined = truth_of(drawn).astype(np.float64), mined_labels(drawn, world)
    return Imported(
        studies=_table(drawn, folder, world, mined),
        truth=_table(drawn, folder, world, truth),
        regions=pl.DataFrame(boxes, schema=["image_id", "finding", "x0", "y0", "x1", "y1"], orient="row").cast(
            {"image_id": pl.String, "finding": pl.String, **dict.fromkeys(("x0", "y0", "x1", "y1"), pl.Int32)}
        ),
        label_level="study",
        note=NOTE,
        notes=[
            f"{len(drawn):,} studies of {len({s.patient for s in drawn}):,} patients with {images:,} images were drawn at {size} px, seed {seed}.",
            "Labels are mined ones, with misses, false alarms and 5 % unknown; the truth is a table of its own.",
        ],
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drawn(studies: list[Study], folder: Path, size: int, workers: int) -> Iterator[Boxes]:
    """The boxes of each study, in order, its images written on the way."""
    chunks = [studies[k : k + _CHUNK] for k in range(0, len(studies), _CHUNK)]
    if workers <= 1 or len(chunks) == 1:
        for study in studies:
            yield _boxes(_one(study, folder, size), folder)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=context, initializer=_start) as pool:
        futures = [pool.submit(_several, chunk, folder, size) for chunk in chunks]
        try:
            for chunk, future in zip(chunks, futures, strict=True):
                try:
                    results = future.result()
                except BrokenProcessPool as error:
                    raise MachineError(
                        f"a drawing process died, at study {chunk[0].study_id} or after",
                        where=folder,
                        do="run the same command again, with fewer workers if memory is short",
                    ) from error
                for result in results:
                    yield _boxes(result, folder)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _boxes(result: Boxes | _Failure, folder: Path) -> Boxes:
    if isinstance(result, _Failure):
        if result.errno is not None:
            raise from_os_error(OSError(result.errno, result.text), folder / result.study_id)
        raise MachineError(
            f"study {result.study_id} could not be drawn ({result.text})",
            where=folder,
            do="report it with seed and size",
        )
    return result


def _start() -> None:
    cv2.setNumThreads(1)  # in a worker only: the processes share the cores already
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _several(studies: list[Study], folder: Path, size: int) -> list[Boxes | _Failure]:
    return [_one(study, folder, size) for study in studies]


def _one(study: Study, folder: Path, size: int) -> Boxes | _Failure:
    """Draw and write the images of a study that are not there yet."""
    boxes: Boxes = []
    try:
        for number in range(len(study.images)):
            name = study.image_id(number)
            path = folder / f"{name}.png"
            found = boxes_of(path)
            if found is None:
                picture, found = draw(study, number, size)
                write(path, picture, found)
            boxes += [(name, finding, *box) for finding, box in found.items()]
    except Exception as error:  # told by the parent, which knows how to name it to a person
        return _Failure(study.study_id, f"{type(error).__name__}: {error}", getattr(error, "errno", None))
    return boxes


def _table(studies: list[Study], folder: Path, world: World, labels: FLOAT) -> pl.DataFrame:
    """The study table, one row per image; labels (studies, findings) 1, 0 or NaN."""
    rows = [(k, study, number) for k, study in enumerate(studies) for number in range(len(study.images))]
    take = [k for k, _, _ in rows]
    asked = indications(studies, world)
    columns: dict[str, pl.Series] = {
        "study_id": pl.Series([s.study_id for _, s, _ in rows], dtype=pl.String),
        "patient_id": pl.Series([s.patient_id for _, s, _ in rows], dtype=pl.String),
        "image_id": pl.Series([s.image_id(n) for _, s, n in rows], dtype=pl.String),
        "path": pl.Series([str(folder / f"{s.image_id(n)}.png") for _, s, n in rows], dtype=pl.String),
        "view": pl.Series([s.images[n].view for _, s, n in rows], dtype=pl.String),
        "view_raw": pl.Series([s.images[n].view_raw for _, s, n in rows], dtype=pl.String),
        "source": pl.Series(["phantom"] * len(rows), dtype=pl.String),
        "study_date": pl.Series([s.day for _, s, _ in rows], dtype=pl.Date),
        "age": pl.Series([s.age for _, s, _ in rows], dtype=pl.Float32),
        "sex": pl.Series([s.sex for _, s, _ in rows], dtype=pl.String),
        "indication": pl.Series([asked[k] for k in take], dtype=pl.String),
    }
    for k, name in enumerate(world.findings):
        columns[name] = pl.Series(labels[take, k]).fill_nan(None).cast(pl.Int8)
    return check_studies(pl.DataFrame(columns), "phantom")
