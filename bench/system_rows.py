"""The rows of bench/systems.py as data: what each published single-view system changes, and what its source reported.

HEADS is table (a), a linear head on frozen features; WHOLE is table (b), whole networks. Rows of systems that
`hilum reproduce` knows are taken from there, with their printed figures.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hilum.reproductions import Row, read_system

BASELINE, REFERENCE = "BCE", "reference"  # what the rows of (a), and of (b), are held against
TWIN = "reference, another seed"  # what chance in training does, where rows are trained once
HEAD_RATE, RATE = 1.0e-2, 3.0e-3  # learning rates of all rows of (a), of (b)
SAID = {"all": "mAP", "tail": "tail mAP", "auroc": "AUROC"}


@dataclass(frozen=True)
class Entry:
    """One row.

    recipe, overrides: what is trained; of (a) the recipe is phantom_small on frozen features.
    then:     overrides of a second stage that starts from the first; steps: the first one's share of all steps.
    join:     not trained: the method of `hilum.ensemble` that combines `members`.
    rules:    not trained: options of `apply_rules` upon the one row in `members`.
    stand_in: the network that is named in the source, and what stands in for it here.
    reported: what the source printed, on its own data.
    gain:     as printed, where the source reports more than its baseline; by: the column where that is looked for here.
    over:     the row that the gain is over, where it is not the table's baseline; an ensemble's is over its best member.
    """

    name: str
    overrides: Sequence[str] = ()
    recipe: str = "phantom_small"
    then: Sequence[str] | None = None
    steps: float = 1.0
    join: str | None = None
    rules: dict[str, object] | None = None
    members: Sequence[str] = ()
    stand_in: str = ""
    reported: str = ""
    gain: str | None = None
    by: str = "all"
    over: str | None = None

    @property
    def folder(self) -> str:
        """The row's name, fit for a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def keeps_order(self) -> bool:
        """Whether a finding's studies stand in the order of the first stage: dividing its weights by their length moves none."""
        return any(one.startswith("tau=") for one in self.then or ())

    @property
    def trained(self) -> bool:
        return self.join is None and self.rules is None


def _of_the_benchmark() -> list[Entry]:
    """The rows of Holste et al. 2022; their measure is balanced accuracy, so their gains are looked for in the tail."""
    rows = read_system("longtail_benchmark").rows
    plain = printed(rows["Softmax"])
    made = []
    for name, row in rows.items():
        if name == "Softmax" or "theirs" not in (row.remark or ""):
            continue
        theirs = printed(row)
        more = [one - other for one, other in zip(theirs, plain)]
        entry = Entry(
            name, row.overrides,
            reported=f"balanced accuracy {theirs[0]:.1f} / {theirs[1]:.1f} % (NIH / MIMIC), softmax {plain[0]:.1f} / {plain[1]:.1f}",
            gain=f"{more[0]:+.1f} / {more[1]:+.1f} points of balanced accuracy" if min(more) > 0 else None,
            by="tail",
        )  # fmt: skip
        if name == "cRT":  # the backbone is frozen in every row, so what is left of it is its sampler
            entry = replace(entry, overrides=["train.sampler={name: balanced}"])
        elif row.start is not None:
            first, own = (
                [one for one in of.overrides if not one.startswith("train.") or "select" in one]
                for of in (rows[row.start], row)
            )
            rates = [f"train.lr={HEAD_RATE / 10}"] if "LDAM" in name else []
            entry = replace(entry, overrides=first, then=[*own, *rates], steps=1 / 6 if rates else 1.0)
        made.append(entry)
    return made


def printed(row: Row) -> list[float]:
    """The two figures in a row's remark."""
    found = re.search(r"theirs ([\d.]+) / ([\d.]+)", row.remark or "")
    assert found, row.name
    return [float(figure) for figure in found.groups()]


