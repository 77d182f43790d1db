"""Iterative parallel decoding: what is settled stays, the rest follows the schedule, a seed gives its tokens.

And COMMIT's tasks: what is given starts as the condition's tokens, and may be written anew.
"""

import itertools
import math

import pytest
import torch
from stand_ins import NO_VIDEOS

from trajlib.config import TINY_LAYERS
from trajlib.masks import halton_order, mask_ratio
from trajlib.sampling import COOL, check_labels, commit_start, complete, decode_steps, draw, generate, guided_logits
from trajlib.tasks import NUMBERS, TASKS, condition, given_tokens, region
from trajlib.tokenizer import Tokenizer
from trajlib.transformer import MaskedTransformer

LEVELS = (5, 5, 3)
K = 75
ORDERS = ("halton", "confidence")
UNLABELLED = [key for key, task in TASKS.items() if not task.labelled]
orders = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MaskedTransformer(LEVELS, dim=32, depth=1, heads=2).eval()
    for prefix in (
        model.labels,
        model.tasks,
    ):  # as loud as after training: a class or a task then changes what is drawn
        torch.nn.init.normal_(prefix.weight)
    return model


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return Tokenizer(levels=LEVELS, dim=16, layers=TINY_LAYERS).eval()


def noise(n, seed=0):
    return torch.rand(n, 3, 16, 64, 64, generator=torch.Generator().manual_seed(seed))


def due(step, steps, n=128):
    """How many are still to be settled after a step."""
    return 0 if step == steps else math.floor(mask_ratio(step / steps) * n)


class Listening(torch.nn.Module):
    """A transformer that keeps what it is asked, and says `logits` (128, K) whatever that is."""

    grid, mask_token, unconditional = (8, 4, 4), K, 4

    def __init__(self, logits=None):
        super().__init__()
        self.logits, self.asked = torch.zeros(128, K) if logits is None else logits, []

    def forward(self, tokens, labels, tasks=None, only=None):
        self.asked.append((tokens.clone(), labels, tasks))
        return (self.logits if only is None else self.logits[only]).expand(len(tokens), -1, -1)


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
def test_what_is_still_hidden_follows_the_cosine_schedule(model, steps, order):
    shown = list(decode_steps(model, [0, 1, 2], steps=steps, order=order))
    assert len(shown) == steps
    for step, tokens in enumerate(shown, start=1):
        assert ((tokens == model.mask_token).sum(1) == due(step, steps)).all()
    assert (shown[-1] < K).all()


@orders
def test_what_was_settled_never_changes(model, order):
    shown = list(decode_steps(model, [0, 1, 2], steps=12, order=order))
    for now, later in itertools.pairwise(shown):
        kept = now != model.mask_token
        assert torch.equal(now[kept], later[kept])


@pytest.mark.parametrize("seed", [0, 5])
def test_haltons_order_is_kept_whatever_is_drawn(model, seed):
    places = halton_order((8, 4, 4), seed)
    for step, tokens in enumerate(decode_steps(model, [0, 1], steps=12, seed=seed, order="halton"), start=1):
        settled = torch.zeros(128, dtype=torch.bool)
        settled[places[: 128 - due(step, 12)]] = True
        assert torch.equal(tokens != K, settled.expand(2, -1))


def test_the_other_order_settles_the_surest_first():
    """Without noise in the choice, no guess is settled while something known is still hidden."""
    wanted = torch.nn.functional.one_hot(torch.arange(128) % K, K)
    half_sure = Listening(30.0 * wanted * (torch.arange(128) < 64)[:, None])  # of the last 64 tokens it knows nothing
    for tokens in decode_steps(half_sure, [0, 0], steps=12, choice=0, guidance=1, order="confidence"):
        known, guessed = (tokens != K)[:, :64], (tokens != K)[:, 64:]
        assert (known.all(1) | ~guessed.any(1)).all()
    assert torch.equal(tokens[:, :64], (torch.arange(64) % K).expand(2, -1))


