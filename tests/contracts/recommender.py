"""What every model must do.

A model's tests inherit the contract that it is under, and so get all of it: :class:`ColdItemContract`,
:class:`ClickedItemContract` or :class:`RatingContract`. What does not apply to a model is not inherited.
"""

import copy
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import safetensors.numpy
import scipy.sparse as sp
from pydantic import ValidationError

from coldray.core.errors import CatalogTooLargeError, MissingFieldError, NotFittedError
from coldray.experiments.tasks.warming import TASKS, evaluate_warming
from coldray.features.feature_set import FeatureSet
from coldray.features.moments import TIME
from coldray.models.base import ModelConfig, Recommender, TrainingSet
from coldray.models.forms import StudyOutlook
from coldray.models.linalg.vector_index import VectorModel
from coldray.models.registry import model_type
from coldray.models.state import unknown_user
from contracts.problems import (
    as_read,
    genre_groups,
    random_features,
    random_ratings,
    random_training_set,
    rated_genre_groups,
    vector_feature,
    warming_task,
    with_moments,
    with_users,
)


def histories_of(*users, n_items):
    """Return the histories of users given by what they clicked."""
    dense = np.zeros((len(users), n_items), np.float32)
    for row, items in zip(dense, users, strict=True):
        row[list(items)] = 1
    return sp.csr_array(dense)


def all_items(model):
    return np.arange(model.n_items)


