"""bench/systems.py: every row's plan builds, takes the same steps, and the page says by rule which published gains appear."""

import importlib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from hilum.batches.sampling import SAMPLERS, epoch_length
from hilum.evaluation.calibration import brier_skill
from hilum.evaluation.evaluate import evaluate
from hilum.recipe import RECIPES, load_recipe
from hilum.sources.phantom.benchmarks import Benchmark, raised_tail
from hilum.sources.phantom.source import draw_benchmark
from hilum.sources.phantom.worlds import WORLDS
from hilum.tables import Predictions, finding_names, labels_of, read_studies, write_predictions, write_studies
from hilum.training.inputs import split_studies
from hilum.training.plan import check_recipe
from tests.small import small_studies

BENCH = Path(__file__).parent.parent / "bench"
EPOCHS = 12


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.fixture
def data(bench, tmp_path):
    """A table with a split, images of which are never read."""
    table, _ = small_studies(60)
    dealt = ["test" if n % 4 == 0 else "valid" if n % 4 == 1 else "train" for n in range(table.height)]
    owner = dict(zip(table["patient_id"], dealt))
    table = table.with_columns(split=table["patient_id"].replace_strict(owner))
    write_studies(table, tmp_path / "studies.parquet", label_level="study")
    return bench("system_runs").Data(tmp_path / "studies.parquet", tmp_path / "studies.parquet", tmp_path / "cache")


def samples(plan, level):
    """Samples that each stage of a plan sees, and those of an epoch of plain ones at that level."""
    table = split_studies(plan).table
    table = table.filter(table["split"] == "train")
    findings = finding_names(table)
    seen = []
    for stage in plan.stages:
        positives = labels_of(table, findings, level=stage.train.level).values >= 0.5
        drawn = epoch_length(stage.train.sampler.build("sampler", SAMPLERS)(positives))
        seen.append((stage.train.epochs * drawn, drawn))
    return seen, len(labels_of(table, findings, level=level).ids)


def test_every_row_of_heads_builds_and_takes_as_many_steps(bench, data):
    rows = [one for one in bench("system_rows").HEADS if one.trained]
    assert len(rows) > 30
    for entry in [*rows, *bench("system_rows").CANDIDATES]:
        plan = bench("system_runs").head_recipe(entry, data, None, 1, EPOCHS)
        check_recipe(plan)
        assert all(stage.freeze == ["backbone"] and stage.train.seed == 1 for stage in plan.stages)
        assert all(stage.augment.name == "none" for stage in plan.stages), "all rows read the same features"
        assert len(plan.stages) == (2 if entry.then else 1)
        seen, plain = samples(plan, "study")
        learnt = [one for one, stage in zip(seen, plan.stages) if stage.tau is None]
        spent, coarse = sum(count for count, _ in learnt), max(drawn for _, drawn in learnt)
        assert abs(spent - EPOCHS * plain) <= coarse, entry.name


def test_every_row_of_whole_networks_builds_and_is_optimised_alike(bench, data):
    rows = [one for one in bench("system_rows").WHOLE if one.trained]
    for entry in rows:
        for fold in (None, 3):
            plan = bench("system_runs").whole_recipe(entry, data, 0, EPOCHS, fold)
            check_recipe(plan)
            assert (plan.cache.size, plan.split.fold if fold else plan.split.column) == (64, fold or "split")
            assert {stage.train.optimizer.name for stage in plan.stages} == {"adamw"}
            first = plan.stages[0].train
            assert (first.level, first.batch_size, first.schedule.name) == ("image", 32, "cosine")
        assert "." not in plan.stages[0].model.backbone.name, "no weights are downloaded"
        seen, plain = samples(plan, "image")
        spent = sum(count for (count, _), stage in zip(seen, plan.stages) if "backbone" not in stage.freeze)
        assert abs(spent - EPOCHS * plain) <= max(drawn for _, drawn in seen), entry.name
        if plan.stages[0].model.backbone.name != load_recipe(entry.recipe).stages[0].model.backbone.name:
            assert entry.stand_in, "what stands in for another network is named"


