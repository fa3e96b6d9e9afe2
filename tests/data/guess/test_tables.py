"""What columns of unknown tables mean is guessed rightly, or said to be unsure."""

import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFormatError, UnmatchedItemsError
from coldray.data.guess.interactions import _CONTEXTS
from coldray.data.guess.tables import guess_tables
from coldray.data.sources.tabular import TabularConfig, read_tabular
from coldray.features.moments import _WORDS

NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
N_ITEMS = 80
IDS = {
    "small numbers": lambda kind, n: np.arange(1, n + 1),
    "large numbers": lambda kind, n: np.arange(n) * 37 + 10_000_019,
    "words": lambda kind, n: np.array([f"{kind}-{number:03d}" for number in range(n)]),
    "hashes": lambda kind, n: np.array([f"{(number * 2654435761 + len(kind)) % 2**32:08x}x" for number in range(n)]),
}
NAMES = {
    "user": ["user_id", "userId", "user", "reviewerID", "customer_id", "uid"],
    "item": ["item_id", "movieId", "item", "asin", "product_id", "iid"],
    "rating": ["rating", "stars", "overall", "score"],
    "timestamp": ["timestamp", "ts", "unixReviewTime", "event_time", "created_at"],
    "same": ["country", "version"],
    "review": ["reviewText", "comment"],
    "future": ["expires_date", "renewal_time"],
    "title": ["title", "product_name", "Name"],
    "genres": ["genres", "tags", "categories"],
    "brand": ["brand", "studio", "publisher"],
    "year": ["year", "release_year"],
    "price": ["price", "runtime"],
    "votes": ["vote_count", "numVotes", "popularity", "sales_rank"],
    "one": ["currency", "market"],
    "picture": ["image_url", "poster"],
    "code": ["imdbId", "sku_code"],
    "planned": ["release_date", "available"],
    "since": ["released", "published"],
}
USES = {
    "title": "text", "genres": "labels", "brand": "labels", "year": "number", "price": "number", "since": "number",
    "user": "user", "item": "item", "rating": "rating", "timestamp": "timestamp",
}  # fmt: skip
"""What the columns are for; all others are to be left out."""
SYLLABLES = ["ba", "ke", "li", "mo", "nu", "ra", "se", "ti", "vo", "zu"]


def words(generator, n):
    return " ".join("".join(generator.choice(SYLLABLES, 3)).title() for _ in range(n))


def times_as(form, seconds):
    if form == "seconds":
        return pl.Series(seconds)
    if form == "milliseconds":
        return pl.Series(seconds * 1000)
    moments = pl.Series(seconds).cast(pl.Int64) * 1_000_000
    moments = moments.cast(pl.Datetime("us"))
    return moments if form == "moments" else moments.dt.strftime("%Y-%m-%d %H:%M:%S")


def made(generator, choose):
    """Return the columns of two tables by what they are, and the seed's choice of what there is."""
    n_users = choose(st.integers(15, 60))
    style = choose(st.sampled_from(sorted(IDS)))
    users, items = IDS[style]("user", n_users), IDS[style]("item", N_ITEMS)
    liked = generator.random((n_users, N_ITEMS)) < generator.beta(1, 4, N_ITEMS) + 0.02
    liked[0] = True
    rows, columns = np.nonzero(liked)
    order = generator.permutation(len(rows))
    rows, columns = rows[order], columns[order]
    n, clicks = len(rows), liked.sum(axis=0)
    seconds = generator.integers(1_200_000_000, 1_700_000_000, n)
    form = choose(st.sampled_from(["seconds", "milliseconds", "moments", "texts"]))
    of_clicks = {
        "user": pl.Series(users[rows]),
        "item": pl.Series(items[columns]),
        "rating": pl.Series(generator.integers(1, 6, n) / choose(st.sampled_from([1, 2]))),
        "timestamp": times_as(form, seconds),
        "same": pl.Series(["all"] * n),
        "review": pl.Series([words(generator, 6) for _ in range(n)]),
        "future": pl.Series([date(2031, 1, 1) + timedelta(days=int(day)) for day in generator.integers(0, 900, n)]),
    }
    days = generator.integers(0, 9000, N_ITEMS)
    genres = [sorted({f"genre {number}" for number in generator.integers(0, 9, 3)}) for _ in range(N_ITEMS)]
    of_items = {
        "item": pl.Series(items),
        "title": pl.Series([words(generator, 3) for _ in range(N_ITEMS)]),
        "genres": {
            "lists": pl.Series(genres),
            "texts": pl.Series(["|".join(some) for some in genres]),
            "written": pl.Series([str(some) for some in genres]),
        }[choose(st.sampled_from(["lists", "texts", "written"]))],
        "brand": pl.Series([f"Brand {number}" for number in generator.integers(0, 12, N_ITEMS)]),
        "year": pl.Series(generator.integers(1950, 2024, N_ITEMS)),
        "price": pl.Series(np.round(generator.lognormal(3, 1, N_ITEMS), 2)),
        "votes": pl.Series(clicks * 41 + generator.integers(0, 20, N_ITEMS)),
        "one": pl.Series(["EUR"] * N_ITEMS),
        "picture": pl.Series([f"https://x.org/{number}.jpg" for number in range(N_ITEMS)]),
        "code": pl.Series([f"{number * 7919:08x}" for number in generator.permutation(N_ITEMS) + 7]),
        "planned": pl.Series([date(2030, 1, 1) + timedelta(days=int(day)) for day in days]),
        "since": pl.Series([date(1995, 1, 1) + timedelta(days=int(day)) for day in days]),
    }
    return of_clicks, of_items


