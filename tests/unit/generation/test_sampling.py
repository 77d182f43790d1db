"""Parallel decoding: unmasked tokens stay, the rest follows the schedule, a seed gives its tokens.

And COMMIT's tasks: observed tokens start as the condition's, and may be decoded anew.
"""

import itertools
import math

import pytest
import torch
from stand_ins import NO_VIDEOS

from trajlib.data.checks import check_labels
from trajlib.generation import joint_sampling
from trajlib.generation.autoregressive import AutoregressiveTransformer, generate_autoregressive
from trajlib.generation.joint import JointTransformer
from trajlib.generation.joint_sampling import decode_video
from trajlib.generation.masks import halton_order, mask_ratio
from trajlib.generation.sampling import (
    RESAMPLE_TEMPERATURE,
    complete,
    decode_steps,
    draw,
    encode_condition,
    generate,
    guided,
)
from trajlib.generation.tasks import TASK_NUMBERS, TASKS, condition, observed_tokens, region
from trajlib.generation.transformer import MaskedTransformer
from trajlib.tokenizer.video_tokenizer import Tokenizer

LEVELS, GRID = (5, 5, 3), (8, 4, 4)
TINY_LAYERS = (("compress_space", 16), ("compress_space", 16))
K = 75
ORDERS = ("halton", "confidence")
UNLABELLED = [key for key, task in TASKS.items() if not task.labelled]
orders = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MaskedTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2).eval()
    for prefix in (
        model.label_embedding,
        model.task_embedding,
    ):  # as large as after training: they change what is drawn
        torch.nn.init.normal_(prefix.weight)
    return model


@pytest.fixture(scope="module")
def joint():
    torch.manual_seed(0)
    joint = JointTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2, dropout=0.5).eval()
    joint.fit_trajectories(30 + torch.randn(200, 16, 3))
    return joint


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return Tokenizer({"kind": "fsq", "levels": LEVELS}, dim=16, layers=TINY_LAYERS).eval()


def noise(n, seed=0):
    return torch.rand(n, 3, 16, 64, 64, generator=torch.Generator().manual_seed(seed))


def n_masked(step, steps, n=128):
    """How many are still masked after a step."""
    return 0 if step == steps else math.floor(mask_ratio(step / steps) * n)


class Recording(torch.nn.Module):
    """A transformer that keeps its inputs, and returns `logits` (128, K) for all of them."""

    grid, mask_token, unconditional, num_classes, num_tasks = GRID, K, 4, 4, 10

    def __init__(self, logits=None):
        super().__init__()
        self.logits, self.asked = torch.zeros(128, K) if logits is None else logits, []

    def forward(self, tokens, labels, tasks=None, positions=None):
        self.asked.append((tokens.clone(), labels, tasks))
        return (self.logits if positions is None else self.logits[positions]).expand(len(tokens), -1, -1)

    def logits_fn(self, labels, tasks):
        return lambda tokens, positions: self(tokens, labels, tasks, positions)


# ---- what comes out ----


def test_tokens_come_in_the_grid_and_from_the_codebook(model):
    tokens = generate(model, [0, 1, 2, 3, 0], seed=3)
    assert tokens.shape == (5, 8, 4, 4)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < K


@orders
def test_a_seed_gives_its_tokens(model, order):
    first, again, other = (generate(model, [0, 1], seed=s, order=order) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])  # each clip of a batch draws for itself


def test_a_seed_does_not_touch_the_global_generator(model):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    generate(model, [0], steps=2)
    assert torch.equal(before, torch.get_rng_state())


# ---- the steps ----


@orders
@pytest.mark.parametrize("steps", [1, 2, 12, 32, 128])
def test_what_is_still_masked_follows_the_cosine_schedule(model, steps, order):
    steps_done = list(decode_steps(model, [0, 1, 2], steps=steps, order=order))
    assert len(steps_done) == steps
    for step, tokens in enumerate(steps_done, start=1):
        assert ((tokens == model.mask_token).sum(1) == n_masked(step, steps)).all()
    assert (steps_done[-1] < K).all()