class RecommenderContract:
    """The tests of the interface; `Test…` subclasses name the model and a configuration that is quick to fit.

    A fit is done once for each class and training set and shared by the tests, none of which may change it.
    """

    model: ClassVar[type[Recommender[Any]]]
    config: ClassVar[ModelConfig]
    tolerance: ClassVar[float] = 1e-5
    """By how much a score may depend on the other rows of its block, relative to the largest score."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _fits(cls):
        """Keep the fits for as long as the tests of the class last; then each is what it was."""
        cls.fits: dict[str, tuple[Recommender[Any], dict[str, np.ndarray], TrainingSet]] = {}
        yield
        for model, arrays, _ in cls.fits.values():
            assert cls.same_arrays(model.state(), arrays), "a test has changed the fit that it shares with others"

    @pytest.fixture
    def train(self) -> TrainingSet:
        return self.problem(11)

    @property
    def reads(self):
        """What the model reads of a click in this configuration."""
        return self.model(self.config).reads

    def problem(self, seed, **sizes):
        """Return random clicks, or what the model reads in their place."""
        return as_read((random_ratings if self.reads.ratings else random_training_set)(seed, **sizes), self.reads)

    def histories(self, *users, n_items):
        """Return the histories of users given by what they clicked, as the model reads them."""
        histories = histories_of(*users, n_items=n_items)
        ratings, places = np.resize(np.array([5, 2, 4, 1]), histories.nnz), np.arange(1, histories.nnz + 1)
        values = self.reads.values(ratings, places)
        return sp.csr_array((values, histories.indices, histories.indptr), shape=histories.shape)

    def groups(self):
        """Return planted groups: the training set, the genre of each item, and the one that each user likes."""
        if self.model.predicts_ratings:
            train, genres = rated_genre_groups()
            liked = train.interactions > 3
            return train, genres, genres[liked.indices[liked.indptr[:-1]]]
        train, genres = genre_groups()
        train = as_read(train, self.reads)
        return train, genres, genres[train.interactions.indices[train.interactions.indptr[:-1]]]

    @pytest.fixture
    def fitted(self, train):
        return self.fit_once(train)

    def fit_once(self, train):
        if train.key not in self.fits:
            model = self.model(self.config)
            assert model.fit(train) is model
            self.fits[train.key] = model, {name: value.copy() for name, value in model.state().items()}, train
        return self.fits[train.key][0]

    def eager_users(self):
        """Return a training set in which two users have clicked every warm item."""
        train = (random_ratings if self.reads.ratings else random_training_set)(13, n_users=26, n_warm=20, n_cold=5)
        matrix = train.interactions.toarray()
        matrix[:2, train.warm_items] = 2 if self.reads.ratings else 1
        return as_read(TrainingSet(sp.csr_array(matrix), train.features, "two of everything"), self.reads)

    def assert_close(self, found, expected):
        scale = max(float(np.abs(expected).max(initial=0)), 1e-30)
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=self.tolerance)

    def assert_personal(self, scores):
        """Assert that each item's scores differ between users; that none do, if the model is not personalised."""
        spread = np.ptp(scores, axis=0)
        assert spread.min() > 0 if self.model.personalised else spread.max() == 0

    # ---- which contract

    def test_the_contract_is_that_of_the_model(self):
        """None is left out that applies."""
        assert isinstance(self, ColdItemContract) == self.model.scores_cold_items
        assert isinstance(self, RatingContract) == self.model.predicts_ratings
        assert isinstance(self, ClicksContract) != self.model.predicts_ratings
        assert isinstance(self, WarmItemContract) != self.model.scores_cold_items

    def test_it_scores_by_features_of_who_asks_if_it_reads_them(self):
        assert (self.model.profile_scorer is not Recommender.profile_scorer) == self.model.reads_askers()

    # ---- configuration

    def test_is_registered_under_its_name(self):
        assert model_type(self.model.name) is self.model

    def test_config_survives_json(self):
        text = self.config.model_dump_json()
        again = self.model.config_type.model_validate_json(text)
        assert again == self.config
        assert again.model_dump_json() == text

    def test_config_refuses_a_typo(self):
        for name in self.model.config_type.model_fields:
            with pytest.raises(ValidationError, match=f"{name}x"):
                self.model.config_type.model_validate({f"{name}x": self.config.model_dump()[name]})

    def test_config_is_frozen(self):
        for name in self.model.config_type.model_fields:
            with pytest.raises(ValidationError, match="frozen"):
                setattr(self.config, name, getattr(self.config, name))

    # ---- memory

    def test_the_memory_that_is_checked_is_the_memory_that_is_told(self, monkeypatch):
        """To the byte; and all models know."""
        model = self.model(self.config)
        need = model.memory_bytes(3000, 700)
        assert isinstance(need, int)
        assert 0 < need < model.memory_bytes(10**9, 10**9)
        monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need)
        model.check_size(3000, 700)
        monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need - 1)
        with pytest.raises(CatalogTooLargeError, match=r"GiB of memory; .* GiB is free") as caught:
            model.check_size(3000, 700)
        assert (", enough for " in str(caught.value)) == (model.memory_bytes(3000, 1) < need)

    # ---- forms

    @pytest.mark.parametrize("memory", [2**20, 2**34, 2**50])
    @pytest.mark.parametrize("n_items", [20, 3000, 200_000])
    def test_settled_forms_stay_as_they_are(self, memory, n_items):
        outlook = StudyOutlook(n_users=1000, n_items=n_items, memory=memory, trials=8, splits=3)
        settled, forms = self.model.settle(self.config, outlook)
        for other in (outlook, replace(outlook, memory=2**20), replace(outlook, n_items=10**6, trials=1)):
            assert self.model.settle(settled, other)[0] == settled
        for form in forms:
            assert str(getattr(settled, form.parameter)) == form.value
            assert form.reason.endswith(".")
        pair = self.model.compared_forms(settled, 0.1)
        assert (pair is None) == all(form.exact for form in forms)

    # ---- before the fit

    def test_before_the_fit(self, train):
        model = self.model(self.config)
        assert model.n_items == 0
        with pytest.raises(NotFittedError, match=self.model.__name__):
            model.score(train.interactions, np.arange(2))
        with pytest.raises(NotFittedError, match=self.model.__name__):
            model.scorer(np.arange(2))
        with pytest.raises(NotFittedError, match=self.model.__name__):
            model.state()
        if self.model.predicts_ratings:
            with pytest.raises(NotFittedError, match=self.model.__name__):
                model.predict_ratings(train.interactions, np.arange(2), np.arange(2))
            with pytest.raises(NotFittedError, match=self.model.__name__):
                _ = model.click_value
        if self.model.scores_cold_items:
            with pytest.raises(NotFittedError, match=self.model.__name__):
                model.add_items(train.features)

    # ---- the fit

    def test_fit_knows_all_items_and_leaves_the_data_alone(self, train, fitted):
        given, untouched = self.fits[train.key][2], self.problem(11)
        assert fitted.n_items == untouched.interactions.shape[1]
        assert (given.interactions != untouched.interactions).nnz == 0
        assert given.features.features.keys() == untouched.features.features.keys()
        for name, feature in given.features.features.items():
            before = untouched.features.features[name]
            for part in vars(feature):
                found, expected = getattr(feature, part), getattr(before, part)
                if sp.issparse(found):
                    found, expected = found.toarray(), expected.toarray()
                np.testing.assert_array_equal(found, expected)

    def test_a_second_fit_refits(self, train, fitted):
        """As a fit on the same data without one before."""
        other = self.eager_users()
        expected = self.fit_once(other)
        before = fitted.score(train.interactions, all_items(fitted))
        model = copy.deepcopy(fitted).fit(other)
        assert model.n_items == other.interactions.shape[1]
        after = model.score(other.interactions, all_items(model))
        self.assert_close(after, expected.score(other.interactions, all_items(expected)))
        shared = min(before.shape[1], after.shape[1])
        assert not np.allclose(before[:20, :shared], after[:20, :shared], rtol=1e-3)

    # ---- scores

    def test_scores_are_float32_and_finite(self, train, fitted):
        scores = fitted.score(train.interactions, all_items(fitted))
        assert scores.shape == train.interactions.shape
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert np.ptp(scores, axis=1).min() > 0
        self.assert_personal(scores[:, train.warm_items])

    def test_a_user_the_fit_never_saw_is_served(self, train, fitted):
        warm = train.warm_items
        seen = train.interactions.toarray()
        unseen = self.histories(warm[[0, 3, 5, 7]], warm[[1, 2]], n_items=fitted.n_items)
        for row in unseen.toarray():
            assert not (seen == row).all(axis=1).any(), "the problem has this very user"
        scores = fitted.score(unseen, all_items(fitted))
        assert np.isfinite(scores).all()
        assert np.ptp(scores, axis=1).min() > 0
        assert np.allclose(scores[0], scores[1]) != self.model.personalised

    def test_users_who_clicked_everything_are_learnt_beside_others(self):
        eager = self.eager_users()
        model = self.fit_once(eager)
        assert np.isfinite(model.score(eager.interactions, all_items(model))).all()

    def test_an_empty_history_is_served(self, train, fitted):
        known = train.interactions[[0]]
        with_empty = sp.csr_array(sp.vstack([known, sp.csr_array((1, fitted.n_items), dtype=np.float32)], format="csr"))
        scores = fitted.score(with_empty, all_items(fitted))
        assert scores.shape == (2, fitted.n_items)
        assert np.isfinite(scores).all()
        self.assert_close(scores[:1], fitted.score(known, all_items(fitted)))

    def test_no_user_and_no_item(self, train, fitted):
        assert fitted.score(train.interactions[:0], all_items(fitted)).shape == (0, fitted.n_items)
        assert fitted.score(train.interactions[:4], np.zeros(0, np.int32)).shape == (4, 0)

    def test_a_block_equals_its_rows_one_by_one(self, train, fitted):
        scorer = fitted.scorer(all_items(fitted))
        block = scorer(train.interactions)
        rows = np.concatenate([scorer(train.interactions[[user]]) for user in range(train.interactions.shape[0])])
        self.assert_close(rows, block)

    def test_some_items_are_columns_of_all(self, train, fitted):
        every = fitted.score(train.interactions, all_items(fitted))
        for items in (train.warm_items, train.cold_items, np.array([5, 1, 20, 5]), all_items(fitted)[::-1]):
            self.assert_close(fitted.score(train.interactions, items), every[:, items])

    def test_a_user_of_a_group_is_given_the_item_withheld(self):
        train, genres, group = self.groups()
        model = self.fit_once(train)
        warm = train.warm_items
        scores = model.score(train.interactions, warm)
        clicked = train.interactions.toarray()[:, warm]
        best = warm[np.where(clicked > 0, -np.inf, scores).argmax(axis=1)]
        np.testing.assert_array_equal(genres[best], group)

    # ---- warming

    def test_cold_items_warm_up(self, train):
        """Its lists are measured before a click on some items is known, and after two of each are."""
        task = warming_task(train, ratings=self.model.predicts_ratings)
        model = self.fit_once(task.train)
        measured = evaluate_warming(model, task, candidates="all", cutoffs=(5,))
        found = measured.part_means()
        assert {f"{name}.n{n}.ndcg@5" for name in TASKS for n in (0, 2)} <= set(found)
        assert all(0 <= value <= 1 for value in found.values())
        assert (measured.ratings is not None) == self.model.predicts_ratings
        warmer = task.after(2).train
        if model.takes_clicks:
            knowing = model.with_clicks(warmer)
            same = model.with_clicks(task.train).score(train.interactions, all_items(model))
            self.assert_close(same, model.score(train.interactions, all_items(model)))
            scores = knowing.score(warmer.interactions, all_items(model))
            assert np.isfinite(scores).all()
            step = model
            for item in np.setdiff1d(warmer.warm_items, task.train.warm_items)[::-1]:
                step = step.with_clicks_on(np.array([item]), warmer.interactions)
            self.assert_close(step.score(warmer.interactions, all_items(model)), scores)
            assert not isinstance(model, VectorModel), "an index of vectors would not follow the clicks"
        else:
            with pytest.raises(NotImplementedError, match=self.model.__name__):
                model.with_clicks(warmer)
            with pytest.raises(NotImplementedError, match=self.model.__name__):
                model.with_clicks_on(train.cold_items, warmer.interactions)

    # ---- storage

    def test_the_state_rebuilds_the_model(self, train, fitted):
        again = self.rebuilt(fitted, train.features)
        assert again.n_items == fitted.n_items
        assert again.config == fitted.config
        found, expected = (model.score(train.interactions, all_items(model)) for model in (again, fitted))
        np.testing.assert_array_equal(found, expected)
        assert self.same_arrays(again.state(), fitted.state())

    def rebuilt(self, model, features):
        """Return the model after a trip through a safetensors file and JSON."""
        arrays = {name: np.ascontiguousarray(value) for name, value in model.state().items()}
        loaded = safetensors.numpy.load(safetensors.numpy.save(arrays))
        loaded = dict(sorted(loaded.items(), reverse=True))  # the file keeps no order, and may give any
        config = self.model.config_type.model_validate_json(model.config.model_dump_json())
        return self.model.from_state(config, loaded, features)

    @staticmethod
    def same_arrays(found, expected):
        if found.keys() != expected.keys():
            return False
        return all(
            np.array_equal(array, expected[name], equal_nan=array.dtype.kind == "f") for name, array in found.items()
        )