def test_noise_in_the_choice_mixes_that_order():
    wanted = torch.nn.functional.one_hot(torch.arange(128) % K, K)
    half_sure = Listening(30.0 * wanted * (torch.arange(128) < 64)[:, None])
    settings = {"steps": 12, "guidance": 1, "order": "confidence"}
    first = next(decode_steps(half_sure, [0] * 50, choice=400, **settings)) != K
    assert first[:, 64:].any()


def test_sampling_follows_the_models_probabilities():
    """One step from a model that says 3:1 for code 5 against code 9."""
    logits = torch.full((128, K), -1e9)
    logits[:, 5], logits[:, 9] = math.log(3), 0.0
    tokens = generate(Listening(logits), [0] * 100, steps=1, guidance=1, corrections=0)
    assert set(tokens.unique().tolist()) == {5, 9}
    assert (tokens == 5).float().mean().item() == pytest.approx(0.75, abs=0.02)
    cold = generate(Listening(logits), [0] * 100, steps=1, guidance=1, temperature=0.25, corrections=0)
    assert (cold == 5).float().mean().item() == pytest.approx(81 / 82, abs=0.01)


# ---- guidance ----


def test_guidance_0_is_without_class_and_1_with_it(model):
    tokens, labels = torch.randint(0, K, (2, 128), generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])
    with torch.no_grad():
        free, bound = model(tokens, torch.full_like(labels, model.unconditional)), model(tokens, labels)
        assert torch.equal(guided_logits(model, tokens, labels, 0), free)
        assert torch.equal(guided_logits(model, tokens, labels, 1), bound)
        assert torch.allclose(guided_logits(model, tokens, labels, 2), 2 * bound - free, atol=1e-5)
        half = guided_logits(model, tokens, labels, 0.5)
        assert torch.allclose(half, (free + bound) / 2, atol=1e-5)


def test_guidance_0_cannot_know_the_class(model):
    assert torch.equal(generate(model, [0, 0], guidance=0), generate(model, [3, 1], guidance=0))
    assert not torch.equal(generate(model, [0, 0], guidance=1), generate(model, [3, 1], guidance=1))


@pytest.mark.parametrize(("guidance", "told"), [(0, [4]), (1, [2]), (1.5, [4, 2])])
def test_each_guidance_asks_what_it_needs(guidance, told):
    """0 asks without the class, 1 with it alone, and any other both, in every step."""
    model = Listening()
    generate(model, [2], steps=3, guidance=guidance, corrections=0)
    assert [int(labels) for _, labels, _ in model.asked] == told * 3
    assert all(tasks.tolist() == [NUMBERS["CG"]] for *_, tasks in model.asked)


def test_guidance_1_is_the_plain_model(model):
    """The first step of a decoding, drawn by hand from the model as trained."""
    (first,) = decode_steps(model, [2], steps=1, guidance=1, seed=3)
    rng = torch.Generator().manual_seed(3)
    hidden = torch.full((1, 128), model.mask_token)
    with torch.no_grad():
        p = model(hidden, torch.tensor([2]), torch.tensor([NUMBERS["CG"]])).softmax(-1)
    assert torch.equal(first, draw(p, rng))


def test_a_draw_follows_the_probabilities():
    p = torch.tensor([0.5, 0.0, 0.2, 0.3])
    drawn = draw(p.expand(20_000, 4), torch.Generator().manual_seed(0))
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert torch.allclose(share, p, atol=0.015)
    assert share[1] == 0


# ---- given tokens ----