def test_names_and_folders_are_unique_and_what_is_named_exists(bench):
    rows = bench("system_rows")
    for entries, baseline in ((rows.HEADS, rows.BASELINE), (rows.WHOLE, rows.REFERENCE)):
        names = [one.name for one in entries]
        assert len({one.folder for one in entries}) == len(names) == len(set(names))
        assert baseline in names
        assert all(name in names for one in entries for name in (*one.members, *([one.over] if one.over else [])))
        assert all("|" not in one.reported for one in entries), "it would end a cell"


def test_what_a_row_needs_comes_with_it(bench):
    rows = bench("system_rows")
    assert [one.name for one in rows.chosen(rows.WHOLE, ["IIT ensemble, vote"])] == [
        "reference", "reference, another seed", "IIT member, VGG", "IIT member, MobileNet", "IIT member, InceptionResNet", "IIT ensemble, vote",
    ]  # fmt: skip
    assert [one.name for one in rows.chosen(rows.WHOLE, ["ldam-drw"])][2:] == ["Long-tail benchmark", "LDAM-DRW"]
    assert rows.chosen(rows.WHOLE, ["Focal"]) == []


def test_printed_figures_come_from_the_systems_that_can_be_reproduced(bench):
    of = {one.name: one for one in bench("system_rows").HEADS}
    assert of["Class-aware"].gain == "+0.070 mAP"
    assert of["RW LDAM-DRW"].gain == "+17.4 / +10.6 points of balanced accuracy"
    assert of["LDAM"].gain is None  # 17.8 / 16.5 against 11.5 / 16.9: no gain on one of two
    assert (of["Focal"].gain, of["Focal"].by) == ("+0.004 mAP", "all")
    assert "12.2 / 17.2" in of["Focal"].reported


def made_up(bench, differences, runs=2):
    """A judged table: row -> (difference in mAP, its p) to the baseline; the tail is not scored."""
    pairs = [
        {"row": row, "over": "BCE", "columns": {"all": {"difference": [value, value - 0.01, value + 0.01], "p": p}, "tail": None, "auroc": None}}
        for row, (value, p) in differences.items()
    ]  # fmt: skip
    bench("system_page").corrected(pairs)
    figures = {column: [0.3, 0.29, 0.31] for column in ("all", "head", "medium", "auroc")} | {"tail": [None] * 3}
    rows = [{"name": name, "runs": runs, "figures": figures, "brier_skill": 0.1} for name in ("BCE", *differences)]
    counts = {"all": 5, "head": 3, "medium": 2, "tail": 0, "auroc": 5}
    return {"baseline": "BCE", "rows": rows, "differences": pairs, "findings": counts, "studies": 9, "patients": 9, "note": "A note.",
            "how": "Like this.", "command": "run me", "date": "2026-11-28"}  # fmt: skip


def entries(bench):
    make = bench("system_rows").Entry
    return [make("BCE"), *(make(name, gain="+.010 mAP") for name in ("up", "down", "flat", "lucky")), make("silent"),
            make("rare", gain="+5 points", by="tail")]  # fmt: skip


def test_a_published_gain_appears_only_where_the_difference_is_real_and_upwards(bench):
    # lucky: p below .05 by itself, and not among six
    found = {"up": (0.03, 1e-5), "down": (-0.03, 1e-5), "flat": (0.001, 0.8), "lucky": (0.02, 0.02), "silent": (0.02, 1e-4), "rare": (0.0, 1.0)}  # fmt: skip
    table = made_up(bench, found)
    lines = bench("system_page").reading(table, entries(bench))
    assert (
        lines[0]
        == "mAP: of 6 rows 2 are (up, silent) above BCE and 1 is (down) below it; 3 cannot be told apart from it."
    )
    said = {line.split(" against")[0]: line for line in lines[1:] if " against" in line}
    assert set(said) == {"up", "down", "flat", "lucky"}, "what claims nothing is not held to anything"
    assert "(+.010 mAP) appears: +0.030 [+0.020, +0.040] mAP" in said["up"]
    assert "does not appear, it is a loss: -0.030" in said["down"]
    assert all("cannot be told from noise" in said[name] for name in ("flat", "lucky"))
    assert "rare: the published gain (+5 points) cannot be looked for: no such finding is scored." in lines
    assert not any("once" in line for line in lines)
    once = bench("system_page").reading(made_up(bench, found, runs=1), entries(bench))
    assert once[-1].startswith("Each row was trained once (")


