"""The sources a study can name, and where their files are looked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator, model_validator

from coldray.core.errors import ConfigError, DataFileError
from coldray.core.plugins import Plugins
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import Dataset
from coldray.data.filters import FilterConfig, apply_filters
from coldray.data.sources.amazon.layout import amazon_categories, read_amazon
from coldray.data.sources.amazon.sequences import SEQUENCE_FILE, read_sequences
from coldray.data.sources.citeulike import TAG_FILE, read_citeulike
from coldray.data.sources.coat import TRAIN_FILE, read_coat, read_coat_split
from coldray.data.sources.download import fetch_hetrec
from coldray.data.sources.hetrec import MOVIE_FILE, RATING_FILES, read_hetrec
from coldray.data.sources.lastfm import read_lastfm
from coldray.data.sources.locations import DATA_VARIABLE, Location, data_root, find_files, found_below
from coldray.data.sources.movielens import read_movielens, read_movielens_split
from coldray.data.sources.movielens_releases import read_movielens_release
from coldray.data.sources.sample import sample_dataset
from coldray.data.sources.tabular import FirstLabels, TabularConfig, read_tabular
from coldray.data.sources.taobao import TEST_FILE, read_taobao
from coldray.data.sources.yelp import read_yelp
from coldray.data.splits.published import PredefinedSplit
from coldray.data.texts import MOST_TEXTS, with_texts
from coldray.data.uninformative import with_oddities_noted
from coldray.data.vectors import with_vectors

_HETREC_FOLDER = "hetrec2011-movielens-2k-v2"
_ML1M_FOLDER = "ml1m-hetrec"
_RANKED = ("hetrec", "ml1m-hetrec")


class SourceConfig(BaseModel):
    """Which data to read, and where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """``sample`` is generated; ``hetrec`` is found or downloaded; ``csv`` and ``parquet`` are your own; the rest is
    found."""
    data_dir: Path | None = None
    """Folder of the files, or of the folder or .zip that has them; null means the one COLDRAY_DATA names."""
    tabular: TabularConfig | None = None
    """Tables and columns of ``csv`` and ``parquet``."""
    texts: Path | None = None
    """Table with texts of items, see :func:`~coldray.data.texts.with_texts`."""
    item_vectors: dict[str, Path] = Field(default_factory=dict)
    """Files with a vector an item, such as the embedding of its picture, by the name of the attribute they become:
    ``{image: images.npz}``, see :func:`~coldray.data.vector_files.read_vectors`."""
    user_vectors: dict[str, Path] = Field(default_factory=dict)
    """The same of users."""
    category: str | None = None
    """Category of ``amazon``; null means the only one there."""
    size: str | None = None
    """The ``<size>`` in the names of the files of ``amazon``; null means those without one."""
    strict: bool = False
    """Whether a rating of ``amazon`` beyond 1 to 5 is an error; else it is clipped and counted."""
    tags: Path | None = None
    """Folder with ``movie_tags.dat`` and ``tags.dat`` of HetRec, for ``ml1m-hetrec``, whose own folder may lack them.
    It is looked for in the folder of the file that names it, then in that of the data."""
    first_labels: FirstLabels | None = None
    """How many actors of a film of ``hetrec`` and ``ml1m-hetrec`` are read, the first ones by the ranking of
    ``movie_actors.dat``: ``{actors: 5}``. Of tables of your own `tabular` has it."""
    reviews: Annotated[int, Field(ge=0, le=MOST_TEXTS)] = 0
    """How many reviews of a business of ``yelp`` are texts of it, its first; none by default, as every fold holds
    them."""
    seed: NonNegativeInt = 0
    """Seed of ``sample``; without effect on real data."""
    download: bool = True
    """Whether ``hetrec`` may be downloaded when it is not found."""

    def below(self, folder: Path) -> SourceConfig:
        """Return the same with paths that are relative taken from a folder: that of the file that names them."""
        tables = self.tabular
        if tables is not None:
            paths = {name: getattr(tables, name) for name in ("interactions", "items", "users")}
            moved = {name: folder / path for name, path in paths.items() if path is not None}
            tables = tables.model_copy(update=moved)
        named = {"data_dir": self.data_dir, "texts": self.texts}
        found: dict[str, Any] = {name: None if path is None else folder / path for name, path in named.items()}
        for name in ("item_vectors", "user_vectors"):
            found[name] = {key: folder / path for key, path in getattr(self, name).items()}
        found["tags"] = None if self.tags is None else found_below(self.tags, folder)
        return self.model_copy(update={**found, "tabular": tables})

    @field_validator("name", mode="before")
    @classmethod
    def _known(cls, name: Any) -> Any:
        if name not in SOURCES:
            raise ConfigError(
                f"Unknown data source {name!r}.{nearest(str(name), SOURCES)} There are: {choices(SOURCES)}."
            )
        return name

    @model_validator(mode="after")
    def _fields_are_read(self) -> Self:
        if self.tags is not None and self.name != "ml1m-hetrec":
            raise ConfigError(
                f"data.tags: {self.tags} is read by 'ml1m-hetrec' alone, not by {self.name!r}. Leave it out."
            )
        if self.first_labels is not None and (self.name not in _RANKED or list(self.first_labels) != ["actors"]):
            raise ConfigError(
                f"data.first_labels: {self.first_labels} is read by {' and '.join(_RANKED)} alone, of 'actors', which "
                f"have a rank; not by {self.name!r}. Of tables of your own it is data.tabular.first_labels."
            )
        if self.reviews and self.name != "yelp":
            raise ConfigError(
                f"data.reviews: {self.reviews} reviews a business are read by 'yelp' alone, not by {self.name!r}. "
                "Leave it out."
            )
        return self


