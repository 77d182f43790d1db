"""Saving, loading and refusing trained models. The models here are tiny stand-ins."""

import hashlib
import json
import os
import threading
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from safetensors.torch import save as tensors_to_bytes
from torch import nn

from trajlib.course.results import record, results
from trajlib.zoo import checkpoints
from trajlib.zoo.checkpoints import ArtifactError, load, save, train_or_load
from trajlib.zoo.files import RESULTS


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


class Unregistered(nn.Module):
    """Not in the registry."""


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    monkeypatch.setitem(checkpoints.REGISTRY, "Small", __name__)


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
        model.layer.weight[0] *= 100  # a large row must not cost the others their precision
        model.layer.weight[1] = 0
    save(model, {}, "whole", tmp_path, dtype=torch.int8)
    came = load("whole", tmp_path)[0].layer
    step = model.layer.weight.abs().amax(1, keepdim=True) / 127
    assert ((came.weight - model.layer.weight).abs() <= 0.501 * step).all()
    assert torch.equal(came.bias, model.layer.bias.half().float())
    stored = load_file(tmp_path / "whole.safetensors")["layer.weight"]
    assert stored.dtype == torch.int8


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


def test_train_or_load_never_replaces_a_broken_model(saved):
    where = saved[1]
    (where / "small.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="cut short"):
        train_or_load("small", where, lambda: pytest.fail("trained over a broken file"))


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
    (saved[1] / RESULTS).write_text("{}")
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


@pytest.mark.parametrize(
    "config",
    [{"quantizer": {"kind": "x"}}, {"quantizer": {"kind": "fsq", "levels": "x"}}, {"dim": -1}, {"patch": [0, 4, 4]}],
)
def test_a_tokenizer_of_a_wrong_config(saved, monkeypatch, config):
    """Its library complains by beartype, in several lines, torch by RuntimeError, Python by ZeroDivisionError."""
    monkeypatch.setitem(checkpoints.REGISTRY, "Tokenizer", "trajlib.tokenizer.video_tokenizer")
    edit_card(saved[1], config=config, **{"class": "Tokenizer"})
    assert "Tokenizer cannot be built from its card's config" in refused(saved[1])


@pytest.mark.parametrize("kind", ["os.system", ["Small"], {}, None])
def test_a_card_builds_nothing_outside_the_registry(saved, kind):
    edit_card(saved[1], **{"class": kind})
    assert "Small are ever built" in refused(saved[1])


@pytest.mark.parametrize("text", ["", "{", '{"class": "Small"}', "[1, 2]", "\x00\xff"])
def test_broken_card(saved, text):
    (saved[1] / "small.json").write_text(text, encoding="latin-1")
    assert "not a model card" in refused(saved[1])


def test_saving_what_cannot_be_loaded_again(tmp_path):
    with pytest.raises(ArtifactError, match="registry"):
        save(Unregistered(), {}, "x", tmp_path)
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


@pytest.mark.parametrize("end", ["json", "safetensors"])
def test_a_folder_in_a_files_place(saved, end):
    (saved[1] / f"small.{end}").unlink()
    (saved[1] / f"small.{end}").mkdir()
    assert f"small.{end} cannot be read (Is a directory)" in refused(saved[1])


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_deeply_nested_card(saved, text):
    (saved[1] / "small.json").write_text(text)
    assert "not a model card" in refused(saved[1])


@pytest.mark.parametrize("where", ["a\0b", "", "/proc/no", __file__])
def test_no_folder(where):
    assert refused(where, "no_such_model")


def test_a_model_under_another_name(saved):
    for end in ("json", "safetensors"):
        (saved[1] / f"small.{end}").rename(saved[1] / f"tokenizer.{end}")
    assert "is the card of 'small', not of 'tokenizer'" in refused(saved[1], "tokenizer")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(saved, bad):
    model, where = saved
    before = {path.name: path.read_bytes() for path in where.iterdir()}
    nn.init.constant_(model.layer.bias, bad)
    with pytest.raises(ArtifactError, match=r"'layer\.bias' have NaN or infinity"):
        save(model, {}, "small", where)
    assert {path.name: path.read_bytes() for path in where.iterdir()} == before
    data = tensors_to_bytes({k: v.clone() for k, v in model.state_dict().items()})
    (where / "small.safetensors").write_bytes(data)
    edit_card(where, sha256=hashlib.sha256(data).hexdigest())
    assert "'layer.bias' have NaN or infinity" in refused(where)


def test_a_card_that_asks_for_more_than_its_file_holds_builds_nothing(saved, monkeypatch):
    edit_card(saved[1], config={"width": 30_000})
    monkeypatch.setattr(nn.Linear, "reset_parameters", lambda self: pytest.fail("filled"))
    assert "more than 1,000,100 parameters, which the file cannot hold" in refused(saved[1])
    monkeypatch.undo()
    nn.Linear(2000, 2000)  # what is built elsewhere is not counted


# ---- one process at a time ----


class Worker(threading.Thread):
    """Runs `work` in a thread and keeps what it raised."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.error = work, None
        self.start()

    def run(self):
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def ended(self):
        self.join(60)
        assert not self.is_alive()
        return self.error


def test_two_trainings_of_one_model_are_one(tmp_path):
    calls, began, go_on = [], threading.Event(), threading.Event()

    def train():
        calls.append(1)
        began.set()
        go_on.wait(60)
        return Small(3), {}

    workers = [Worker(lambda: train_or_load("small", tmp_path, train)) for _ in range(2)]
    assert began.wait(60)
    go_on.set()
    assert [worker.ended() for worker in workers] == [None, None]
    assert len(calls) == 1


def test_a_model_loads_while_another_process_saves_it(tmp_path):
    models = [Small(3), Small(3)]
    save(models[0], {}, "small", tmp_path)

    def work():
        for number in range(20):
            save(models[number % 2], {}, "small", tmp_path)

    worker = Worker(work)
    while worker.is_alive():
        loaded = load("small", tmp_path)[0]
        assert any(same(loaded, model) for model in models)
    assert worker.ended() is None


def test_two_recorders_lose_no_figure(tmp_path, monkeypatch):
    monkeypatch.delenv("TRAJLIB_RESULTS", raising=False)
    names = [[f"{who} {k}" for k in range(20)] for who in "ab"]
    workers = [Worker(lambda own=own: [record(tmp_path, n, 1, n=1, notebook="t") for n in own]) for own in names]
    assert [worker.ended() for worker in workers] == [None, None]
    assert set(results(tmp_path)) == {*names[0], *names[1]}


def test_what_a_killed_process_left_is_swept_and_what_another_writes_is_not(saved):
    old, new = saved[1] / "small.json.x.tmp", saved[1] / "small.json.y.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    save(saved[0], {}, "small", saved[1])
    assert (old.exists(), new.exists()) == (False, True)


# ---- nothing lost, nothing trained in vain ----


def test_weights_that_no_card_goes_with_are_kept(tmp_path):
    (tmp_path / "small.safetensors").write_bytes(b"my own")
    train_or_load("small", tmp_path, lambda: (Small(3), {}))
    assert (tmp_path / "small.safetensors.old").read_bytes() == b"my own"


def test_checkpoints_stay_until_the_model_is_safe(tmp_path, monkeypatch):
    ours, others = ["small.checkpoint", "small.part.checkpoint"], ["smaller.checkpoint", "small_too.checkpoint"]
    for name in ours + others:
        (tmp_path / name).touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_or_load("small", tmp_path, lambda: (Small(3), {}))
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == sorted(ours + others)
    train_or_load("small", tmp_path, lambda: (Small(3), {}))
    assert sorted(path.name for path in tmp_path.glob("*.checkpoint")) == sorted(others)


@pytest.mark.parametrize("where", [__file__, f"{__file__}/no", "/proc/no"])
def test_a_place_that_cannot_be_written_is_noticed_before_training(where):
    with pytest.raises(OSError, match=r"^\S+ cannot be written \(.*\): name another folder\.$"):
        train_or_load("small", where, lambda: pytest.fail("trained"))


def test_a_full_disk_is_noticed_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(OSError, match="has 1 MB left, 200 MB are needed: free some"):
        train_or_load("small", tmp_path, lambda: pytest.fail("trained"))


# ---- what is shipped ----


@pytest.mark.parametrize(
    "name",
    ["tokenizer", "transformer", "plain_transformer", "autoregressive", "token_classifier", "token_tracker",
     "simple_3dcnn", "i3d", "tokenizer_lfq18"],
)  # fmt: skip
def test_the_shipped_models_are_whole(monkeypatch, name):
    monkeypatch.undo()  # the real registry
    model, card = load(name)
    assert name in checkpoints.names()
    assert not model.training
    assert type(model).__name__ == card["class"]
    assert card["parameters"] == sum(p.numel() for p in model.parameters())
