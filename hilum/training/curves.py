"""Curves of a run as a picture: loss, validation mAP and AUROC, and the learning rate by epoch."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hilum.atomic import atomic_path

Row = dict[str, float | int | str]
_PANELS = (
    ("loss", (("train_loss", "train"), ("valid_loss", "validation"))),
    ("validation", (("valid_map", "mAP"), ("valid_auroc", "AUROC"))),
    ("learning rate", (("lr", "at the end of the epoch"),)),
)


def draw_curves(rows: list[Row], path: Path) -> None:
    """Draw the log's lines into a PNG; stages follow one another along the axis of epochs."""
    figure = Figure(figsize=(11, 3.2), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(_PANELS))
    epochs = range(1, len(rows) + 1)
    starts = [i for i in range(1, len(rows)) if rows[i]["stage"] != rows[i - 1]["stage"]]
    for axis, (title, lines) in zip(axes, _PANELS):
        for (key, label), colour in zip(lines, ("#1f5f8b", "#d1732b")):
            values = [float(row.get(key, "nan")) for row in rows]  # a stage that trains nothing has no training loss
            axis.plot(epochs, values, label=label, color=colour, marker="o", markersize=3)
        for start in starts:
            axis.axvline(start + 0.5, color="#999999", linestyle=":", linewidth=1)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(fontsize=8, frameon=False)
        axis.xaxis.get_major_locator().set_params(integer=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
