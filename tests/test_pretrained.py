"""Saving, loading and refusing trained models; the results file. The models here are tiny stand-ins."""

import hashlib
import json
import os
from importlib.metadata import version

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from trajlib import pretrained
from trajlib.pretrained import ArtifactError, load, record, results, save, train_or_load


class Small(nn.Module):
    """A layer, a buffer and a tied weight: what real models hold."""

    def __init__(self, width: int = 3, bias: bool = True):
        super().__init__()
        if width < 1:
            raise ValueError("width must be positive")
        self.config = {"width": width, "bias": bias}
        self.layer = nn.Linear(width, width, bias=bias)
        self.tied = nn.Linear(width, width, bias=False)
        self.tied.weight = self.layer.weight
        self.register_buffer("steps", torch.arange(4))


class Stranger(nn.Module):
    """Not in the registry."""


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setattr(pretrained, "REGISTRY", {"Small": __name__})
    monkeypatch.delenv("TRAJLIB_RESULTS", raising=False)


@pytest.fixture
def saved(tmp_path):
    model = Small(3)
    save(model, {"recipe": "none", "seed": 0}, "small", tmp_path)
    return model, tmp_path


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- what works ----


def test_round_trip(saved):
    model, where = saved
    loaded, card = load("small", where)
    assert same(model, loaded)
    assert not loaded.training
    assert card["class"] == "Small"
    assert card["config"] == {"width": 3, "bias": True}
    assert card["recipe"] == "none"
    assert card["parameters"] == 12
    assert card["sha256"] == hashlib.sha256((where / "small.safetensors").read_bytes()).hexdigest()
    assert card["library versions"]["magvit2-pytorch"] == version("magvit2-pytorch")
    assert sorted(p.name for p in where.iterdir()) == ["small.json", "small.safetensors"]