@orders
def test_what_is_unmasked_never_changes(model, order):
    steps_done = list(decode_steps(model, [0, 1, 2], steps=12, order=order))
    for now, later in itertools.pairwise(steps_done):
        kept = now != model.mask_token
        assert torch.equal(now[kept], later[kept])


@pytest.mark.parametrize("seed", [0, 5])
def test_halton_order_is_kept_whatever_is_drawn(model, seed):
    positions = halton_order(GRID, seed)
    for step, tokens in enumerate(decode_steps(model, [0, 1], steps=12, seed=seed, order="halton"), start=1):
        unmasked = torch.zeros(128, dtype=torch.bool)
        unmasked[positions[: 128 - n_masked(step, 12)]] = True
        assert torch.equal(tokens != K, unmasked.expand(2, -1))


def test_the_other_order_unmasks_the_most_confident_first():
    """Without noise in the choice, no guess is unmasked while a certain token is still masked."""
    wanted = torch.nn.functional.one_hot(torch.arange(128) % K, K)
    half_confident = Recording(30.0 * wanted * (torch.arange(128) < 64)[:, None])  # the last 64 tokens are uniform
    for tokens in decode_steps(half_confident, [0, 0], steps=12, choice_temperature=0, guidance=1, order="confidence"):
        certain, guessed = (tokens != K)[:, :64], (tokens != K)[:, 64:]
        assert (certain.all(1) | ~guessed.any(1)).all()
    assert torch.equal(tokens[:, :64], (torch.arange(64) % K).expand(2, -1))


def test_noise_in_the_choice_mixes_that_order():
    wanted = torch.nn.functional.one_hot(torch.arange(128) % K, K)
    half_confident = Recording(30.0 * wanted * (torch.arange(128) < 64)[:, None])
    settings = {"steps": 12, "guidance": 1, "order": "confidence"}
    first = next(decode_steps(half_confident, [0] * 50, choice_temperature=400, **settings)) != K
    assert first[:, 64:].any()


def test_sampling_follows_the_models_probabilities():
    """One step from a model with odds of 3:1 for code 5 against code 9."""
    logits = torch.full((128, K), -1e9)
    logits[:, 5], logits[:, 9] = math.log(3), 0.0
    tokens = generate(Recording(logits), [0] * 100, steps=1, guidance=1, resampling_steps=0)
    assert set(tokens.unique().tolist()) == {5, 9}
    assert (tokens == 5).float().mean().item() == pytest.approx(0.75, abs=0.02)
    cold = generate(Recording(logits), [0] * 100, steps=1, guidance=1, temperature=0.25, resampling_steps=0)
    assert (cold == 5).float().mean().item() == pytest.approx(81 / 82, abs=0.01)


# ---- guidance ----


def test_guidance_0_is_without_class_and_1_with_it(model):
    tokens, labels = torch.randint(0, K, (2, 128), generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])
    with torch.no_grad():
        free, bound = model(tokens), model(tokens, labels)

        def logits(scale):
            fns = lambda x, _: model(x, labels), lambda x, _: model(x)
            return guided(*fns, scale)(tokens, torch.arange(128))

        assert torch.equal(logits(0), free)
        assert torch.equal(logits(1), bound)
        assert torch.allclose(logits(2), 2 * bound - free, atol=1e-5)
        assert torch.allclose(logits(0.5), (free + bound) / 2, atol=1e-5)


def test_guidance_0_does_not_depend_on_the_class(model):
    assert torch.equal(generate(model, [0, 0], guidance=0), generate(model, [3, 1], guidance=0))
    assert not torch.equal(generate(model, [0, 0], guidance=1), generate(model, [3, 1], guidance=1))