class ClicksContract(RecommenderContract):
    """A model that predicts no ratings."""

    def test_it_predicts_no_ratings(self, train, fitted):
        with pytest.raises(NotImplementedError, match=self.model.__name__):
            fitted.predict_ratings(train.interactions, np.array([0]), np.array([0]))
        if self.reads.events:
            assert fitted.click_value == pytest.approx(train.interactions.data.mean())
        else:
            assert np.isnan(fitted.click_value) if self.reads.ratings else fitted.click_value == 1


class WarmItemContract(RecommenderContract):
    """A model that knows items by their clicks alone."""

    def test_no_item_is_added_by_its_attributes(self, fitted):
        with pytest.raises(NotImplementedError, match=self.model.__name__):
            fitted.add_items(random_features(np.random.default_rng(3), 4))


class ClickedItemContract(WarmItemContract, ClicksContract):
    """A model of clicks on items that it knows by their clicks alone."""


class _ProfileTests(ClicksContract):
    """What holds for a model that knows users by their attributes, too."""

    def problem(self, seed, **sizes):
        return with_users(super().problem(seed, **sizes))

    def eager_users(self):
        return with_users(super().eager_users())

    def groups(self):
        """Return planted groups; the users know theirs."""
        train, genres, group = super().groups()
        users = FeatureSet({"group": vector_feature(np.eye(genres.max() + 1)[group])}, len(group))
        return replace(train, users=users), genres, group

    def test_without_a_click_the_profile_decides(self):
        train, genres, group = self.groups()
        model, warm = self.fit_once(train), train.warm_items
        nothing = sp.csr_array((len(group), model.n_items), dtype=np.float32)
        scores = model.profile_scorer(warm)(nothing, train.users)
        np.testing.assert_array_equal(genres[warm[scores.argmax(axis=1)]], group)

    def test_a_block_of_profiles_equals_its_rows_one_by_one(self, train, fitted):
        scorer, every = fitted.profile_scorer(all_items(fitted)), np.arange(train.interactions.shape[0])
        block = scorer(train.interactions, train.users)
        rows = [scorer(train.interactions[[user]], train.users.take(every[[user]])) for user in every]
        self.assert_close(np.concatenate(rows), block)
        nobody = scorer(train.interactions[:0], train.users.take(every[:0]))
        assert nobody.shape == (0, fitted.n_items)

    def test_profiles_are_scored_alike_after_storage(self, train, fitted):
        again = self.rebuilt(fitted, train.features)
        found, expected = (
            model.profile_scorer(all_items(model))(train.interactions, train.users) for model in (again, fitted)
        )
        np.testing.assert_array_equal(found, expected)

    def test_users_of_whom_nothing_is_known_are_refused(self, train):
        with pytest.raises(MissingFieldError, match="attributes of users"):
            self.model(self.config).fit(replace(train, users=None))


