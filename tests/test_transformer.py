"""The masked transformer: what it sees and what it cannot see, its words, and COMMIT's loss in three parts."""

import json
import math

import pytest
import torch
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ

from trajlib.masks import random_masks
from trajlib.tasks import NUMBERS, TASKS
from trajlib.transformer import MaskedTransformer, Words, commit_loss, frequencies

LEVELS, GRID = (5, 5, 2), (8, 4, 4)
K = 50
PARTS = ("refine", "mask", "recons")
LABELLED = torch.tensor([task.labelled for task in TASKS.values()])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MaskedTransformer(LEVELS, GRID, dim=32, depth=2, heads=2).eval()


def clips(n=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, *GRID), generator=rng), torch.arange(n) % 4


def examples(n, seed=0):
    """What `commit_loss` takes: tokens 0 .. 24, conditions 25 .. 49, so that either can be told from the other."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 25, (n, *GRID), generator=rng)
    conditions = torch.randint(25, K, (n, *GRID), generator=rng)
    given = torch.rand(n, *GRID, generator=rng) < 0.4
    tasks = torch.arange(n) % len(TASKS)
    given[tasks == NUMBERS["CG"]] = False
    return tokens, torch.randint(0, 4, (n,), generator=rng), tasks, conditions, given


# ---- the model ----


def test_logits_for_every_token(model):
    tokens, labels = clips()
    assert model(tokens.flatten(1), labels).shape == (4, 128, K)
    assert model(tokens.flatten(1), labels, torch.tensor([0, 3, 8, 9])).shape == (4, 128, K)


def test_without_a_task_it_is_class_conditional_generation(model):
    tokens, labels = clips()
    plain = model(tokens.flatten(1), labels)
    assert torch.equal(plain, model(tokens.flatten(1), labels, torch.full((4,), NUMBERS["CG"])))
    assert not torch.equal(plain, model(tokens.flatten(1), labels, torch.full((4,), NUMBERS["FP"])))


def test_each_task_and_each_class_is_another_prefix(model):
    tokens = clips(1)[0].flatten(1)
    by_task = [model(tokens, torch.tensor([0]), torch.tensor([task])) for task in range(len(TASKS))]
    by_class = [model(tokens, torch.tensor([label]), torch.tensor([0])) for label in range(model.unconditional + 1)]
    for logits in (by_task, by_class):
        assert torch.pdist(torch.cat(logits).flatten(1)).min() > 1e-3


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


def test_it_starts_from_the_frequencies():
    """Where 3 of 4 tokens are a 5, a model that knows nothing says 5 with almost 3/4, and no word is impossible."""
    tokens = torch.full((400, *GRID), 9)
    tokens[:300] = 5
    fresh = MaskedTransformer(LEVELS, GRID, dim=32, depth=1, heads=2)
    assert not fresh.bias.any()
    fresh.start_from(tokens)
    p = fresh.bias.softmax(-1)
    assert torch.equal(fresh.bias, frequencies(tokens, K))
    assert fresh.bias.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert p[5].item() == pytest.approx(0.75, abs=0.001)
    assert p[9].item() == pytest.approx(0.25, abs=0.001)
    assert (p > 0).all()
    assert p[0].item() == pytest.approx(0.5 / (400 * 128 + 0.5 * K), rel=1e-4)


def test_the_config_builds_the_same_model_again(model):
    """Also after a trip through JSON, where tuples become lists."""
    again = MaskedTransformer(**json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    tokens, labels = clips()
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens.flatten(1), labels), model(tokens.flatten(1), labels))


# ---- words ----


@pytest.mark.parametrize("levels", [(5, 5, 2), (7, 5, 5, 5, 5), (3,)])
@pytest.mark.parametrize("more", [0, 1])
@torch.no_grad()
def test_a_words_vector_is_its_own_and_those_of_its_digits(levels, more):
    torch.manual_seed(0)
    words = Words(levels, dim=6, more=more)
    vectors, size = words(), math.prod(levels)
    assert vectors.shape == (size + more, 6)
    for word in range(size):
        rest, first, due = word, 0, words.own.weight[word].clone()
        for level in levels:
            rest, digit = divmod(rest, level)
            due += words.digits.weight[first + digit]
            first += level
        assert torch.allclose(vectors[word], due, atol=1e-6)
    assert torch.equal(vectors[size:], words.own.weight[size:])  # MASK is spelt with no digit


def test_the_digits_are_the_quantizers():
    levels = (7, 5, 5, 5, 5)
    library = FSQ(list(levels)).indices_to_level_indices(torch.arange(math.prod(levels))).long()
    first_row = torch.tensor([0, 7, 12, 17, 22])
    assert torch.equal(Words(levels, dim=4).rows, library + first_row)


# ---- the loss ----


class Scripted(torch.nn.Module):
    """Stands in for a transformer: keeps what it was asked, answers with given logits."""

    mask_token, unconditional = K, 4

    def __init__(self, logits=None):
        super().__init__()
        self.logits = torch.zeros(1, 128, K) if logits is None else logits
        self.asked = []

    def forward(self, tokens, labels, tasks):
        self.asked.append((tokens, labels, tasks))
        return self.logits.expand(len(tokens), -1, -1)


@pytest.fixture(scope="module")
def opinions():
    return torch.randn(1, 128, K, generator=torch.Generator().manual_seed(1))


def kinds_of(seen):
    """Which of its tokens an input shows as what: the ranges of `examples` tell."""
    return {"refine": (seen >= 25) & (seen < K), "mask": seen == K, "recons": seen < 25}


def test_the_input_shows_each_kind_where_it_belongs(opinions):
    tokens, labels, tasks, conditions, given = examples(40)
    model = Scripted(opinions)
    commit_loss(model, tokens, labels, tasks, conditions, given)
    seen, _, told = model.asked[0]
    kinds, given = kinds_of(seen), given.flatten(1)
    assert torch.equal(told, tasks)
    assert all(kind.any() for kind in kinds.values())
    assert torch.equal(seen[kinds["recons"]], tokens.flatten(1)[kinds["recons"]])
    assert torch.equal(seen[kinds["refine"]], conditions.flatten(1)[kinds["refine"]])
    assert given[kinds["refine"]].all()
    assert not given[kinds["mask"]].any()
    assert (~kinds["recons"]).any(1).all()  # in every clip something is hidden


def test_the_loss_is_the_cross_entropy_of_all_tokens(opinions):
    batch = examples(40)
    loss, _ = commit_loss(Scripted(opinions), *batch)
    plain = F.cross_entropy(opinions.expand(40, -1, -1).flatten(0, 1), batch[0].flatten())
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)


def test_its_three_parts_by_hand(opinions):
    """And, weighed by how many tokens each has, they are the loss."""
    batch = examples(20)
    model = Scripted(opinions)
    loss, figures = commit_loss(model, *batch)
    kinds, truth = kinds_of(model.asked[0][0]), batch[0].flatten(1)
    nats = {}
    for name, kind in kinds.items():
        by_hand = [-opinions[0, i].log_softmax(-1)[truth[b, i]].item() for b, i in kind.nonzero().tolist()]
        nats[name] = sum(by_hand)
        assert figures[name].item() == pytest.approx(sum(by_hand) / len(by_hand) / math.log(2), rel=1e-4)
    assert loss.item() == pytest.approx(sum(nats.values()) / truth.numel(), rel=1e-4)


def test_the_accuracy_is_that_of_gaps_alone():
    """A model that reads every token that is shown, the condition's too, and says 0 for MASK: right there by chance."""

    class Reading(Scripted):
        def forward(self, tokens, labels, tasks):
            super().forward(tokens, labels, tasks)
            return F.one_hot(tokens % 25, K).float()  # the condition's token is the true one + 25, and MASK is 50

    tokens, labels, tasks, _, given = examples(40)
    model = Reading()
    _, figures = commit_loss(model, tokens, labels, tasks, tokens + 25, given)
    gaps = kinds_of(model.asked[0][0])["mask"]
    assert figures["accuracy"].item() == pytest.approx((tokens.flatten(1)[gaps] == 0).float().mean().item(), rel=1e-5)
    assert figures["accuracy"] < 0.1
    assert figures["recons"] < figures["mask"]


