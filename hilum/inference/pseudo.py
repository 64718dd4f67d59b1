"""The verb `pseudo`: a teacher's labels for what nobody labelled, as a table that a training takes beside its studies.

Noisy Student (Xie et al. 2020): the teacher reads plain images in evaluation mode, the student learns from augmented ones.
Here the teacher must be calibrated, or only its order counts: an asymmetric loss puts out several times the prevalence.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hilum.atomic import refuse_replacing
from hilum.bundle import Bundle
from hilum.data.pseudo_table import PseudoLabels, read_pseudo, write_pseudo
from hilum.data.seen import Seen, check_apart
from hilum.errors import InputError
from hilum.inference.predict import Model, load
from hilum.inference.pseudo_rules import Mask, Rules, cases_of, check_rules, choose_labels, counts_of
from hilum.operating_points import is_calibrated
from hilum.progress import Progress, silent
from hilum.recipe import load_recipe
from hilum.tables import labels_of, read_studies, studies_metadata

OTHER = "other"  # said of a teacher that learned from other patients
_AS_SCORED = Rules()


def pseudo(
    bundle: str | Path,
    studies: str | Path,
    output: str | Path,
    *,
    rules: Rules = _AS_SCORED,
    teacher_studies: str | Path | None = None,
    uncalibrated: bool = False,
    cache: str | Path | None = None,
    batch_size: int = 64,
    seed: int = 0,
    device: str = "auto",
    expect: str | None = None,
    progress: Progress = silent,
) -> PseudoLabels:
    """Label the unknown entries of a study table with a bundle, the teacher, and write the table of pseudo labels.

    studies: where it has a split, only its train rows are labelled. Known entries never get a pseudo label.
    teacher_studies: the study table of the teacher's run with its split, by default the one beside its bundle in a run
        folder; "other" says that the teacher learned from other patients altogether.
    uncalibrated: take a teacher's probabilities although they passed no calibration map.
    cache: a cache folder to use and keep. seed: of who goes first among equals, and of what the cap on negatives spares.
    Raises InputError where the rules contradict one another, where the teacher is not calibrated, and where it saw
    patients that the table holds out.
    """
    refuse_replacing(output, studies, teacher_studies)
    model = load(bundle, device=device, expect=expect)
    check_rules(rules, model.findings)
    if not (is_calibrated(model.bundle.operating_points) or rules.match_prevalence or uncalibrated):
        raise InputError(
            "this teacher is not calibrated: its probabilities are no frequencies",
            where=bundle,
            do="run `hilum calibrate` on it first, or match prevalences (--match-prevalence)",
        )
    table = read_studies(studies)
    seen, split = seen_by(model.bundle, teacher_studies), "split" in table.columns
    if split:
        check_apart(seen, table, studies)
        table = table.filter(pl.col("split") == "train")
        if table.is_empty():
            raise InputError(
                "no row of the table is in train", where=studies, do="pseudo labels are for training studies"
            )
    made = _labelled(model, table, rules, cache, batch_size, seed, progress)
    made.rule["rows"] = "train" if split else "all"
    made.seen, made.note = seen, studies_metadata(studies).get("note") or model.bundle.note
    if made.table.is_empty():
        raise InputError("no entry gets a pseudo label", where=studies, do=_why_none(made))
    write_pseudo(made, output)
    return made


def seen_by(bundle: Bundle, told: str | Path | None = None) -> Seen:
    """Whom a bundle's model has seen: by the table named, or by its run folder, or InputError where neither says."""
    if told == OTHER:
        return Seen()
    if told is not None:
        table = read_studies(told)
        if "split" not in table.columns:
            raise InputError("this table has no split", where=told, do="name the studies.parquet of the teacher's run")
        return Seen.of(table)
    run = bundle.weights_file.resolve().parent.parent
    if not _is_run(run):
        raise InputError(
            "it is not known which patients this teacher was trained on",
            where=bundle.folder,
            do="name the studies.parquet of its run with --teacher-studies, or write `--teacher-studies other` if it "
            "learned from other patients altogether",
        )
    return _run_saw(run)


def _run_saw(run: Path) -> Seen:
    """Whom a run saw: its own patients, and those of the teachers and the models that its stages started from."""
    seen = Seen.of(read_studies(run / "studies.parquet"))
    for stage in load_recipe(run / "recipe.yaml").stages:
        if stage.pseudo:
            seen |= read_pseudo(stage.pseudo.table).seen or Seen()
        if stage.init and _is_run(Path(stage.init).parent):
            seen |= _run_saw(Path(stage.init).parent)
    return seen


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("manifest.json", "recipe.yaml", "studies.parquet"))


def _labelled(
    model: Model,
    table: pl.DataFrame,
    rules: Rules,
    cache: str | Path | None,
    batch_size: int,
    seed: int,
    progress: Progress,
) -> PseudoLabels:
    """The pseudo labels of the unknown entries of a table, before whom the teacher saw is put to them."""
    findings, facts = model.findings, model.bundle
    prevalence = {
        name: facts.positives[name] / known if (known := facts.known.get(name, 0)) else None for name in findings
    }
    labels = labels_of(table, findings)
    owner = dict(zip(table["study_id"].to_list(), table["source"].to_list()))
    cases = cases_of(labels.values, [owner[study] for study in labels.ids])
    cases = {name: mask for name, mask in cases.items() if name in rules.cases}
    wanted = np.logical_or.reduce(list(cases.values()))
    asked = pl.Series([study for study, some in zip(labels.ids, wanted.any(axis=1)) if some], dtype=pl.String)
    frame = pl.DataFrame(schema={"study_id": pl.String, "patient_id": pl.String, **dict.fromkeys(findings, pl.Float32)})
    if len(asked):
        rows = table.filter(pl.col("study_id").is_in(asked.implode()))
        frame = model.predict(rows, cache=cache, batch_size=batch_size, progress=progress)
    place = {study: i for i, study in enumerate(labels.ids)}
    at = np.array([place[study] for study in frame["study_id"].to_list()], dtype=np.int64)
    here: Mapping[str, Mask] = {name: mask[at] for name, mask in cases.items()}
    chances = np.array(
        [np.nan if prevalence[name] is None else prevalence[name] for name in findings], dtype=np.float64
    )
    scores = frame.select(findings).to_numpy()
    chosen = choose_labels(scores, wanted[at], findings, chances, rules, _lots(frame["study_id"], len(findings), seed))
    columns = [pl.Series(name, chosen.labels[:, i], dtype=pl.Float32).fill_nan(None) for i, name in enumerate(findings)]
    weight = pl.lit(rules.weight, dtype=pl.Float32).alias("weight")
    kept = frame.select("study_id", "patient_id", weight).with_columns(columns)
    return PseudoLabels(
        table=kept.filter(pl.any_horizontal(pl.col(findings).is_not_null())),
        teacher=facts.identity,
        rule=rules.page() | {"calibrated": is_calibrated(facts.operating_points), "seed": seed},
        counts=counts_of(chosen, here, findings),
        prevalence=prevalence,
    )


def _lots(studies: pl.Series, findings: int, seed: int) -> NDArray[np.int64]:
    """(N, F): a random order of the studies for each finding, whatever the order of rows."""
    rank = studies.rank("ordinal").to_numpy().astype(np.int64) - 1
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(len(rank))[rank] for _ in range(findings)], axis=1)


def _why_none(made: PseudoLabels) -> str:
    if not any(one["entries"] for findings in made.counts.values() for one in findings.values()):
        return "every entry of these cases is labelled already, or no image can be read"
    return "loosen low, high or negatives: no entry is sure enough"