@pytest.mark.parametrize(("guidance", "classes"), [(0, [4]), (1, [2]), (1.5, [4, 2])])
def test_each_guidance_makes_the_passes_it_needs(guidance, classes):
    """0 without the class, 1 with it, any other both, in every step."""
    model = Recording()
    generate(model, [2], steps=3, guidance=guidance, resampling_steps=0)
    assert [int(labels) for _, labels, _ in model.asked] == classes * 3
    assert all(tasks.tolist() == [TASK_NUMBERS["CG"]] for *_, tasks in model.asked)


def test_guidance_1_is_the_plain_model(model):
    """The first step of a decoding, drawn by hand from the model as trained."""
    (first,) = decode_steps(model, [2], steps=1, guidance=1, seed=3)
    rng = torch.Generator().manual_seed(3)
    masked = torch.full((1, 128), model.mask_token)
    with torch.no_grad():
        p = model(masked, torch.tensor([2]), torch.tensor([TASK_NUMBERS["CG"]])).softmax(-1)
    assert torch.equal(first, draw(p, rng))


def test_a_draw_follows_the_probabilities():
    p = torch.tensor([0.5, 0.0, 0.2, 0.3])
    drawn = draw(p.expand(20_000, 4), torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert torch.allclose(share, p, atol=0.015)
    assert share[1] == 0


# ---- observed tokens ----


def condition_of(n, seed=0):
    """A condition's tokens (n, 8, 4, 4), and where they are observed (8, 4, 4)."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, 8, 4, 4), generator=rng), torch.rand(8, 4, 4, generator=rng) < 0.5


@orders
def test_until_its_turn_an_observed_token_is_the_conditions(order):
    """The model's input in each step: what is unmasked by then, else the condition's token, else MASK.

    The condition has codes below 25, the model draws others: so each token tells where it comes from.
    """
    start, observed = condition_of(2)
    before = torch.where(observed, start % 25, K).flatten(1)
    model = Recording(torch.zeros(128, K).index_fill(1, torch.arange(25), -1e9))
    steps_done = list(decode_steps(model, [0, 1], task="IPC", condition=start % 25, observed=observed, order=order))
    asked = [tokens for tokens, *_ in model.asked]
    assert torch.equal(torch.stack(asked), torch.stack([before, *steps_done[:-1]]))
    for step, tokens in enumerate(steps_done, start=1):
        unmasked = (tokens >= 25) & (tokens < K)
        assert (unmasked.sum(1) == 128 - n_masked(step, 12)).all()
        assert torch.equal(tokens[~unmasked], before[~unmasked])


def test_observed_tokens_may_be_decoded_anew():
    """A model that is certain of 7 everywhere puts it everywhere."""
    start, observed = condition_of(2)
    start = start.where(start != 7, 8)
    logits = 50.0 * torch.nn.functional.one_hot(torch.full((128,), 7), K)
    assert (generate(Recording(logits), [0, 1], task="IPC", condition=start, observed=observed) == 7).all()


@orders
def test_observed_tokens_may_be_kept(order):
    start, observed = condition_of(2)
    start = start.where(start != 7, 8)
    logits = 50.0 * torch.nn.functional.one_hot(torch.full((128,), 7), K)
    settings = {"task": "IPC", "condition": start, "observed": observed, "order": order, "refine": False}
    steps_done = list(decode_steps(Recording(logits), [0, 1], **settings))
    for tokens in steps_done:
        assert torch.equal(tokens[:, observed.flatten()], start[:, observed])
    assert (steps_done[-1][:, ~observed.flatten()] == 7).all()


def test_a_mask_for_each_clip_or_one_for_all():
    start, observed = condition_of(2)
    settings = {"task": "FP", "condition": start}
    one, each = (
        generate(Recording(), [0, 1], observed=o, **settings) for o in (observed, observed.expand(2, -1, -1, -1))
    )
    assert torch.equal(one, each)
    model = Recording()
    generate(model, [0, 1], steps=1, observed=torch.stack([observed, ~observed]), **settings)
    asked = model.asked[0][0].view(2, 8, 4, 4)
    assert torch.equal(asked[0] == K, ~observed)
    assert torch.equal(asked[1] == K, observed)


@pytest.mark.parametrize("task", TASKS)
def test_the_model_receives_the_task_and_the_class_only_where_the_task_has_one(task):
    model = Recording()
    start = dict(zip(("condition", "observed"), condition_of(2), strict=True)) if task != "CG" else {}
    generate(model, [2, 3], steps=2, guidance=1, task=task, **start)
    for _, labels, tasks in model.asked:
        assert tasks.tolist() == [TASK_NUMBERS[task]] * 2
        assert labels.tolist() == ([2, 3] if TASKS[task].labelled else [4, 4])


@pytest.mark.parametrize("task", [task for task in TASKS if task != "CG"])
def test_a_task_without_its_condition_generates_nothing(model, task):
    with pytest.raises(ValueError, match=f"^task '{task}' completes what it observes, and nothing came"):
        generate(model, [0], steps=1, task=task)


@pytest.mark.parametrize("task", UNLABELLED)
def test_a_task_without_a_class_ignores_labels_and_guidance(model, task):
    start, observed = condition_of(2)
    settings = {"task": task, "condition": start, "observed": observed, "steps": 4}
    first = generate(model, [0, 0], guidance=1, **settings)
    assert torch.equal(first, generate(model, [3, 1], guidance=7, **settings))


# ---- whole clips ----


@pytest.mark.parametrize("task", TASKS)
def test_every_task_completes_clips(model, tokenizer, task):
    videos, labels = noise(2), torch.tensor([1, 3])
    tokens = complete(model, tokenizer, videos, task, labels, steps=4, seed=5)
    assert tokens.shape == (2, 8, 4, 4)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() < K
    start = encode_condition(tokenizer, videos, task)
    assert torch.equal(tokens, generate(model, labels, steps=4, seed=5, **start))
    assert torch.equal(tokens, complete(model, tokenizer, videos, task, labels, steps=4, seed=5))


@pytest.mark.parametrize("task", TASKS)
def test_a_completion_depends_on_no_pixel_that_is_not_observed(model, tokenizer, task):
    videos = noise(2)
    changed = torch.where(region(task), videos, noise(2, seed=1))
    first, second = (complete(model, tokenizer, clips, task, steps=4, seed=5) for clips in (videos, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_decoding_starts_from_the_tokens_of_the_condition(tokenizer, frames):
    videos = noise(2)
    found = encode_condition(tokenizer, videos, "FP", frames)
    assert found["task"] == "FP"
    assert torch.equal(found["condition"], tokenizer.encode(condition(videos, "FP", frames)))
    assert torch.equal(found["observed"], observed_tokens("FP", GRID, frames))
    model = Recording()
    complete(model, tokenizer, videos, "FP", frames=frames, steps=1)
    expected = torch.where(found["observed"], found["condition"], K)
    assert torch.equal(model.asked[0][0], expected.flatten(1))


def test_without_labels_a_task_with_a_class_takes_none(tokenizer):
    model = Recording()
    complete(model, tokenizer, noise(2), "CFP", guidance=3, steps=1, resampling_steps=0)
    assert [labels.tolist() for _, labels, _ in model.asked] == [[4, 4]]


def test_without_labels_as_many_clips_as_asked_for(model):
    assert generate(model, n=3, steps=2).shape == (3, *GRID)
    assert torch.equal(generate(model, n=2, guidance=5), generate(model, [0, 1], guidance=0))


def test_a_model_without_classes_needs_no_labels_and_takes_none():
    torch.manual_seed(0)
    model = MaskedTransformer(K, GRID, LEVELS, num_classes=0, dim=16, depth=1, heads=2)
    assert generate(model, n=2, steps=2).max() < K
    with pytest.raises(ValueError, match=r"^labels came, but this transformer has no classes"):
        generate(model, [0])


# ---- what is refused ----


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([4], r"labels run from 4 to 4; the classes are 0 linear, 1 circular, 2 helical, 3 parabolic\."),
        ([-1, 0], "labels run from -1 to 0"),
        ([0.5], r"torch.float64 \(1,\); expected whole numbers of shape \(b,\)"),
        ([[0, 1]], r"expected whole numbers of shape \(b,\)"),
        (2, r"expected whole numbers of shape \(b,\)"),
        ([], r"expected whole numbers of shape \(b,\)"),
        (["linear"], r"labels came as list; expected whole numbers of shape \(b,\), int64: 0 linear, 1 circular"),
        ([True], r"labels came as torch.bool \(1,\); expected whole numbers"),
    ],
)
def test_bad_labels_get_one_sentence(model, labels, says):
    with pytest.raises(ValueError, match=says):
        generate(model, labels)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_no_decoding(model, steps):
    with pytest.raises(ValueError, match=rf"^steps is {steps}; a whole number from 1 to 10000 was expected\.$"):
        generate(model, [0], steps=steps)


def test_an_unknown_order_gets_one_sentence(model):
    with pytest.raises(ValueError, match=r"^order is 'spiral'; it must be one of halton, confidence, sequence\.$"):
        generate(model, [0], order="spiral")


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_no_temperature_gets_one_sentence(model, temperature):
    """It would draw the codebook's last code everywhere, or the unlikeliest ones."""
    with pytest.raises(ValueError, match=rf"^temperature is {temperature}; a finite number above 0 was expected\.$"):
        generate(model, [0], temperature=temperature)


@pytest.mark.parametrize("guidance", [math.nan, math.inf])
def test_guidance_that_is_no_number_gets_one_sentence(model, guidance):
    with pytest.raises(ValueError, match=rf"^guidance is {guidance}; a finite number was expected\.$"):
        generate(model, [0], guidance=guidance)


@pytest.mark.parametrize("strengths", [{"guidance": None}, {"guidance": "4"}, {"temperature": "warm"}])
def test_strengths_that_are_no_numbers_get_one_sentence(model, strengths):
    with pytest.raises(ValueError, match=r"^(guidance|temperature) is .*; a finite number.* was expected\.$"):
        generate(model, [0], **strengths)


def test_half_a_condition_gets_one_sentence(model):
    start, observed = torch.zeros(1, *GRID).long(), torch.ones(GRID).bool()
    with pytest.raises(ValueError, match=r"^condition came without observed; encode_condition makes both\.$"):
        generate(model, [0], condition=start)
    with pytest.raises(ValueError, match=r"^observed came without condition;"):
        generate(model, [0], observed=observed)


@pytest.mark.parametrize("task", ["FP", "IPC", "CG"])
@pytest.mark.parametrize(
    ("videos", "says"),
    [*NO_VIDEOS, (noise(1)[:, :, :15], r"expected \(b, 3, 16, 64, 64\)"), (None, "videos came as NoneType")],
)
def test_what_is_no_video_is_no_condition(tokenizer, task, videos, says):
    """Class-conditional generation uses no pixel, and frame prediction makes 16 frames of any number."""
    with pytest.raises(ValueError, match=says):
        encode_condition(tokenizer, videos, task)


def test_an_unknown_task_gets_one_sentence(model, tokenizer):
    with pytest.raises(ValueError, match=r"^task is 'XX'; the tasks are FP, FI, .*\.$"):
        generate(model, [0], task="XX")
    with pytest.raises(ValueError, match=r"^task is 'XX'; the tasks are FP, FI, .*\.$"):
        complete(model, tokenizer, noise(1), "XX")


def test_good_labels_come_as_int64():
    assert check_labels([0, 3]).dtype == torch.int64
    assert torch.equal(check_labels(torch.tensor([1, 2], dtype=torch.int32)), torch.tensor([1, 2]))


def test_logits_are_computed_only_where_tokens_are_drawn(model, monkeypatch):
    """In Halton order each position once; and a callback changes nothing."""
    asked, logits = [], model._logits

    def record(hidden, table, positions=None):
        asked.append(positions)
        return logits(hidden, table, positions)

    monkeypatch.setattr(model, "_logits", record)
    plain = generate(model, [0, 1], guidance=1, resampling_steps=0)
    assert torch.equal(torch.cat(asked).sort().values, torch.arange(128))
    reports = []
    watched = generate(model, [0, 1], guidance=1, resampling_steps=0, callback=lambda *report: reports.append(report))
    assert torch.equal(plain, watched)
    assert len(reports) == 12
    for unmasked, guess, log_p in reports:
        assert torch.equal(guess[unmasked], plain.flatten(1)[unmasked])
        assert (log_p <= 0).all()


def test_sampling_gets_the_logits_of_forward(model):
    """Asked twice for the same tokens, or for others in between: always those that `forward` gives."""
    first, second = (torch.randint(0, K, (2, 128)) for _ in range(2))
    labels, tasks, some = torch.tensor([1, 2]), torch.tensor([0, 3]), torch.tensor([5, 77, 127])
    logits = model.logits_fn(labels, tasks)
    with torch.no_grad():
        for tokens in (first, first, second, first):
            assert torch.equal(logits(tokens, some), model(tokens, labels, tasks, some))


def test_watching_takes_one_pass_a_step_where_nothing_is_masked_again(model, monkeypatch):
    passes, hidden = [], model._hidden
    monkeypatch.setattr(model, "_hidden", lambda *given: passes.append(1) or hidden(*given))
    generate(model, [0], guidance=1, steps=4, resampling_steps=0, callback=lambda *report: None)
    assert len(passes) == 4 + 1  # and one for the last report


def test_a_step_that_draws_nothing_costs_no_pass(model, monkeypatch):
    """One masked token, and five steps to unmask it."""
    passes, hidden = [], model._hidden
    monkeypatch.setattr(model, "_hidden", lambda *given: passes.append(1) or hidden(*given))
    observed = torch.ones(GRID, dtype=torch.bool)
    observed[0, 0, 0] = False
    start = {"condition": torch.zeros(1, *GRID, dtype=torch.long), "observed": observed, "refine": False}
    generate(model, [0], guidance=1, steps=5, resampling_steps=8, **start)
    assert len(passes) == 1 + 1  # unmasked once, and once drawn again


def test_logits_of_some_positions_are_those_of_all(model):
    tokens, labels = torch.randint(0, K, (2, 128)), torch.tensor([1, 2])
    some = torch.tensor([5, 77, 127])
    with torch.no_grad():
        assert torch.allclose(model(tokens, labels, positions=some), model(tokens, labels)[:, some], atol=1e-5)


# ---- Gibbs resampling ----


def test_resampling_masks_each_position_once_in_eight_steps_and_draws_it_cooler():
    """From a model with odds of 3:1, a temperature of 0.3 makes 3^(1/0.3) to 1."""
    logits = torch.full((128, K), -1e9)
    logits[:, 5], logits[:, 9] = math.log(3), 0.0
    model = Recording(logits)
    steps_done = list(decode_steps(model, [0] * 50, steps=1, guidance=1, resampling_steps=8))
    masked = torch.stack([tokens[0] == K for tokens, *_ in model.asked[1:]])
    assert masked.shape == (8, 128)
    assert (masked.sum(0) == 1).all()
    odds = 3 ** (1 / RESAMPLE_TEMPERATURE)
    assert (steps_done[-1] == 5).float().mean().item() == pytest.approx(odds / (1 + odds), abs=0.01)
    assert not any((tokens == K).any() for tokens in steps_done)


def test_resampling_leaves_kept_tokens_alone():
    start, observed = condition_of(2)
    settings = {"task": "IPC", "condition": start, "observed": observed, "refine": False, "resampling_steps": 16}
    *_, tokens = decode_steps(Recording(), [0, 1], **settings)
    assert torch.equal(tokens[:, observed.flatten()], start[:, observed])


def test_resampling_starts_from_the_condition_where_it_is_observed():
    """As in the steps: an observed token is drawn anew given the condition's, and does not drift away."""
    start, observed = condition_of(2)
    before = torch.where(observed, start % 25, K).flatten(1)
    model = Recording(torch.zeros(128, K).index_fill(1, torch.arange(25), -1e9))  # what is drawn has codes from 25 on
    settings = {"task": "IPC", "condition": start % 25, "observed": observed, "resampling_steps": 16}
    list(decode_steps(model, [0, 1], **settings))
    for tokens, *_ in model.asked[12:]:
        again = (tokens < 25) | (tokens == K)
        assert again.sum(1).tolist() == [16, 16]
        assert torch.equal(tokens[again], before[again])


# ---- what a caller gives, and what comes back ----


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"condition": torch.full((2, *GRID), K)}, r"condition run from 75 to 75; this codebook has 0 \.\. 74"),
        ({"condition": torch.zeros(2, *GRID)}, r"condition came as torch.float32 .*; expected int64"),
        ({"condition": torch.zeros(2, 128).long()}, r"condition came as torch.int64 \(2, 128\); expected"),
        ({"condition": torch.zeros(3, *GRID).long()}, "condition of 3 clips and observed"),
        ({"observed": torch.ones(GRID)}, r"observed torch.float32 \(8, 4, 4\) came; expected 2 clips, and torch.bool"),
        ({"observed": torch.ones(4, 4).bool()}, r"observed torch.bool \(4, 4\) came"),
    ],
)
def test_what_is_no_condition_gets_one_sentence(model, joint, joined, changes, says):
    """A mask token among them would come back as a token."""
    given = {"condition": torch.zeros(2, *GRID).long(), "observed": torch.ones(GRID).bool()} | changes
    start = (joint, torch.full((2, 16, 3), 20.0)) if joined else (model, [0, 1], 12, 1, 0, 0)
    with pytest.raises(ValueError, match=says) as caught:
        decode_video(*start, **given) if joined else generate(*start, task="FP", **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5])