def named(choose, table, needed, telling):
    """Return a table of some of the columns under drawn names, in a drawn order, and what each of them is."""
    others = [one for one in table if one not in needed]
    kept = [*needed, *choose(st.lists(st.sampled_from(others), unique=True))]
    kept = choose(st.permutations(kept))
    names = {f"c{place}": what for place, what in enumerate(kept)}
    if telling:
        names = {choose(st.sampled_from(NAMES[what])): what for what in kept}
    return pl.DataFrame({name: table[what] for name, what in names.items()}), names


def written(frame, folder, name, parquet):
    lists = [column for column, kind in frame.schema.items() if kind == pl.List]
    path = folder / f"{name}.{'parquet' if parquet else 'csv'}"
    if parquet:
        frame.write_parquet(path)
    else:
        frame.with_columns(pl.col(column).list.join("|") for column in lists).write_csv(path)
    return path


def right_or_unsure(guesses, truth):
    wrong = [
        (guess, truth[guess.column]) for guess in guesses if guess.sure and guess.use != USES.get(truth[guess.column])
    ]
    assert wrong == []


@settings(max_examples=15)
@given(st.data())
def test_a_guess_is_right_or_said_to_be_unsure(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    of_clicks, of_items = made(generator, data.draw)
    telling, parquet = data.draw(st.booleans()), data.draw(st.booleans())
    clicks, of_click = named(data.draw, of_clicks, ["user", "item"], telling)
    items, of_item = named(data.draw, of_items, ["item"], telling)
    paths = [written(clicks, folder, "clicks", parquet), written(items, folder, "items", parquet)]
    found = guess_tables(*paths, NOW)
    assert {guess.column for guess in found.of_interactions} == {*of_click}
    assert {guess.column for guess in found.of_items} | {found.key.column} == {*of_item}
    right_or_unsure(found.of_interactions, of_click)
    right_or_unsure(found.of_items, {**of_item})
    assert of_item[found.key.column] == "item" or not found.key.sure
    assert all(guess.reason for guess in (*found.of_interactions, *found.of_items))


@settings(max_examples=15)
@given(st.data())
def test_with_names_that_tell_the_data_are_read_as_they_are(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("tables")
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    of_clicks, of_items = made(generator, data.draw)
    clicks, _ = named(data.draw, of_clicks, ["user", "item", "timestamp"], True)
    items, of_item = named(data.draw, of_items, ["item", "title", "genres", "year", "votes"], True)
    parquet = data.draw(st.booleans())
    paths = {
        "interactions": written(clicks, folder, "clicks", parquet),
        "items": written(items, folder, "items", parquet),
    }
    found = guess_tables(*paths.values(), NOW)
    dataset = read_tabular(TabularConfig(**paths, **found.columns), "csv")
    assert (dataset.n_items, dataset.interactions.nnz) == (N_ITEMS, clicks.height)
    assert dataset.n_users == of_clicks["user"].n_unique()
    read = {of_item[name] for name in dataset.attributes}
    assert {"title", "genres", "year"} <= read <= {*USES}
    assert dataset.attributes[next(name for name in of_item if of_item[name] == "genres")].matrix.shape[1] <= 9
    assert dataset.timestamps is not None


@pytest.fixture
def tables(tmp_path):
    clicks = pl.DataFrame({"user": ["a", "a", "b", "b", "c"], "item": ["x", "y", "x", "z", "y"]})
    items = pl.DataFrame({"item": ["x", "y", "z", "w"], "year": [1999, 2000, 2001, 2002]})
    return written(clicks, tmp_path, "clicks", False), written(items, tmp_path, "items", False)


def test_files_in_the_other_order_are_taken_for_what_they_are(tables):
    found, other = guess_tables(*tables, NOW), guess_tables(*tables[::-1], NOW)
    assert found == other
    assert found.columns == {"user_column": "user", "item_column": "item", "number_columns": ["year"]}


@pytest.mark.parametrize("separator", [";", "\t", "|", " ; "])
def test_tables_by_another_separator_are_guessed_as_they_will_be_read(tables, separator):
    found = guess_tables(*tables, NOW).columns
    for path in tables:
        path.write_text(path.read_text().replace(",", separator))
    assert guess_tables(*tables, NOW).columns == found


def test_clicks_alone_are_enough(tables):
    assert guess_tables(tables[0], None, NOW).columns == {"user_column": "user", "item_column": "item"}


@pytest.mark.parametrize("name", ["score", "film", "c1"])
def test_a_column_whose_ids_the_table_of_items_has_is_that_of_items(tmp_path, name):
    """Whatever it is called, and whatever ids of the other column look like."""
    clicks = pl.DataFrame({"who": [f"item-{n % 7}" for n in range(40)], name: [f"user-{n % 9}" for n in range(40)]})
    items = pl.DataFrame({"key": [f"user-{n}" for n in range(9)], "kind": ["p", "q", "p"] * 3})
    found = guess_tables(*(written(one, tmp_path, str(place), True) for place, one in enumerate((clicks, items))), NOW)
    assert found.columns["item_column"] == name
    assert found.columns["user_column"] == "who"


def test_a_table_of_items_is_not_taken_for_one_of_clicks_for_sure(tables):
    """Every item is in one row."""
    items = pl.DataFrame({"item": ["x", "y", "z"], "maker": ["p", "p", "q"], "year": [1999, 2000, 2001]})
    found = guess_tables(written(items, tables[0].parent, "films", False), None, NOW)
    assert not any(guess.sure for guess in found.of_interactions if guess.use in ("user", "item"))


def test_rows_that_repeat_a_user_and_an_item_are_counted(tmp_path):
    clicks = pl.DataFrame({"user": ["a", "a", "b", "a"], "item": [1, 1, 1, 1], "time": [1.3e9, 1.4e9, 1.5e9, 1.6e9]})
    assert guess_tables(written(clicks, tmp_path, "clicks", True), None, NOW).repeated == 2


EVENTS = {
    "user": ["a", "a", "b", "a", "b", "c"],
    "item": [1, 1, 1, 2, 2, 1],
    "event_type": ["view", "purchase", "view", "view", "cart", "cart"],
}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("view", "Purchase", "add_to_cart"), ["view", "add_to_cart", "Purchase"]),  # by their words
        (("a", "b", "c"), ["a", "c", "b"]),  # the rarer, the more
        (("view", "b", "cart"), ["view", "cart", "b"]),
    ],
)
def test_kinds_of_events_weigh_by_their_words_or_the_rarer_the_more(tmp_path, names, expected):
    kinds = [names[("view", "purchase", "cart").index(kind)] for kind in EVENTS["event_type"]]
    kinds += [names[1]] if names[1] == "Purchase" else []
    frame = {name: [*values, values[0]][: len(kinds)] for name, values in EVENTS.items()} | {"event_type": kinds}
    found = guess_tables(written(pl.DataFrame(frame), tmp_path, "events", False), None, NOW)
    assert found.columns["event_weights"] == dict(zip(expected, (1, 2, 3), strict=True))


