"""Losses as pictures, after the slides of the class-aware loss (FPT University, 2023).

    python bench/loss_pictures.py --runs RUN_BCE RUN_CLASS_AWARE -o pictures

losses.png: the loss of a negative and of a positive entry by the model's probability; above of the class-aware loss for
    several prevalences, below of several losses for one.
probabilities.png (with --runs): the mean probability that each run's model gives the test studies with and without
    each finding, findings in the order of their prevalence in training.
curves.png (with --runs): the validation loss of each finding by epoch, as a share of the first epoch's, since losses
    have other scales.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hilum.atomic import atomic_path, ensure_folder
from hilum.errors import InputError
from hilum.recipe import load_recipe
from hilum.tables import labels_of, read_predictions, read_studies
from hilum.training.losses import build_loss

KNOWN = 10_000
PREVALENCES = (0.001, 0.01, 0.1, 0.3)
COMPARED = ("bce", "focal", "asymmetric", "robust_asymmetric", "class_aware")  # at the prevalence
OF = 0.1
SHADES = ("#0b3c5d", "#328cc1", "#7fb7be", "#d9b310")
COLOURS = ("#888888", "#328cc1", "#2e8b57", "#d1732b", "#0b3c5d")
POSITIVE, NEGATIVE = "#d1732b", "#1f5f8b"


def loss_curve(name: str, prevalence: float, label: float, p: np.ndarray) -> np.ndarray:
    """The loss of an entry with that label at each probability."""
    logits = torch.logit(torch.from_numpy(p))[:, None]
    loss = build_loss(name, [prevalence * KNOWN], KNOWN)
    return np.asarray(loss.elementwise(logits, torch.full_like(logits, label))[:, 0])


def draw_losses(path: Path) -> None:
    p = np.linspace(0.001, 0.999, 999)
    figure = _figure((9.5, 7.5))
    axes = figure.subplots(2, 2, sharex=True)
    for column, (label, what) in enumerate(((0.0, "negative"), (1.0, "positive"))):
        above, below = axes[0, column], axes[1, column]
        for prevalence, colour in zip(PREVALENCES, SHADES):
            above.plot(
                p, loss_curve("class_aware", prevalence, label, p), color=colour, label=f"{100 * prevalence:g} %"
            )
        for name, colour in zip(COMPARED, COLOURS):
            below.plot(p, loss_curve(name, OF, label, p), color=colour, label=name)
        above.set_title(f"class_aware, {what} entry, by prevalence", fontsize=10)
        below.set_title(f"losses of a {what} entry, prevalence {100 * OF:g} %", fontsize=10)
        above.set_ylim(bottom=0)
        below.set_ylim(0, 4.7)
        below.set_xlabel("the model's probability", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel("loss", fontsize=9)
    for axis in axes.flat:
        axis.legend(fontsize=8, frameon=False)
        _plain(axis)
    _save(figure, path)


def mean_probabilities(run: Path) -> tuple[str, list[dict[str, Any]]]:
    """The run's loss, and per finding {finding, prevalence, positive, negative}, the most frequent first; by the table's own labels."""
    predictions = read_predictions(run / "predictions_test.parquet")
    labels = labels_of(read_studies(run / "studies.parquet"), predictions.findings)
    place = {name: i for i, name in enumerate(labels.ids)}
    known = labels.values[[place[name] for name in predictions.table["study_id"]]]
    rows = []
    for column, finding in enumerate(predictions.findings):
        scores, truth = predictions.table[finding].to_numpy(), known[:, column]
        means = {
            what: float(scores[truth == label].mean()) if (truth == label).any() else math.nan
            for what, label in (("negative", 0), ("positive", 1))
        }
        prevalence = predictions.positives[finding] / max(predictions.known[finding], 1)
        rows.append({"finding": finding, "prevalence": prevalence, **means})
    loss = load_recipe(run / "recipe.yaml").stages[-1].loss.name
    return loss, sorted(rows, key=lambda row: -row["prevalence"])


def draw_probabilities(runs: list[tuple[str, list[dict[str, Any]]]], path: Path) -> None:
    names = [row["finding"] for row in runs[0][1]]
    if any([row["finding"] for row in rows] != names for _, rows in runs):
        raise InputError("the runs have other findings, or other training studies", do="give runs of one table")
    figure = _figure((1.5 + 4 * len(runs), 1.4 + 0.24 * len(names)))
    axes = np.atleast_1d(figure.subplots(1, len(runs), sharex=True, sharey=True))
    at = np.arange(len(names))
    for axis, (loss, rows) in zip(axes, runs):
        drawn = pl.DataFrame(rows)
        negative, positive = drawn["negative"].to_numpy(), drawn["positive"].to_numpy()
        axis.hlines(at, negative, positive, color="#cccccc", linewidth=1.5, zorder=1)
        axis.scatter(drawn["prevalence"], at, marker="|", color="#333333", s=45, label="prevalence in training")
        axis.scatter(negative, at, color=NEGATIVE, s=18, label="studies without it")
        axis.scatter(
            positive, at, facecolors="none", edgecolors=POSITIVE, s=32, linewidths=1.4, label="studies with it"
        )
        axis.set_title(f"loss: {loss}", fontsize=10)
        axis.set_xlabel("mean probability", fontsize=9)
        axis.set_xlim(0, 1)
        _plain(axis)
    axes[0].set_yticks(at, names, fontsize=8)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    handles, told = axes[0].get_legend_handles_labels()
    figure.legend(handles, told, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    _save(figure, path)


def finding_curves(run: Path) -> pl.DataFrame:
    """The validation loss of each finding by epoch of the last stage, divided by that of its first epoch."""
    log = pl.read_csv(run / "log.csv")
    last = log.filter(pl.col("stage") == log["stage"][-1])
    losses = last.select(pl.col("^valid_losses/.*$").name.map(lambda name: name.removeprefix("valid_losses/")))
    return losses.select(pl.all() / pl.all().first())


def draw_curves(curves: list[tuple[str, pl.DataFrame]], names: list[str], path: Path) -> None:
    columns = 6
    figure = _figure((11, 0.6 + 1.35 * math.ceil(len(names) / columns)))
    axes = figure.subplots(math.ceil(len(names) / columns), columns, sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names):
        for (loss, drawn), colour in zip(curves, COLOURS[1:]):
            axis.plot(range(1, len(drawn) + 1), drawn[name], color=colour, linewidth=1.2, label=loss)
        axis.set_title(name, fontsize=7)
        _plain(axis)
        axis.tick_params(labelsize=6)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("epoch", fontsize=8)
    figure.supylabel("validation loss, share of the first epoch's", fontsize=8)
    handles, told = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, told, loc="outside upper center", ncols=len(curves), fontsize=8, frameon=False)
    _save(figure, path)


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=Path, nargs="+", default=[], help="run folders, trained on the same studies")
    arguments.add_argument("-o", "--output", type=Path, default=Path("pictures"))
    given = arguments.parse_args()
    folder = ensure_folder(given.output)
    draw_losses(folder / "losses.png")
    if given.runs:
        told = [mean_probabilities(run) for run in given.runs]
        draw_probabilities(told, folder / "probabilities.png")
        curves = [(loss, finding_curves(run)) for (loss, _), run in zip(told, given.runs)]
        draw_curves(curves, [row["finding"] for row in told[0][1]], folder / "curves.png")
        for loss, rows in told:
            print(
                f"{loss}: mean over findings {_mean(rows, 'positive')} with, {_mean(rows, 'negative')} without, prevalence {_mean(rows, 'prevalence')}"
            )
    print(f"pictures in {folder}")


def _mean(rows: list[dict[str, Any]], what: str) -> str:
    return f"{np.nanmean([row[what] for row in rows]):.3f}"


if __name__ == "__main__":
    main()
