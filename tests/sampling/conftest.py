"""Small sequences on disk, shared by the tests of this folder."""

from small_sequences import config, dataset, sequences  # noqa: F401 -- fixtures
