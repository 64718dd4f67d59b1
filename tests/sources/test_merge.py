"""Merging study tables: findings by name, unknown kept unknown, ids and splits honest, contradictions refused."""

import tempfile
import zlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import hilum
from hilum.cli import app
from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.recipe import parse_recipe
from hilum.sources.merge import merge
from hilum.tables import finding_names, read_studies, studies_metadata, write_studies
from hilum.training.inputs import split_studies, with_absolute_paths, without_folders
from hilum.training.run import _begin as begin

FACTS = {"study_id": pl.String, "patient_id": pl.String, "image_id": pl.String, "split": pl.String}


def studies(path, rows, source="nih", level="image", note=None):
    """Rows of {image, patient?, study?, split?, view?, finding: label} as a study table on disk."""
    findings = sorted({name for row in rows for name in row if name[0].isupper()})
    made = [
        {
            "study_id": row.get("study", row["image"]),
            "patient_id": row.get("patient", row["image"]),
            "image_id": row["image"],
            "path": row.get("path", f"/{row.get('source', source)}/{row['image']}.png"),
            "view": row.get("view", "PA"),
            "source": row.get("source", source),
            **({"split": row["split"]} if "split" in row else {}),
            **{name: row.get(name) for name in findings},
        }
        for row in rows
    ]
    table = pl.DataFrame(made, schema_overrides={**FACTS, **dict.fromkeys(findings, pl.Int8)} if made else None)
    write_studies(table, path, label_level=level, note=note)
    return path


def two(tmp_path, one, other, **how):
    a = studies(tmp_path / "a.parquet", one, **how)
    return a, studies(tmp_path / "b.parquet", other, **{**how, "source": how.get("other", "chexpert")})


def labels(merged, name):
    return dict(merged.studies.select("image_id", name).iter_rows())


def notes(merged):
    return "\n".join(merged.notes)


def test_what_a_table_does_not_label_is_unknown(tmp_path):
    a = studies(
        tmp_path / "a.parquet", [{"image": "1", "Hernia": 0, "Mass": 1}, {"image": "2", "Hernia": None, "Mass": 0}]
    )
    b = studies(tmp_path / "b.parquet", [{"image": "x", "Mass": -1, "Edema": 1}], source="chexpert")
    merged = merge([a, b], tmp_path / "deep" / "all.parquet")
    assert labels(merged, "Hernia") == {"1": 0, "2": None, "x": None}
    assert labels(merged, "Mass") == {"1": 1, "2": 0, "x": -1}
    assert labels(merged, "Edema") == {"1": None, "2": None, "x": 1}
    assert finding_names(merged.studies) == ["Edema", "Hernia", "Mass"]
    assert read_studies(tmp_path / "deep" / "all.parquet").equals(merged.studies)
    assert "nih: 2 images, 2 of 3 findings labelled." in merged.notes


def test_aliases_meet_and_are_told(tmp_path):
    a, b = two(tmp_path, [{"image": "1", "Effusion": 1}], [{"image": "x", "Pleural Effusion": 0}])
    merged = merge([a, b], tmp_path / "all.parquet")
    assert labels(merged, "Pleural Effusion") == {"1": 1, "x": 0}
    assert f"Effusion of {a} is Pleural Effusion." in merged.notes
    both = studies(tmp_path / "c.parquet", [{"image": "1", "Effusion": 1, "Pleural Effusion": 0}])
    with pytest.raises(InputError, match="are both the finding 'Pleural Effusion'"):
        merge([both], tmp_path / "all.parquet")


def of_set(which, **row):
    return {"image": "1", **dict.fromkeys(FINDING_SETS[which], 0), **row}


