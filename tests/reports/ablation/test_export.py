import dataclasses
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from coldray.core.errors import OutputError
from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation import report as ablation_export
from coldray.reports.ablation.diagnostics import PANELS
from coldray.reports.ablation.report import export_ablation, results_table, summary_table

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = {
    "ablation_results.csv",
    "ablation_summary.csv",
    "config.json",
    "report.html",
    "diagnostics.png",
    *(f"{panel.name}.png" for panel in PANELS),
}


@pytest.fixture
def quick(monkeypatch):
    """Leave the figures out: they have tests of their own."""
    monkeypatch.setattr(ablation_export, "diagnostic_figures", lambda result: {})


def test_every_file_is_written_and_returned(ablation, tmp_path):
    files = export_ablation(ablation(folds=((42, 0), (42, 1))), tmp_path / "runs" / "out")
    assert {path.name for path in files.folder.iterdir()} == NAMES
    assert [path.name for path in files.pictures] == ["diagnostics.png", *(f"{panel.name}.png" for panel in PANELS)]
    assert all(path.read_bytes().startswith(PNG) for path in files.pictures)
    assert all(path.parent == files.folder for path in (files.results, files.summary, files.config, files.report))
    assert files.report.read_text(encoding="utf-8").count("data:image/png") == len(PANELS)
    assert files.archive == tmp_path / "runs" / "out.zip"
    assert {path.name for path in files.archive.parent.iterdir()} == {"out", "out.zip"}
    with zipfile.ZipFile(files.archive) as packed:
        assert packed.namelist() == sorted(f"out/{name}" for name in NAMES)
        assert {entry.date_time for entry in packed.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        for name in NAMES:
            assert packed.read(f"out/{name}") == (files.folder / name).read_bytes()


def test_the_same_ablation_gives_the_same_archive(ablation, tmp_path):
    archives = [export_ablation(ablation(folds=((1, 0),)), tmp_path / str(i) / "out").archive for i in range(2)]
    assert archives[0].read_bytes() == archives[1].read_bytes()


@pytest.mark.usefixtures("quick")
def test_results_come_back_from_csv_to_the_last_bit(ablation, tmp_path):
    result = ablation()
    table = pl.read_csv(export_ablation(result, tmp_path / "out").results)
    assert table.columns == ["mode", "seed", "split", "metric", "value"]
    read = {tuple(row[:4]): row[4] for row in table.iter_rows()}
    expected = {
        (mode.name, fold.seed, fold.split, metric): value
        for mode in result.modes
        for fold in mode.folds
        for metric, value in fold.metrics.items()
    }
    assert read == expected
    assert len(table) == len(expected)


@pytest.mark.usefixtures("quick")
def test_the_summary_has_a_row_for_each_mode_and_metric(ablation, tmp_path):
    result = ablation()
    table = pl.read_csv(export_ablation(result, tmp_path / "out").summary)
    assert len(table) == len(result.modes) * len(result.modes[0].folds[0].metrics)
    rows = {(row["mode"], row["metric"]): row for row in table.iter_rows(named=True)}
    mode = result.modes[-1]
    row, lift = rows[mode.name, "ndcg@10"], mode.lifts["ndcg@10"]
    assert (row["folds"], row["mean"], row["std"]) == (
        6,
        mean_metric(mode.folds, "ndcg@10"),
        std_metric(mode.folds, "ndcg@10"),
    )
    assert (row["low"], row["high"]) == mode.intervals["ndcg@10"]
    assert (row["lift"], row["lift_low"], row["lift_high"]) == (lift.difference, lift.low, lift.high)
    assert (row["relative_lift"], row["p_value"], row["p_adjusted"]) == (lift.relative, lift.p_value, lift.p_adjusted)
    assert rows["MARec", "ndcg@10"]["lift"] is None
    assert rows[mode.name, "coverage@10"]["low"] is None


def test_a_single_fold_has_no_deviation(ablation):
    assert summary_table(ablation(folds=((42, 0),)))["std"].null_count() == len(summary_table(ablation()))


def test_folds_that_differ_in_their_metrics_are_all_kept(ablation):
    result = ablation(modes=("MARec",), folds=((1, 0), (1, 1)), cutoffs=(10,))
    mode = result.modes[0]
    shorter = dataclasses.replace(mode.folds[1], metrics={"hr@10": 0.25})
    result = dataclasses.replace(result, modes=(dataclasses.replace(mode, folds=(mode.folds[0], shorter)),))
    assert len(results_table(result)) == 4
    assert summary_table(result)["metric"].to_list() == ["hr@10"]


@pytest.mark.usefixtures("quick")
def test_the_configuration_is_plain_json(ablation, tmp_path):
    odd = {"a": np.float32(0.5), "b": (1, 2), "c": Path("x"), "d": math.inf, "e": None, "f": {"g": True}, 3: "é"}
    files = export_ablation(ablation(configs={"MARec": odd}), tmp_path / "out")
    read = json.loads(files.config.read_text(encoding="utf-8"))
    assert read["modes"]["MARec"] == {
        "a": 0.5,
        "b": [1, 2],
        "c": "x",
        "d": "inf",
        "e": None,
        "f": {"g": True},
        "3": "é",
    }
    assert list(read["modes"]) == ["MARec", "+CA", "+CA+UA", "+CA+UA+GE"]
    assert read["cutoffs"] == [5, 10, 20, 50, 100]
    assert read["correction"] == "Holm"
    assert read["dataset"]["n_users"] == 6040


@pytest.mark.usefixtures("quick")
def test_an_earlier_export_is_replaced(ablation, tmp_path):
    export_ablation(ablation(), tmp_path / "out")
    (tmp_path / "out" / "lift.png").write_bytes(b"old")
    files = export_ablation(ablation(modes=("MARec",)), tmp_path / "out")
    assert pl.read_csv(files.results)["mode"].unique().to_list() == ["MARec"]
    assert not (tmp_path / "out" / "lift.png").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.zip"}


@pytest.mark.usefixtures("quick")
def test_a_folder_with_other_files_is_left_alone(ablation, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'thesis\.txt'"):
        export_ablation(ablation(), tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.txt"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("blocked", ["a file instead of the folder", "a folder instead of the archive"])
def test_what_is_in_the_way_is_named_and_kept(ablation, tmp_path, blocked):
    if blocked.startswith("a file"):
        (tmp_path / "out").write_text("in the way")
    else:
        (tmp_path / "out.zip").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match="Cannot write"):
        export_ablation(ablation(), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("quick")
def test_an_unwritable_folder_is_an_output_error(ablation, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Cannot write"):
        export_ablation(ablation(), tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_failure_half_way_leaves_the_earlier_export_and_nothing_else(ablation, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation_export, "diagnostic_figures", lambda result: {})
    files = export_ablation(ablation(), tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ablation_export, "write_ablation_report", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        export_ablation(ablation(modes=("MARec",)), files.folder)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
