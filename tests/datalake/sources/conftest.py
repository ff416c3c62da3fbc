"""Fixtures for sources: a site on localhost, and a report that says nothing."""

from collections.abc import Iterator

import pytest

from datalake.sources.report import Report
from tests.datalake.sources.site import Site, serving


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def other_site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
def report() -> Report:
    return Report("test", lambda line: None)
