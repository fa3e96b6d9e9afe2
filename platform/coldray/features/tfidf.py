"""Text → a TF-IDF vector an item.

Notation used for shapes: I items, m terms kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from coldray.core.errors import ConfigError, DataFormatError, NotFittedError
from coldray.core.extras import require_extra
from coldray.core.spelling import choices, nearest
from coldray.data.dataset import TextAttribute
from coldray.features.feature_set import VectorFeature

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer


_WORD = re.compile(r"(?u)\b\w\w+\b")
"""scikit-learn's words."""
_CHARACTERS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai and Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
UNSPACED = re.compile(f"[{_CHARACTERS}]")
"""Characters of scripts that put no blanks between words."""
_RUN = re.compile(f"[{_CHARACTERS}]+|[^{_CHARACTERS}]+")


class TfidfConfig(BaseModel):
    """What a term is, and how many are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_terms: PositiveInt = 10_000
    """The most frequent terms over all texts that are kept."""
    analyzer: Literal["word", "char_wb"] = "word"
    """Words of two or more letters or digits, or runs of characters inside words, which forgive spelling."""
    ngram_range: tuple[PositiveInt, PositiveInt] = (1, 1)
    """Shortest and longest run of words, or of characters, that is a term."""
    unspaced: Literal["pairs", "whole"] = "pairs"
    """What is a word in scripts without blanks between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese): each pair
    of characters side by side, or a whole run of them, as in bundles made before there was a choice."""

    stop_words: tuple[str, ...] = ()
    """Languages whose stop words are no terms."""

    @model_validator(mode="after")
    def _range_ascends(self) -> Self:
        low, high = self.ngram_range
        if low > high:
            raise ValueError(f"ngram_range is (shortest, longest): {low} is more than {high}. Swap them.")
        return self


def words(text: str) -> list[str]:
    """Return the words of a text as scikit-learn finds them, and pairs of characters of scripts without blanks.

    A run of one such character is a word of its own; words of other scripts have two letters or digits or more.
    """
    if not UNSPACED.search(text):
        return _WORD.findall(text)
    found: list[str] = []
    for run in _RUN.findall(text):
        if UNSPACED.match(run):
            found += [run[place : place + 2] for place in range(max(len(run) - 1, 1))]
        else:
            found += _WORD.findall(run)
    return found


def check_languages(languages: Iterable[str]) -> None:
    """Find out whether there are stop words of these languages.

    Raises
    ------
    MissingExtraError
        If the extra that brings them is not installed.
    ConfigError
        If there are none of a language.
    """
    languages = tuple(languages)
    if not languages:
        return
    require_extra("stopwords", "Stop words")
    from stop_words import AVAILABLE_LANGUAGES

    for language in languages:
        if language not in AVAILABLE_LANGUAGES:
            raise ConfigError(
                f"stop_words: there are none of {language!r}.{nearest(language, AVAILABLE_LANGUAGES)} Languages: "
                f"{choices(sorted(AVAILABLE_LANGUAGES))}."
            )


def stop_words(languages: tuple[str, ...]) -> set[str]:
    """Return the stop words of some languages, as terms are read: of *don't* there is left *don*."""
    if not languages:
        return set()
    check_languages(languages)
    from stop_words import get_stop_words

    return {word for language in languages for one in get_stop_words(language) for word in words(one.lower())}


class TfidfEncoder:
    """scikit-learn's TF-IDF: ``tf · (ln((1 + I) / (1 + df)) + 1)``, each row of unit length.

    Parameters
    ----------
    config
        The defaults of :class:`TfidfConfig` if not given.
    """

    def __init__(self, config: TfidfConfig | None = None) -> None:
        self.config = config or TfidfConfig()
        self._terms: tuple[str, ...] | None = None
        self._idf: npt.NDArray[np.float32] = np.zeros(0, np.float32)

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms kept, ascending, one a column.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if self._terms is None:
            raise NotFittedError("The TF-IDF encoder has no vocabulary yet. Call fit, or from_state, first.")
        return self._terms

    def fit(self, attribute: TextAttribute) -> Self:
        """Learn the terms and their inverse document frequencies; a second fit forgets the first.

        Parameters
        ----------
        attribute
            Texts of the I items.
        """
        left_out = sorted(stop_words(self.config.stop_words)) or None
        vectorizer = self._vectorizer(max_features=self.config.max_terms, stop_words=left_out)
        analyse = vectorizer.build_analyzer()
        if not any(analyse(text) for text in attribute.texts):
            # scikit-learn refuses an empty vocabulary; here it is as legal as a label attribute of rare labels only.
            self._terms, self._idf = (), np.zeros(0, np.float32)
            return self
        vectorizer.fit(attribute.texts)
        self._terms = tuple(str(term) for term in vectorizer.get_feature_names_out())
        self._idf = np.asarray(vectorizer.idf_, dtype=np.float32)
        return self

    def transform(self, attribute: TextAttribute) -> VectorFeature:
        """Encode texts; terms outside the fitted vocabulary are ignored.

        Parameters
        ----------
        attribute
            Texts of any I items.

        Returns
        -------
        VectorFeature
            float32 ``[I, m]``, rows of unit length, or empty where no term is known.
        """
        terms = self.terms
        if not terms or not attribute.texts:
            return VectorFeature(sp.csr_array((len(attribute.texts), len(terms)), dtype=np.float32), terms)
        vectorizer = self._vectorizer(vocabulary={term: column for column, term in enumerate(terms)})
        vectorizer.idf_ = self._idf
        matrix = sp.csr_array(vectorizer.transform(attribute.texts), dtype=np.float32)
        matrix.sort_indices()
        return VectorFeature(matrix, terms)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs: JSON values and ``idf``, a float32 array ``[m]``."""
        return {"config": self.config.model_dump(mode="json"), "terms": list(self.terms), "idf": self._idf}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore a fitted encoder from :meth:`state`.

        Raises
        ------
        DataFormatError
            If there is not one frequency a term.
        """
        encoder = cls(TfidfConfig.model_validate({"unspaced": "whole", **state["config"]}))
        encoder._terms = tuple(str(term) for term in state["terms"])
        encoder._idf = np.asarray(state["idf"], dtype=np.float32)
        if encoder._idf.shape != (len(encoder._terms),):
            raise DataFormatError(
                f"A TF-IDF encoder of {len(encoder._terms)} terms cannot have inverse document frequencies of shape "
                f"{encoder._idf.shape}."
            )
        return encoder

    def _vectorizer(self, **options: Any) -> TfidfVectorizer:
        from sklearn.feature_extraction.text import TfidfVectorizer  # imported by those who read texts alone

        if self.config.analyzer == "word" and self.config.unspaced == "pairs":
            options |= {"tokenizer": words, "token_pattern": None}
        return TfidfVectorizer(
            analyzer=self.config.analyzer,
            ngram_range=tuple(self.config.ngram_range),
            dtype=np.float32,
            norm="l2",
            **options,
        )


def read_texts(values: Sequence[object], name: str, whose: str = "New item") -> TextAttribute:
    """Return plain values, one a new item or user, as attribute `name`; None is a blank text.

    Raises
    ------
    DataFormatError
        If a value is no str.
    """
    for position, value in enumerate(values):
        if not (value is None or isinstance(value, str)):
            raise DataFormatError(
                f"{whose} {position} (counted from 0): {name!r} must be a str, not {value!r:.60} "
                f"({type(value).__name__})."
            )
    return TextAttribute(tuple(value if isinstance(value, str) else "" for value in values))
