"""The tokenizer: shapes, what decoding and time may depend on, the library's traps, losses, bad input."""

import json
import math
import subprocess
import sys

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from magvit2_pytorch.magvit2_pytorch import SqueezeExcite
from safetensors.torch import load_file, save_file

from trajlib.classify.readers import TokenClassifier
from trajlib.data.checks import check_videos
from trajlib.data.clips import TrajectoryDataset, VideoSpec
from trajlib.data.video_files import to_float
from trajlib.tokenizer.losses import localization_error, reconstruction_loss
from trajlib.tokenizer.video_tokenizer import FOLD, FSQ_1000, UNFOLD, FastELU, Tokenizer
from trajlib.zoo import checkpoints, recipes
from trajlib.zoo.config import RECIPES, TINY_LAYERS


@pytest.fixture(scope="module")
def tokenizer():
    """Tiny, with random weights throughout: some of the library's begin at zero and would hide their effect."""
    torch.manual_seed(0)
    model = Tokenizer(dim=8, layers=TINY_LAYERS)
    for part in model.modules():
        if isinstance(part, SqueezeExcite):
            torch.nn.init.normal_(part.net[-2].weight)
    return model.eval()


@pytest.fixture(scope="module")
def videos():
    return to_float(TrajectoryDataset(4, seed=1).batch().videos)


# ---- shapes ----


def test_round_trip(tokenizer, videos):
    tokens = tokenizer.encode(videos)
    assert tokens.shape == (4, 8, 4, 4)
    assert tokens.shape[1:] == tokenizer.grid
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.codebook_size == 1000
    recon = tokenizer.decode(tokens)
    assert recon.shape == videos.shape
    assert recon.dtype == torch.float32
    assert recon.min() >= 0
    assert recon.max() <= 1
    assert torch.equal(tokenizer.reconstruct(videos), recon)


def test_the_course_has_128_tokens_a_clip():
    model = Tokenizer()
    assert model.grid == (8, 4, 4)
    assert 16 * 64 * 64 / math.prod(model.grid) == 512


@pytest.mark.parametrize(
    ("layers", "patch", "grid"),
    [
        (("residual",), (2, 4, 4), (8, 16, 16)),
        (("residual", ("compress_space", 8)), (2, 8, 8), (8, 4, 4)),
        ((("compress_time", 8), ("compress_space", 8)), (2, 4, 4), (4, 8, 8)),
    ],
)
def test_grid_follows_patch_and_layers(layers, patch, grid, videos):
    model = Tokenizer({"kind": "fsq", "levels": (5, 5)}, dim=8, layers=layers, patch=patch).eval()
    tokens = model.encode(videos[:1])
    assert model.grid == tuple(tokens.shape[1:]) == grid
    assert tokens.max() < model.codebook_size == 25
    assert model.decode(tokens).shape == (1, 3, 16, 64, 64)


def test_folding_only_moves_numbers(videos):
    patch = {"p": 2, "q": 4, "r": 4}
    folded = rearrange(videos, FOLD, **patch)
    assert torch.equal(folded[:, 2 * 32 + 1 * 16 + 3 * 4 + 2, 4, 5, 6], videos[:, 2, 9, 23, 26])
    assert torch.equal(rearrange(folded, UNFOLD, **patch), videos)


def test_a_clip_has_the_same_tokens_alone_and_in_a_batch(tokenizer, videos):
    assert torch.equal(torch.cat([tokenizer.encode(v[None]) for v in videos]), tokenizer.encode(videos))


# ---- decoding sees indices and nothing else ----

DECODE = """
import sys
from safetensors.torch import load_file, save_file
from trajlib.zoo.checkpoints import load
tokenizer, _ = load("tokenizer", sys.argv[1])
save_file({"recon": tokenizer.decode(load_file(sys.argv[2])["tokens"])}, sys.argv[3])
"""