def test_no_finding_of_a_shorter_list_is_another_finding(tmp_path):
    a = studies(tmp_path / "a.parquet", [of_set("cxr-lt-2023", **{"No Finding": 1})], source="mimic")
    b = studies(tmp_path / "b.parquet", [of_set("chexpert", **{"No Finding": 1})], source="chexpert")
    merged = merge([a, b], tmp_path / "all.parquet")
    assert merged.studies["No Finding"].to_list() == [1, None]
    assert merged.studies["No Finding (chexpert)"].to_list() == [None, 1]
    assert "denies its own 13 findings, of 25: it is No Finding (chexpert)." in notes(merged)
    again = merge([tmp_path / "all.parquet", b], tmp_path / "again.parquet")
    assert again.studies.equals(merged.studies)


def test_three_findings_that_say_nothing_is_there_stay_three(tmp_path):
    sets = {"nih-cxr-lt": "nih", "cxr-lt-2023": "mimic", "cxr-lt-2026-task1": "padchest"}
    files = [studies(tmp_path / f"{name}.parquet", [of_set(name)], source=source) for name, source in sets.items()]
    merged = merge(files, tmp_path / "all.parquet")
    said = [name for name in finding_names(merged.studies) if name.startswith(("No Finding", "Normal"))]
    assert said == ["No Finding (cxr-lt-2023)", "No Finding (nih-cxr-lt)", "Normal (cxr-lt-2026-task1)"]
    for name in said:
        assert merged.studies[name].null_count() == 2


def test_normal_and_no_finding_of_one_list_stay_two(tmp_path):
    a, b = two(tmp_path, [of_set("cxr-lt-2023")], [of_set("cxr-lt-2024-task2")])
    merged = merge([a, b], tmp_path / "all.parquet")
    assert {"No Finding", "Normal"} < set(finding_names(merged.studies))
    assert "denies" not in notes(merged)


def test_a_list_that_nobody_published_goes_by_its_source(tmp_path):
    a, b = two(tmp_path, [{"image": "1", "Normal": 1, "Mass": 0}], [{"image": "x", "Mass": 0, "Edema": 1}])
    assert labels(merge([a, b], tmp_path / "all.parquet"), "Normal (nih)") == {"1": 1, "x": None}
    c = studies(tmp_path / "c.parquet", [{"image": "2", "Normal": 1, "Edema": 0}])
    with pytest.raises(InputError, match=r"'Normal \(nih\)' would stand for two lists"):
        merge([a, c], tmp_path / "all.parquet")


