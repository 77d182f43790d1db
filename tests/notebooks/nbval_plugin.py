"""A pytest plugin for nbval: kernels on ports of their own, and in the replay pictures are compared, too.

nbval compares text and leaves PNG outputs out. What tags leave out, see `pictures.compare_cell`.
"""

import pytest

from trajlib.course.kernel import separate_ports
from trajlib.course.pictures import compare_cell


def pytest_configure(config):
    separate_ports()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After nbval's own comparison: fail if a picture differs from the stored one."""
    result = yield
    fresh, stored = getattr(item, "test_outputs", None), item.cell
    if item.config.option.nbval_lax and fresh is not None and stored.execution_count:
        faults = compare_cell(stored, fresh)
        if faults:
            pytest.fail("; ".join(faults), pytrace=False)
    return result
