"""Folds made ready on the cluster."""

import pytest
import ray

from coldray.data.sources.sample import sample_dataset
from coldray.experiments.folds import begin_tasks, prepare_task
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import draw_splits

CONFIG = StudyConfig.model_validate(
    {"name": "folds", "model": "marec", "space": {"order": {"choice": [1, 2]}}, "splits": {"n_splits": 5}}
)


@ray.remote(num_cpus=2)
class Trials:
    """Holds all CPUs, as trials do that wait for a fold."""

    def ready(self):
        return True


@pytest.mark.usefixtures("ray_cluster")
def test_folds_are_prepared_though_trials_hold_all_cpus_and_each_is_its_own():
    """Where a node is lost, folds are lost with it: trials on the others would wait for them for ever."""
    folds = [split.for_tuning().fold for split in draw_splits(sample_dataset(0, 60, 50), CONFIG)]
    trials = Trials.remote()
    assert ray.get(trials.ready.remote())
    references = begin_tasks(folds, CONFIG)
    ready, _ = ray.wait([*references.values()], num_returns=5, timeout=200)
    ray.kill(trials)
    assert len(ready) == 5
    for fold in folds:
        found, expected = ray.get(references[fold.name]), prepare_task(fold, CONFIG.features)
        assert (found.train.interactions != expected.train.interactions).nnz == 0
        assert found.held_out_items.tolist() == expected.held_out_items.tolist()
