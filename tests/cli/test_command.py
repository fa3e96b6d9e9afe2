"""The last line of defence of every job: an error that nobody foresaw."""

from importlib import import_module
from pathlib import Path

import pytest

from coldray.cli.command import reported


def test_an_error_that_nobody_foresaw_is_shown_with_its_place_and_without_passwords(capsys):
    def work():
        try:
            raise KeyError("postgresql://me:geheim@db/x")
        except KeyError as error:
            raise RuntimeError("https://me:geheim@host/?token=geheim [b]") from error

    assert reported(work) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "geheim" not in printed.err
    assert "in work" in printed.err
    assert "RuntimeError: https://me:***@host/?token=*** [b]\n" in printed.err
    last = printed.err.splitlines()[-1]
    assert last.startswith("error: RuntimeError: https://me:***@host/?token=*** [b]. This is a fault of the program")
    assert last.endswith("report it with the lines above.")


@pytest.mark.parametrize(
    ("job", "arguments", "module", "name", "way_on"),
    [
        ("serve_main", [], "coldray.cli.jobs.serve", "run_service", ""),
        ("sync_main", [], "coldray.cli.jobs.sync_runs", "sync_runs", ""),
        ("status_main", ["a-study"], "coldray.cli.jobs.study_status", "show_status", ""),
        (
            "recommend_main",
            ["--histories", "here", "--output", "there"],
            "coldray.cli.jobs.recommend_all",
            "recommend_all",
            " Partitions that are finished are kept; the same command goes on with the others.",
        ),
        (
            "ablation_main",
            ["--resume"],
            "coldray.cli.jobs.ablation",
            "ablate",
            " What was done before is kept; --resume goes on with the study.",
        ),
    ],
)
def test_the_last_line_names_a_way_on_that_the_job_has(monkeypatch, capsys, job, arguments, module, name, way_on):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(import_module(module), name, fail)
    main = getattr(import_module("coldray.cli.command"), job)
    given = (Path("tune_spaces/ablation.yaml"),) if job == "ablation_main" else ()
    assert main("A job.", *given, arguments=arguments) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        f"RuntimeError: broken. This is a fault of the program: report it with the lines above.{way_on}"
    )
