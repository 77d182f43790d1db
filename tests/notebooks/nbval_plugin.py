"""A pytest plugin for nbval: kernels on ports of their own, and in the replay pictures are compared, too.

nbval compares text and leaves PNG outputs out. Cells tagged nbval-ignore-output show times, and are left out here, too.
"""

import pytest

from trajlib.course.kernel import separate_ports
from trajlib.course.pictures import compare_outputs


def pytest_configure(config):
    separate_ports()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """After nbval's own comparison: fail if a picture differs from the stored one."""
    result = yield
    fresh, stored = getattr(item, "test_outputs", None), item.cell
    ignored = "nbval-ignore-output" in stored.metadata.get("tags", [])
    if item.config.option.nbval_lax and fresh is not None and stored.execution_count and not ignored:
        faults = compare_outputs(stored.outputs, fresh)
        if faults:
            pytest.fail("; ".join(faults), pytrace=False)
    return result
