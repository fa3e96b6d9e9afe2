"""A model fitted and measured without a study."""

import re

import pytest

from coldray.bundle.io import load_bundle
from coldray.command.app import main


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Return the folder of a model fitted on the train part of a split."""
    folder = tmp_path_factory.mktemp("fit") / "bundle"
    settings = ("--set", "lambda_1=10", "--set", "features.attributes=[genres]")
    assert main(["fit", "marec", "--split", "item-cold", "--output", str(folder), *settings]) == 0
    return folder


def test_the_bundle_has_the_parameters_that_were_set(bundle):
    loaded = load_bundle(bundle)
    assert loaded.model.config.lambda_1 == 10
    assert loaded.encoder.config.attributes == ("genres",)
    assert loaded.manifest["trained_on"] == "the train part of seed 42 / split 0 by notebook of sample"


def test_it_is_measured_on_validation_unless_test_is_said(bundle, capsys):
    assert main(["evaluate", str(bundle), "--metrics", "ndcg@10,recall@5"]) == 0
    shown = capsys.readouterr().out
    assert "On the validation part" in shown
    assert re.search(r"ndcg@10 +0\.\d{4} +0\.\d{4} to 0\.\d{4}", shown)
    assert re.search(r"recall@5 +0\.\d{4}", shown)
    assert main(["evaluate", str(bundle), "--part", "test"]) == 0
    assert "On the test part" in capsys.readouterr().out


def test_all_interactions_are_fitted_without_a_split_and_an_older_bundle_is_replaced(tmp_path, capsys):
    for model in ("ease", "popularity"):
        assert main(["fit", model, "--output", str(tmp_path / "bundle")]) == 0
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.model.name, loaded.manifest["trained_on"]) == ("popularity", "all interactions of sample")
    assert "coldray serve --bundle" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("fit", "marek"), 2, "Unknown model 'marek'. Did you mean 'marec'?"),
        (("fit", "marec", "--set", "lambda_11=3"), 2, "unknown field 'lambda_11'. Did you mean 'lambda_1'?"),
        (("fit", "marec", "--set", "features.atributes=[genres]"), 2, "Did you mean 'attributes'?"),
        (("fit", "marec", "--split", "item-cool"), 2, "'item-cold'"),
        (("fit", "marec", "--dataset", "smaple"), 2, "Did you mean 'sample'?"),
        (("fit", "marec", "--dataset", "ml-100k"), 2, "ml-100k is not in any folder"),
        (("fit", "mf",), 2, "has no ratings"),
        (("evaluate", "BUNDLE", "--metrics", "ndgc@10"), 2, "Did you mean 'ndcg@10'?"),
        (("evaluate", "BUNDLE", "--seed", "1"), 2, "it may have seen what it is to find"),
        (("evaluate", "nowhere"), 2, "does not exist"),
        (("evaluate", "FILE"), 2, "is a file"),
        (("evaluate", "FOLDER"), 1, "is no bundle"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_and_leaves_nothing(bundle, tmp_path, monkeypatch, capsys, arguments, status, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLDRAY_DATA", raising=False)
    places = {"BUNDLE": bundle, "FILE": bundle / "manifest.json", "FOLDER": bundle.parent}
    given = [str(places.get(word, word)) for word in arguments]
    assert main([*given, *(["--output", "made"] if arguments[0] == "fit" else [])]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_things_is_not_replaced(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert main(["fit", "ease", "--output", str(tmp_path)]) == 2
    assert "holds files and is no bundle" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "mine"
