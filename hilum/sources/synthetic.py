"""Images made by a generator, with the labels they were made for: for training alone, never validated or tested on.

Whatever made them (a diffusion model, a simulator), they come as `folder` takes them: a folder of images, and a table that
names them. Each is a study and a patient of its own. Every run puts them into its training part, whatever its split; the
gain from them is the difference between a recipe with and one without their table.
"""

from pathlib import Path

import polars as pl

from hilum.progress import Progress, silent
from hilum.sources.folder import import_folder
from hilum.sources.imported import Imported
from hilum.tables import SYNTHETIC


def import_synthetic(
    root: Path,
    progress: Progress = silent,
    *,
    table: str | None = None,
    image_column: str | None = None,
    view_column: str | None = None,
    view_names: str | None = None,
) -> Imported:
    """The generated images beneath `root`, and the labels that a table gives them; see `import_folder` for the options."""
    made = import_folder(
        root,
        "unknown",
        progress,
        table=table,
        image_column=image_column,
        view_column=view_column,
        view_names=view_names,
    )
    name = pl.format("{}-{}", pl.lit(SYNTHETIC), "image_id")
    made.studies = made.studies.with_columns(
        study_id=name, patient_id=name, image_id=name, source=pl.lit(SYNTHETIC), split=pl.lit("train")
    )
    made.label_level = "study"
    made.note = f"{made.studies.height:,} images for training were made by a generator."
    return made
