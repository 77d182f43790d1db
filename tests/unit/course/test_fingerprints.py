"""Fingerprints cover a notebook's code and the weights that it loads, and nothing else."""

import nbformat
import pytest
from course_notebooks import write_notebook

from trajlib.course import fingerprints


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr("trajlib.zoo.model_files.SHIPPED", tmp_path)
    for name in ("tokenizer", "samples"):
        (tmp_path / f"{name}.json").write_text('{"sha256": "abc"}')
    return tmp_path


@pytest.fixture
def nb(tmp_path):
    source = "tokenizer, _ = recipes.tokenizer(ARTIFACTS)\nsamples = 3"
    return nbformat.read(write_notebook(tmp_path, "01_a", source), 4)


def test_text_changes_nothing_and_code_does(nb, shipped):
    before = fingerprints.fingerprint(nb)
    nb.cells[0].source = "another text"
    assert fingerprints.fingerprint(nb) == before
    nb.cells[-1].source += "\nprint(1)"
    after = fingerprints.fingerprint(nb)
    assert {key for key in before if before[key] != after[key]} == {"source"}


def test_weights_that_are_loaded_count_and_others_do_not(nb, shipped):
    before = fingerprints.fingerprint(nb)
    (shipped / "samples.json").write_text('{"sha256": "of other samples"}')
    assert fingerprints.fingerprint(nb) == before  # a variable of this name is no model
    (shipped / "tokenizer.json").write_text('{"sha256": "of another tokenizer"}')
    after = fingerprints.fingerprint(nb)
    assert {key for key in before if before[key] != after[key]} == {"weights"}


@pytest.mark.parametrize("source", ['load("samples")', "load('samples')", "recipes.samples(ARTIFACTS)"])
def test_every_way_to_load_a_model_is_noticed(nb, shipped, source):
    nb.cells[-1].source = source
    before = fingerprints.weights_fingerprint(nb)
    (shipped / "samples.json").write_text('{"sha256": "of other samples"}')
    assert fingerprints.weights_fingerprint(nb) != before


def test_strip_metadata_drops_what_differs_between_two_runs(nb):
    nb.metadata.update(papermill={}, widgets={})
    nb.cells[1].metadata.update(execution={}, papermill={})
    nb.cells[2].outputs = [nbformat.v4.new_output("display_data", data={fingerprints.WIDGET: {"model_id": "x"}})]
    twin = {"image/png": "", "text/html": f"<div class='{fingerprints.TWIN}'>"}
    note = {"text/plain": "how to get the controls", "text/html": twin["text/html"]}
    for data in (twin, note):
        nb.cells[2].outputs.append(nbformat.v4.new_output("display_data", data=data))
    fingerprints.strip_metadata(nb)
    assert set(nb.metadata) == {"kernelspec", "language_info"}
    assert set(nb.cells[1].metadata) == {"tags"}
    assert nb.cells[2].outputs[0].data == {"text/plain": fingerprints.WIDGET_NOTE}
    assert nb.cells[2].outputs[1].data == {"image/png": ""}
    assert len(nb.cells[2].outputs) == 2, "the note stands twice"