def test_kinds_of_events_are_guessed(tmp_path):
    found = guess_tables(written(pl.DataFrame(EVENTS), tmp_path, "events", False), None, NOW)
    assert found.columns["event_column"] == "event_type"
    assert found.columns["event_weights"] == {"view": 1, "cart": 2, "purchase": 3}
    assert found.event.reason == "named so; 3 view, 2 cart, 1 purchase"
    assert found.repeated == 0


@pytest.mark.parametrize(
    ("changes", "event", "rating"),
    [
        ({"stars": [1, 2, 3, 4, 5, 5]}, None, "stars"),  # a rating for sure
        ({"n": [1, 2, 3, 4, 5, 5]}, "event_type", None),  # a scale, maybe
        ({"event_type": ["film", "film", "film", "series", "series", "film"]}, None, None),  # of the item
        ({"event_type": ["free", "free", "paid", "free", "paid", "free"]}, None, None),  # of the user
        ({"event_type": ["view"] * 6}, None, None),
        ({"event_type": ["view", None, "view", "buy", "buy", "view"]}, None, None),
    ],
)
def test_what_is_no_kind_of_event_is_none_and_ratings_go_before(tmp_path, changes, event, rating):
    table = written(pl.DataFrame({**EVENTS, **changes}), tmp_path, "events", True)
    columns = guess_tables(table, None, NOW).columns
    assert (columns.get("event_column"), columns.get("rating_column")) == (event, rating)
    assert ("event_weights" in columns) == (event is not None)