@pytest.mark.slow
def test_another_process_decodes_the_same_pixels_from_the_indices(tokenizer, videos, tmp_path):
    tokens = tokenizer.encode(videos)
    checkpoints.save(tokenizer, {}, "tokenizer", tmp_path)
    files = [str(tmp_path / name) for name in ("tokens", "recon")]
    save_file({"tokens": tokens}, files[0])
    subprocess.run([sys.executable, "-c", DECODE, str(tmp_path), *files], check=True, timeout=200)
    assert torch.allclose(load_file(files[1])["recon"], tokenizer.decode(tokens), atol=1e-5)


def test_a_latent_may_move_while_its_index_stays(tokenizer, videos, monkeypatch):
    latents, tokens, recon = tokenizer.latents(videos), tokenizer.encode(videos), tokenizer.reconstruct(videos)
    nudge = 1e-3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    moved = tokenizer.quantizer(latents + nudge)[1] != tokens
    assert moved.float().mean() < 0.1
    nudge = nudge * ~moved[:, None]  # those that crossed a step stay where they were
    monkeypatch.setattr(tokenizer, "latents", lambda _, **cond: latents + nudge)
    assert torch.equal(tokenizer.reconstruct(videos), recon)
    trained_on, *_ = tokenizer(videos)  # what training sees is what decoding will see, clipping apart
    assert torch.allclose(trained_on.clamp(0, 1), recon, atol=1e-4)


@given(st.lists(st.integers(0, 999), min_size=128, max_size=128))
@settings(max_examples=10, deadline=None)
def test_every_index_has_a_latent_that_comes_back_as_it(tokenizer, indices):
    quantizer = tokenizer.quantizer
    tokens = torch.tensor(indices).reshape(1, 8, 4, 4)
    coordinates = quantizer._indices_to_codes(tokens)
    assert torch.equal(quantizer.codes_to_indices(coordinates).long(), tokens)


# ---- other quantizers, other clips ----

OTHERS = [
    {"kind": "fsq", "levels": (8, 8, 8), "num_codebooks": 2},
    {"kind": "lfq", "bits": 9},
    {"kind": "lfq", "bits": 9, "num_codebooks": 2},
    {"kind": "vq", "size": 512},
]


@pytest.mark.parametrize("quantizer", OTHERS)
def test_tokens_of_other_quantizers_are_all_that_decoding_needs(quantizer, videos):
    torch.manual_seed(0)
    model = Tokenizer(quantizer, dim=8, layers=TINY_LAYERS).eval()
    codebooks = quantizer.get("num_codebooks", 1)
    tokens = model.encode(videos)
    assert tokens.shape == (4, *model.token_shape) == (4, 8, 4, 4) + ((codebooks,) if codebooks > 1 else ())
    assert tokens.dtype == torch.int64
    assert (model.codebook_size, model.num_codebooks) == (512, codebooks)
    assert model.levels == {"fsq": (8, 8, 8), "lfq": (2,) * 9, "vq": None}[quantizer["kind"]]
    assert 0 <= tokens.min() <= tokens.max() < 512
    assert torch.equal(model.decode(tokens), model.reconstruct(videos))
    again = Tokenizer(**json.loads(json.dumps(model.config, default=vars))).eval()  # as a card stores it
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.encode(videos), tokens)


@pytest.mark.parametrize("quantizer", OTHERS[:3])
@given(seed=st.integers(0, 2**20))
@settings(max_examples=5, deadline=None)
def test_every_index_of_every_codebook_comes_back(quantizer, seed):
    """Without projections, so that a latent and its code are the same numbers."""
    codebooks = quantizer.get("num_codebooks", 1)
    width = codebooks * (quantizer.get("bits") or len(quantizer["levels"]))
    model = Tokenizer(quantizer, dim=8, layers=("residual", ("compress_space", width), ("compress_space", width)))
    shape = (2, *model.token_shape)
    tokens = torch.randint(512, shape, generator=torch.Generator().manual_seed(seed))
    tokens.view(-1)[:2] = torch.tensor([0, 511])  # the ends of a codebook
    codes = model.quantizer.codes_to_latents(tokens)
    assert codes.shape == (2, width, 8, 4, 4)
    near = 0.9 * codes if quantizer["kind"] == "lfq" else _unsquashed(codes, quantizer["levels"] * codebooks)
    assert torch.equal(model.eval().quantizer(near)[1].long(), tokens)