def test_the_same_image_in_two_label_sets_is_one_row(tmp_path):
    a = studies(
        tmp_path / "a.parquet", [{"image": "1", "patient": "7", "Mass": 1, "view": "AP"}, {"image": "2", "Mass": 0}]
    )
    b = studies(
        tmp_path / "b.parquet", [{"image": "1", "patient": "7", "Mass": 1, "Tortuous Aorta": 0, "view": "unknown"}]
    )
    merged = merge([a, b], tmp_path / "all.parquet")
    assert merged.studies["image_id"].to_list() == ["1", "2"]
    assert merged.studies["view"].to_list() == ["AP", "PA"]
    assert merged.studies["patient_id"].to_list() == ["7", "2"]
    assert labels(merged, "Tortuous Aorta") == {"1": 0, "2": None}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Mass": 0}, r"image '1' has Mass 1 in .*a\.parquet and 0 in .*b\.parquet\. Decide which table labels Mass"),
        ({"Mass": -1}, r"has Mass 1 in .* and -1 in"),
        ({"view": "AP"}, r"has view PA in .* and AP in .*Correct one"),
        ({"patient": "8"}, r"has patient_id 1 in .* and 8 in"),
        ({"path": "/elsewhere/1.png"}, r"has path .*Import both tables from one folder"),
    ],
)
def test_contradictions_are_refused(tmp_path, change, says):
    row = {"image": "1", "Mass": 1}
    a = studies(tmp_path / "a.parquet", [row])
    b = studies(tmp_path / "b.parquet", [{**row, **change}])
    with pytest.raises(InputError, match=says):
        merge([a, b], tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()


def test_how_many_more_disagree(tmp_path):
    a, b = (studies(tmp_path / f"{v}.parquet", [{"image": str(k), "Mass": v} for k in range(5)]) for v in (0, 1))
    with pytest.raises(InputError, match=r"image '0' has Mass 0 .* \(4 more images disagree\)"):
        merge([a, b], tmp_path / "all.parquet")


def test_ids_of_different_sources_are_kept_apart(tmp_path):
    a, b = two(tmp_path, [{"image": "1", "patient": "p", "Mass": 1}], [{"image": "1", "patient": "q", "Mass": 0}, {"image": "2", "patient": "p", "Mass": 0}])  # fmt: skip
    merged = merge([a, b], tmp_path / "all.parquet")
    assert merged.studies["image_id"].to_list() == ["nih/1", "chexpert/1", "chexpert/2"]
    assert merged.studies["patient_id"].to_list() == ["nih/p", "chexpert/q", "chexpert/p"]
    assert "1 patient ids stand in several of chexpert, nih: p is written chexpert/p, nih/p." in notes(merged)


def test_tables_that_do_not_say_whence_are_asked(tmp_path):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "patient": "7", "Mass": 1}], source="folder")
    b = studies(tmp_path / "b.parquet", [{"image": "2", "patient": "7", "Mass": 0}], source="folder")
    with pytest.raises(InputError, match=r"both of the source 'folder' and share the patient '7'.*Write NAME="):
        merge([a, b], tmp_path / "all.parquet")
    apart = merge([f"here={a}", f"there={b}"], tmp_path / "all.parquet").studies
    assert apart["patient_id"].to_list() == ["here/7", "there/7"]
    assert apart["source"].to_list() == ["here", "there"]
    together = merge([f"here={a}", f"here={b}"], tmp_path / "one.parquet").studies
    assert together["patient_id"].to_list() == ["7", "7"]
    c = studies(tmp_path / "c.parquet", [{"image": "3", "patient": "8", "Mass": 0}], source="folder")
    assert merge([a, c], tmp_path / "two.parquet").studies["patient_id"].to_list() == ["7", "8"]


def test_synthetic_images_stay_synthetic(tmp_path):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "Mass": 1}, {"image": "g", "source": "synthetic", "Mass": 1}])
    assert merge([f"mine={a}"], tmp_path / "all.parquet").studies["source"].to_list() == ["mine", "synthetic"]


def test_splits_that_agree_are_carried_over(tmp_path):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "patient": "7", "split": "train", "Mass": 1}])
    b = studies(tmp_path / "b.parquet", [{"image": "2", "patient": "7", "split": "train", "Mass": 0}])
    c = studies(tmp_path / "c.parquet", [{"image": "3", "Mass": 0}])
    merged = merge([a, b, c], tmp_path / "all.parquet")
    assert merged.studies["split"].to_list() == ["train", "train", None]
    assert "1 images have no split." in merged.notes


@pytest.mark.parametrize("other", [{"image": "2"}, {"image": "1"}])
def test_splits_that_tear_a_patient_or_an_image_are_left_out(tmp_path, other):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "patient": "7", "split": "train", "Mass": 1}])
    b = studies(tmp_path / "b.parquet", [{**other, "patient": "7", "split": "test", "Edema": 0}])
    merged = merge([a, b], tmp_path / "all.parquet")
    assert "split" not in merged.studies.columns
    assert "stand on two sides, such as" in notes(merged)
    assert "(test, train)" in notes(merged)


def test_unknown_patients_beside_known_ones(tmp_path):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "patient": "7", "Mass": 1}])
    b = studies(tmp_path / "b.parquet", [{"image": "2", "patient": None, "Mass": 0}], source="vindr")
    merged = merge([a, b], tmp_path / "all.parquet")
    assert merged.studies["patient_id"].to_list() == ["7", "2"]
    assert "Patients of vindr are unknown" in studies_metadata(tmp_path / "all.parquet")["note"]
    alone = merge([b], tmp_path / "alone.parquet")
    assert alone.studies["patient_id"].null_count() == 1
    c = studies(tmp_path / "c.parquet", [{"image": "1", "patient": None, "Edema": 1}])
    assert merge([a, c], tmp_path / "told.parquet").studies["patient_id"].to_list() == ["7"]


