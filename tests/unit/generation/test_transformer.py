"""The masked transformer: what it can and cannot depend on, its token vectors, and COMMIT's loss in three parts."""

import json
import math

import pytest
import torch
from torch.nn import functional as F
from vector_quantize_pytorch import FSQ

from trajlib.generation.masks import random_masks
from trajlib.generation.tasks import TASK_NUMBERS, TASKS
from trajlib.generation.transformer import MaskedTransformer, TokenEmbedding, commit_loss, log_frequencies

LEVELS, GRID = (5, 5, 2), (8, 4, 4)
K = 50
PARTS = ("refine", "mask", "recons")
LABELLED = torch.tensor([task.labelled for task in TASKS.values()])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return MaskedTransformer(K, GRID, LEVELS, dim=32, depth=2, heads=2).eval()


def clips(n=4, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, *GRID), generator=rng), torch.arange(n) % 4


def examples(n, seed=0):
    """What `commit_loss` takes: tokens 0 .. 24, conditions 25 .. 49, so that one is not the other."""
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 25, (n, *GRID), generator=rng)
    conditions = torch.randint(25, K, (n, *GRID), generator=rng)
    observed = torch.rand(n, *GRID, generator=rng) < 0.4
    tasks = torch.arange(n) % len(TASKS)
    observed[tasks == TASK_NUMBERS["CG"]] = False
    return tokens, torch.randint(0, 4, (n,), generator=rng), tasks, conditions, observed


# ---- the model ----


def test_logits_for_every_token(model):
    tokens, labels = clips()
    assert model(tokens.flatten(1), labels).shape == (4, 128, K)
    assert model(tokens.flatten(1), labels, torch.tensor([0, 3, 8, 9])).shape == (4, 128, K)


def test_without_a_task_it_is_class_conditional_generation(model):
    tokens, labels = clips()
    plain = model(tokens.flatten(1), labels)
    assert torch.equal(plain, model(tokens.flatten(1), labels, torch.full((4,), TASK_NUMBERS["CG"])))
    assert not torch.equal(plain, model(tokens.flatten(1), labels, torch.full((4,), TASK_NUMBERS["FP"])))


def test_each_task_and_each_class_is_another_prefix(model):
    tokens = clips(1)[0].flatten(1)
    by_task = [model(tokens, torch.tensor([0]), torch.tensor([task])) for task in range(len(TASKS))]
    by_class = [model(tokens, torch.tensor([label]), torch.tensor([0])) for label in range(model.unconditional + 1)]
    for logits in (by_task, by_class):
        assert torch.pdist(torch.cat(logits).flatten(1)).min() > 1e-3


def test_a_masked_token_changes_nothing(model):
    """Two clips that differ only under the mask give the same logits, to the last bit."""
    tokens, labels = clips()
    tokens = tokens.flatten(1)
    mask = random_masks(*tokens.shape, torch.Generator().manual_seed(0))
    others = torch.where(mask, (tokens + 7) % K, tokens)
    assert not torch.equal(tokens, others)
    first, second = (model(x.masked_fill(mask, model.mask_token), labels) for x in (tokens, others))
    assert torch.equal(first, second)


def test_other_tokens_and_the_class_change_the_logits(model):
    tokens, labels = clips()
    tokens = tokens.flatten(1).index_fill(1, torch.tensor([5]), model.mask_token)
    changed = tokens.clone()
    changed[:, 100] = (changed[:, 100] + 1) % K
    there = model(tokens, labels)[:, 5]
    assert not torch.allclose(there, model(changed, labels)[:, 5])  # token 100 lies far off in the grid
    assert not torch.allclose(there, model(tokens, (labels + 1) % 4)[:, 5])
    assert not torch.allclose(there, model(tokens, torch.full_like(labels, model.unconditional))[:, 5])


def test_the_same_token_elsewhere_has_other_logits(model):
    """With all tokens alike only the position tells them apart: each of the 128 gets logits of its own."""
    logits = model(torch.full((1, 128), 3), torch.tensor([0]))[0]
    assert torch.pdist(logits).min() > 1e-6


def test_it_starts_from_the_frequencies():
    """Where 3 of 4 tokens are a 5, an untrained model predicts 5 with almost 3/4, and no code is impossible."""
    tokens = torch.full((400, *GRID), 9)
    tokens[:300] = 5
    fresh = MaskedTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2)
    assert not fresh.output_bias.any()
    fresh.init_output_bias(tokens)
    p = fresh.output_bias.softmax(-1)
    assert torch.equal(fresh.output_bias, log_frequencies(tokens, K))
    assert fresh.output_bias.exp().sum().item() == pytest.approx(1, abs=1e-5)
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


def test_without_labels_it_is_the_model_of_no_class(model):
    tokens, labels = clips()
    free = model(tokens.flatten(1), torch.full_like(labels, model.unconditional))
    assert torch.equal(model(tokens.flatten(1)), free)


