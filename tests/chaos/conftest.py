import pytest

from coldray.data.sources.sample import sample_dataset
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, run_study
from contracts.jobs import STUDY


@pytest.fixture(scope="session")
def undisturbed(ray_cluster):
    """The same study without an interruption."""
    return run_study(prepare_study(StudyConfig.model_validate(STUDY), sample_dataset()), study_id="undisturbed")
