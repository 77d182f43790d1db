"""The results file: what it keeps, what it refuses, and when two figures agree."""

import numpy as np
import pytest
import torch

from trajlib.course.results import compare_figures, record, results
from trajlib.zoo import model_files
from trajlib.zoo.checkpoints import ArtifactError


@pytest.fixture(autouse=True)
def _no_run(monkeypatch):
    monkeypatch.delenv("TRAJLIB_RESULTS", raising=False)


def test_results_round_trip(tmp_path):
    record(
        tmp_path, "psnr", np.float32(31.23456789), n=1000, interval=(31.0, 31.5), baseline=25.4,
        ceiling=torch.tensor(99.0), seed=3, notebook="03", unit="dB", tolerance=0.05,
    )  # fmt: skip
    record(tmp_path, "all inside", True, n=20_000, notebook="01")
    assert results(tmp_path) == {
        "psnr": {"value": 31.2346, "interval": [31.0, 31.5], "baseline": 25.4, "ceiling": 99.0, "n": 1000, "seed": 3,
                 "notebook": "03", "unit": "dB", "tolerance": 0.05},
        "all inside": {"value": True, "interval": None, "baseline": None, "ceiling": None, "n": 20_000, "seed": None,
                       "notebook": "01", "unit": "", "tolerance": None},
    }  # fmt: skip
    text = (tmp_path / "results.json").read_text()
    assert text.index('"all inside"') < text.index('"psnr"')
    assert '\n "psnr": {\n  "baseline"' in text


def test_results_replace_by_name_and_ignore_order(tmp_path):
    for where, order in (("a", (1, 2)), ("b", (2, 1))):
        record(tmp_path / where, "x", 99, n=1, notebook="t")
        for i in order:
            record(tmp_path / where, f"f{i}", i, n=1, notebook="t")
        record(tmp_path / where, "x", 0, n=1, notebook="t")
    assert (tmp_path / "a/results.json").read_bytes() == (tmp_path / "b/results.json").read_bytes()
    assert results(tmp_path / "a")["x"]["value"] == 0


def test_a_reader_changes_no_tracked_file(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "SHIPPED", tmp_path)
    record("shipped", "psnr", 1.0, n=1, notebook="t")
    assert list(tmp_path.iterdir()) == []


def test_a_run_overlays_the_shipped_results(tmp_path, monkeypatch):
    shipped, run = tmp_path / "shipped", tmp_path / "run/results.json"
    monkeypatch.setattr(model_files, "SHIPPED", shipped)
    for name in ("old", "both"):
        record(shipped, name, 1, n=1, notebook="t")
    before = (shipped / "results.json").read_bytes()
    monkeypatch.setenv("TRAJLIB_RESULTS", str(run))
    record("shipped", "both", 2, n=1, notebook="t")
    assert {k: v["value"] for k, v in results("shipped").items()} == {"old": 1, "both": 2}
    assert (shipped / "results.json").read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), None, object()])
def test_a_figure_is_a_finite_number(tmp_path, value):
    with pytest.raises(ValueError, match="psnr"):
        record(tmp_path, "psnr", value, n=1, notebook="t")
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_results(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ArtifactError, match="results"):
        results(tmp_path)


# ---- agreement ----


def entry(value, notebook="01", tolerance=None):
    return {"value": value, "notebook": notebook, "tolerance": tolerance}


@pytest.mark.parametrize(
    ("old", "new", "agree"),
    [
        (entry(30.0, tolerance=0.1), entry(30.09), True),
        (entry(30.0, tolerance=0.1), entry(30.11), False),
        (entry(30.0), entry(30.00001), True),
        (entry(30.0), entry(30.001), False),
        (entry(0.0), entry(1e-9), False),
        (entry("yes"), entry("yes"), True),
        (entry("yes"), entry("no"), False),
        (entry(True), entry(1), False),
        (entry(1.0), None, False),
        (None, entry(1.0), False),
        (entry(1.0, notebook="01_makes"), None, False),
        (entry(1.0) | {"timing": True}, entry(7.0) | {"timing": True}, True),
        (entry(1.0) | {"timing": True}, None, False),
    ],
)
def test_agreement(old, new, agree):
    shipped, fresh = ({"f": e} if e else {} for e in (old, new))
    count, differ = compare_figures(shipped, fresh, ["01_makes"])
    assert (count, len(differ)) == ((1, 0) if agree else (0, 1))


def test_figures_of_notebooks_that_did_not_run_are_left_out():
    shipped = {"f": entry(1.0, notebook="02"), "g": entry(1.0)}
    assert compare_figures(shipped, {"g": entry(1.0)}, ["01_makes"]) == (1, [])