class ProfileContract(_ProfileTests, ClickedItemContract):
    """A model that knows users by their attributes, and items by their clicks."""


class RatingContract(WarmItemContract):
    """A model that predicts ratings."""

    def test_ratings_are_predicted(self, train, fitted):
        histories, n_items = train.interactions, fitted.n_items
        rows, items = np.repeat(np.arange(histories.shape[0]), n_items)[::-1], np.tile(all_items(fitted), 30)[::-1]
        ratings = histories.data
        predicted = fitted.predict_ratings(histories, rows, items)
        assert predicted.dtype == np.float32
        expected = np.clip(fitted.score(histories, all_items(fitted)), ratings.min(), ratings.max())
        self.assert_close(predicted, expected[rows, items])
        assert ratings.mean() < fitted.click_value <= ratings.max()
        nothing = np.zeros(0, np.int64)
        assert fitted.predict_ratings(histories, nothing, nothing).shape == (0,)
        error = np.sqrt(np.mean((fitted.predict_ratings(histories, *histories.nonzero()) - ratings) ** 2))
        assert error < ratings.std()


class ColdItemContract(ClicksContract):
    """A model that scores items by their attributes."""

    def test_cold_items_are_told_apart(self, train, fitted):
        scores = fitted.score(train.interactions, train.cold_items)
        assert np.ptp(scores, axis=1).min() > 0
        self.assert_personal(scores)

    def test_a_cold_item_is_ranked_first_for_the_group_of_its_genre(self):
        train, genres, group = self.groups()
        scores = self.fit_once(train).score(train.interactions, train.cold_items)
        best = train.cold_items[scores.argmax(axis=1)]
        np.testing.assert_array_equal(genres[best], group)

    def test_items_are_added_by_their_attributes(self, train, fitted):
        new = random_features(np.random.default_rng(3), 4)
        n_items = fitted.n_items
        before = fitted.score(train.interactions, all_items(fitted))
        extended = fitted.add_items(new)
        assert extended.n_items == n_items + 4
        assert fitted.n_items == n_items
        n_users = train.interactions.shape[0]
        padded = sp.csr_array(
            sp.hstack([train.interactions, sp.csr_array((n_users, 4), dtype=np.float32)], format="csr")
        )
        scores = extended.score(padded, all_items(extended))
        assert scores.shape == (n_users, n_items + 4)
        assert np.isfinite(scores).all()
        self.assert_close(scores[:, :n_items], before)
        self.assert_personal(scores[:, n_items:])
        assert np.ptp(scores[:, n_items:], axis=1).min() > 0
        again = self.rebuilt(extended, train.features.append(new))
        np.testing.assert_array_equal(again.score(padded, all_items(again)), scores)
        twice = fitted.add_items(new.take(np.array([0, 1]))).add_items(new.take(np.array([2, 3])))
        self.assert_close(twice.score(padded, all_items(twice)), scores)

    def test_a_click_on_an_added_item_is_no_error(self, train, fitted):
        extended = fitted.add_items(random_features(np.random.default_rng(3), 2))
        history = histories_of(
            [train.warm_items[0], extended.n_items - 1], [extended.n_items - 2], n_items=extended.n_items
        )
        assert np.isfinite(extended.score(history, all_items(extended))).all()


