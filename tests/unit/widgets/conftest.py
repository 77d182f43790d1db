"""Fixtures of the widgets' tests: clips, tokenizers of every kind, and what is made of them."""

import pytest
from tiny_widget_models import KINDS, PairTokenizer, tiny_tokenizer, tiny_transformer

from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.widgets.token_index import TokenIndex


@pytest.fixture(scope="session")
def tokenizer():
    return KINDS["fsq"]()


@pytest.fixture(scope="session")
def clips():
    return TrajectoryDataset(8, seed=41).batch()


@pytest.fixture(scope="session")
def index(tokenizer, clips):
    return TokenIndex(tokenizer, clips)


@pytest.fixture(scope="session", params=KINDS)
def any_index(request, clips):
    return TokenIndex(KINDS[request.param](), clips)


@pytest.fixture(scope="session")
def pair_index(clips):
    return TokenIndex(PairTokenizer(), clips)


@pytest.fixture(scope="session")
def vq_index(clips):
    return TokenIndex(KINDS["vq"](), clips)


@pytest.fixture(scope="session")
def small_index():
    """Videos and tokens of other sizes: 8 frames of 32 px, a grid of 4 x 2 x 2."""
    spec = VideoSpec(frames=8, size=32)
    clips = TrajectoryDataset(6, seed=42, spec=spec).batch()
    return TokenIndex(tiny_tokenizer({"kind": "fsq", "levels": (4, 3)}, spec=spec), clips)


@pytest.fixture(scope="session")
def transformer(tokenizer):
    return tiny_transformer(tokenizer)
