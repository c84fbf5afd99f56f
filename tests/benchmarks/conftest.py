"""What tests of the study share."""

import pytest
import torch


@pytest.fixture(scope="module")
def study_worker():
    """As the runner's workers are: of one thread, as a model this small only loses by sharing; and without observers of
    the estimator, which other tests in this process must have again."""
    from recipe.asymgrpo import advantage

    threads, observers = torch.get_num_threads(), advantage.observers[:]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    advantage.observers[:] = observers