def start_of(n, seed=0):
    """A condition's tokens (n, 8, 4, 4), and where they count (8, 4, 4)."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, K, (n, 8, 4, 4), generator=rng), torch.rand(8, 4, 4, generator=rng) < 0.5


@orders
def test_until_its_turn_a_given_token_shows_the_conditions(order):
    """What the model is shown in each step: what is settled by then, else the condition's token, else MASK.

    The condition has words below 25, the model writes others: so each token tells where it comes from.
    """
    start, given = start_of(2)
    before = torch.where(given, start % 25, K).flatten(1)
    model = Listening(torch.zeros(128, K).index_fill(1, torch.arange(25), -1e9))
    shown = list(decode_steps(model, [0, 1], task="IPC", start=start % 25, given=given, order=order))
    asked = [tokens for tokens, *_ in model.asked]
    assert torch.equal(torch.stack(asked), torch.stack([before, *shown[:-1]]))
    for step, tokens in enumerate(shown, start=1):
        settled = (tokens >= 25) & (tokens < K)
        assert (settled.sum(1) == 128 - due(step, 12)).all()
        assert torch.equal(tokens[~settled], before[~settled])


def test_given_tokens_may_be_written_anew():
    """A model that is sure of 7 everywhere has its way everywhere."""
    start, given = start_of(2)
    start = start.where(start != 7, 8)
    logits = 50.0 * torch.nn.functional.one_hot(torch.full((128,), 7), K)
    assert (generate(Listening(logits), [0, 1], task="IPC", start=start, given=given) == 7).all()


@orders
def test_given_tokens_may_be_kept(order):
    start, given = start_of(2)
    start = start.where(start != 7, 8)
    logits = 50.0 * torch.nn.functional.one_hot(torch.full((128,), 7), K)
    settings = {"task": "IPC", "start": start, "given": given, "order": order, "refine": False}
    shown = list(decode_steps(Listening(logits), [0, 1], **settings))
    for tokens in shown:
        assert torch.equal(tokens[:, given.flatten()], start[:, given])
    assert (shown[-1][:, ~given.flatten()] == 7).all()


def test_a_mask_for_each_clip_or_one_for_all():
    start, given = start_of(2)
    settings = {"task": "FP", "start": start}
    one, each = (generate(Listening(), [0, 1], given=g, **settings) for g in (given, given.expand(2, -1, -1, -1)))
    assert torch.equal(one, each)
    model = Listening()
    generate(model, [0, 1], steps=1, given=torch.stack([given, ~given]), **settings)
    asked = model.asked[0][0].view(2, 8, 4, 4)
    assert torch.equal(asked[0] == K, ~given)
    assert torch.equal(asked[1] == K, given)


@pytest.mark.parametrize("task", TASKS)
def test_the_model_is_told_the_task_and_the_class_only_where_the_task_has_one(task):
    model = Listening()
    generate(model, [2, 3], steps=2, guidance=1, task=task)
    for _, labels, tasks in model.asked:
        assert tasks.tolist() == [NUMBERS[task]] * 2
        assert labels.tolist() == ([2, 3] if TASKS[task].labelled else [4, 4])


@pytest.mark.parametrize("task", UNLABELLED)
def test_a_task_without_a_class_ignores_labels_and_guidance(model, task):
    start, given = start_of(2)
    settings = {"task": task, "start": start, "given": given, "steps": 4}
    first = generate(model, [0, 0], guidance=1, **settings)
    assert torch.equal(first, generate(model, [3, 1], guidance=7, **settings))


# ---- whole clips ----


@pytest.mark.parametrize("task", TASKS)
def test_every_task_completes_clips(model, codec, task):
    videos, labels = noise(2), torch.tensor([1, 3])
    tokens = complete(model, codec, videos, task, labels, steps=4, seed=5)
    assert tokens.shape == (2, 8, 4, 4)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() < K
    start = commit_start(codec, videos, task)
    assert torch.equal(tokens, generate(model, labels, steps=4, seed=5, **start))
    assert torch.equal(tokens, complete(model, codec, videos, task, labels, steps=4, seed=5))


@pytest.mark.parametrize("task", TASKS)
def test_a_completion_knows_no_pixel_that_is_not_given(model, codec, task):
    videos = noise(2)
    changed = torch.where(region(task), videos, noise(2, seed=1))
    first, second = (complete(model, codec, films, task, steps=4, seed=5) for films in (videos, changed))
    assert torch.equal(first, second)


@pytest.mark.parametrize("frames", [1, 4, 8])
def test_decoding_starts_from_the_tokens_of_the_condition(codec, frames):
    videos = noise(2)
    found = commit_start(codec, videos, "FP", frames)
    assert found["task"] == "FP"
    assert torch.equal(found["start"], codec.encode(condition(videos, "FP", frames)))
    assert torch.equal(found["given"], given_tokens("FP", frames))
    model = Listening()
    complete(model, codec, videos, "FP", frames=frames, steps=1)
    due_first = torch.where(found["given"], found["start"], K)
    assert torch.equal(model.asked[0][0], due_first.flatten(1))


def test_without_labels_a_task_with_a_class_takes_the_first():
    """`complete` needs none for eight of the tasks; so it does not insist."""
    model = Listening()
    complete(model, Tokenizer(levels=LEVELS, dim=16, layers=TINY_LAYERS).eval(), noise(2), "CFP", guidance=1, steps=1)
    assert model.asked[0][1].tolist() == [0, 0]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([4], r"labels run from 4 to 4; the classes are 0 linear, 1 circular, 2 helical, 3 parabolic\."),
        ([-1, 0], "labels run from -1 to 0"),
        ([0.5], r"torch.float32 \(1,\); expected whole numbers of shape \(b,\)"),
        ([[0, 1]], r"expected whole numbers of shape \(b,\)"),
        (2, r"expected whole numbers of shape \(b,\)"),
        ([], r"expected whole numbers of shape \(b,\)"),
        (["linear"], r"labels came as list; expected whole numbers of shape \(b,\), int64: 0 linear, 1 circular"),
        (None, r"labels came as NoneType; expected whole numbers"),
        ([True], r"labels came as torch.bool \(1,\); expected whole numbers"),
    ],
)
def test_bad_labels_get_one_sentence(model, labels, says):
    with pytest.raises(ValueError, match=says):
        generate(model, labels)


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_no_decoding(model, steps):
    with pytest.raises(ValueError, match=rf"^steps is {steps}; decoding needs at least one\.$"):
        generate(model, [0], steps=steps)


def test_an_unknown_order_gets_one_sentence(model):
    with pytest.raises(ValueError, match=r"^order is 'spiral'; it must be 'halton' or 'confidence'\.$"):
        generate(model, [0], order="spiral")


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan])
def test_no_temperature_gets_one_sentence(model, temperature):
    """It would draw the codebook's last word everywhere, or the unlikeliest ones."""
    with pytest.raises(ValueError, match=rf"^temperature is {temperature}; it must be above 0\.$"):
        generate(model, [0], temperature=temperature)


