"""A study file is written for files of one's own, and is tuned as it is."""

import string
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coldray.cli.jobs.init import study_text
from coldray.command.app import main
from coldray.core.study_files import named_file
from coldray.data.dataset import LabelAttribute
from coldray.data.guess.guess import Guess
from coldray.data.guess.tables import GuessedTables
from coldray.data.sources.sample import sample_dataset
from coldray.data.sources.tabular import read_tabular
from coldray.experiments.space import load_study

NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["a: b", "# c", "'q\"", "- x", "null", "1e3", "naïve", "é|ü"]
)


def sample_files(folder):
    """Write the sample as a team would have it, and return its files."""
    films = sample_dataset(0, 150, 110)
    clicks = films.interactions.tocoo()
    generator = np.random.default_rng(0)
    pl.DataFrame(
        {
            "user_id": films.user_ids[clicks.row],
            "film_id": films.item_ids[clicks.col],
            "stars": generator.integers(1, 6, clicks.nnz),
            "source": "web",
        }
    ).write_parquet(folder / "clicks.parquet")
    labels = {
        name: ["|".join(one.labels[one.matrix[[row]].indices]) for row in range(films.n_items)]
        for name, one in films.attributes.items()
        if isinstance(one, LabelAttribute)
    }
    votes = np.bincount(clicks.col, minlength=films.n_items) * 17
    pl.DataFrame({"film_id": films.item_ids, **labels, "vote_count": votes}).write_csv(folder / "films.csv")
    known = {
        "user_id": films.user_ids,
        "age": generator.integers(18, 80, films.n_users),
        "gender": generator.choice(["F", "M"], films.n_users),
        "occupation": generator.integers(0, 8, films.n_users),
        "email": [f"{user}@example.org" for user in films.user_ids],
        "last_login": generator.integers(1_500_000_000, 1_600_000_000, films.n_users),
        "seen": np.bincount(clicks.row, minlength=films.n_users) * 3,
    }
    pl.DataFrame(known).write_csv(folder / "people.csv")
    pl.DataFrame(known).rename({"user_id": "id"}).write_csv(folder / "renamed.csv")
    return "clicks.parquet", "films.csv"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_printed_is_a_study_file_and_no_more(here, capsys):
    assert main(["init", *sample_files(here)]) == 0
    printed = capsys.readouterr().out
    (here / "mine.yaml").write_text(printed, encoding="utf-8")
    study = load_study(here / "mine.yaml")
    assert (study.name, study.model) == ("clicks", "marec")
    assert (study.data.name, study.data.tabular.interactions) == ("parquet", here / "clicks.parquet")
    tables = study.data.tabular
    assert (tables.user_column, tables.item_column, tables.rating_column) == ("user_id", "film_id", "stars")
    assert tables.label_columns == ("genres", "directors", "actors")
    assert "vote_count: by its name it comes with an audience" in printed
    assert "source: it is the same in every row" in printed
    assert "# filters: {min_rating_exclusive: 3}" in printed
    assert study.space == load_study(named_file("marec", "study")).space


def test_without_items_the_study_is_one_of_clicks(here, capsys):
    assert main(["init", sample_files(here)[0], "--output", "mine.yaml"]) == 0
    assert "mine.yaml --dry-run" in capsys.readouterr().out
    assert load_study(here / "mine.yaml").model == "ease"


def test_users_are_described_by_what_is_known_when_they_sign_up(here):
    clicks, films = sample_files(here)
    assert main(["init", clicks, "--users", "people.csv", "--output", "people.yaml"]) == 0
    assert main(["init", clicks, films, "--users", "people.csv", "--output", "both.yaml"]) == 0
    alone, both = (load_study(here / name) for name in ("people.yaml", "both.yaml"))
    assert (alone.model, both.model) == ("kernel_align_users", "marec")
    for study in (alone, both):
        tables = study.data.tabular
        assert tables.users == here / "people.csv"
        assert (tables.user_label_columns, tables.user_number_columns) == (("gender", "occupation"), ("age",))
        assert tables.user_text_columns == ()
    written = (here / "both.yaml").read_text(encoding="utf-8")
    assert "email: it tells one user from all others" in written
    assert "last_login: by its name it comes with what a user has done" in written
    assert "seen: (?) it goes with the clicks (rank correlation 1.00)" in written
    assert main(["tune", "people.yaml", "--dry-run", "--set", "search.trials=1"]) == 0


