"""The ablation study: each arm changes what it says and nothing else, budgets are equal, rows survive a stop."""

import dataclasses
import inspect
import math
from concurrent.futures import Future

import numpy as np
import pytest
import torch
from magvit2_pytorch.attend import Attend
from stand_ins import Inline

from trajlib import __main__, ablations, losses, plots
from trajlib.ablations import ARMS, BY_NAME, StudyError
from trajlib.config import TINY_LAYERS, profile
from trajlib.dataset import SEEDS, TrajectoryDataset, to_float
from trajlib.tokenizer import Tokenizer, reconstruction_loss
from trajlib.training import fit

TINY = dataclasses.replace(
    profile("smoke"),
    ablation=profile("smoke").ablation
    | {"steps": 1, "batch": 1, "validation_clips": 2, "only": ()}
    | {"tokenizer": {"dim": 8, "layers": TINY_LAYERS, "attn_heads": 1, "attn_dim_head": 8, "linear_attn_heads": 1}},
)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """A narrower judge, no waiting for it, and one thread, as in the study's workers.

    With two, torch 2.14.1 writes past its memory in the gradient penalty of so narrow a judge in bfloat16.
    """
    monkeypatch.setattr(losses.FrameJudge.__init__, "__defaults__", (2, 8))
    monkeypatch.setattr(ablations, "ADVERSARY_STARTS", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---- the arms ----


def test_arms_have_names_of_their_own_and_something_to_be_compared_with():
    assert len(BY_NAME) == len(ARMS)
    assert ARMS[0].name == "base"
    assert {arm.beside for arm in ARMS} <= BY_NAME.keys()
    assert all(arm.question for arm in ARMS)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if not arm.online], ids=lambda arm: arm.name)
def test_each_arm_takes_a_step_or_is_known_to_fail_in_the_library(arm):
    row = ablations.run_arm(arm.name, 0, TINY)
    if arm.raises:
        assert row["status"].startswith("TypeError: "), "the library has mended it: the arm can be measured now"
        assert "unexpected keyword argument" in row["status"]
    else:
        assert row["status"] == "ok"
        assert row["bits"] > row["entropy_bits"]
        assert row["used"] <= row["codes"]


def test_arguments_of_an_arm_are_known_where_they_go():
    for arm in ARMS:
        assert arm.loss.keys() <= inspect.signature(reconstruction_loss).parameters.keys()
        assert arm.recipe(ablations.base_recipe(TINY)).keys() <= inspect.signature(fit).parameters.keys()
        assert (arm.adversary or {}).keys() <= inspect.signature(losses.Adversary).parameters.keys()


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("base", 1000), ("fsq_512", 512), ("fsq_4096", 4096), ("fsq_2x512", 2**18), ("fsq_4375", 4375),
        ("lfq_512", 512), ("lfq_1024", 1024), ("lfq_4096", 4096), ("lfq_2x512", 2**18),
    ],
)  # fmt: skip
def test_quantizers_have_the_codes_that_they_are_named_for(name, codes):
    model = ablations.build(BY_NAME[name], profile("full"))
    assert model.codebook_size ** model.config["books"] == codes
    assert model.grid == (8, 4, 4)


@pytest.mark.parametrize(
    ("name", "grid"),
    [("strides_4x8x8", (4, 8, 8)), ("time_layer", (8, 4, 4)), ("frames_17", (9, 4, 4)), ("attend_finer", (8, 4, 4))],
)
def test_grids_of_the_arms_that_change_them(name, grid):
    assert ablations.build(BY_NAME[name], profile("full")).grid == grid


def test_the_base_is_a_tokenizer_as_it_comes_at_the_studys_width():
    cfg = profile("full")
    whole = ablations.base_arguments(dataclasses.replace(cfg, ablation=cfg.ablation | {"width": 1}))
    assert whole == Tokenizer().config
    half = ablations.base_arguments(dataclasses.replace(cfg, ablation=cfg.ablation | {"width": 0.5}))
    assert half["dim"] == Tokenizer().config["dim"] // 2


