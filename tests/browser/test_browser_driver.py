"""Does the driver of the browser see what it should?"""

import labdrive
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(labdrive.TEST_SECONDS)]


def test_driver_sees_a_picture_change_a_picture_stay_and_a_silent_error(run):
    with run("small.ipynb") as notebook:
        assert notebook.cells == 2
        notebook.changes("img.studio", lambda: notebook.press(notebook.sliders.nth(0), "PageUp"))
        assert notebook.complaints() == []
        with pytest.raises(AssertionError, match="did not change"):
            notebook.changes("img.studio", lambda: notebook.press(notebook.sliders.nth(1), "ArrowRight"), seconds=2)
        (complaint,) = notebook.first_complaints()
        assert "ZeroDivisionError" in complaint


def test_driver_sees_a_request_to_another_machine(run):
    with run("asks.ipynb") as notebook:
        assert set(notebook.first_complaints()) == {"https://example.org/x.png"}  # a page may ask twice