@pytest.mark.parametrize("parts", [("mask",), ("refine",), ("mask", "recons"), ("refine", "mask"), PARTS])
def test_parts_can_be_left_out(opinions, parts):
    batch, model = examples(20), Scripted(opinions)
    torch.manual_seed(3)
    loss, figures = commit_loss(model, *batch, parts=parts)
    kinds, truth = kinds_of(model.asked[0][0]), batch[0].flatten(1)
    counted = torch.stack([kinds[name] for name in parts]).any(0)
    plain = F.cross_entropy(opinions.expand(20, -1, -1)[counted], truth[counted])
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert set(figures) == {*PARTS, "accuracy"}  # what does not count is still told


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_left_out_teaches_nothing(part):
    """No gradient reaches the logits of its tokens, and one reaches those of all others."""
    batch = examples(6)
    model = Scripted(torch.zeros(6, 128, K, requires_grad=True))
    loss, _ = commit_loss(model, *batch, parts=[name for name in PARTS if name != part])
    loss.backward()
    touched = model.logits.grad.any(-1)
    assert torch.equal(touched, ~kinds_of(model.asked[0][0])[part])


def test_a_batch_without_a_condition_has_no_refining():
    tokens, labels, tasks, conditions, given = examples(8)
    tasks = torch.full_like(tasks, NUMBERS["CG"])
    loss, figures = commit_loss(Scripted(), tokens, labels, tasks, conditions, torch.zeros_like(given))
    assert loss.item() == pytest.approx(math.log(K), rel=1e-5)
    assert figures["refine"] == 0
    assert figures["mask"].item() == pytest.approx(math.log2(K), rel=1e-5)  # it knows nothing


