"""The studies are found as the package `studies`, as in a notebook."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "notebooks"))


@pytest.fixture
def one_thread():
    """As in a study's processes. With two, torch 2.14.1 writes past its memory in a narrow gradient penalty."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def context_of(tmp_path):
    """A function settings -> `Context` of a smoke run with the shipped models."""
    from trajlib.course.study import Context
    from trajlib.zoo.checkpoints import load

    def make(settings, models=("tokenizer",)):
        weights = {name: load(name)[1]["sha256"][:8] for name in models}
        return Context(settings, "smoke", "shipped", weights, tmp_path / "files", ())

    return make
