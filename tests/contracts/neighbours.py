"""What models of neighbours by clicks promise beside the contract of all models."""

import numpy as np

from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ClickedItemContract, all_items


class NeighbourContract(ClickedItemContract):
    """A model whose parameters are those of :class:`~coldray.models.neighbours.similarity.NeighbourConfig`."""

    def test_a_user_is_given_the_item_withheld_from_the_checkerboard(self):
        board = np.indices((20, 20)).sum(axis=0) % 2 == 0
        withheld = board.copy()
        np.fill_diagonal(withheld, False)
        train = clicks_alone(withheld)
        for measure in ("cosine", "pearson", "jaccard"):
            model = self.model(type(self.config)(k=10, measure=measure)).fit(train)
            scores = np.where(withheld, -np.inf, model.score(train.interactions, all_items(model)))
            np.testing.assert_array_equal(scores.argmax(axis=1), np.arange(20))

    def test_an_item_without_clicks_scores_0_and_no_item_less(self):
        train = random_training_set(1)
        model = self.model(type(self.config)(measure="pearson")).fit(train)
        scores = model.score(train.interactions, all_items(model))
        assert (scores[:, train.cold_items] == 0).all()
        assert (scores >= 0).all()
        assert scores[:, train.warm_items].max() > 0