def laid(table, **figures):
    """The table with figures of rows of its own: name -> column -> [value, low, high]."""
    for row in table["rows"]:
        row["figures"] = row["figures"] | figures.get(row["name"].replace(" ", "_"), {})
    return table


def test_no_gain_appears_over_a_row_that_learnt_nothing(bench):
    table = made_up(bench, {"up": (0.03, 1e-5), "constant": (-0.2, 1e-9)})
    floor = {"all": [0.1, 0.09, 0.11], "auroc": [0.5, 0.5, 0.5]}
    up = entries(bench)[1]
    claim = bench("system_page").claim
    assert "appears: +0.030" in claim(up, laid(table, constant=floor, BCE={"auroc": [0.7, 0.68, 0.72]}))
    for blind in ({"auroc": [0.51, 0.49, 0.53]}, {"all": [0.12, 0.095, 0.15]}):  # by chance AP is above the constant's
        told = claim(
            up, laid(made_up(bench, {"up": (0.03, 1e-5), "constant": (-0.2, 1e-9)}), constant=floor, BCE=blind)
        )
        assert "cannot be looked for: BCE learnt nothing" in told
        assert "appear" not in told


def test_an_ensemble_is_held_against_its_best_member(bench):
    entry = bench("system_rows").Entry(
        "all of them", join="mean", members=("weak", "best"), gain="+.02 mAP", over="weak"
    )
    figures = {"weak": {"all": [0.2, 0.19, 0.21]}, "best": {"all": [0.34, 0.33, 0.35]}, "all_of_them": {"all": [0.35, 0.34, 0.36]}}  # fmt: skip
    table = laid(made_up(bench, dict.fromkeys(("weak", "best", "all of them"), (0.05, 1e-9))), **figures)
    claim, held_against = bench("system_page").claim, bench("system_page").held_against
    assert held_against(entry, table) == "best"
    told = claim(entry, table)
    assert told.startswith("all of them against best, its best member (by mAP of this table")
    assert "does not appear: 0.350 [0.340, 0.360] and 0.340 [0.330, 0.350] mAP, not compared study by study" in told
    higher = {"all of them": {"all": [0.38, 0.37, 0.39]}}
    assert ") appears: 0.380" in claim(entry, laid(table, all_of_them=higher["all of them"]))
    pair = {"row": "all of them", "over": "best", "columns": {"all": {"difference": [0.01, 0.005, 0.015], "p": 1e-4}, "tail": None, "auroc": None}}  # fmt: skip
    table["differences"].append(pair)
    bench("system_page").corrected(table["differences"])
    assert claim(entry, table).endswith("appears: +0.010 [+0.005, +0.015] mAP.")


def test_what_keeps_the_order_is_not_looked_for_in_it(bench):
    of = {one.name: one for one in bench("system_rows").HEADS}
    kept = [name for name, one in of.items() if one.keeps_order]
    assert kept == ["tau-normalisation"]
    told = bench("system_page").reading(made_up(bench, {kept[0]: (0.0, 1.0)}), [of[kept[0]]])
    assert any("cannot be looked for in an order" in line for line in told)
    assert not any("does not appear" in line for line in told)


def test_a_floor_above_rows_has_a_sentence_of_its_own(bench):
    ridge = {"all": [0.305, 0.3, 0.31], "tail": [None] * 3}
    table = made_up(bench, {"up": (0.03, 1e-5), "ridge on 16 x 16": (0.005, 0.01)})
    table = laid(table, ridge_on_16_x_16=ridge, up={"all": [0.33, 0.32, 0.34]}, BCE={"all": [0.29, 0.28, 0.299]})
    told = [line for line in bench("system_page").reading(table, []) if line.startswith("The floor")]
    assert len(told) == 1
    assert told[0].startswith("The floor ridge on 16 x 16 lies above 1 of 2 rows in mAP (1 with their whole interval):")
    laid(table, BCE={"all": [0.32, 0.31, 0.33]})
    assert not any(line.startswith("The floor") for line in bench("system_page").reading(table, []))


def test_a_rule_that_moved_nothing_is_said_to(bench):
    table = made_up(bench, {"gate": (0.0, 1.0)})
    table["differences"][0]["columns"]["all"]["difference"] = [0.0, 0.0, 0.0]
    rule = bench("system_rows").Entry("gate", rules={"normal": "No Finding"}, members=("BCE",))
    assert any(line.startswith("gate: no study moved") for line in bench("system_page").reading(table, [rule]))