@pytest.mark.parametrize("guidance", [math.nan, math.inf])
def test_guidance_that_is_no_number_gets_one_sentence(model, guidance):
    with pytest.raises(ValueError, match=rf"^guidance is {guidance}; it must be a finite number\.$"):
        generate(model, [0], guidance=guidance)


@pytest.mark.parametrize("strengths", [{"guidance": None}, {"guidance": "4"}, {"temperature": "warm"}])
def test_strengths_that_are_no_numbers_get_one_sentence(model, strengths):
    with pytest.raises(ValueError, match=r"^guidance is .*, temperature .*; numbers were expected\.$"):
        generate(model, [0], **strengths)


def test_half_a_condition_gets_one_sentence(model):
    start, given = torch.zeros(1, 8, 4, 4).long(), torch.ones(8, 4, 4).bool()
    with pytest.raises(ValueError, match=r"^start came without given; a condition is both: commit_start makes them\.$"):
        generate(model, [0], start=start)
    with pytest.raises(ValueError, match=r"^given came without start;"):
        generate(model, [0], given=given)


@pytest.mark.parametrize("task", ["FP", "IPC", "CG"])
@pytest.mark.parametrize(
    ("videos", "says"),
    [*NO_VIDEOS, (noise(1)[:, :, :15], r"expected \(b, 3, 16, 64, 64\)"), (None, "videos came as NoneType")],
)
def test_what_is_no_video_starts_no_task(codec, task, videos, says):
    """Class-conditional generation looks at no pixel, and frame prediction makes 16 frames of any number."""
    with pytest.raises(ValueError, match=says):
        commit_start(codec, videos, task)


