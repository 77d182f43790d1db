"""Scaling: the fitted law, what is counted, what is said of GPUs; no timings."""

import json

import pytest
import torch
from torch import nn

from trajlib.course import cli, scaling
from trajlib.course.scaling import Cost, Point, fit_law


def law(point, factor=3.0):
    return factor * point.clips * point.size**2 * point.frames**1.5 * point.width**0.5


def test_the_exponents_of_a_law_are_found():
    measured = {point: Cost(law(point), 1) for point in scaling.points("transformer")}
    found = fit_law(measured, "seconds")
    expected = {"clips": 1, "size": 2, "frames": 1.5, "codebook": 0, "width": 0.5}
    assert found.exponents == pytest.approx(expected, abs=1e-9)
    assert found.factor == pytest.approx(3)
    assert found.off == pytest.approx(1)
    far = Point("transformer", 64, 256, 64, 64000, 512)
    assert found(far) == pytest.approx(law(far))


def test_a_law_says_how_far_off_it_is():
    measured = {Point("tokenizer", clips): Cost(cost, 1) for clips, cost in ((1, 1), (2, 4), (4, 4))}
    assert fit_law(measured, "seconds").exponents == pytest.approx({"clips": 1})
    assert fit_law(measured, "seconds").off == pytest.approx(2 ** (2 / 3))


def test_one_axis_changes_at_a_time():
    found = scaling.points("tokenizer")
    assert len(set(found)) == len(found) == 1 + 2 + 1 + 1 + 2 + 2
    axes = [axis for axis in scaling.AXES for point in found if getattr(point, axis) != getattr(found[0], axis)]
    assert len(axes) == len(found) - 1
    assert {"clips", "size", "frames", "codebook", "width"} == set(axes)


def test_activations_are_counted_once_and_without_the_weights():
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    x = torch.ones(7, 3)
    # the input of each layer; tanh keeps its output, which is the input of the second layer
    assert scaling.activation_bytes(model, lambda: model(x).sum()) == 4 * 7 * (3 + 5)


def test_a_video_of_more_clips_takes_so_many_more_multiply_adds():
    small = {"size": 32, "frames": 4}
    two, one = (scaling.measure(point, 1) for point in scaling.points("transformer", {"clips": (2,)}, **small))
    assert 1.9 < two.madds / one.madds <= 2  # the table of token vectors is made once
    assert 1 < two.activations / one.activations < 2  # so is what autograd keeps for it
    assert two.state == one.state
    assert one.seconds > 0


def test_hours_follow_from_rates():
    measured = {m: {Point(m): Cost(0.5, 2e9)} for m in ("tokenizer", "transformer")}
    here, one, eight = (scaling.hours(measured, Cost(0.1, 1e9), 0.36, n, "A100 80GB") for n in (0, 1, 8))
    assert here["decode"] == pytest.approx(100)
    assert one["decode"] == pytest.approx(100 / 16)
    assert here["tokenize"] == pytest.approx(5e6 / 4 * 0.1 / 3600)
    assert here["train the transformer"] == pytest.approx(10 * 5e6 / 4 * 0.5 / 3600)
    assert one["train the tokenizer"] == pytest.approx(5e6 / 4 * 2e9 / (0.3 * 312e12 / 2) / 3600)
    assert eight["tokenize"] == pytest.approx(one["tokenize"] / 7.2)


@pytest.mark.slow
def test_the_whole_command(tmp_path, capsys):
    file = tmp_path / "scaling.json"
    assert cli.main(["bench", "--scaling", "--profile", "smoke", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.count("one training step") == 2
    assert said.count("seconds     ~ clips^") == 2
    assert "EXTRAPOLATED, not measured" in said
    assert "a million videos of 10 s" in said
    assert file.with_suffix(".png").stat().st_size > 10_000
    content = json.loads(file.read_text())
    assert len(content["steps"]) == 6
    assert all(step["seconds"] > 0 and step["madds"] > 0 for step in content["steps"])
    assert {model: list(found) for model, found in scaling.read_steps(file).items()} == {
        model: scaling.points(model, {"clips": (2, 4), "width": (32, 64)}, size=32, frames=4)
        for model in ("tokenizer", "transformer")
    }
