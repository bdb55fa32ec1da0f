"""The synthetic experiment that tests of tables, charts and pages share."""

import pytest

from tests.reporting import fakes


@pytest.fixture
def experiment(empty):
    """Return the identities of the cells of a finished experiment in an empty folder."""
    return fakes.put_experiment()
