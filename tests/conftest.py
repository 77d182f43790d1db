"""Two processes share the test files in this order: what takes longest begins first. The nested threads are capped."""

import os

import pytest
import torch
from hypothesis import settings

from trajlib.course import options, site

settings.register_profile("course", deadline=None)  # a busy machine is no error
settings.load_profile("course")

if "PYTEST_XDIST_WORKER" in os.environ:  # else each process starts a thread for every core, and all wait for each other
    torch.set_num_threads(1)

ORDER = ("notebooks", "unit", "browser")  # folders of tests/
FIRST = ("test_notebooks.py", "test_runner.py")  # run whole notebooks


def pytest_collection_modifyitems(items):
    """Sort by folder and file (stable: the order inside a file stays)."""

    def rank(item):
        folder = next((part for part in item.path.parts[::-1] if part in ORDER), "unit")
        return item.path.name not in FIRST, ORDER.index(folder)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The site of the committed notebooks, with their stored outputs."""
    out = tmp_path_factory.mktemp("exported") / "site"
    pages = [site.Page(path, "41 s") for path in sorted(options.NOTEBOOKS.glob(options.PATTERN))]
    readme = options.NOTEBOOKS.parent / "README.md"
    assert site.build(out, pages, "a test", readme, options.NOTEBOOKS) == []
    return out
