"""A quantizer from outside the package: one class and one entry, and tokenizer, transformer and classifier take it."""

import pytest
import torch
from torch import nn

from trajlib.classify.readers import TokenClassifier
from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.generation.sampling import complete, generate
from trajlib.generation.tasks import TASK_NUMBERS, observed_tokens
from trajlib.generation.transformer import MaskedTransformer, commit_loss
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.quantizers import QUANTIZERS
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit

SPEC = VideoSpec(4, 32)


class Steps(nn.Module):
    """Rounds one projected number to `size` steps of [-1, 1]. Its codes have no levels."""

    num_codebooks, levels = 1, None

    def __init__(self, dim, size=16):
        super().__init__()
        self.codebook_size = size
        self.down, self.up = nn.Linear(dim, 1), nn.Linear(1, dim)

    def forward(self, z, background=None):
        wanted = self.down(z.movedim(1, -1)).tanh()  # (b, t, h, w, 1)
        codes = ((wanted + 1) / 2 * (self.codebook_size - 1)).round().long()
        rounded = wanted + (self._value(codes) - wanted).detach()
        return self.up(rounded).movedim(-1, 1), codes[..., 0], (rounded.detach() - wanted).square().mean()

    def _value(self, codes):
        return 2 * codes / (self.codebook_size - 1) - 1

    def codes_to_latents(self, codes):
        return self.up(self._value(codes[..., None])).movedim(-1, 1)


@pytest.fixture
def tokenizer(monkeypatch):
    monkeypatch.setitem(QUANTIZERS, "steps", Steps)
    torch.manual_seed(0)
    layers = ("residual", ("compress_space", 8), ("compress_space", 8))
    return Tokenizer({"kind": "steps", "size": 12}, dim=8, layers=layers, spec=SPEC)


def test_a_quantizer_from_outside_trains_and_feeds_the_transformer(tokenizer):
    batch = TrajectoryDataset(16, spec=SPEC).batch()
    videos = to_float(batch.videos)

    def loss(model, batch):
        recon, _, quantizer_loss = model(batch[0])
        return reconstruction_loss(recon, batch[0], quantizer_loss)

    trained, history = fit(tokenizer, loss, lambda step: [videos], steps=20, lr=3e-3, ema=0.5, bf16=False, log_lines=1)
    assert sum(history["loss"][-3:]) < 0.8 * sum(history["loss"][:3])
    tokens = trained.encode(videos)
    assert tokens.shape == (16, *trained.token_shape) == (16, 2, 2, 2)
    assert trained.codebook_size == 12
    assert torch.equal(trained.decode(tokens), trained.reconstruct(videos))

    torch.manual_seed(0)
    transformer = MaskedTransformer(
        trained.codebook_size, trained.token_shape, trained.levels, dim=16, depth=1, heads=2
    )
    transformer.init_output_bias(tokens)
    tasks = torch.full((16,), TASK_NUMBERS["CFP"])
    observed = observed_tokens("CFP", trained.token_shape, spec=SPEC).expand_as(tokens)

    def commit(model, batch):
        return commit_loss(model, batch[0], batch[1], tasks, batch[0], observed)

    _, history = fit(
        transformer, commit, lambda step: [tokens, batch.labels], steps=20, lr=1e-2, bf16=False, log_lines=1
    )  # fmt: skip
    assert all(torch.tensor(history["loss"]).isfinite())
    assert generate(transformer, [0, 1], steps=3).shape == (2, 2, 2, 2)
    completed = complete(transformer, trained, videos[:2], "FP", steps=3)
    assert trained.decode(completed).shape == (2, *SPEC.shape)
    classifier = TokenClassifier(trained.codebook_size, trained.token_shape, trained.levels, dim=16, depth=1, heads=2)
    assert classifier(tokens).shape == (16, 4)


def test_its_config_rebuilds_it(tokenizer):
    again = Tokenizer(**tokenizer.config)
    again.load_state_dict(tokenizer.state_dict())
    videos = torch.rand(1, *SPEC.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.eval().encode(videos), tokenizer.eval().encode(videos))