def test_labels_that_another_sign_divides_are_unsure(tables, tmp_path):
    items = pl.DataFrame(
        {"item": ["x", "y", "z", "w"], "a": ["p|q", "q|r", "p|r", "p|q"], "b": ["s,t", "s,u", "t,u", "u,s"]}
    )
    found = guess_tables(tables[0], written(items, tmp_path, "items", False), NOW)
    assert (found.separator, [guess.sure for guess in found.of_items]) == ("|", [True, False])
    assert "taken whole" in found.of_items[1].reason


def test_ids_that_look_like_those_of_the_other_column_are_told(tmp_path):
    clicks = pl.DataFrame({"user": [f"item-{n % 7}" for n in range(40)], "item": [f"user-{n % 9}" for n in range(40)]})
    found = guess_tables(written(clicks, tmp_path, "clicks", True), None, NOW)
    assert [guess.sure for guess in found.of_interactions] == [False, False]
    assert "look like those of the other column" in found.of_interactions[0].reason


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("196,242,3,881250949\n186,302,3,891717742\n", "has no header: its first line is '196, 242, 3, 881250949'"),
        ("rating,text\n1,a b c d\n2,b c d e\n", "Users and items are columns of ids .* such are none"),
        ("user\na\nb\n", "Users and items are columns of ids .* such are user"),
    ],
)
def test_tables_that_are_none_of_interactions_are_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataFormatError, match=message):
        guess_tables(tmp_path / "a.csv", None, NOW)


def test_tables_without_an_id_in_common_are_refused(tables, tmp_path):
    other = written(pl.DataFrame({"film": ["p", "q"], "year": [1, 2]}), tmp_path, "films", False)
    with pytest.raises(UnmatchedItemsError, match=r"No column of clicks\.csv \(item, user\) holds ids of films\.csv"):
        guess_tables(tables[0], other, NOW)


CONTEXTS = {
    "words": (["tv", "pc", "phone"], ("context", True)),
    "codes": ([0, 1, 2], ("context", False)),
    "one word": (["tv"], (None, True)),
    "another word in each row": ([f"w{n}" for n in range(40)], (None, True)),
    "numbers": ([0.5, 1.5, 2.5], ("rating", False)),
}