def test_the_last_quantizer_arm_is_the_shipped_tokenizer_narrowed():
    cfg = profile("full")
    base = ablations.base_arguments(cfg)
    assert base | BY_NAME["fsq_4375_hush"].tokenizer(base) == base | cfg.tokenizer
    assert cfg.ablation["recipe"] == cfg.tokenizer_recipe | {"steps": cfg.ablation["recipe"]["steps"]}


def test_arms_and_base_have_the_same_grid():
    cfg = profile("full")
    whole, narrow = (ablations.build(BY_NAME["base"], c) for c in (cfg, TINY))
    assert whole.grid == narrow.grid


def test_the_average_reaches_back_over_the_same_share_of_the_steps():
    cfg = profile("full")
    recipe, study = cfg.ablation["recipe"], ablations.base_recipe(cfg)
    assert study["steps"] == cfg.ablation["steps"]
    assert study["steps"] * (1 - study["ema"]) == pytest.approx(recipe["steps"] * (1 - recipe["ema"]))
    assert study["lr"] == recipe["lr"]


def test_flash_attention_is_dropped_by_the_library_and_switched_on_by_us():
    torch.manual_seed(0)
    model = Tokenizer(dim=8, layers=("attend_space", "attend_time", ("compress_space", 8)), flash_attn=True).eval()
    attend = [part for part in model.modules() if isinstance(part, Attend)]
    assert len(attend) == 4
    assert torch.cuda.is_available() or not any(part.flash for part in attend)
    videos = to_float(TrajectoryDataset(1, seed=1).batch().videos)
    with torch.no_grad():
        plain = model.latents(videos)
        ablations.with_flash(model)
        assert all(part.flash for part in attend)
        assert torch.allclose(model.latents(videos), plain, atol=1e-4)


def test_alterations_do_what_they_say():
    model = Tokenizer(dim=8, layers=TINY_LAYERS)
    videos = to_float(TrajectoryDataset(1, seed=1).batch().videos)
    assert model.latents(videos).mean(1).abs().max() < 1e-4
    ablations.without_last_norm(model)
    assert model.latents(videos).mean(1).abs().max() > 1e-3
    kernel = model.net.conv_in.conv.weight
    assert not kernel.is_contiguous()
    ablations.in_plain_memory(model)
    assert model.net.conv_in.conv.weight.is_contiguous()


def test_a_film_of_another_number_of_frames_has_the_same_motion():
    world = TrajectoryDataset(4, seed=SEEDS["validation"])
    track = world.track(3)
    again = ablations.refilm(track, 16)
    assert again.path == pytest.approx(track.path)
    assert again.radius == pytest.approx(track.radius)
    longer = ablations.refilm(track, 17)
    assert longer.path.shape == (17, 2)
    assert longer.path[[0, 16]] == pytest.approx(track.path[[0, 15]])
    batch = ablations.clips_of("validation", range(4), 17)
    assert batch.videos.shape == (4, 3, 17, 64, 64)
    assert torch.equal(batch.videos[:, :, 0], world.batch().videos[:, :, 0])
    assert torch.equal(ablations.clips_of("validation", range(4)).videos, world.batch().videos)


def test_precision_is_the_one_that_the_base_has_not():
    assert BY_NAME["precision"].recipe({"bf16": False}) == {"bf16": True}
    assert BY_NAME["precision"].recipe({"bf16": True}) == {"bf16": False}


# ---- equal budgets ----