class ProfiledColdItemContract(_ProfileTests, ColdItemContract):
    """A model that knows users and items by their attributes, too."""


class ContextContract(ColdItemContract):
    """A model that reads when and in which context clicks were, and attributes of users where there are any."""

    def problem(self, seed, **sizes):
        return with_moments(with_users(super().problem(seed, **sizes)))

    @staticmethod
    def askers(train):
        """Return what is known of the users of a training set when they ask, at the moments of some clicks."""
        return train.users.beside(train.moments.features.take(np.arange(train.interactions.shape[0])))

    def test_a_block_of_askers_equals_its_rows_one_by_one(self, train, fitted):
        scorer, every = fitted.profile_scorer(all_items(fitted)), np.arange(train.interactions.shape[0])
        askers = self.askers(train)
        block = scorer(train.interactions, askers)
        rows = [scorer(train.interactions[[user]], askers.take(every[[user]])) for user in every]
        self.assert_close(np.concatenate(rows), block)
        assert scorer(train.interactions[:0], askers.take(every[:0])).shape == (0, fitted.n_items)

    def test_askers_are_scored_alike_after_storage(self, train, fitted):
        again, askers = self.rebuilt(fitted, train.features), self.askers(train)
        found, expected = (
            model.profile_scorer(all_items(model))(train.interactions, askers) for model in (again, fitted)
        )
        np.testing.assert_array_equal(found, expected)

    def test_what_is_missing_of_who_asks_is_unknown_and_the_rest_counts(self, train, fitted):
        """Each feature by itself, in any order; one that the fit did not have says nothing."""
        scorer, askers = fitted.profile_scorer(all_items(fitted)), self.askers(train)
        n_users = askers.n_items
        plain = fitted.score(train.interactions, all_items(fitted))
        self.assert_close(scorer(train.interactions, FeatureSet({}, n_users)), plain)
        unknown = unknown_user(askers).take(np.zeros(n_users, np.intp))
        unread = vector_feature(np.eye(n_users))
        for name in askers.features:
            alone = {name: askers.features[name], "at:another": unread}
            beside = {**unknown.features, name: askers.features[name]}
            found = scorer(train.interactions, FeatureSet(alone, n_users))
            self.assert_close(found, scorer(train.interactions, FeatureSet(dict(reversed(beside.items())), n_users)))
            says_nothing = name == TIME and not train.moments.of_items
            assert np.allclose(found, plain, rtol=1e-4) == says_nothing, name

    def test_nothing_need_be_known_of_users_or_of_moments(self, train):
        for lacking in (replace(train, users=None), replace(train, moments=None)):
            model = self.model(self.config.model_copy(update={"epochs": 1})).fit(lacking)
            known = lacking.users or lacking.moments.features.take(np.arange(train.interactions.shape[0]))
            scores = model.profile_scorer(all_items(model))(train.interactions, known)
            assert np.isfinite(scores).all()
            assert not np.allclose(scores, model.score(train.interactions, all_items(model)), rtol=1e-4)
