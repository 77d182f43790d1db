"""The masked transformer: what it sees and what it cannot see, and the loss on hidden tokens alone."""

import math

import pytest
import torch
from torch.nn import functional as F

from trajlib.masks import random_masks
from trajlib.transformer import MaskedTransformer, masked_loss

K, GRID = 50, (8, 4, 4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MaskedTransformer(K, GRID, dim=32, depth=2, heads=2).eval()


def clips(n=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, *GRID), generator=rng), torch.arange(n) % 4


def test_logits_for_every_token(model):
    tokens, labels = clips()
    assert model(tokens.flatten(1), labels).shape == (4, 128, K)


def test_a_hidden_token_cannot_be_seen(model):
    """Two clips that differ only under the mask give the same logits, to the last bit."""
    tokens, labels = clips()
    tokens = tokens.flatten(1)
    mask = random_masks(*tokens.shape, torch.Generator().manual_seed(0))
    others = torch.where(mask, (tokens + 7) % K, tokens)
    assert not torch.equal(tokens, others)
    first, second = (model(x.masked_fill(mask, model.mask_token), labels) for x in (tokens, others))
    assert torch.equal(first, second)


def test_a_visible_token_and_the_class_can_be_seen(model):
    tokens, labels = clips()
    tokens = tokens.flatten(1).index_fill(1, torch.tensor([5]), model.mask_token)
    changed = tokens.clone()
    changed[:, 100] = (changed[:, 100] + 1) % K
    there = model(tokens, labels)[:, 5]
    assert not torch.allclose(there, model(changed, labels)[:, 5])  # token 100 lies far off in the grid
    assert not torch.allclose(there, model(tokens, (labels + 1) % 4)[:, 5])
    assert not torch.allclose(there, model(tokens, torch.full_like(labels, model.unconditional))[:, 5])


def test_the_same_token_elsewhere_is_another_thing(model):
    """With all tokens alike only the places can tell them apart: each of the 128 gets logits of its own."""
    logits = model(torch.full((1, 128), 3), torch.tensor([0]))[0]
    assert torch.pdist(logits).min() > 1e-6


def test_it_starts_from_the_frequencies_by_place():
    """Where 3 of 4 clips have token 5, a model that sees nothing says 5 with almost 3/4."""
    torch.manual_seed(0)
    model = MaskedTransformer(K, GRID, dim=32, depth=1, heads=2)
    tokens = torch.full((400, *GRID), 9)
    tokens[:300, 2, 1, 3] = 5
    model.start_from(tokens, weight=1)
    p = model.bias.softmax(-1)
    assert torch.allclose(model.bias.exp().sum(1), torch.ones(128), atol=1e-4)
    place = 2 * 16 + 1 * 4 + 3
    assert p[place, 5].item() == pytest.approx(0.75, abs=0.01)
    assert p[place, 9].item() == pytest.approx(0.25, abs=0.01)
    assert (p[torch.arange(128) != place, 9] > 0.99).all()
    assert (p > 0).all()


class Scripted(torch.nn.Module):
    """Stands in for a transformer: keeps what it was asked, answers with given logits."""

    mask_token, unconditional = K, 4

    def __init__(self, logits):
        super().__init__()
        self.logits, self.asked = logits, []

    def forward(self, tokens, labels):
        self.asked.append((tokens, labels))
        return self.logits.expand(len(tokens), -1, -1)


def test_the_loss_is_the_cross_entropy_of_the_hidden_tokens_alone():
    tokens, labels = clips(16)
    logits = torch.randn(1, 128, K, generator=torch.Generator().manual_seed(1))
    model = Scripted(logits)
    torch.manual_seed(5)
    loss, parts = masked_loss(model, tokens, labels)
    (seen, _), flat = model.asked[0], tokens.flatten(1)
    hidden = seen == model.mask_token
    assert torch.equal(seen[~hidden], flat[~hidden])
    by_hand = [-logits[0, i].log_softmax(-1)[flat[b, i]] for b, i in hidden.nonzero().tolist()]
    assert loss.item() == pytest.approx(torch.stack(by_hand).mean().item(), rel=1e-5)
    assert parts["bits"].item() == pytest.approx(loss.item() / math.log(2), rel=1e-6)
    assert hidden.any(1).all()


def test_a_model_that_knows_nothing_pays_log2_of_the_codebook():
    tokens, labels = clips(8)
    _, parts = masked_loss(Scripted(torch.zeros(1, 128, K)), tokens, labels)
    assert parts["bits"].item() == pytest.approx(math.log2(K), rel=1e-6)


def test_labels_are_dropped_as_often_as_asked():
    tokens, labels = clips(800)
    for share in (0.0, 0.1, 1.0):
        model = Scripted(torch.zeros(1, 128, K))
        torch.manual_seed(0)
        masked_loss(model, tokens, labels, label_dropout=share)
        asked = model.asked[0][1]
        dropped = asked == model.unconditional
        assert dropped.float().mean().item() == pytest.approx(share, abs=0.03)
        assert torch.equal(asked[~dropped], labels[~dropped])


def test_the_loss_reaches_every_weight():
    model = MaskedTransformer(K, GRID, dim=32, depth=1, heads=2)
    tokens, labels = clips(32)
    masked_loss(model, tokens, labels, label_dropout=0.5)[0].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_the_config_builds_the_same_model_again(model):
    again = MaskedTransformer(**model.config)
    again.load_state_dict(model.state_dict())
    tokens, labels = clips()
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens.flatten(1), labels), model(tokens.flatten(1), labels))


def test_three_tokens_by_hand():
    """The definition behind cross_entropy: minus the logarithm of the probability of what is there."""
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 3.0]])
    truth = torch.tensor([0, 1, 1])
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    assert F.cross_entropy(logits, truth).item() == pytest.approx(-p[range(3), truth].log().mean().item())