def test_what_is_no_probability_is_not_drawn_from(bad):
    """NaN would draw the last code."""
    p = torch.tensor([[0.5, 0.5], [0.5, bad]])
    with pytest.raises(ValueError, match=r"^p has NaN, infinity, numbers below 0 or a row of zeros; expected"):
        draw(p, torch.Generator().manual_seed(0))


def test_models_come_back_in_the_mode_they_were_in(model, joint, tokenizer):
    autoregressive = AutoregressiveTransformer(K, GRID, LEVELS, dim=32, depth=1, heads=2, dropout=0.5)
    settings = {"steps": 1, "resampling_steps": 0}
    runs = [
        (model, lambda: generate(model, [0], **settings)),
        (model, lambda: complete(model, tokenizer, noise(1), "FP", **settings)),
        (joint, lambda: joint_sampling.generate(joint, [0], **settings)),
        (joint, lambda: joint_sampling.complete(joint, tokenizer, noise(1), "FP", draws=1, **settings)),
        (autoregressive, lambda: generate_autoregressive(autoregressive, [0], seed=1)),
    ]
    for transformer, run in runs:
        before = run()
        transformer.train()
        transformer.backbone.eval() if hasattr(transformer, "backbone") else transformer.net.emb_dropout.eval()
        modes = [part.training for part in transformer.modules()]
        try:
            assert torch.equal(run(), before)  # without dropout
            assert [part.training for part in transformer.modules()] == modes
        finally:
            transformer.eval()