@pytest.mark.parametrize("num_classes", [0, 1, 7])
def test_the_number_of_classes_is_a_choice(num_classes):
    model = MaskedTransformer(K, GRID, num_classes=num_classes, dim=16, depth=1, heads=2)
    assert model.num_classes == model.unconditional == num_classes
    assert model.label_embedding.weight.shape == (num_classes + 1, 16)
    labels = None if num_classes == 0 else torch.zeros(4, dtype=torch.long)
    tokens, _, tasks, conditions, observed = examples(4)
    loss, _ = commit_loss(model, tokens, labels, tasks, conditions, observed)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(K), rel=0.1)


# ---- token vectors ----


@pytest.mark.parametrize("levels", [(5, 5, 2), (7, 5, 5, 5, 5), (3,)])
@pytest.mark.parametrize("extra", [0, 1])
@torch.no_grad()
def test_a_vector_is_that_of_the_code_plus_those_of_its_level_indices(levels, extra):
    torch.manual_seed(0)
    size = math.prod(levels)
    embedding = TokenEmbedding(size, 6, levels, extra)
    own, by_level = embedding.index_embedding.weight, embedding.level_embedding.weight
    vectors = embedding()
    assert vectors.shape == (size + extra, 6)
    for code in range(size):
        rest, first, expected = code, 0, own[code].clone()
        for level in levels:
            rest, index = divmod(rest, level)
            expected += by_level[first + index]
            first += level
        assert torch.allclose(vectors[code], expected, atol=1e-6)
    assert torch.equal(vectors[size:], own[size:])  # MASK has no levels


def test_without_levels_each_code_has_its_own_vector_alone():
    embedding = TokenEmbedding(K, 6, extra=2)
    assert torch.equal(embedding(), embedding.index_embedding.weight)
    assert [name for name, _ in embedding.named_parameters()] == ["index_embedding.weight"]


def test_levels_of_another_codebook_are_refused():
    with pytest.raises(ValueError, match=r"^levels \(5, 5, 2\) make 50 codes, not 64\.$"):
        TokenEmbedding(64, 6, (5, 5, 2))


def test_the_level_indices_are_the_quantizers():
    levels = (7, 5, 5, 5, 5)
    library = FSQ(list(levels)).indices_to_level_indices(torch.arange(math.prod(levels))).long()
    first_row = torch.tensor([0, 7, 12, 17, 22])
    assert torch.equal(TokenEmbedding(4375, 4, levels).level_embedding.rows, library + first_row)


# ---- the loss ----


class Scripted(torch.nn.Module):
    """Stands in for a transformer: keeps its inputs, returns fixed logits."""

    mask_token, unconditional = K, 4

    def __init__(self, logits=None):
        super().__init__()
        self.logits = torch.zeros(1, 128, K) if logits is None else logits
        self.asked = []

    def forward(self, tokens, labels, tasks):
        self.asked.append((tokens, labels, tasks))
        return self.logits.expand(len(tokens), -1, -1)


@pytest.fixture(scope="module")
def fixed_logits():
    return torch.randn(1, 128, K, generator=torch.Generator().manual_seed(1))


def kinds_of(received):
    """The kind of each input token: the ranges of `examples` tell."""
    return {"refine": (received >= 25) & (received < K), "mask": received == K, "recons": received < 25}


def test_the_input_has_each_kind_where_it_belongs(fixed_logits):
    tokens, labels, tasks, conditions, observed = examples(40)
    model = Scripted(fixed_logits)
    commit_loss(model, tokens, labels, tasks, conditions, observed)
    received, _, task_numbers = model.asked[0]
    kinds, observed = kinds_of(received), observed.flatten(1)
    assert torch.equal(task_numbers, tasks)
    assert all(kind.any() for kind in kinds.values())
    assert torch.equal(received[kinds["recons"]], tokens.flatten(1)[kinds["recons"]])
    assert torch.equal(received[kinds["refine"]], conditions.flatten(1)[kinds["refine"]])
    assert observed[kinds["refine"]].all()
    assert not observed[kinds["mask"]].any()
    assert (~kinds["recons"]).any(1).all()  # in every clip something is masked


def test_the_loss_is_the_cross_entropy_of_all_tokens(fixed_logits):
    batch = examples(40)
    loss, _ = commit_loss(Scripted(fixed_logits), *batch)
    plain = F.cross_entropy(fixed_logits.expand(40, -1, -1).flatten(0, 1), batch[0].flatten())
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)


def test_its_three_parts_by_hand(fixed_logits):
    """And their mean, weighted by the number of tokens, is the loss."""
    batch = examples(20)
    model = Scripted(fixed_logits)
    loss, figures = commit_loss(model, *batch)
    kinds, truth = kinds_of(model.asked[0][0]), batch[0].flatten(1)
    nats = {}
    for name, kind in kinds.items():
        by_hand = [-fixed_logits[0, i].log_softmax(-1)[truth[b, i]].item() for b, i in kind.nonzero().tolist()]
        nats[name] = sum(by_hand)
        assert figures[name].item() == pytest.approx(sum(by_hand) / len(by_hand) / math.log(2), rel=1e-4)
    assert loss.item() == pytest.approx(sum(nats.values()) / truth.numel(), rel=1e-4)


