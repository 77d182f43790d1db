"""The tokenizer ablation: each variant changes what it says and nothing else, and budgets are equal."""

import dataclasses
import inspect
import math

import numpy as np
import pytest
import torch
from magvit2_pytorch.attend import Attend
from studies import tokenizer_ablation, tokenizer_variants
from studies.tokenizer_ablation import FULL, SMOKE, Settings
from studies.tokenizer_variants import VARIANTS

from trajlib.course import study
from trajlib.data.clips import split
from trajlib.data.video_files import to_float
from trajlib.tokenizer.losses import reconstruction_loss
from trajlib.tokenizer.quantizers import QUANTIZERS
from trajlib.tokenizer.video_tokenizer import Tokenizer
from trajlib.training.loop import fit
from trajlib.zoo.config import RECIPES, TINY_LAYERS


@dataclasses.dataclass(frozen=True)
class Tiny(Settings):
    @property
    def tokenizer(self):
        return super().tokenizer | {"attn_heads": 1, "attn_dim_head": 8, "linear_attn_heads": 1}


TINY = Tiny(steps=1, batch=1, clips=2, dim=8, layers=TINY_LAYERS)


def run(name, context, seed=0):
    return tokenizer_ablation.run({"variant": name, "seed": seed}, context)


def test_variants_are_compared_with_one_another():
    assert {variant.reference for variant in VARIANTS.values()} <= VARIANTS.keys()
    assert all(variant.what for variant in VARIANTS.values())


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "perceptual_vgg"])
def test_each_variant_takes_a_step_or_is_known_to_fail_in_the_library(name, context_of):
    row = run(name, context_of(TINY))
    if VARIANTS[name].raises:
        assert row["status"].startswith("TypeError: "), "the library runs it now: measure the variant"
    else:
        assert row["bits"] > row["entropy_bits"]
        assert row["used"] <= row["codes"]


def test_arguments_of_a_variant_are_known_where_they_go():
    for variant in VARIANTS.values():
        assert variant.loss.keys() <= inspect.signature(reconstruction_loss).parameters.keys()
        assert variant.train.keys() <= inspect.signature(fit).parameters.keys()
        kind, *options = variant.tokenizer(FULL.tokenizer).get("quantizer", {"kind": "fsq"})
        assert kind == "kind"
        quantizer = QUANTIZERS[variant.tokenizer(FULL.tokenizer).get("quantizer", {"kind": "fsq"})["kind"]]
        assert set(options) <= inspect.signature(quantizer).parameters.keys()


@pytest.mark.parametrize(
    ("name", "codes", "grid"),
    [
        ("base", 1000, (8, 4, 4)), ("fsq_512", 512, (8, 4, 4)), ("fsq_4096", 4096, (8, 4, 4)),
        ("fsq_2x512", 2**18, (8, 4, 4)), ("fsq_4375", 4375, (8, 4, 4)), ("lfq_512", 512, (8, 4, 4)),
        ("lfq_2x512", 2**18, (8, 4, 4)), ("vq_1024", 1024, (8, 4, 4)), ("strides_4x8x8", 1000, (4, 8, 8)),
        ("time_layer", 1000, (8, 4, 4)), ("frames_17", 1000, (9, 4, 4)), ("attend_finer", 1000, (8, 4, 4)),
    ],
)  # fmt: skip
def test_variants_have_the_codes_and_the_grid_that_they_are_named_for(name, codes, grid):
    model = tokenizer_ablation.build(VARIANTS[name], FULL)
    assert model.codebook_size**model.num_codebooks == codes
    assert model.grid == grid


def test_the_base_is_a_tokenizer_as_it_comes_in_half_the_width():
    base, whole = Tokenizer(**FULL.tokenizer).config, Tokenizer().config
    assert 2 * base["dim"] == whole["dim"]
    double = [(kind, 2 * n if kind.startswith("compress") else n) for kind, n in base["layers"]]
    assert double == [tuple(layer) for layer in whole["layers"]]
    assert {key: base[key] for key in base.keys() - {"dim", "layers"}} == {
        key: whole[key] for key in base.keys() - {"dim", "layers"}
    }


def test_the_last_fsq_variant_and_the_training_are_the_shipped_tokenizers():
    recipe = RECIPES["full"].tokenizer
    assert VARIANTS["fsq_4375_background"].tokenizer(FULL.tokenizer)["quantizer"] == recipe.model.quantizer
    assert all(getattr(recipe.train, name) == FULL.train[name] for name in ("lr", "muon", "weight_decay", "bf16"))


def test_flash_attention_is_dropped_by_the_library_and_switched_on_by_us():
    torch.manual_seed(0)
    model = Tokenizer(dim=8, layers=("attend_space", "attend_time", ("compress_space", 8)), flash_attn=True).eval()
    attend = [part for part in model.modules() if isinstance(part, Attend)]
    assert len(attend) == 4
    assert torch.cuda.is_available() or not any(part.flash for part in attend)
    videos = to_float(split("train").videos([0]))
    with torch.no_grad():
        plain = model.latents(videos)
        tokenizer_variants.with_flash(model)
        assert all(part.flash for part in attend)
        assert torch.allclose(model.latents(videos), plain, atol=1e-4)


def test_alterations_do_what_they_say():
    model, videos = Tokenizer(dim=8, layers=TINY_LAYERS), to_float(split("train").videos([0]))
    assert model.latents(videos).mean(1).abs().max() < 1e-4
    tokenizer_variants.without_last_norm(model)
    assert model.latents(videos).mean(1).abs().max() > 1e-3
    kernel = model.net.conv_in.conv.weight
    assert not kernel.is_contiguous()
    tokenizer_variants.in_plain_memory(model)
    assert model.net.conv_in.conv.weight.is_contiguous()