def test_levels_and_notes(tmp_path):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "Mass": 1}], level="study", note="B.")
    b = studies(tmp_path / "b.parquet", [{"image": "2", "Mass": 0}], level="study", note="A.")
    c = studies(tmp_path / "c.parquet", [{"image": "3", "Mass": 0}])
    assert merge([a, b], tmp_path / "all.parquet").label_level == "study"
    assert studies_metadata(tmp_path / "all.parquet") == {"hilum": "studies", "label_level": "study", "note": "A. B."} | {
        key: value for key, value in studies_metadata(tmp_path / "all.parquet").items() if key == "ARROW:schema"
    }  # fmt: skip
    assert merge([a, b, c], tmp_path / "all.parquet").label_level == "image"


def test_labels_of_a_study_reach_the_images_that_one_table_lacks(tmp_path):
    rows = [{"image": name, "study": "s", "patient": "7"} for name in "ab"]
    a = studies(tmp_path / "a.parquet", [{**row, "Mass": 1} for row in rows], level="study")
    b = studies(tmp_path / "b.parquet", [{**rows[0], "Edema": 1}], level="study")
    assert labels(merge([a, b], tmp_path / "all.parquet"), "Edema") == {"a": 1, "b": 1}
    c = studies(tmp_path / "c.parquet", [{**rows[0], "Edema": 1}])
    assert labels(merge([a, c], tmp_path / "all.parquet"), "Edema") == {"a": 1, "b": None}


def test_parents_only_where_they_are_unknown_and_asked_for(tmp_path):
    a, b = two(
        tmp_path,
        [{"image": "1", "Rib Fracture": 1}, {"image": "2", "Rib Fracture": 0}, {"image": "3", "Rib Fracture": -1}],
        [{"image": "x", "Fracture": 0, "Rib Fracture": 1}, {"image": "y", "Fracture": 1, "Rib Fracture": None}],
    )
    merged = merge([a, b], tmp_path / "all.parquet", parents=True)
    assert labels(merged, "Fracture") == {"1": 1, "2": None, "3": None, "x": 0, "y": 1}
    assert labels(merged, "Rib Fracture") == {"1": 1, "2": 0, "3": -1, "x": 1, "y": None}
    assert "Fracture: present in 1 images more, where Rib Fracture is." in merged.notes
    assert "Fracture: absent in 1 images with Rib Fracture, left as their source says." in merged.notes
    plain = merge([a, b], tmp_path / "plain.parquet")
    assert labels(plain, "Fracture")["1"] is None


# Laws, on tables that agree: what an image shows is a function of the image and the finding.
NAMES = ("Edema", "Fracture", "Hernia", "Mass", "Rib Fracture")
SOURCES = ("nih", "chexpert", "folder")


def truth(source, image, finding):
    return (1, 0, -1)[zlib.crc32(f"{source} {image} {finding}".encode()) % 3]


@st.composite
def agreeing(draw):
    """Two to four tables: of each its images and, per image and finding, whether it is labelled."""
    tables = []
    for _ in range(draw(st.integers(2, 4))):
        source = draw(st.sampled_from(SOURCES))
        names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        images = draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
        rows = []
        for image in images:
            said = {name: truth(source, image, name) if draw(st.booleans()) else None for name in names}
            rows.append({"image": image, "patient": f"p{ord(image) % 2}", **said})
        tables.append((source, rows))
    # Tables of a folder share an image, so that they are known as one place.
    return [(source, rows if source != "folder" else [*rows, _anchor(rows)]) for source, rows in tables]


def _anchor(rows):
    return {"image": "z", "patient": "p9", **dict.fromkeys(name for name in rows[0] if name[0].isupper())}