@pytest.mark.parametrize(("cells", "use"), CONTEXTS.values(), ids=CONTEXTS)
def test_a_context_is_named_so_and_has_few_labels(tmp_path, cells, use):
    device = [cells[(7 * n + n // 9) % len(cells)] for n in range(40)]
    clicks = pl.DataFrame({"user": [n % 8 for n in range(40)], "item": [n % 5 for n in range(40)], "device": device})
    found = {
        guess.column: guess for guess in guess_tables(written(clicks, tmp_path, "a", True), None, NOW).of_interactions
    }
    assert (found["device"].use, found["device"].sure) == use


def test_no_column_is_guessed_that_a_study_of_moments_refuses():
    assert set(_CONTEXTS) & set(_WORDS) == set()


@pytest.mark.parametrize("owner", ["user", "item"])
def test_what_every_user_or_item_has_one_of_is_no_context(tmp_path, owner):
    clicks = pl.DataFrame({"user": [n % 8 for n in range(40)], "item": [n % 5 for n in range(40)]})
    clicks = clicks.with_columns(platform=pl.format("p{}", pl.col(owner) % 3), device=pl.Series(["tv", "pc"] * 20))
    clicks = clicks.with_columns(device=pl.Series([("tv", "pc")[(n // 3) % 2] for n in range(40)]))
    found = guess_tables(written(clicks, tmp_path, "a", False), None, NOW)
    assert found.columns["context_label_columns"] == ["device"]
    assert {guess.column: guess.use for guess in found.of_interactions}["platform"] is None


@pytest.mark.data("ml-latest-small")
def test_movielens_is_guessed(real_data):
    folder = real_data("ml-latest-small")
    found = guess_tables(folder / "ratings.csv", folder / "movies.csv", time.time())
    assert all(guess.sure for guess in (*found.of_interactions, *found.of_items, found.key))
    assert found.columns == {
        "user_column": "userId", "item_column": "movieId", "rating_column": "rating", "timestamp_column": "timestamp",
        "label_columns": ["genres"], "text_columns": ["title"],
    }  # fmt: skip


@pytest.mark.data("ml-100k")
def test_the_first_movielens_is_guessed(real_data, tmp_path):
    """Its files have no header; that of films has dates written as text, addresses, and a flag a genre."""
    folder = real_data("ml-100k")
    clicks = pl.read_csv(folder / "u.data", separator="\t", has_header=False)
    clicks.columns = ["user_id", "item_id", "rating", "timestamp"]
    genres = [line.split("|")[0] for line in (folder / "u.genre").read_text().splitlines() if "|" in line]
    films = pl.read_csv(folder / "u.item", separator="|", has_header=False, encoding="latin-1", quote_char=None)
    films.columns = ["movie_id", "title", "release_date", "video_release_date", "imdb_url", *genres]
    paths = [written(clicks, tmp_path, "clicks", False), written(films, tmp_path, "films", False)]
    found = guess_tables(*paths, time.time())
    assert found.columns == {
        "user_column": "user_id", "item_column": "item_id", "rating_column": "rating", "timestamp_column": "timestamp",
        "item_id_column": "movie_id", "number_columns": genres, "text_columns": ["title"],
    }  # fmt: skip
    unsure = [guess.column for guess in (*found.of_interactions, *found.of_items) if not guess.sure]
    assert unsure == ["release_date"]


@pytest.mark.data("ml-100k")
def test_the_users_of_the_first_movielens_are_guessed(real_data, tmp_path):
    folder = real_data("ml-100k")
    clicks = pl.read_csv(folder / "u.data", separator="\t", has_header=False)
    clicks.columns = ["user_id", "item_id", "rating", "timestamp"]
    people = pl.read_csv(folder / "u.user", separator="|", has_header=False, infer_schema=False)
    people.columns = ["user_id", "age", "gender", "occupation", "zip_code"]
    paths = [written(one, tmp_path, name, False) for name, one in (("clicks", clicks), ("people", people))]
    found = guess_tables(paths[0], None, time.time(), users=paths[1])
    assert found.columns["user_column"] == "user_id"
    assert found.columns["user_label_columns"] == ["gender", "occupation", "zip_code"]
    assert found.columns["user_number_columns"] == ["age"]
    assert [guess.column for guess in found.of_users if not guess.sure] == ["zip_code"]


@pytest.mark.parametrize("name", ["user", "who"])
def test_a_column_whose_ids_the_table_of_users_has_is_that_of_users(tmp_path, name):
    clicks = pl.DataFrame({"film": [n % 7 for n in range(40)], name: [100 + n % 9 for n in range(40)]})
    people = pl.DataFrame({name: [100 + n for n in range(9)], "kind": ["p", "q", "p"] * 3})
    films = pl.DataFrame({"film": range(7), "genre": list("ppqqppq")})
    paths = [written(one, tmp_path, str(at), True) for at, one in enumerate((clicks, films, people))]
    for items in (None, paths[1]):
        found = guess_tables(paths[0], items, NOW, users=paths[2])
        assert (found.columns["user_column"], found.columns["item_column"]) == (name, "film")
        assert [(guess.column, guess.use) for guess in found.of_users] == [("kind", "labels")]
        assert found.n_users == 9


@pytest.mark.data("amazon-hin")
def test_amazon_is_guessed(real_data, tmp_path):
    folder = real_data("amazon-hin")
    names = {"user_item": ["reviewerID", "asin", "overall", "unixReviewTime"]}
    names |= {"item_brand": ["asin", "brand"], "item_category": ["asin", "category"]}
    clicks, brands, categories = (
        pl.read_csv(
            folder / f"{name}.dat",
            separator="\t" if name == "user_item" else ",",
            has_header=False,
            infer_schema=False,
            new_columns=columns,
        )
        for name, columns in names.items()
    )
    brands = brands.unique("asin")
    lists = categories.group_by("asin", maintain_order=True).agg(pl.col("category").str.join("|"))
    items = lists.join(brands, on="asin", how="full", coalesce=True)
    paths = [written(clicks, tmp_path, "clicks", False), written(items, tmp_path, "items", False)]
    found = guess_tables(*paths, time.time())
    assert found.columns == {
        "user_column": "reviewerID", "item_column": "asin", "rating_column": "overall",
        "timestamp_column": "unixReviewTime", "label_columns": ["category", "brand"],
    }  # fmt: skip