def test_a_clip_of_another_number_of_frames_has_the_same_motion():
    data = split("validation")
    track = data.track(3)
    again, longer = (tokenizer_ablation.resampled(track, frames) for frames in (16, 17))
    assert again.path == pytest.approx(track.path)
    assert again.radius == pytest.approx(track.radius)
    assert longer.path[[0, 16]] == pytest.approx(track.path[[0, 15]])
    batch = tokenizer_ablation.clips_of("validation", range(4), 17)
    assert batch.videos.shape == (4, 3, 17, 64, 64)
    assert torch.equal(batch.videos[:, :, 0], data.videos(range(4))[:, :, 0])


# ---- equal budgets ----


@pytest.mark.slow
def test_variants_see_the_same_clips_and_seeds_others(monkeypatch, context_of, one_thread):
    seen, clips_of = [], tokenizer_ablation.clips_of

    def watched(name, indices, frames=16):
        seen.append((name, tuple(indices)))
        return clips_of(name, indices, frames)

    monkeypatch.setattr(tokenizer_ablation, "clips_of", watched)
    context, rows = context_of(dataclasses.replace(TINY, steps=2)), {}
    for name, seed in (("base", 0), ("lfq_512", 0), ("base", 1)):
        seen.clear()
        row = run(name, context, seed)
        rows[name, seed] = list(seen)
        assert (row["steps"], row["examples"]) == (2, 2)
    assert rows["base", 0] == rows["lfq_512", 0] == [("train", (0,)), ("train", (1,)), ("validation", (0, 1))]
    assert rows["base", 1] == [("train", (2,)), ("train", (3,)), ("validation", (0, 1))]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_the_same_run_gives_the_same_figures(context_of):
    first, again, other = (run("perceptual", context_of(TINY), seed) for seed in (0, 0, 1))
    assert all(first[column] == again[column] for column in first if column != "step_seconds")
    assert first["psnr"] != other["psnr"]


class Lookup(torch.nn.Module):
    """A tokenizer whose tokens are numbers of videos that it was given: its figures are known beforehand."""

    grid, codebook_size, num_codebooks = (2, 1, 1), 16, 1
    outputs, count = None, 0

    def encode(self, videos):
        self.count += len(videos)
        return torch.arange(self.count - len(videos), self.count).view(-1, 1, 1, 1).expand(-1, 2, 1, 1)

    def decode(self, tokens):
        return self.outputs[tokens[:, 0, 0, 0]]


def test_figures_of_known_videos():
    clips = split("validation").batch(range(24))
    clips = clips[clips.paths[..., 0].amax(1) < 57][:6]  # there is room on the right
    truth, model = to_float(clips.videos), Lookup()
    model.outputs = torch.cat([truth[:3], torch.ones_like(truth[:1]), truth[4:].roll(2, -1)])
    found = tokenizer_ablation.measure(model, VARIANTS["base"], clips, size=4)
    assert (found["tokens"], found["codes"], found["bits"], found["parameters"], found["used"]) == (2, 16, 8, 0, 6)
    assert found["perplexity"] == pytest.approx(6)
    assert found["entropy_bits"] == pytest.approx(2 * math.log2(6))
    assert found["present"] == pytest.approx(5 / 6)
    assert found["error_p99"] == 64  # no dot: as far off as the picture is wide
    blank = [-10 * math.log10(((1 - video) ** 2).mean()) for video in truth]
    assert found["psnr_blank"] == pytest.approx(np.mean(blank), abs=1e-3)
    model.count, model.outputs = 0, truth.roll(2, -1)
    shifted = tokenizer_ablation.measure(model, VARIANTS["base"], clips, size=6)
    assert shifted["error_median"] == pytest.approx(2, abs=0.1)
    assert shifted["colour_error"] == pytest.approx(0, abs=0.02)
    assert shifted["foreground_psnr"] < shifted["psnr"]


def test_entropy_is_annealed_from_three_times_its_weight(context_of):
    settings, weights = dataclasses.replace(TINY, steps=4), []
    model = tokenizer_ablation.build(VARIANTS["lfq_annealed"], settings)
    loss_fn = tokenizer_ablation.loss_of(VARIANTS["lfq_annealed"], context_of(settings))
    for _ in range(4):
        loss_fn(model, [to_float(split("train").videos([0])), torch.zeros(1, dtype=torch.long)])
        weights.append(model.quantizer.entropy_loss_weight)
    assert weights == pytest.approx([0.3, 0.2, 0.1, 0.1])


# ---- the grid, and reading the table ----


def test_seeds_come_one_after_the_other():
    jobs = tokenizer_ablation.jobs(FULL)
    assert [job["seed"] for job in jobs] == sorted(job["seed"] for job in jobs)
    assert {job["variant"] for job in tokenizer_ablation.jobs(SMOKE)} == {"base", "lfq_2x512"}


def test_gains_are_over_the_reference_of_the_same_seed():
    frame = study.read("tokenizer_ablation")
    found = tokenizer_ablation.gains(frame, "psnr")
    row = found[(found["variant"] == "vq_1024") & (found["seed"] == 1)].iloc[0]
    psnr = frame.set_index(["variant", "seed"])["psnr"]
    assert row["gain"] == pytest.approx(psnr["vq_1024", 1] - psnr["lfq_1024", 1])
    assert "base" not in set(found["variant"])
    assert len(found) == (frame["status"] == "ok").sum() - 2