def test_arms_are_shown_the_same_clips_and_seeds_others(monkeypatch):
    shown, clips_of = [], ablations.clips_of

    def watched(split, indices, frames=16):
        shown.append((split, tuple(indices)))
        return clips_of(split, indices, frames)

    monkeypatch.setattr(ablations, "clips_of", watched)
    cfg = dataclasses.replace(TINY, ablation=TINY.ablation | {"steps": 2})
    seen = {}
    for name, seed in (("base", 0), ("lfq_512", 0), ("base", 1)):
        shown.clear()
        row = ablations.run_arm(name, seed, cfg)
        seen[name, seed] = list(shown)
        assert (row["steps"], row["clips"]) == (2, 2)
    assert seen["base", 0] == seen["lfq_512", 0] == [("train", (0,)), ("train", (1,)), ("validation", (0, 1))]
    assert seen["base", 1] == [("train", (2,)), ("train", (3,)), ("validation", (0, 1))]


def test_the_same_run_gives_the_same_figures():
    first, again, other = (ablations.run_arm("adversary_motion", seed, TINY) for seed in (0, 0, 1))
    assert first.keys() == again.keys()
    assert all(first[column] == again[column] for column in first if column != "seconds")
    assert first["psnr"] != other["psnr"]


@pytest.fixture
def film_store():
    """A tokenizer whose codes are numbers of films that it was given: what is measured is known beforehand."""

    class Store(torch.nn.Module):
        config, grid, codebook_size = {"books": 1}, (2, 1, 1), 16
        films = None

        def encode(self, videos):
            self.count = getattr(self, "count", 0) + len(videos)
            return torch.arange(self.count - len(videos), self.count).view(-1, 1, 1, 1).expand(-1, 2, 1, 1)

        def decode(self, tokens):
            return self.films[tokens[:, 0, 0, 0]]

    return Store()


def test_figures_of_films_that_are_known(film_store):
    clips = TrajectoryDataset(24, seed=SEEDS["validation"]).batch()
    clips = clips[clips.paths[..., 0].amax(1) < 57][:6]  # there is room on the right
    truth = to_float(clips.videos)
    film_store.films = torch.cat([truth[:3], torch.ones_like(truth[:1]), truth[4:].roll(2, -1)])
    found = ablations.measure(film_store, BY_NAME["base"], clips, size=4)
    assert (found["tokens"], found["codes"], found["bits"], found["parameters"]) == (2, 16, 8, 0)
    assert found["used"] == 6
    assert found["perplexity"] == pytest.approx(6)
    assert found["entropy_bits"] == pytest.approx(2 * math.log2(6))
    assert found["present"] == pytest.approx(5 / 6)
    assert found["error_p99"] == 64  # no dot: as far off as the picture is wide
    blank = [-10 * math.log10(((1 - video) ** 2).mean()) for video in truth]
    assert found["psnr_blank"] == pytest.approx(np.mean(blank), abs=1e-3)
    film_store.count, film_store.films = 0, truth.roll(2, -1)
    shifted = ablations.measure(film_store, BY_NAME["base"], clips, size=6)
    assert shifted["error_median"] == pytest.approx(2, abs=0.1)
    assert shifted["colour_error"] == pytest.approx(0, abs=0.02)
    noise = [-10 * math.log10(((a - b) ** 2).mean()) for a, b in zip(truth, film_store.films, strict=True)]
    assert shifted["psnr"] == pytest.approx(np.mean(noise), abs=1e-3)
    assert shifted["foreground_psnr"] < shifted["psnr"]


def test_entropy_is_annealed_from_three_times_its_weight(monkeypatch):
    weights = []
    monkeypatch.setattr(
        ablations, "reconstruction_loss",
        lambda tokenizer, videos, hue: (tokenizer(videos)[0].mean(), {}),
    )  # fmt: skip
    cfg = dataclasses.replace(TINY, ablation=TINY.ablation | {"steps": 4})
    model, loss_fn = ablations.build(BY_NAME["lfq_annealed"], cfg), ablations.loss_of(BY_NAME["lfq_annealed"], cfg)
    for _ in range(4):
        loss_fn(model, [to_float(TrajectoryDataset(1).batch().videos), torch.zeros(1, dtype=torch.long)])
        weights.append(model.net.quantizers.entropy_loss_weight)
    assert weights == pytest.approx([0.3, 0.2, 0.1, 0.1])