def test_the_page_holds_every_row_and_marks_what_is_real(bench):
    table = made_up(bench, {"up": (0.03, 1e-5), "flat": (0.001, 0.8)})
    page = bench("system_page").page(["Facts."], {"(a)": (table, entries(bench))})
    assert "| up | 2 | 0.300 [0.290, 0.310] |" in page
    assert "**+0.030 [+0.020, +0.040]**" in page
    assert "| +0.001 [-0.009, +0.011] |" in page
    assert page.count("\n| ") == 1 + len(table["rows"])
    assert "A note." in page
    assert page.startswith("# The recipes measured side by side\n\nFacts.\n\n## (a)\n\nLike this.\n")
    assert "Made by `run me` on 2026-11-28." in page


def test_the_page_beside_the_recipes_is_that_of_the_stored_tables(bench):
    systems = bench("systems")
    tables = systems.stored()
    assert list(tables) == list(systems.TABLES)
    assert (RECIPES / "README.md").read_text() == systems.page_of(tables)


def test_p_is_the_normal_one(bench):
    two_sided = bench("system_page").two_sided
    for value, error in ((0.02, 0.01), (-0.02, 0.01), (0.3, 0.05)):
        assert two_sided(value, error) == pytest.approx(2 * norm.sf(abs(value) / error))
    assert (two_sided(0.0, 0.0), two_sided(0.1, 0.0)) == (1.0, 0.0)


def test_rows_trained_alike_are_one_row(bench):
    rows = bench("system_rows")
    one = rows.Entry("A", ["loss={name: bce}"], reported="x")
    other = replace(one, name="B", reported="y", gain="+1")
    joined = rows._joined([one, other, replace(one, name="C", overrides=["loss={name: focal}"])])
    assert [(row.name, row.reported, row.gain) for row in joined] == [("A", "x; y", "+1"), ("C", "x", None)]


def said(table, tmp_path, name, score):
    """A predictions file of every study: score(label, random) as the probability."""
    findings = finding_names(table)
    labels = labels_of(table, findings)
    random = np.random.default_rng(len(name)).random(labels.values.shape)
    scores = score(np.nan_to_num(labels.values), random).astype(np.float32)
    frame = pl.DataFrame({"study_id": labels.ids}).hstack(
        [pl.Series(one, scores[:, k]) for k, one in enumerate(findings)]
    )
    known = dict.fromkeys(findings, 100)
    write_predictions(
        Predictions(frame, positives=dict.fromkeys(findings, 30), known=known), tmp_path / f"{name}.parquet"
    )
    return tmp_path / f"{name}.parquet"


def test_rows_are_judged_as_the_package_judges_them(bench, data, tmp_path):
    table = read_studies(data.studies)
    files = {
        "BCE": [said(table, tmp_path, f"BCE{k}", lambda y, r: 0.2 * y + 0.6 * r) for k in ("", "0")],
        "sure": [said(table, tmp_path, "sure", lambda y, r: 0.9 * y + 0.05)],
        "coin": [said(table, tmp_path, "coins", lambda y, r: r)],
    }
    make = bench("system_rows").Entry
    told = bench("system_page").judged(
        files, [make("sure", over="coin")], data.truth, "BCE", replicates=100, least=3
    )  # fmt: skip
    rows = {row["name"]: row for row in told["rows"]}
    assert [rows[name]["runs"] for name in files] == [2, 1, 1]
    assert rows["sure"]["figures"]["all"][0] == rows["sure"]["figures"]["auroc"][0] == 1.0
    metrics = evaluate([files["coin"][0]], data.truth, tmp_path / "report", replicates=2, min_positives=3)
    assert rows["coin"]["figures"]["all"][0] == pytest.approx(metrics["macro"]["map"][0])
    labels = labels_of(table, finding_names(table)).values
    wrong = brier_skill(labels, 0.9 * np.nan_to_num(labels) + 0.05)
    assert rows["sure"]["brier_skill"] == pytest.approx(wrong.mean(), abs=1e-6)
    mean = make("mean", join="mean", members=("coin", "sure"))
    more = bench("system_page").judged(
        {**files, "mean": files["coin"]}, [mean], data.truth, "BCE", replicates=2, least=3
    )
    assert ("mean", "sure") in {(one["row"], one["over"]) for one in more["differences"]}, "its best member"
    assert {(one["row"], one["over"]) for one in told["differences"]} == {("sure", "BCE"), ("coin", "BCE"), ("sure", "coin")}  # fmt: skip
    verdicts = {(one["row"], one["over"]): one["columns"]["all"]["verdict"] for one in told["differences"]}
    assert verdicts["sure", "BCE"] == verdicts["sure", "coin"] == "above"
    assert all(one["columns"]["all"]["p_holm"] >= one["columns"]["all"]["p"] for one in told["differences"])