def _unsquashed(codes, levels):
    """Latents that FSQ squashes and rounds to these codes."""
    level = torch.tensor(levels).reshape(-1, 1, 1, 1)
    half, offset = (level - 1) * (1 + 1e-3) / 2, torch.where(level % 2 == 0, 0.5, 0.0)
    return torch.atanh((codes * (level // 2) + offset) / half) - torch.atanh(offset / half)


def test_tokens_of_two_codebooks_get_one_sentence_too():
    model = Tokenizer(OTHERS[0], dim=8, layers=TINY_LAYERS)
    with pytest.raises(ValueError, match=r"\(1, 8, 4, 4\); expected int64 \(b, 8, 4, 4, 2\)"):
        model.decode(torch.zeros(1, 8, 4, 4, dtype=torch.long))


def gradient_on_collapsed(**changes):
    """The gradient that LFQ's loss, commitment apart, sends to latents which all have the same signs."""
    layers = ("residual", ("compress_space", 9), ("compress_space", 9))
    quantizer = {"kind": "lfq", "bits": 9, "commitment_weight": 0.0} | changes
    model = Tokenizer(quantizer, dim=8, layers=layers).train()
    z = (1 + 0.01 * torch.randn(1, 9, 8, 4, 4, generator=torch.Generator().manual_seed(0))).requires_grad_()
    model.latents = lambda _, **cond: z
    *_, auxiliary = model(torch.ones(1, 3, 16, 64, 64))
    auxiliary.backward()
    return z.grad.abs().amax(1)


def test_collapsed_latents_have_an_entropy_gradient():
    """`VideoTokenizer` would take it at an inverse temperature of 100: see the trap in test_library_traps.py."""
    assert (gradient_on_collapsed() > 0).all()
    assert (gradient_on_collapsed(inv_temperature=100.0) == 0).all()


def test_the_loss_holds_what_lfq_adds(videos):
    torch.manual_seed(0)
    model = Tokenizer({"kind": "lfq", "bits": 9}, dim=8, layers=TINY_LAYERS).train()
    recon, _, auxiliary = model(videos)
    loss, _ = reconstruction_loss(recon, videos, auxiliary)
    plain, _ = reconstruction_loss(recon, videos)
    assert loss.item() == pytest.approx(plain.item() + auxiliary.item(), rel=1e-4)
    model.zero_grad()
    auxiliary.backward()
    assert model.net.conv_in.conv.weight.grad.abs().sum() > 0  # commitment and entropy reach the encoder
    assert model.net.encoder_layers[-1][1].weight.grad.abs().sum() > 0  # through the norm that the library leaves out


@pytest.mark.parametrize("separate", [False, True])
def test_seventeen_frames_are_one_and_eight_pairs(separate, videos):
    torch.manual_seed(0)
    layers, options = (("compress_time", 8), *TINY_LAYERS), {"separate_first_frame_encoding": separate}
    model = Tokenizer(dim=8, layers=layers, patch=(1, 4, 4), spec=VideoSpec(17), **options).eval()
    for part in model.modules():
        if isinstance(part, SqueezeExcite):
            torch.nn.init.normal_(part.net[-2].weight)
    clips = torch.cat([videos[:1], videos[:1, :, -1:]], 2)
    tokens = model.encode(clips)
    assert tokens.shape == (1, *model.grid) == (1, 9, 4, 4)
    assert model.decode(tokens).shape == clips.shape
    painted = clips.clone()
    painted[:, :, 1:] = 1 - painted[:, :, 1:]
    change = (model.latents(painted) - model.latents(clips)).abs().amax((0, 1, 3, 4))
    assert change[0] < 1e-5  # the first time step depends on the first frame only
    assert (change[1:] > 1e-3).all()
    with pytest.raises(ValueError, match=r"expected \(b, 3, 17, 64, 64\)"):
        model.encode(videos)


def test_an_odd_number_of_frames_is_not_folded_in_pairs():
    with pytest.raises(ValueError, match=r"17 frames cannot be folded 2 at a time"):
        Tokenizer(dim=8, layers=TINY_LAYERS, spec=VideoSpec(17))


def test_a_condition_reaches_encoder_and_decoder(videos):
    torch.manual_seed(0)
    model = Tokenizer(dim=8, layers=(*TINY_LAYERS, "cond_residual"), dim_cond=4).eval()
    one, two = torch.eye(4)[[0, 0, 0, 0]], torch.eye(4)[[1, 1, 1, 1]]
    assert not torch.allclose(model.latents(videos, cond=one), model.latents(videos, cond=two))
    tokens = model.encode(videos, cond=one)
    assert not torch.allclose(model.decode(tokens, cond=one), model.decode(tokens, cond=two))


# ---- time ----


@given(st.integers(0, 15))
@settings(max_examples=8, deadline=None)
def test_a_frame_moves_no_earlier_latent(tokenizer, videos, frame):
    painted = videos[:1].clone()
    painted[:, :, frame] = 1 - painted[:, :, frame]
    change = (tokenizer.latents(painted) - tokenizer.latents(videos[:1])).abs().amax((0, 1, 3, 4))
    assert (change[: frame // 2] < 1e-5).all()
    assert change[frame // 2] > 1e-3


@given(st.integers(0, 7))
@settings(max_examples=8, deadline=None)
def test_a_token_changes_no_earlier_pixel(tokenizer, videos, frame):
    tokens = tokenizer.encode(videos[:1])
    swapped = tokens.clone()
    swapped[:, frame] = (tokens[:, frame] + 500) % 1000
    change = (tokenizer.decode(swapped) - tokenizer.decode(tokens)).abs().amax((0, 1, 3, 4))
    assert (change[: 2 * frame] < 1e-5).all()
    assert change[2 * frame :].max() > 1e-3


# ---- the library's traps ----


def gradient_of_the_norm(tokenizer, encode):
    norm = tokenizer.net.encoder_layers[-1][1]
    assert isinstance(norm, torch.nn.LayerNorm)
    tokenizer.zero_grad()
    encode().square().sum().backward()
    return norm.weight.grad


def test_the_last_norm_is_called_by_us_and_not_by_the_library(tokenizer, videos):
    folded = rearrange(1 - videos[:1], FOLD, **tokenizer.patch)
    library = gradient_of_the_norm(tokenizer, lambda: tokenizer.net.encode(folded, video_contains_first_frame=False))
    assert library is None, "the library calls its norm now: ours would be a second one"
    ours = gradient_of_the_norm(tokenizer, lambda: tokenizer.latents(videos[:1]))
    assert ours is not None
    assert ours.abs().sum() > 0
    z = tokenizer.latents(videos[:1])
    assert torch.allclose(z.mean(1), torch.zeros(1, 8, 4, 4), atol=1e-4)  # it begins as plain normalisation
    assert torch.allclose(z.var(1, unbiased=False), torch.ones(1, 8, 4, 4), atol=0.05)


def test_every_weight_has_a_gradient(tokenizer, videos):
    tokenizer.zero_grad()
    recon, _, quantizer_loss = tokenizer(videos)
    reconstruction_loss(recon, videos, quantizer_loss)[0].backward()
    assert [name for name, weights in tokenizer.named_parameters() if weights.grad is None] == []


def test_no_discriminator_is_kept(tokenizer):
    assert not [key for key in tokenizer.state_dict() if "discr" in key or "vgg" in key]
    assert next(tokenizer.parameters()) is not None  # the library's is a list


def test_residual_branches_begin_open():
    gates = [part.net[-2].bias for part in Tokenizer(dim=8).modules() if isinstance(part, SqueezeExcite)]
    assert len(gates) == 8
    assert all((gate == 0).all() for gate in gates)


def test_the_fast_elu_is_elu():
    x = torch.linspace(-20, 20, 4001, requires_grad=True)
    fast, exact = FastELU(), torch.nn.ELU()
    for dtype, off in ((torch.float32, 1e-6), (torch.bfloat16, 0.01)):
        assert fast(x.to(dtype)).dtype == dtype
        assert torch.allclose(fast(x.to(dtype)).float(), exact(x.to(dtype)).float(), atol=off)
        slopes = [torch.autograd.grad(elu(x.to(dtype)).sum(), x)[0] for elu in (fast, exact)]
        assert torch.allclose(*slopes, atol=off)
    (slope,) = torch.autograd.grad(FastELU()(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        slope.sum().backward()  # there is no second derivative: asking for it is an error
    assert not [part for part in Tokenizer(dim=8).modules() if isinstance(part, torch.nn.ELU)]


# ---- the loss ----


def test_the_code_l2_loss_is_the_mean_square_of_what_is_rounded(tokenizer, videos):
    recon, _, penalty = tokenizer(videos)
    flat = tokenizer.latents(videos).movedim(1, -1)
    coordinates = torch.nn.functional.linear(flat, *tokenizer.quantizer.project_in.parameters())
    assert penalty.item() == pytest.approx(5e-3 * coordinates.square().mean().item(), rel=1e-4)
    without, half = (reconstruction_loss(recon, videos, penalty, quantizer_weight=w)[0] for w in (0, 0.5))
    assert (half - without).item() == pytest.approx(penalty.item() / 2, rel=1e-3)


def test_the_background_code_weight_counts_tokens_whose_own_pixels_are_background(tokenizer, videos):
    quantizer = FSQ_1000 | {"code_l2_weight": 0.0, "background_code_weight": 0.5}
    weighted = Tokenizer(quantizer, dim=8, layers=TINY_LAYERS).eval()
    weighted.load_state_dict(tokenizer.state_dict())
    squares = weighted.quantizer.project_in(weighted.latents(videos).movedim(1, -1)).square().mean(-1)  # (4, 8, 4, 4)
    cells = (1 - videos).unfold(2, 2, 2).unfold(3, 16, 16).unfold(4, 16, 16).flatten(5).amax((1, 5))
    blank = cells <= 0.02
    assert 0 < blank.float().mean() < 1
    assert weighted(videos)[2].item() == pytest.approx(0.5 * squares[blank].sum().item() / blank.numel(), rel=1e-4)
    white = torch.ones_like(videos)
    everywhere = weighted.quantizer.project_in(weighted.latents(white).movedim(1, -1)).square().mean()
    assert weighted(white)[2].item() == pytest.approx(0.5 * everywhere.item(), rel=1e-4)


def test_loss_in_white_and_near_the_dot():
    videos = torch.ones(1, 3, 16, 64, 64)
    loss, parts = reconstruction_loss(videos - 0.1, videos)
    assert loss.item() == pytest.approx(10 * 0.01, rel=1e-4)  # no dot: all pixels count alike
    assert parts["mse"].item() == pytest.approx(0.01, rel=1e-4)
    videos[0, :, :, 32, 32] = 0
    near = 5 * 5 / 64**2
    loss, _ = reconstruction_loss(videos - 0.1, videos, foreground_weight=10)
    assert loss.item() == pytest.approx(10 * 0.01 * (1 + 9 * near), rel=1e-4)
    loss, _ = reconstruction_loss(torch.zeros_like(videos), videos, foreground_weight=1)
    assert loss.item() == pytest.approx(10 * videos.square().mean().item(), rel=1e-4)


def dots_at(*positions):
    """A video (1, 3, t, 64, 64) with one black pixel a frame, at (x, y); None is a blank frame."""
    video = torch.ones(1, 3, len(positions), 64, 64)
    for t, position in enumerate(positions):
        if position:
            video[0, :, t, position[1], position[0]] = 0
    return video


def test_localization_error():
    """A dot three to the right and four below is 5 pixels off; a frame without a dot counts nothing."""
    videos = dots_at((10, 10), (20, 20), (30, 30), None)
    recon = dots_at((13, 14), (20, 20), None, (5, 5))
    assert localization_error(recon, videos).item() == pytest.approx((5 + 0.01) / 4, rel=1e-4)
    plain, parts = reconstruction_loss(recon, videos)
    placed, placed_parts = reconstruction_loss(recon, videos, position_weight=2.0)
    assert (placed - plain).item() == pytest.approx(2 * 5.01 / 4, rel=1e-4)
    assert "px" not in parts
    assert placed_parts["px"].item() == pytest.approx(5.01 / 4, rel=1e-4)


def test_the_localization_error_moves_a_blurred_dot_towards_its_position():
    """Less intensity on the far side, more on the near side; blank frames and pixels give finite gradients."""
    videos, recon = dots_at((32, 32), (32, 32), None), torch.ones(1, 3, 3, 64, 64)
    recon[0, :, 0, 32, 33:36] = 0.5  # a little to the right
    recon.requires_grad_()
    localization_error(recon, videos).backward()
    assert recon.grad.isfinite().all()
    assert not recon.grad[:, :, 1:].any()
    left, _, right = recon.grad[0, 0, 0, 32, 33:36]
    assert left > 0 > right  # a step against the gradient darkens the left pixel
    with torch.no_grad():
        closer = recon - 0.05 * recon.grad
    assert localization_error(closer, videos) < localization_error(recon, videos)


def test_chroma_weight():
    """An error of +e in red and -e in green is all chroma; the same error in all three colours has none."""
    videos = torch.full((1, 3, 16, 64, 64), 0.5)
    chroma_error = torch.tensor([0.1, -0.1, 0.0]).reshape(1, 3, 1, 1, 1)
    for error, factor in ((chroma_error, 7), (torch.full((1, 3, 1, 1, 1), 0.1), 1)):
        plain, parts = reconstruction_loss(videos + error, videos)
        heavy, heavy_parts = reconstruction_loss(videos + error, videos, chroma_weight=7.0)
        assert plain.item() == pytest.approx(
            10 * 10 * error.square().mean().item(), rel=1e-4
        )  # all of it is foreground
        assert heavy.item() == pytest.approx(factor * plain.item(), rel=1e-4)
        assert parts["mse"].item() == heavy_parts["mse"].item() == pytest.approx(error.square().mean().item(), rel=1e-4)


# ---- bad input ----


@pytest.mark.parametrize(
    ("came", "sentence"),
    [
        (torch.zeros(1, 3, 16, 64, 64, dtype=torch.uint8), r"as torch.uint8; expected a float32 tensor .*to_float"),
        (torch.zeros(1, 3, 16, 64, 64).double(), r"as torch.float64; expected a float32 tensor .*videos.float"),
        (torch.zeros(1, 3, 16, 64, 64).half(), r"as torch.float16; expected a float32 tensor .*videos.float"),
        (torch.zeros(1, 3, 16, 64, 64).numpy(), r"videos came as ndarray; expected a float32 tensor"),
        ("clip.mp4", r"videos came as str; expected a float32 tensor"),
        (torch.zeros(3, 16, 64, 64), r"shape \(3, 16, 64, 64\); expected \(b, 3, 16, 64, 64\)"),
        (torch.zeros(1, 3, 15, 64, 64), r"shape \(1, 3, 15, 64, 64\); expected"),
        (torch.zeros(1, 16, 3, 64, 64), r"batch, RGB, frames, height, width"),
        (torch.full((1, 3, 16, 64, 64), float("nan")), r"NaN or infinity"),
        (torch.full((1, 3, 16, 64, 64), 255.0), r"run from 255 to 255; expected \[0, 1\]: divide 0..255 pixels by 255"),
        (torch.full((1, 3, 16, 64, 64), -1.0), r"run from -1 to -1"),
    ],
)
def test_bad_videos_get_one_sentence(tokenizer, came, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        tokenizer.encode(came)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("came", "sentence"),
    [
        (torch.zeros(1, 8, 4, 4), r"tokens came as torch.float32 \(1, 8, 4, 4\); expected int64 \(b, 8, 4, 4\)"),
        (torch.zeros(1, 128, dtype=torch.long), r"torch.int64 \(1, 128\); expected"),
        (torch.full((1, 8, 4, 4), 1000), r"run from 1000 to 1000; this codebook has 0 .. 999"),
        (torch.full((1, 8, 4, 4), -1), r"run from -1 to -1"),
        (torch.zeros(1, 8, 4, 4, dtype=torch.bool), r"tokens came as torch.bool \(1, 8, 4, 4\); expected int64"),
        (torch.zeros(1, 8, 4, 4, dtype=torch.uint16), r"tokens came as torch.uint16 \(1, 8, 4, 4\); expected int64"),
        (torch.zeros(1, 8, 4, 4).long().numpy(), r"came as ndarray int64 .*; expected int64 .* in a torch tensor"),
        ([[0]], r"tokens came as list; expected int64"),
        (None, r"tokens came as None; expected int64"),
    ],
)
def test_bad_tokens_get_one_sentence(tokenizer, came, sentence):
    classifier = TokenClassifier(1000, (8, 4, 4), dim=32, depth=1, heads=2)
    for receiver in (tokenizer.decode, classifier):
        with pytest.raises(ValueError, match=sentence) as caught:
            receiver(came)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16])
def test_whole_numbers_of_any_length_are_tokens(tokenizer, dtype):
    tokens = torch.arange(128).view(1, 8, 4, 4)
    assert torch.equal(tokenizer.decode(tokens.to(dtype)), tokenizer.decode(tokens))


def test_float32_videos_are_taken_under_autocast(tokenizer, videos):
    with torch.autocast("cpu", torch.bfloat16):
        assert tokenizer.encode(videos[:1]).shape == (1, 8, 4, 4)


def test_no_clips_are_no_error(tokenizer):
    videos = torch.zeros(0, 3, 16, 64, 64)
    check_videos(videos)
    tokens = tokenizer.encode(videos)
    assert tokens.shape == (0, 8, 4, 4)
    assert tokens.dtype == torch.int64
    assert tokenizer.decode(tokens).shape == videos.shape


# ---- what is shipped ----


@pytest.mark.slow
def test_the_shipped_tokenizer_does_what_its_card_says():
    """On the same validation clips. One thread or two, AVX2 or AVX-512, agree to 0.001 in dB and px."""
    model, card = checkpoints.load("tokenizer")
    assert card["parameters"] == sum(weights.numel() for weights in model.parameters())
    assert model.grid == (8, 4, 4)
    found = recipes.tokenizer_figures(model, RECIPES["full"].tokenizer.validation_clips)
    stated = {name: value for name, value in card["figures"].items() if name.startswith("validation ")}
    assert stated.keys() == found.keys()
    for name, value in stated.items():
        assert found[name] == pytest.approx(value, abs=0.005), name
    assert found["validation psnr"] > found["validation blank psnr"]