def written(folder, tables):
    return [studies(Path(folder) / f"{k}.parquet", rows, source=source) for k, (source, rows) in enumerate(tables)]


@settings(max_examples=15, deadline=None)
@given(agreeing(), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_tables_only_orders_the_rows(tables, random, parents):
    with tempfile.TemporaryDirectory() as folder:
        files = written(folder, tables)
        turned = random.sample(files, len(files))
        one, other = (merge(order, Path(folder) / "out.parquet", parents=parents) for order in (files, turned))
        assert one.studies.sort("image_id").equals(other.studies.sort("image_id"))
        assert one.label_level == other.label_level
        assert sorted(one.notes) == sorted(other.notes)


@settings(max_examples=15, deadline=None)
@given(agreeing())
def test_a_table_merged_with_itself_is_itself(tables):
    with tempfile.TemporaryDirectory() as folder:
        for file in written(folder, tables):
            once = merge([file, file, file], Path(folder) / "out.parquet").studies
            assert once.equals(read_studies(file))
        whole = merge(written(folder, tables), Path(folder) / "all.parquet").studies
        again = merge([Path(folder) / "all.parquet"] * 2, Path(folder) / "out.parquet").studies
        assert again.equals(whole)


@settings(max_examples=15, deadline=None)
@given(agreeing())
def test_merging_one_after_another_is_merging_at_once(tables):
    with tempfile.TemporaryDirectory() as folder:
        files, steps = written(folder, tables), Path(folder) / "steps.parquet"
        whole = merge(files, Path(folder) / "out.parquet").studies
        merge(files[:2], steps)
        for file in files[2:]:
            merge([steps, file], Path(folder) / "next.parquet")
            (Path(folder) / "next.parquet").rename(steps)
        assert read_studies(steps).sort("image_id").equals(whole.sort("image_id"))


@settings(max_examples=15, deadline=None)
@given(agreeing())
def test_unknown_is_never_zero(tables):
    with tempfile.TemporaryDirectory() as folder:
        merged = merge(written(folder, tables), Path(folder) / "out.parquet").studies
    said = {}
    for source, rows in tables:
        for row in rows:
            for name, value in row.items():
                if name[0].isupper() and value is not None:
                    said[source, row["image"], name] = value
    findings = finding_names(merged)
    assert set(findings) == {name for _, rows in tables for row in rows for name in row if name[0].isupper()}
    for row in merged.iter_rows(named=True):
        image = row["image_id"].rpartition("/")[2]
        for name in findings:
            assert row[name] == said.get((row["source"], image, name))


def run_of(*tables, **more):
    return split_studies(parse_recipe({"studies": [str(table) for table in tables], "split": SPLIT, **more}))


SPLIT = {"valid": 0.3, "test": 0.3}


def test_a_run_on_a_list_is_a_run_on_what_merge_writes(tmp_path):
    rows = [{"image": str(k), "patient": f"p{k}"} for k in range(8)]
    a = [of_set("cxr-lt-2023", **row, Mass=k % 2) for k, row in enumerate(rows)]
    b = [{**of_set("chexpert"), **row, "No Finding": k % 2, "Effusion": 1} for k, row in enumerate(rows)]
    for row in b:
        row.pop("Pleural Effusion")
    a, b = two(tmp_path, a, b, level="study", note="A test.")
    merged = merge([a, b], tmp_path / "all.parquet")
    united, one = run_of(a, b), run_of(tmp_path / "all.parquet")
    assert sorted(united.united) == sorted(merged.notes)
    assert (united.level, united.note) == (one.level, one.note)
    findings = finding_names(merged.studies)
    assert set(finding_names(united.table)) == set(findings)
    assert {"No Finding", "No Finding (chexpert)"} < set(findings)
    assert "Effusion" not in findings
    ours, plain = (each.table.sort("image_id").drop("split") for each in (united, one))
    assert ours.select(plain.columns).equals(plain)
    assert united.table["patient_id"].n_unique() == 16
    assert not one.united


def test_the_level_of_a_list_is_that_of_all_its_tables(tmp_path):
    rows = [{"image": str(k), "Mass": k % 2} for k in range(6)]
    a = studies(tmp_path / "a.parquet", rows, level="study")
    b = studies(tmp_path / "b.parquet", [{**row, "image": f"b{row['image']}"} for row in rows])
    assert run_of(a, b).level == "image"


def test_a_list_says_what_was_decided_and_whence_its_tables_are(tmp_path, monkeypatch):
    rows = [{"image": str(k), "Mass": k % 2} for k in range(6)]
    a, b = (studies(tmp_path / f"{name}.parquet", rows, source="folder") for name in "ab")
    b = studies(b, [{**row, "path": f"/b/{row['image']}.png"} for row in rows], source="folder")
    with pytest.raises(InputError, match=r"nobody says whether it is the same.*NAME="):
        run_of(a, b)
    named = [f"here={a}", f"there={b}"]
    assert run_of(*named).table["patient_id"].n_unique() == 12
    monkeypatch.chdir(tmp_path)
    recipe = parse_recipe({"studies": ["here=a.parquet", "b.parquet"]})
    assert with_absolute_paths(recipe).studies == [f"here={tmp_path / 'a.parquet'}", str(tmp_path / "b.parquet")]
    assert without_folders(with_absolute_paths(recipe)).studies == ["here=a.parquet", "b.parquet"]
    said = []
    begin(
        "demo",
        [f"studies=[{','.join(named)}]", "split.valid=0.3", "findings=null"],
        tmp_path / "run",
        False,
        said.append,
    )
    assert "studies   here: 6 images, 1 of 1 findings labelled." in said


def test_generated_images_leave_the_order_of_findings_and_who_is_tested_as_they_are(tmp_path):
    findings = ["Mass", "Edema", "Hernia"]
    real = pl.DataFrame({name: [str(k) for k in range(30)] for name in ("study_id", "patient_id", "image_id", "path")})
    labels = [
        pl.Series(name, [int((k + j) % 3 == 0) for k in range(30)], dtype=pl.Int8) for j, name in enumerate(findings)
    ]
    real = real.with_columns(view=pl.lit("PA"), source=pl.lit("nih")).with_columns(labels)
    write_studies(real, tmp_path / "real.parquet", label_level="study")
    made = studies(
        tmp_path / "made.parquet", [{"image": "g", "Mass": 1, "Bulla": 1}], source="synthetic", level="study"
    )
    united, alone = run_of(tmp_path / "real.parquet", made), run_of(tmp_path / "real.parquet")
    assert finding_names(united.table) == [*findings, "Bulla"]
    kept = united.table.filter(pl.col("source") != "synthetic")
    assert kept.select("image_id", "split").equals(alone.table.select("image_id", "split"))


def test_what_cannot_be_merged(tmp_path):
    a = studies(tmp_path / "a.parquet", [{"image": "1", "Mass": 1}])
    with pytest.raises(InputError, match="no table to merge"):
        merge([], tmp_path / "all.parquet")
    with pytest.raises(InputError, match="inputs are never changed"):
        merge([a, a], tmp_path / "x" / ".." / "a.parquet")
    with pytest.raises(InputError, match="no such file"):
        merge([a, tmp_path / "b.parquet"], tmp_path / "all.parquet")


def test_the_verb_and_the_face(tmp_path):
    a, b = two(tmp_path, [{"image": "1", "Effusion": 1}], [{"image": "x", "Mass": 0}])
    done = CliRunner().invoke(app, ["merge", str(a), str(b), "-o", str(tmp_path / "all.parquet"), "--parents"])
    assert done.exit_code == 0, done.output
    assert "Effusion of" in done.output
    assert "2 images of 2 studies, 2 findings" in done.output
    assert "hilum check" in done.output
    assert hilum.merge([a, b], tmp_path / "face.parquet").studies.equals(read_studies(tmp_path / "all.parquet"))