def test_an_unknown_task_gets_one_sentence(model, codec):
    with pytest.raises(ValueError, match=r"^task is 'XX'; the tasks are FP, FI, .*\.$"):
        generate(model, [0], task="XX")
    with pytest.raises(ValueError, match=r"^task is 'XX'; the tasks are FP, FI, .*\.$"):
        complete(model, codec, noise(1), "XX")


def test_good_labels_come_as_int64():
    assert check_labels([0, 3]).dtype == torch.int64
    assert torch.equal(check_labels(torch.tensor([1, 2], dtype=torch.int32)), torch.tensor([1, 2]))


def test_only_the_places_whose_turn_it_is_are_asked_for(model, monkeypatch):
    """In Halton's order each place once in all; and the same words whoever watches."""
    asked, forward = [], model.forward

    def listen(tokens, labels, tasks=None, only=None):
        asked.append(only)
        return forward(tokens, labels, tasks, only)

    monkeypatch.setattr(model, "forward", listen)
    quiet = generate(model, [0, 1], guidance=1, corrections=0)
    assert torch.equal(torch.cat(asked).sort().values, torch.arange(128))
    heard = []
    watched = generate(model, [0, 1], guidance=1, corrections=0, watch=lambda *told: heard.append(told))
    assert torch.equal(quiet, watched)
    assert len(heard) == 12
    for settled, guess, log_p in heard:
        assert torch.equal(guess[settled], quiet.flatten(1)[settled])
        assert (log_p <= 0).all()


def test_logits_of_some_places_are_those_of_all(model):
    tokens, labels = torch.randint(0, K, (2, 128)), torch.tensor([1, 2])
    only = torch.tensor([5, 77, 127])
    with torch.no_grad():
        assert torch.allclose(model(tokens, labels, only=only), model(tokens, labels)[:, only], atol=1e-5)


# ---- corrections ----


def test_corrections_hide_each_place_once_in_eight_and_draw_it_cooler():
    """From a model that says 3:1, a temperature of 0.3 makes 3^(1/0.3) to 1."""
    logits = torch.full((128, K), -1e9)
    logits[:, 5], logits[:, 9] = math.log(3), 0.0
    model = Listening(logits)
    shown = list(decode_steps(model, [0] * 50, steps=1, guidance=1, corrections=8))
    hidden = torch.stack([tokens[0] == K for tokens, *_ in model.asked[1:]])
    assert hidden.shape == (8, 128)
    assert (hidden.sum(0) == 1).all()
    odds = 3 ** (1 / COOL)
    assert (shown[-1] == 5).float().mean().item() == pytest.approx(odds / (1 + odds), abs=0.01)
    assert not any((tokens == K).any() for tokens in shown)


def test_corrections_leave_kept_tokens_alone():
    start, given = start_of(2)
    settings = {"task": "IPC", "start": start, "given": given, "refine": False, "corrections": 16}
    *_, tokens = decode_steps(Listening(), [0, 1], **settings)
    assert torch.equal(tokens[:, given.flatten()], start[:, given])


def test_corrections_show_the_condition_where_it_is_given():
    """As in the steps: a given place that is drawn anew is anchored to what was given, and does not drift away."""
    start, given = start_of(2)
    before = torch.where(given, start % 25, K).flatten(1)
    model = Listening(torch.zeros(128, K).index_fill(1, torch.arange(25), -1e9))  # what is written has words from 25 on
    settings = {"task": "IPC", "start": start % 25, "given": given, "corrections": 16}
    list(decode_steps(model, [0, 1], **settings))
    for tokens, *_ in model.asked[12:]:
        again = (tokens < 25) | (tokens == K)
        assert again.sum(1).tolist() == [16, 16]
        assert torch.equal(tokens[again], before[again])