# ---- the file ----


@pytest.fixture
def study(monkeypatch, tmp_path):
    """A study of figures that are made up: (its file, the runs that were made, statuses to come out by arm)."""
    ran, statuses = [], {}

    def run_arm(name, seed, cfg):
        ran.append((name, seed))
        row = dict.fromkeys(set(ablations.COLUMNS) - ablations.WORDS, 1.5)
        row |= {"arm": name, "seed": seed, "beside": BY_NAME[name].beside, "part": BY_NAME[name].part}
        row |= {"psnr": 30.0 + 2 * seed + (name != "base"), "codes": 2**18, "changes": '{"levels": [8, 8, 8]}'}
        return row | {"status": statuses.get(name, "ok")}

    monkeypatch.setattr(ablations, "run_arm", run_arm)
    monkeypatch.setattr(ablations, "ProcessPoolExecutor", Inline)
    monkeypatch.setattr(ablations.stamps, "lib_stamp", lambda: "0123456789abcdef")  # the real one takes half a second
    return tmp_path / "study.csv", ran, statuses


CFG = dataclasses.replace(TINY, ablation=TINY.ablation | {"seeds": (0, 1)})
NAMES = ("base", "fsq_512", "cond_attend_time")


def run(study, cfg=CFG, only=NAMES):
    said = []
    rows = ablations.run(cfg, study[0], only, say=said.append)
    return rows, said


def test_rows_are_read_as_they_were_written(study):
    rows, said = run(study)
    again = ablations.read(study[0])
    assert {(row["arm"], row["seed"]) for row in again} == {(name, seed) for name in NAMES for seed in (0, 1)}
    assert [row["arm"] for row in again[:2]] == ["base", "base"]  # in the order of the arms
    assert (again[1]["psnr"], again[1]["codes"], again[1]["seed"]) == (32.0, 2**18, 1)
    assert again[0]["changes"] == '{"levels": [8, 8, 8]}'
    assert again[0]["torch"] == torch.__version__.split("+")[0]
    assert all(again[0][column] for column in ("study", "code", "date"))
    assert len(said) == 7
    assert len(rows) == 6
    assert [path.name for path in study[0].parent.iterdir()] == ["study.csv"]


def test_a_study_goes_on_where_it_was(study):
    path, ran, statuses = study
    statuses |= {"fsq_512": "FloatingPointError: the loss is nan", "cond_attend_time": "TypeError: no cond"}
    rows, _ = run(study)
    assert [ablations.finished(row) for row in rows if row["arm"] == "fsq_512"] == [False, False]
    first, statuses["fsq_512"] = path.read_bytes(), "ok"
    ran.clear()
    rows, said = run(study)
    assert ran == [("fsq_512", 0), ("fsq_512", 1)]  # what came out, and what the library cannot run, is not run again
    assert said[0].startswith("2 runs")
    assert all(map(ablations.finished, rows))
    assert path.read_bytes() != first
    ran.clear()
    run(study)
    assert ran == []


def test_an_interruption_keeps_the_rows_that_came(study, monkeypatch):
    path, *_ = study
    whole = ablations.run_arm

    def stopped(name, seed, cfg):
        if (name, seed) == ("base", 1):
            raise KeyboardInterrupt
        return whole(name, seed, cfg)

    class Lazy(Inline):
        def submit(self, function, *args):
            future = Future()
            future.result = lambda: function(*args)
            future.set_result(None)
            return future

    monkeypatch.setattr(ablations, "run_arm", stopped)
    monkeypatch.setattr(ablations, "ProcessPoolExecutor", Lazy)
    monkeypatch.setattr(ablations, "as_completed", list)
    with pytest.raises(KeyboardInterrupt):
        run(study, only=("base", "fsq_512"))
    assert [(row["arm"], row["seed"]) for row in ablations.read(path)] == [("base", 0), ("fsq_512", 0)]