def test_saving_twice_gives_the_same_bytes(tmp_path):
    torch.manual_seed(0)
    model = Small(4)
    for sub in ("a", "b"):
        save(model, {"seed": 1}, "small", tmp_path / sub)
    for file in ("small.json", "small.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path):
    model = Small(64)
    save(model, {}, "wide", tmp_path)
    save(model, {}, "half", tmp_path, dtype=torch.float16)
    size = {n: (tmp_path / f"{n}.safetensors").stat().st_size for n in ("wide", "half")}
    assert size["half"] < 0.55 * size["wide"]
    loaded = load("half", tmp_path)[0]
    assert loaded.layer.weight.dtype == torch.float32
    assert torch.allclose(loaded.layer.weight, model.layer.weight, atol=1e-3)
    assert loaded.steps.dtype == torch.int64


def test_whole_numbers_keep_each_row_to_half_a_step(tmp_path):
    torch.manual_seed(0)
    model = Small(5)
    with torch.no_grad():
        model.layer.weight[0] *= 100  # a loud row must not drown the others
        model.layer.weight[1] = 0
    save(model, {}, "whole", tmp_path, dtype=torch.int8)
    came = load("whole", tmp_path)[0].layer
    step = model.layer.weight.abs().amax(1, keepdim=True) / 127
    assert ((came.weight - model.layer.weight).abs() <= 0.501 * step).all()
    assert torch.equal(came.bias, model.layer.bias.half().float())
    loud = load_file(tmp_path / "whole.safetensors")["layer.weight"]
    assert loud.dtype == torch.int8


def test_train_or_load_trains_once_and_returns_the_same_thing(tmp_path, capsys):
    calls = []

    def train():
        calls.append(1)
        return Small(3), {"seed": 7}

    first, card_1 = train_or_load("small", tmp_path / "new", train)
    assert capsys.readouterr().out == "small: trained here and saved, 12 parameters\n"
    second, card_2 = train_or_load("small", tmp_path / "new", train)
    assert capsys.readouterr().out == "small: loaded, 12 parameters\n"
    assert len(calls) == 1
    assert same(first, second)
    assert card_1 == card_2
    assert card_1["seed"] == 7


def test_train_or_load_never_replaces_a_damaged_model(saved):
    where = saved[1]
    (where / "small.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cut short"):
        train_or_load("small", where, lambda: pytest.fail("trained over a damaged file"))


def test_weights_without_a_card_are_an_interrupted_save_and_are_trained_again(saved, capsys):
    where = saved[1]
    (where / "small.json").unlink()
    train_or_load("small", where, lambda: (Small(3), {}))
    assert "trained" in capsys.readouterr().out


# ---- what is refused, in one sentence each ----


def refused(where, name="small") -> str:
    with pytest.raises(ArtifactError) as caught:
        load(name, where)
    assert caught.value.__cause__ is None
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_name_lists_the_names_there_are(saved):
    save(Small(2), {}, "other", saved[1])
    record(saved[1], "psnr", 30.0, n=1, notebook="t")
    assert "there are: other, small." in refused(saved[1], "tokeniser")


def test_empty_folder(tmp_path):
    assert "none yet" in refused(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../small", "a/b", "", "results", None, "small.json"])
def test_a_name_is_not_a_path(saved, name):
    assert "is not a name" in refused(saved[1], name)


def test_missing_weights(saved):
    (saved[1] / "small.safetensors").unlink()
    assert "small.safetensors is missing" in refused(saved[1])


@pytest.mark.parametrize("keep", [0, 4, 8, 60, -1])
def test_truncated_weights(saved, keep):
    path = saved[1] / "small.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "cut short" in refused(saved[1])


def test_foreign_file(saved):
    (saved[1] / "small.safetensors").write_bytes(b"\x80\x04\x95 a pickle, perhaps" * 20)
    assert "not a safetensors file" in refused(saved[1])


def test_tampered_weights(saved):
    path = saved[1] / "small.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert "sha256" in refused(saved[1])


def edit_card(where, **changes):
    path = where / "small.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_weights_of_another_model(saved):
    edit_card(saved[1], config={"width": 5})
    assert "'layer.bias' came as (3,), expected (5,)" in refused(saved[1])
    edit_card(saved[1], config={"width": 3, "bias": False})
    assert "'layer.bias' is not part of it" in refused(saved[1])


@pytest.mark.parametrize("config", [{"depth": 2}, {"width": 0}, {"width": "x"}, "x", None])
def test_config_of_another_version(saved, config):
    edit_card(saved[1], config=config)
    assert "cannot be built from its card's config" in refused(saved[1])


@pytest.mark.parametrize("config", [{"levels": "x"}, {"dim": -1}, {"patch": [0, 4, 4]}])
def test_a_tokenizer_of_a_wrong_config(saved, monkeypatch, config):
    """Its library complains by beartype, in several lines, torch by RuntimeError, Python by ZeroDivisionError."""
    monkeypatch.setitem(pretrained.REGISTRY, "Tokenizer", "trajlib.tokenizer")
    edit_card(saved[1], config=config, **{"class": "Tokenizer"})
    assert "Tokenizer cannot be built from its card's config" in refused(saved[1])


@pytest.mark.parametrize("kind", ["os.system", ["Small"], {}, None])
def test_a_card_builds_nothing_outside_the_registry(saved, kind):
    edit_card(saved[1], **{"class": kind})
    assert "only Small are ever built" in refused(saved[1])


@pytest.mark.parametrize("text", ["", "{", '{"class": "Small"}', "[1, 2]", "\x00\xff"])
def test_broken_card(saved, text):
    (saved[1] / "small.json").write_text(text, encoding="latin-1")
    assert "not a model card" in refused(saved[1])


def test_saving_what_cannot_be_loaded_again(tmp_path):
    with pytest.raises(ArtifactError, match="registry"):
        save(Stranger(), {}, "x", tmp_path)
    with pytest.raises(ArtifactError, match="config"):
        save(Small(3), {"config": None}, "x", tmp_path)
    with pytest.raises(TypeError):
        save(Small(3), {"figures": object()}, "x", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_an_interrupted_save_leaves_the_old_model(saved, monkeypatch, moment):
    where = saved[1]
    before = {p.name: p.read_bytes() for p in where.iterdir()}

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, moment, interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(Small(3), {}, "small", where)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in where.iterdir()} == before


def test_a_save_interrupted_between_the_two_files_is_noticed(saved, monkeypatch):
    where = saved[1]
    replace = os.replace

    def weights_only(source, target):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", weights_only)
    with pytest.raises(KeyboardInterrupt):
        save(Small(3), {}, "small", where)
    monkeypatch.setattr(os, "replace", replace)
    assert "sha256" in refused(where)


# ---- results ----


def test_results_round_trip(tmp_path):
    record(
        tmp_path, "psnr", np.float32(31.23456789), n=1000, interval=(31.0, 31.5), baseline=25.4,
        ceiling=torch.tensor(99.0), seed=3, notebook="03", unit="dB", tolerance=0.05,
    )  # fmt: skip
    record(tmp_path, "all inside", True, n=20_000, notebook="01")
    assert results(tmp_path) == {
        "psnr": {"value": 31.2346, "interval": [31.0, 31.5], "baseline": 25.4, "ceiling": 99.0, "n": 1000, "seed": 3,
                 "notebook": "03", "unit": "dB", "tolerance": 0.05},
        "all inside": {"value": True, "interval": None, "baseline": None, "ceiling": None, "n": 20_000, "seed": None,
                       "notebook": "01", "unit": "", "tolerance": None},
    }  # fmt: skip
    text = (tmp_path / "results.json").read_text()
    assert text.index('"all inside"') < text.index('"psnr"')
    assert '\n "psnr": {\n  "baseline"' in text


def test_results_replace_by_name_and_ignore_order(tmp_path):
    for where, order in (("a", (1, 2)), ("b", (2, 1))):
        record(tmp_path / where, "x", 99, n=1, notebook="t")
        for i in order:
            record(tmp_path / where, f"f{i}", i, n=1, notebook="t")
        record(tmp_path / where, "x", 0, n=1, notebook="t")
    assert (tmp_path / "a/results.json").read_bytes() == (tmp_path / "b/results.json").read_bytes()
    assert results(tmp_path / "a")["x"]["value"] == 0


def test_a_reader_changes_no_tracked_file(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path)
    record("shipped", "psnr", 1.0, n=1, notebook="t")
    assert list(tmp_path.iterdir()) == []


def test_a_run_overlays_the_shipped_results(tmp_path, monkeypatch):
    shipped, run = tmp_path / "shipped", tmp_path / "run/results.json"
    monkeypatch.setattr(pretrained, "SHIPPED", shipped)
    for name in ("old", "both"):
        record(shipped, name, 1, n=1, notebook="t")
    before = (shipped / "results.json").read_bytes()
    monkeypatch.setenv("TRAJLIB_RESULTS", str(run))
    record("shipped", "both", 2, n=1, notebook="t")
    assert {k: v["value"] for k, v in results("shipped").items()} == {"old": 1, "both": 2}
    assert (shipped / "results.json").read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), None, object()])
def test_a_figure_is_a_finite_number(tmp_path, value):
    with pytest.raises(ValueError, match="psnr"):
        record(tmp_path, "psnr", value, n=1, notebook="t")
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_results(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ArtifactError, match="results"):
        results(tmp_path)