def test_no_truth_under_what_is_hidden_reaches_the_model(opinions):
    """The same lot, other true tokens in the hidden places, given or not: the same question."""
    tokens, labels, tasks, conditions, given = examples(20)
    model = Scripted(opinions)
    torch.manual_seed(5)
    hidden = random_masks(20, 128).view_as(tokens)
    for truth in (tokens, torch.where(hidden, (tokens + 7) % 25, tokens)):
        torch.manual_seed(5)
        commit_loss(model, truth, labels, tasks, conditions, given)
    (first, *told), (second, *also_told) = model.asked
    assert torch.equal(first, second)
    assert torch.equal(kinds_of(first)["recons"], ~hidden.flatten(1))
    assert all(torch.equal(a, b) for a, b in zip(told, also_told, strict=True))


def test_a_condition_where_nothing_is_given_reaches_nothing(opinions):
    tokens, labels, tasks, conditions, given = examples(20)
    model = Scripted(opinions)
    for filled in (conditions, torch.where(given, conditions, (conditions + 3) % K)):
        torch.manual_seed(5)
        commit_loss(model, tokens, labels, tasks, filled, given)
    assert torch.equal(model.asked[0][0], model.asked[1][0])


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_class_is_told_to_two_tasks_and_withheld_as_often_as_asked(share):
    tokens, labels, tasks, conditions, given = examples(2000)
    model = Scripted(torch.zeros(1, 128, K))
    torch.manual_seed(0)
    commit_loss(model, tokens, labels, tasks, conditions, given, label_dropout=share)
    asked, labelled = model.asked[0][1], LABELLED[tasks]
    assert (asked[~labelled] == model.unconditional).all()
    dropped = asked[labelled] == model.unconditional
    assert dropped.float().mean().item() == pytest.approx(share, abs=0.04)
    assert torch.equal(asked[labelled][~dropped], labels[labelled][~dropped])


def test_the_loss_reaches_every_weight():
    torch.manual_seed(0)
    model = MaskedTransformer(LEVELS, GRID, dim=32, depth=1, heads=2)
    commit_loss(model, *examples(200), label_dropout=0.5)[0].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert model.tasks.weight.grad.any(1).all()
    assert model.labels.weight.grad.any(1).all()