def test_another_budget_is_not_mixed_in(study):
    run(study)
    other = dataclasses.replace(CFG, ablation=CFG.ablation | {"steps": 3})
    with pytest.raises(StudyError, match=r"rows of another budget or base: give another --out"):
        run(study, other)


def test_files_that_are_no_study_get_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="There is no study at"):
        ablations.read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match="does not have the columns"):
        ablations.read(tmp_path / "other.csv")


def test_seeds_come_one_after_the_other_and_downloads_only_when_asked_for():
    jobs = ablations.plan(CFG)
    assert [seed for _, seed in jobs] == sorted(seed for _, seed in jobs)
    assert ("perceptual_vgg", 0) not in jobs
    assert ablations.plan(CFG, ["perceptual_vgg"]) == [("perceptual_vgg", 0), ("perceptual_vgg", 1)]
    with pytest.raises(StudyError, match="There is no arm vq_512; there are: base, "):
        ablations.plan(CFG, ["vq_512"])


# ---- reading it ----


def test_gains_are_over_the_arm_beside_of_the_same_seed(study):
    rows, _ = run(study)
    assert ablations.values(rows, "psnr") == {"base": [30, 32], "fsq_512": [31, 33], "cond_attend_time": [31, 33]}
    assert ablations.gains(rows) == {"fsq_512": [1, 1], "cond_attend_time": [1, 1]}


def test_the_table_has_a_line_for_each_arm_and_says_what_failed(study):
    study[2]["cond_attend_time"] = "TypeError: unexpected keyword argument 'cond'"
    rows, _ = run(study)
    head, rule, *lines = ablations.table(rows).splitlines()
    assert len({line.replace("\\|", "").count("|") for line in (head, rule, *lines)}) == 1
    assert [line.split("|")[1].strip() for line in lines] == list(NAMES)
    assert "| 31.00 |" in lines[0]
    assert "| 32.00 | +1.00, +1.00 | base |" in lines[1]
    assert "TypeError: unexpected keyword argument 'cond'" in lines[2]
    assert len(ablations.table(rows, "condition").splitlines()) == 3


def test_the_figure_has_a_row_for_each_arm(study):
    rows, _ = run(study)
    fig = plots.seeds(ablations.values(rows, "psnr"), "base", colours={"fsq_512": "#E69F00"})
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == list(NAMES)
    dots = [(*line.get_xdata(), line.get_color()) for line in ax.lines if line.get_marker() == "o"]
    blue = plots.COLOURS["linear"]
    assert dots == [(30, 32, blue), (31, 33, "#E69F00"), (31, 33, blue)]
    assert ax.get_xlabel() == "PSNR, dB"


# ---- the command ----


def test_the_command_runs_in_a_process_of_one_thread_and_writes_a_file(tmp_path, capsys):
    out = tmp_path / "smoke.csv"
    budget = ["--profile", "smoke", "--steps", "1", "--workers", "1", "--only", "base"]
    assert __main__.main(["ablate", *budget, "--out", str(out)]) == 0
    (row,) = ablations.read(out)
    assert (row["arm"], row["status"], row["threads"], row["steps"]) == ("base", "ok", 1, 1)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3
    assert said[-1] == f"wrote {out}: 1 rows"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--only", "vq"], "There is no arm vq"),
        (["--profile", "huge"], "PROFILE is 'huge'"),
        (["--steps", "0"], "--steps is 0"),
        (["--workers", "0"], "--workers is 0"),
        (["--out", "."], ". is a folder"),
        (["--damage", "--only", "base"], "--only is not for --damage"),
    ],
)
def test_a_command_that_cannot_be_run_says_why(arguments, sentence, capsys):
    assert __main__.main(["ablate", *arguments]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