@dataclass(frozen=True)
class Source:
    """What is known of a source."""

    read: Callable[[SourceConfig], Dataset]
    location: Location | None = None
    """Where it lies, if it is found and has one layout."""
    find: Callable[[SourceConfig], Path] | None = None
    """Returns its folder or archive, if it is looked for; nothing is downloaded."""
    downloads: bool = False
    """Whether it is downloaded where it is not found."""
    in_folder: bool = True
    """Whether it is looked for in `data_dir`."""
    scale: tuple[float, float] | None = None
    """Lowest and highest rating, if the ratings have a scale."""
    filters: FilterConfig | None = None
    """Those of its published protocol, which it gets when the study file names none."""
    published: Callable[[SourceConfig, str | None], PredefinedSplit | None] | None = None
    """Returns the split that the data are published with, by its name; None where there is none of that name."""


def load_dataset(source: SourceConfig) -> Dataset:
    """Return the dataset of `source`, read from disk, downloaded, or generated.

    Raises
    ------
    ConfigError
        If `source` lacks the tables of a tabular source.
    DataError
        If the files are missing, cannot be fetched or are malformed. Real data is never replaced by the sample.
    """
    return _complete(SOURCES[source.name].read(source), source)


def load_filtered(source: SourceConfig, filters: FilterConfig | None = None) -> Dataset:
    """Return the dataset of `source`, filtered as asked, or as its published protocol does.

    Raises
    ------
    ConfigError, DataError
        As :func:`load_dataset`, or if nothing is left.
    """
    dataset, chosen = load_dataset(source), filters or SOURCES[source.name].filters
    return apply_filters(dataset, chosen) if chosen else dataset


def _complete(dataset: Dataset, source: SourceConfig) -> Dataset:
    """Return the dataset with texts and vectors of `source`, and with notes of what says nothing or can hardly be."""
    dataset = dataset if source.texts is None else with_texts(dataset, source.texts)
    return with_oddities_noted(with_vectors(dataset, source.item_vectors, source.user_vectors))


def load_predefined(source: SourceConfig, split: str | None = None) -> PredefinedSplit:
    """Return the split that the data of `source` is published with.

    Parameters
    ----------
    split
        Which of several: ``u1`` to ``u5``, ``ua`` or ``ub`` of ``ml-100k``. ``coat`` and ``taobao-cart-buy`` have one,
        ``amazon`` one for each category.

    Raises
    ------
    ConfigError
        If the source has no such split.
    DataError
        If the files are missing or malformed.
    """
    found = published_split(source, split)
    if found is not None:
        return found
    asked = "without a name" if split is None else repr(split)
    raise ConfigError(
        f"Source {source.name!r} has no predefined split {asked}. amazon, coat and taobao-cart-buy have one without a "
        "name, ml-100k has u1 to u5, ua and ub. Use another source, or split by the program."
    )


def published_split(source: SourceConfig, split: str | None = None) -> PredefinedSplit | None:
    """Return the split of :func:`load_predefined`, or None where the data are published without one of that name.

    Raises
    ------
    DataError
        If the files are missing or malformed.
    """
    published = SOURCES[source.name].published
    found = None if published is None else published(source, split)
    return None if found is None else replace(found, dataset=_complete(found.dataset, source))