def test_paths_begin_at_the_folder_of_the_file(here):
    (here / "data").mkdir()
    (here / "studies").mkdir()
    files = [f"data/{name}" for name in sample_files(here / "data")]
    assert main(["init", *files, "--study", "kernel_align", "--output", "data/near.yaml"]) == 0
    assert main(["init", *files, "--output", "studies/far.yaml"]) == 0
    near, far = (yaml.safe_load((here / name).read_text()) for name in ("data/near.yaml", "studies/far.yaml"))
    assert near["data"]["tabular"]["items"] == "films.csv"
    assert near["model"] == "kernel_align"
    assert far["data"]["tabular"]["items"] == str(here / "data" / "films.csv")
    for name in ("data/near.yaml", "studies/far.yaml"):
        assert load_study(here / name).data.tabular.interactions == here / "data" / "clicks.parquet"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["clicks.parquet", "--study", "mrec"], "There is no study 'mrec'. Did you mean 'marec'?"),
        (["clicks.parquet", "--output", "films.csv"], "--output films.csv is there, and would be replaced"),
        (["clicks.parquet", "--output", "nowhere/mine.yaml"], "nowhere/mine.yaml cannot be written"),
        (["nothing.csv"], "nothing.csv does not exist"),
        (["clicks.parquet", "clicks.parquet"], "No column of clicks.parquet"),
        (["clicks.parquet", "people.csv"], "Give it as --users people.csv"),
        (["clicks.parquet", "--users", "films.csv"], "films.csv looks like a table of items"),
        (["clicks.parquet", "films.csv", "--users", "films.csv"], "holds ids of films.csv"),
        (["clicks.parquet", "--users", "renamed.csv"], "Rename that of renamed.csv"),
        (["clicks.parquet", "--users", "nobody.csv"], "nobody.csv does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_writes_nothing(here, capsys, arguments, message):
    sample_files(here)
    before = sorted(here.rglob("*"))
    assert main(["init", *arguments]) in (1, 2)
    told = capsys.readouterr()
    assert (told.out, told.err.count("error: ")) == ("", 1)
    assert message in " ".join(told.err.split())
    assert sorted(here.rglob("*")) == before


@given(st.lists(NAMES, min_size=14, max_size=14, unique=True), st.text(string.printable, max_size=20))
def test_any_names_of_columns_are_written_so_that_they_are_read_back(names, reason):
    uses = ("user", "item", "rating", "timestamp", None)
    clicks = tuple(Guess(name, use, reason, sure=False) for name, use in zip(names, uses, strict=False))
    clicks += tuple(Guess(name, "context", reason) for name in names[12:])
    items = tuple(Guess(name, use, reason) for name, use in zip(names[5:], ("labels", "number", "text"), strict=False))
    users = tuple(Guess(name, use, reason) for name, use in zip(names[9:12], ("labels", "number", "text"), strict=True))
    key, described = Guess(names[8], "item", reason), {"users": Path("e:f.csv"), "n_users": 4, "of_users": users}
    tables = GuessedTables(Path("a b.csv"), Path("c#d.csv"), (3, 2), clicks, items, key, **described)
    study = named_file("marec", "study").read_text(encoding="utf-8")
    read = yaml.safe_load(study_text(tables, study, Path.cwd(), f"coldray init {reason}"))
    assert read["name"] == "a-b"
    assert read["data"]["tabular"] == {
        "interactions": "a b.csv",
        "items": "c#d.csv",
        "users": "e:f.csv",
        **tables.columns,
    }
    assert read["space"] == yaml.safe_load(study)["space"]


def test_kinds_of_events_are_written_with_weights_to_be_looked_at(here, capsys):
    kinds = ["view", "view", "a: b", "view", "purchase", "a: b"]
    frame = pl.DataFrame({"user": [1, 1, 2, 2, 1, 3], "item": list("xxyxyx"), "event": kinds})
    frame.write_csv(here / "events.csv")
    assert main(["init", "events.csv"]) == 0
    text = capsys.readouterr().out
    assert "# (?) in their order alone: say what a kind is worth" in text
    assert "look at what is marked (?)" in text
    assert "refused" not in text
    (here / "mine.yaml").write_text(text)
    tables = load_study(here / "mine.yaml").data.tabular
    assert tables.event_weights == {"view": 1, "a: b": 2, "purchase": 3}
    data = read_tabular(tables, "csv")
    assert data.events.toarray().tolist() == [[1, 3], [1, 2], [2, 0]]


def test_contexts_are_written_and_read_back(here, capsys):
    frame = pl.DataFrame({"user": list("ppqqrr"), "item": list("xyxyxy"), "device": ["tv", "pc", None] * 2})
    frame.write_csv(here / "clicks.csv")
    assert main(["init", "clicks.csv"]) == 0
    text = capsys.readouterr().out
    assert "- device                          # named so; 2 different ones\n" in text
    (here / "mine.yaml").write_text(text)
    data = read_tabular(load_study(here / "mine.yaml").data.tabular, "csv")
    assert data.context["device"].labels.tolist() == ["pc", "tv"]


@pytest.mark.usefixtures("ray_cluster")
def test_what_was_written_is_tuned_and_options_name_other_data(here, capsys):
    assert main(["init", *sample_files(here), "--output", "mine.yaml"]) == 0
    few = ("--set", "search.trials=1", "--set", "splits.n_splits=1", "--set", "cutoffs=[10]", "--offline")
    assert main(["tune", "mine.yaml", *few]) == 0
    printed = capsys.readouterr().out
    assert "reading the dataset parquet" in printed
    (bundle,) = here.glob("runs/clicks-clicks-*/bundle")
    assert (bundle / "manifest.json").is_file()
    assert main(["tune", "mine.yaml", *few, "--dataset", "sample", "--dry-run"]) == 0
    assert "dataset sample: 600 users" in capsys.readouterr().out
