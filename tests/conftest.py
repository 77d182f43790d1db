"""The order of the tests: what is quick first, what runs notebooks or a browser last."""

LAST = ("test_hygiene.py", "test_course.py", "test_nets.py", "test_notebooks.py", "test_browser.py")


def pytest_collection_modifyitems(items):
    """Sort by file (stable: the order inside a file stays)."""
    items.sort(key=lambda item: LAST.index(item.path.name) + 1 if item.path.name in LAST else 0)