def _of_the_class_aware() -> list[Entry]:
    """The losses of FPT University 2023, with what each has more than its cross-entropy."""
    rows = read_system("class_aware").rows
    plain = rows["BCE"].published
    made = []
    for name, row in rows.items():
        if not row.published:
            told = "ours; nearly a no-op for a linear head: AdamW divides a finding's weight out of its row's gradient again"
            made.append(Entry(name, row.overrides, reported=told))
            continue
        told = f"mAP {row.published[0]:.3f}, AUROC {row.published[-1]:.3f} (NIH)"
        more = (row.published[0] or 0.0) - (plain[0] or 0.0)
        made.append(Entry(name, row.overrides, reported=told, gain=f"{more:+.3f} mAP" if more > 0 else None))
    return made


def _joined(entries: Sequence[Entry]) -> list[Entry]:
    """The rows, those that are trained alike as one, with what both sources reported; the gain of the first that has one."""
    held: dict[tuple[object, ...], Entry] = {}
    for one in entries:
        key = (tuple(one.overrides), tuple(one.then or ()), one.join, str(one.rules), tuple(one.members))
        if (before := held.get(key)) is None:
            held[key] = one
        else:
            told = "; ".join(filter(None, [before.reported, one.reported]))
            claim = before if before.gain else one
            held[key] = replace(before, reported=told, gain=claim.gain, by=claim.by)
    return list(held.values())


_MEMBERS = ("BCE", "Class-aware", "Weighted asymmetric", "Sampler square_root")
_GRID = "model.fusion={name: concat, grid: 3}"
_WITHIN = {
    "Mass": "Lung Lesion", "Nodule": "Lung Lesion", "Consolidation": "Lung Opacity", "Edema": "Lung Opacity",
    "Infiltration": "Lung Opacity", "Pneumonia": "Lung Opacity", "Atelectasis": "Lung Opacity",
}  # fmt: skip
_ABLATION = "CheXFusion's ablation (MIMIC): mAP"

HEADS: list[Entry] = _joined([
    *_of_the_class_aware(),
    *_of_the_benchmark(),
    Entry("Weighted BCE", ["loss={name: weighted_bce}"], reported=f"{_ABLATION} .311, BCE .311"),
    Entry("Asymmetric", ["loss={name: asymmetric, gamma_neg: 4.0, gamma_pos: 1.0, clip: 0.05}"], reported=f"{_ABLATION} .313, BCE .311", gain="+.002 mAP"),
    Entry("Weighted asymmetric", ["loss={name: weighted_asymmetric}"], reported=f"{_ABLATION} .314, BCE .311", gain="+.003 mAP"),
    Entry("Robust asymmetric", ["loss={name: robust_asymmetric}"], reported="mAP .231, weighted asymmetric .233 (MIMIC, one seed)"),
    Entry("Weighted robust asymmetric", ["loss={name: weighted_robust_asymmetric, gamma_pos: 1.0}"]),
    Entry("Distribution-balanced", ["loss={name: distribution_balanced}"], reported="on COCO and VOC only"),
    Entry("Balanced margin", ["loss={name: balanced_margin}"], reported="mAP .585 as one part of the first place of 2026 (PadChest)"),
    Entry("Logit-adjusted", ["loss={name: logit_adjusted}"], reported="on single-label images only"),
    Entry("Label smoothing", ["loss={name: bce, smoothing: 0.1}"], reported="AUROC .810 as one part of SwinCheX (NIH)"),
    Entry("Brier", ["loss={name: brier}"], reported="ours"),
    *(Entry(f"Sampler {name}", [f"train.sampler={{name: {name}}}"], reported=told) for name, told in (
        ("class_aware", ""), ("square_root", ""), ("over", "none of its own; related work of FPT"), ("under", "none of its own; related work of FPT"), ("mixed", "none of its own; related work of FPT"))),
    Entry("Sampler repeat_factor", ["train.sampler={name: repeat_factor, threshold: 0.05}"], reported="one part of the first place of 2026"),
    Entry("Concat 3 x 3", [_GRID], reported="ours"),
    Entry("Concat 3 x 3, Brier", [_GRID, "loss={name: brier}"], reported="ours"),
    *(Entry(f"Ensemble, {method}", join=method, members=_MEMBERS, reported=told) for method, told in (
        ("mean", "Bag of Tricks: mAP .347 (MIMIC test)"), ("per-finding", "Bag of Tricks: mAP .348, their mean .347"),
        ("weighted", "IIT: AUROC .697 (13 findings, NIH), its MobileNet .681"), ("vote", "IIT: no figure of its own"))),
    Entry("Rule: normal gates", rules={"normal": "No Finding"}, members=("BCE",), reported="CXR-LT 2026: -.024 mAP in one validation; here its power is chosen on validation, 0 = none"),
    Entry("Rule: normal gates, power .5", rules={"normal": "No Finding", "power": 0.5}, members=("BCE",), reported="the power of the first place of CXR-LT 2026"),
    Entry("Rule: parents raised", rules={"parents": _WITHIN}, members=("BCE",), reported="ours"),
])  # fmt: skip