def test_what_another_seed_does_is_held_against_the_differences(bench):
    twin = bench("system_rows").TWIN
    table = made_up(
        bench, {twin: (-0.02, 0.001), "up": (0.03, 1e-5), "silent": (0.015, 1e-4), "flat": (0.001, 0.8)}, runs=1
    )
    last = bench("system_page").reading(table, [])[-1]
    assert last.endswith(
        "by -0.020 [-0.030, -0.010] mAP; of the differences called real 1 is (silent) no larger than that."
    )
    table = made_up(bench, {"up": (0.03, 1e-5)})
    assert not any("another seed" in line for line in bench("system_page").reading(table, []))


def test_a_table_says_how_it_was_made(bench):
    given = Namespace(
        backbone=None, seeds=5, head_epochs=10, epochs=12, train=2000, nih=None, tables=["heads"], folder=Path("small")
    )
    systems = bench("systems")
    assert "5 trainings a row of 10 epochs" in systems.how("heads", given)
    assert "12 epochs" in systems.how("whole", given)
    assert "2,000 training studies" in systems.how("whole", given)
    assert "2,000" not in systems.how("nih", given)
    told = "--tables heads --seeds 5 --head-epochs 10 --epochs 12 --train 2000"
    assert systems._command(given).endswith(f" RUNS {told}")
    given.tables = list(systems.TABLES)
    assert "--tables" not in systems._command(given)


def test_the_first_studies_are_taken_by_whole_patients(bench, data, tmp_path):
    given = Namespace(folder=tmp_path, work=tmp_path / "work", train=9, valid=5, test=5)
    given.work.mkdir()
    whole, part = read_studies(data.studies), read_studies(bench("systems").part(given).studies)
    for split, most in (("train", 9), ("valid", 5), ("test", 5)):
        kept = part.filter(split=split)
        assert 0 < kept["study_id"].n_unique() <= most
        patients = kept["patient_id"].unique(maintain_order=True).to_list()
        assert (
            patients == whole.filter(split=split)["patient_id"].unique(maintain_order=True).to_list()[: len(patients)]
        )
        assert kept.height == whole.filter(pl.col("patient_id").is_in(patients)).height


def test_a_quick_run_of_two_rows_and_what_is_trained_is_not_trained_again(bench, tmp_path, monkeypatch, capsys):
    systems, runs = bench("systems"), bench("system_runs")
    world = raised_tail(WORLDS["cxr-lt-2023"]).changed("few")
    drawn = draw_benchmark(tmp_path / "few", "few", Benchmark(world, size=32, train=40, valid=16, test=32, labelled=16))
    for name, one in (("studies", drawn.studies), ("truth", drawn.truth)):
        write_studies(one, tmp_path / "few" / f"{name}.parquet", label_level="study", note=drawn.note)
    words = ["systems.py", str(tmp_path / "few"), str(tmp_path / "work"), "--quick", "--only"]
    monkeypatch.setattr("sys.argv", [*words, "rule-normal-gates-power-5", "reference-another-seed"])
    monkeypatch.setattr("hilum.training.run_folder.draw_curves", lambda rows, path: None)
    before = (RECIPES / "README.md").read_text()
    systems.main()
    said = capsys.readouterr().out
    for row in ("BCE", "Rule: normal gates, power .5", "reference", "reference, another seed", "ridge on 16 x 16"):
        assert f"\n| {row} |" in said
    assert "\n| Focal |" not in said
    assert (RECIPES / "README.md").read_text() == before, "a part of the rows makes no page"

    def never(*given, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(runs, "train_stage", never)
    monkeypatch.setattr("hilum.reproductions.runs.train", never)
    systems.main()
    again = capsys.readouterr().out
    assert again[again.index("# The recipes") :] == said[said.index("# The recipes") :]