def find_dataset(name: str, data_dir: Path | None) -> Path:
    """Return the folder or archive of a source that is found, see :func:`~coldray.data.sources.locations.find_files`.

    Raises
    ------
    DataFileError
        If it is not there.
    """
    location = SOURCES[name].location
    if location is None:
        raise ConfigError(f"Source {name!r} has no place of its own where it could be looked for.")
    places = {source.location.folder for source in _OWN.values() if source.location is not None}
    return find_files(location, data_dir, places - {location.folder})


def _found(
    reader: Callable[[Path], Dataset],
    location: Location,
    scale: tuple[float, float] | None = None,
    published: Callable[[SourceConfig, str | None], PredefinedSplit | None] | None = None,
) -> Source:
    """Return a source that is found and has one layout."""
    return Source(lambda source: reader(_find(source)), location, _find, scale=scale, published=published)


def _find(source: SourceConfig) -> Path:
    return find_dataset(source.name, source.data_dir)


def _release(name: str, folder: str, files: str, scale: tuple[float, float]) -> Source:
    marker = "ratings.csv" if "ratings.csv" in files else "ratings.dat"
    return _found(partial(read_movielens_release, name=name), Location(name, folder, marker, files), scale)


def _tables(source: SourceConfig) -> Dataset:
    if source.tabular is None:
        raise ConfigError(f"Source {source.name!r} needs `tabular`: the tables and the meaning of their columns.")
    return read_tabular(source.tabular, "csv" if source.name == "csv" else "parquet")


def _movielens_split(source: SourceConfig, split: str | None) -> PredefinedSplit | None:
    return None if split is None else read_movielens_split(find_dataset(source.name, source.data_dir), split)


def _amazon(source: SourceConfig) -> PredefinedSplit:
    folder = find_dataset("amazon", source.data_dir)
    category = source.category
    if category is None:
        found = amazon_categories(folder, source.size)
        if len(found) != 1:
            size = "without a size" if source.size is None else f"of size {source.size}"
            raise ConfigError(
                f"{folder} has {len(found)} categories {size}: {choices(found)}. Name one as `category` (--category)."
            )
        category = found[0]
    return read_amazon(folder, category, size=source.size, strict=source.strict)


def _find_hetrec(data_dir: Path | None, *, download: bool = True) -> Path:
    """Return the folder or archive of HetRec 2011: in `data_dir`, else in the download cache, else downloaded.

    Raises
    ------
    DataFileError
        If it is nowhere and `download` is false, or `data_dir` does not exist.
    DownloadError
        If it cannot be fetched.
    """
    root = data_root(data_dir)
    archive = f"{_HETREC_FOLDER}.zip"
    cache = Path(platformdirs.user_cache_dir("coldray"))
    if root is not None and root.suffix == ".zip":
        return root
    places = [cache / archive]
    if root is not None:
        places = [root, root / archive, root / _HETREC_FOLDER, root / _HETREC_FOLDER / archive, *places]
    for place in places:
        if place.is_file() or (_holds_files(place) and place.name != _ML1M_FOLDER):
            return place
    if download:
        return fetch_hetrec(cache)
    raise DataFileError(
        f"HetRec 2011 is not in {' nor in '.join(str(place) for place in places)}, and downloading is off. "
        f"Put {archive} or its files in a folder and name it with --data-dir."
    )


def _find_ml1m_hetrec(data_dir: Path | None) -> Path:
    """Return the folder of ``ml1m-hetrec``: `data_dir` itself or the folder of that name in it.

    Raises
    ------
    DataFileError
        If it is in neither; it is never downloaded.
    """
    root = data_root(data_dir)
    places = [] if root is None else [root, root / _ML1M_FOLDER]
    for place in places:
        if _holds_files(place) and place.name != _HETREC_FOLDER:
            return place
    where = " nor in ".join(str(place) for place in places) or "any folder, as none was given"
    raise DataFileError(
        f"ml1m-hetrec is not in {where}. It is not downloaded: put {MOVIE_FILE}, {RATING_FILES[1]} and the movie_*.dat "
        f"files in a folder and name it with --data-dir (or {DATA_VARIABLE})."
    )


def _first_actors(source: SourceConfig) -> int | None:
    return (source.first_labels or {}).get("actors")


def _holds_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in RATING_FILES)


