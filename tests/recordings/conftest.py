"""Small recordings."""

import pytest
from event_samples import make_events


@pytest.fixture
def events():
    return make_events(5000, 1_000_000)