def test_the_accuracy_is_that_of_masked_tokens_alone():
    """A model that predicts what it receives, the condition's tokens too, and 0 for MASK: right there by chance."""

    class Copying(Scripted):
        def forward(self, tokens, labels, tasks):
            super().forward(tokens, labels, tasks)
            return F.one_hot(tokens % 25, K).float()  # the condition's token is the true one + 25, and MASK is 50

    tokens, labels, tasks, _, observed = examples(40)
    model = Copying()
    _, figures = commit_loss(model, tokens, labels, tasks, tokens + 25, observed)
    masked = kinds_of(model.asked[0][0])["mask"]
    assert figures["accuracy"].item() == pytest.approx((tokens.flatten(1)[masked] == 0).float().mean().item(), rel=1e-5)
    assert figures["accuracy"] < 0.1
    assert figures["recons"] < figures["mask"]


@pytest.mark.parametrize("parts", [("mask",), ("refine",), ("mask", "recons"), ("refine", "mask"), PARTS])
def test_parts_can_be_left_out(fixed_logits, parts):
    batch, model = examples(20), Scripted(fixed_logits)
    torch.manual_seed(3)
    loss, figures = commit_loss(model, *batch, parts=parts)
    kinds, truth = kinds_of(model.asked[0][0]), batch[0].flatten(1)
    counted = torch.stack([kinds[name] for name in parts]).any(0)
    plain = F.cross_entropy(fixed_logits.expand(20, -1, -1)[counted], truth[counted])
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert set(figures) == {*PARTS, "accuracy"}  # what does not count is still reported


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_left_out_has_no_gradient(part):
    """No gradient reaches the logits of its tokens, and one reaches those of all others."""
    batch = examples(6)
    model = Scripted(torch.zeros(6, 128, K, requires_grad=True))
    loss, _ = commit_loss(model, *batch, parts=[name for name in PARTS if name != part])
    loss.backward()
    touched = model.logits.grad.any(-1)
    assert torch.equal(touched, ~kinds_of(model.asked[0][0])[part])


def test_a_batch_without_a_condition_has_no_refining():
    tokens, labels, tasks, conditions, observed = examples(8)
    tasks = torch.full_like(tasks, TASK_NUMBERS["CG"])
    loss, figures = commit_loss(Scripted(), tokens, labels, tasks, conditions, torch.zeros_like(observed))
    assert loss.item() == pytest.approx(math.log(K), rel=1e-5)
    assert figures["refine"] == 0
    assert figures["mask"].item() == pytest.approx(math.log2(K), rel=1e-5)  # it is untrained


def test_no_masked_true_token_reaches_the_model(fixed_logits):
    """The same mask over other true tokens, observed or not: the same input."""
    tokens, labels, tasks, conditions, observed = examples(20)
    model = Scripted(fixed_logits)
    torch.manual_seed(5)
    masked = random_masks(20, 128).view_as(tokens)
    for truth in (tokens, torch.where(masked, (tokens + 7) % 25, tokens)):
        torch.manual_seed(5)
        commit_loss(model, truth, labels, tasks, conditions, observed)
    (first, *rest), (second, *other_rest) = model.asked
    assert torch.equal(first, second)
    assert torch.equal(kinds_of(first)["recons"], ~masked.flatten(1))
    assert all(torch.equal(a, b) for a, b in zip(rest, other_rest, strict=True))


def test_a_condition_where_nothing_is_observed_reaches_nothing(fixed_logits):
    tokens, labels, tasks, conditions, observed = examples(20)
    model = Scripted(fixed_logits)
    for filled in (conditions, torch.where(observed, conditions, (conditions + 3) % K)):
        torch.manual_seed(5)
        commit_loss(model, tokens, labels, tasks, filled, observed)
    assert torch.equal(model.asked[0][0], model.asked[1][0])


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_two_tasks_receive_the_class_and_it_is_dropped_as_often_as_asked(share):
    tokens, labels, tasks, conditions, observed = examples(2000)
    model = Scripted(torch.zeros(1, 128, K))
    torch.manual_seed(0)
    commit_loss(model, tokens, labels, tasks, conditions, observed, label_dropout=share)
    asked, labelled = model.asked[0][1], LABELLED[tasks]
    assert (asked[~labelled] == model.unconditional).all()
    dropped = asked[labelled] == model.unconditional
    assert dropped.float().mean().item() == pytest.approx(share, abs=0.04)
    assert torch.equal(asked[labelled][~dropped], labels[labelled][~dropped])


def test_the_loss_reaches_every_weight():
    torch.manual_seed(0)
    model = MaskedTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2)
    commit_loss(model, *examples(200), label_dropout=0.5)[0].backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
    assert model.task_embedding.weight.grad.any(1).all()
    assert model.label_embedding.weight.grad.any(1).all()