_MOVIES_DAT, _MOVIES_CSV = "movies.dat and ratings.dat", "movies.csv and ratings.csv"
_CITEULIKE_FILES = "users.dat, mult.dat, vocabulary.dat, tag-item.dat, tags.dat and citations.dat"
_COAT_FILES = "train.ascii, test.ascii and the *_features.ascii with their *_features_map.txt"
_LASTFM_FILES = "user_artists.dat, artists.dat, user_taggedartists.dat and tags.dat"
_SEQUENCE_FILES = "Beauty.txt and Beauty_item2attributes.json"
_YELP_FILES = "yelp_academic_dataset_review.json and yelp_academic_dataset_business.json"
_AMAZON_FILES = "the <CATEGORY>.5core.{train,valid,test}.parquet"
_HETREC_FILTERS = FilterConfig(
    min_rating_exclusive=3.0,
    min_user_interactions=5,
    min_item_interactions=5,
    attribute_min_items=5,
    attribute_max_share=0.3,
)
_STARS, _HALVES = (1.0, 5.0), (0.5, 5.0)
_OWN: dict[str, Source] = {
    "sample": Source(lambda source: sample_dataset(source.seed), in_folder=False),
    "hetrec": Source(
        lambda source: read_hetrec(
            _find_hetrec(source.data_dir, download=source.download), first_actors=_first_actors(source)
        ),
        find=lambda source: _find_hetrec(source.data_dir, download=False),
        downloads=True,
        scale=_HALVES,
        filters=_HETREC_FILTERS,
    ),
    "ml1m-hetrec": Source(
        lambda source: read_hetrec(
            _find_ml1m_hetrec(source.data_dir), "ml1m-hetrec", source.tags, first_actors=_first_actors(source)
        ),
        find=lambda source: _find_ml1m_hetrec(source.data_dir),
        scale=_STARS,
    ),
    "ml-100k": _found(
        read_movielens,
        Location("ml-100k", "ml-100k", "u.data", "u.data, u.item and u.genre"),
        _STARS,
        _movielens_split,
    ),
    "ml-1m": _release("ml-1m", "ml-1m", _MOVIES_DAT, _STARS),
    "ml-10m": _release("ml-10m", "ml-10M100K", _MOVIES_DAT, _HALVES),
    "ml-20m": _release("ml-20m", "ml-20m", _MOVIES_CSV, _HALVES),
    "ml-25m": _release("ml-25m", "ml-25m", _MOVIES_CSV, _HALVES),
    "ml-latest-small": _release("ml-latest-small", "ml-latest-small", _MOVIES_CSV, _HALVES),
    "lastfm": _found(read_lastfm, Location("lastfm", "hetrec2011-lastfm-2k", "user_artists.dat", _LASTFM_FILES)),
    "citeulike-t": _found(read_citeulike, Location("citeulike-t", "citeulike-t", TAG_FILE, _CITEULIKE_FILES)),
    "coat": _found(
        read_coat,
        Location("coat", "coat", TRAIN_FILE, _COAT_FILES),
        _STARS,
        lambda source, split: read_coat_split(_find(source)) if split is None else None,
    ),
    "taobao-cart-buy": _found(
        lambda path: read_taobao(path).dataset,
        Location("taobao-cart-buy", "taobao-cart-buy", TEST_FILE, "cart.csv, buy.train.txt and buy.test.txt"),
        published=lambda source, split: read_taobao(_find(source)) if split is None else None,
    ),
    "amazon-beauty-sequences": _found(
        read_sequences,
        Location("amazon-beauty-sequences", "amazon-beauty-sequences", SEQUENCE_FILE, _SEQUENCE_FILES),
    ),
    "yelp": Source(
        lambda source: read_yelp(_find(source), source.reviews),
        Location("yelp", "yelp", "yelp_academic_dataset_review.json", _YELP_FILES, zipped=False),
        _find,
        scale=_STARS,
    ),
    "amazon": Source(
        lambda source: _amazon(source).dataset,
        Location("amazon", "amazon", "*.5core.*.parquet", _AMAZON_FILES, zipped=False),
        _find,
        scale=_STARS,
        published=lambda source, split: _amazon(source) if split is None else None,
    ),
    "csv": Source(_tables, in_folder=False),
    "parquet": Source(_tables, in_folder=False),
}
SOURCES = Plugins(
    "source",
    _OWN,
    lambda _, found: "" if isinstance(found, Source) else "is no coldray.data.sources.registry.Source",
)
"""By name, as they are listed, with those that other packages add."""
FOLDER_SOURCES = tuple(name for name, source in _OWN.items() if source.in_folder)
"""Our own sources that are looked for in `data_dir`."""
