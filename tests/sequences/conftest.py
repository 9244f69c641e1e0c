"""Small recordings and sequences, shared by the tests of this folder."""

import pytest
from event_samples import make_events
from small_sequences import config, dataset, sequences  # noqa: F401 -- fixtures


@pytest.fixture
def events():
    return make_events(5000, 1_000_000)