# The smallest networks of the named kinds that learn something at 64 px: Swin with windows of 4 x 4, a fifth of its
# channels and five blocks; DenseNet with half its growth and blocks of two; plain stacks of 3 x 3 convolutions for VGG.
_RESNET = "model.backbone={name: test_resnet}"
_SWIN = "model.backbone={name: swin_tiny_patch4_window7_224, embed_dim: 24, depths: [1, 1, 2, 1], num_heads: [1, 2, 4, 8], window_size: 4}"
_DENSE = "name: densenet121, growth_rate: 16, block_config: [2, 2, 2, 2]"
_DENSENET, _LOCATED = f"model.backbone={{{_DENSE}}}", f"model.backbone={{{_DENSE}, coordinates: true}}"
_VGG = "model.backbone={name: custom_cnn, widths: [8, 16, 32, 64, 128]}"
_RATE = "train.lr=1.0e-3"  # of networks without batch norm
_LEARNED = "model.head={name: ml_decoder, dim: 96, heads: 4, hidden: 256, dropout: 0.1, queries: learned}"
_ATTENTION = ("IIT member, VGG", "IIT member, MobileNet", "IIT member, InceptionResNet")

WHOLE: list[Entry] = [
    Entry(REFERENCE, reported="ours: the least that works"),
    Entry(TWIN, ["train.seed=1000"], reported="ours"),
    Entry("nih_quick", recipe="nih_quick", reported="ours"),
    Entry("FPT, Swin with BCE", [_SWIN, _RATE, "loss={name: bce}"], "class_aware_swin", stand_in="Swin-B: a Swin of .8 million parameters", reported="mAP .268, AUROC .804 (NIH)"),
    Entry("FPT, class-aware Swin", [_SWIN, _RATE], "class_aware_swin", stand_in="Swin-B: a Swin of .8 million parameters", reported="mAP .338, AUROC .874 (NIH)", gain="+.070 mAP", over="FPT, Swin with BCE"),
    Entry("SwinCheX", [_SWIN, _RATE], "swinchex", stand_in="Swin-L: a Swin of .8 million parameters", reported="AUROC .810 (NIH)"),
    Entry(_ATTENTION[0], [_VGG], "attention_ensemble", stand_in="VGG19: custom_cnn, ten 3 x 3 convolutions with batch norm", reported="see the ensemble"),
    Entry(_ATTENTION[1], ["model.backbone={name: test_efficientnet}"], "attention_ensemble", stand_in="MobileNet: test_efficientnet", reported="AUROC .681 (13 findings, NIH)"),
    Entry(_ATTENTION[2], [_RESNET], "attention_ensemble", stand_in="InceptionResNet: test_resnet", reported="see the ensemble"),
    *(Entry(f"IIT ensemble, {method}", join=method, members=_ATTENTION, stand_in="of the three above", reported=told, gain=gain, by="auroc") for method, told, gain in (
        ("mean", "no figure of its own", None), ("weighted", "AUROC .697 (13 findings, NIH)", "+.016 AUROC"), ("vote", "no figure of its own", None))),
    Entry("Pillai, age and sex", [_DENSENET], "demographics_densenet121", stand_in="DenseNet-121: a DenseNet of .1 million parameters", reported="AUROC .78 (NIH)"),
    Entry("Long-tail benchmark", [_RESNET], "longtail_benchmark", stand_in="ResNet-50: test_resnet", reported="balanced accuracy 11.5 / 16.9 % (NIH / MIMIC)"),
    Entry("LDAM-DRW", [_RESNET, f"stages.reweighted.train.lr={RATE / 10}"], "ldam_drw", stand_in="ResNet-50: test_resnet", steps=1 / 6, reported="balanced accuracy 28.1 / 26.7 %, softmax 11.5 / 16.9", gain="+16.6 / +9.8 points of balanced accuracy", by="tail", over="Long-tail benchmark"),
    Entry("Bag of Tricks", [_LEARNED], "bag_of_tricks_small", stand_in="ResNet-50: test_resnet; label texts: learned queries; no re-weighting of findings", reported="mAP .328 (MIMIC); its tricks have a table of their own: `hilum reproduce bag_of_tricks`"),
    Entry("Yao, label LSTM", [_DENSENET, "model.head.dim=64"], "label_lstm_densenet", stand_in="DenseNet: a DenseNet of .1 million parameters", reported="AUROC .761 (NIH)"),
    Entry("Guendel, location-aware", [_LOCATED], "location_aware_densenet", stand_in="DenseNet-121: a DenseNet of .1 million parameters", reported="AUROC .807 (NIH), its DNet"),
    Entry("First of CXR-LT 2026, parts", ["model.backbone={name: test_convnext2}", _RATE, "augment.flip=0"], "csra_db_2026", stand_in="ConvNeXtV2-B: test_convnext2", reported="mAP .585 (PadChest); with flips in training, none here"),
    Entry("hilum", [], "hilum_small", stand_in="its own laptop form", reported="ours"),
]  # fmt: skip


def chosen(entries: Sequence[Entry], only: Sequence[str]) -> list[Entry]:
    """The named rows (all where none is named) with the baseline and the members that they need, in order."""
    if not only:
        return list(entries)
    wanted = {one.name for one in entries if one.name in only or one.folder in only}
    for one in entries:
        if one.name in wanted:
            wanted |= {*one.members, *([one.over] if one.over else [])}
    return [one for one in entries if one.name in wanted | {BASELINE, REFERENCE, TWIN}] if wanted else []


# What bench/systems.py holds against each other on validation studies for the second stage of the recipe `hilum`.
_TRANSFORMER = [
    "model.fusion={name: transformer, layers: 2, heads: 4, hidden: 256, dropout: 0.1, reduce: 1, embed: type}",
    "model.head={name: ml_decoder, dim: 96, heads: 4, hidden: 256, dropout: 0.1, queries: fixed}",
    "train.batch_size=32", "train.lr=1.0e-3", "loss={name: weighted_asymmetric}",
]  # fmt: skip
_STEPS = ["train.batch_size=32", "train.lr=3.0e-3"]
CANDIDATES: list[Entry] = [
    Entry("Mean, BCE", _STEPS),
    *(Entry(f"Concat 3 x 3, {said}", [_GRID, *_STEPS, *changes]) for said, changes in (
        ("BCE", []), ("Brier", ["loss={name: brier}"]), ("BCE, dropout", ["model.head.dropout=0.5"]), ("weighted asymmetric", ["loss={name: weighted_asymmetric}"]),
        ("LDAM", ["loss={name: ldam, max_margin: 0.5, scale: 30.0}"]), ("logit-adjusted", ["loss={name: logit_adjusted}"]),
        ("class-aware sampler", ["train.sampler={name: class_aware}"]))),
    Entry("Transformer", _TRANSFORMER),
]  # fmt: skip
FLOORS = [
    Entry("constant", reported="floor: the training prevalence"),
    Entry("view, age, sex", reported="floor: logistic regression"),
    Entry("ridge on 16 x 16", reported="floor: its scores are an order, no probabilities"),
]
