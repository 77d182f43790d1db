"""Sentences that name a number or a name agree with the output, the model card or the table that they speak of."""

import itertools
import json
import re

import nbformat
import pandas as pd
import pytest

from trajlib.course import options, report, scaling, study
from trajlib.data.slots import SLOTS
from trajlib.zoo import checkpoints

FRACTIONS = {"two fifths": 40, "a third": 33.3, "half": 50, "a quarter": 25}


def read(number: str) -> nbformat.NotebookNode:
    return nbformat.read(next(options.NOTEBOOKS.glob(f"{number}_*.ipynb")), 4)


def said(number: str, pattern: str) -> list:
    """What `pattern` captures in the sentences of a notebook, at every place; there must be one."""
    text = "\n".join(cell.source for cell in read(number).cells if cell.cell_type == "markdown")
    found = re.findall(pattern, " ".join(text.split()))
    assert found != [], f"{number} does not say {pattern!r}"
    return found


def printed(number: str, pattern: str) -> list:
    """What `pattern` captures in the printed outputs and tables of a notebook; there must be one."""
    outputs = [output for cell in read(number).cells for output in cell.get("outputs", [])]
    text = "\n".join(output.get("text") or output.get("data", {}).get("text/markdown", "") for output in outputs)
    found = re.findall(pattern, text)
    assert found != [], f"{number} does not print {pattern!r}"
    return found


def card(name: str) -> dict:
    return json.loads((checkpoints.SHIPPED / f"{name}.json").read_bytes())


@pytest.mark.parametrize("path", sorted(options.NOTEBOOKS.glob(options.PATTERN)), ids=lambda path: path.stem)
def test_seconds_are_those_of_the_last_run(path):
    if "seconds" not in (metadata := nbformat.read(path, 4).metadata):
        pytest.skip("its outputs were stored before times were: python -m trajlib run --update")
    assert said(path.name[:2], r"\*\*Takes\*\* (\d+) seconds") == [str(metadata["seconds"])]


def test_seconds_are_filled_in_and_nothing_else():
    assert report.fill_seconds("**Takes** 40 seconds, 25 minutes.", 31) == "**Takes** 31 seconds, 25 minutes."


def test_minutes_of_training_are_those_of_the_cards():
    (minutes,) = said("02", r"(\d+) minutes more if the tokenizer has to be trained")
    assert int(minutes) == round(card("tokenizer")["minutes"])
    assert said("06", "Training took half an hour each")
    for name in ("transformer", "plain_transformer", "autoregressive"):
        assert 20 <= card(name)["minutes"] <= 40


def test_03_what_a_discriminator_and_a_perceptual_loss_do():
    realism, table = study.load("realism"), study.read("realism")
    found = realism.over_seeds(table)
    mean, control = found["value"], realism.CONTROL
    pairs = itertools.product([name for name, reference in realism.REFERENCE.items() if reference], realism.METRICS)
    gain = {(name, metric): found.loc[name, metric + realism.GAIN] for name, metric in pairs}
    (dB,) = said("03", r"the head's\*\*: ([\d.]+) dB with the squared error alone")
    assert float(dB) == round(gain[control, "PSNR (dB)"]["value"], 1)
    ((ours, before),) = said("03", r"edges have (\d+) % of the real steepness, the tokenizer's (\d+) %")
    shares = [round(100 * mean[name, "edge steepness"]) for name in (control, realism.NONE)]
    assert [int(ours), int(before)] == shares
    ((right, plain, loss),) = said("03", r"right in (\d+) % of the crops, not in (\d+) %; PSNR falls by ([\d.]+) dB")
    shares = [round(100 * mean[name, "classifier accuracy"]) for name in ("GAN", control)]
    assert [int(right), int(plain)] == shares
    assert float(loss) == round(-gain["GAN", "PSNR (dB)"]["value"], 1)
    assert gain["GAN", "classifier accuracy"]["high"] < 0
    assert gain["GAN", "PSNR (dB)"]["high"] < 0
    said("03", r"penalty of 10 is too strong here\.\*\* The hinge loss stays at 2,")
    assert round(mean["GAN, penalty 10", realism.HINGE], 2) == 2 > mean["GAN", realism.HINGE] + 0.05
    said("03", "Whether 0.03 is better than none, three seeds do not decide")
    rows = gain["GAN, no penalty", "classifier accuracy"]
    assert rows["low"] < 0 < rows["high"]
    said("03", "changes neither measure of meaning significantly")
    for metric in ("I3D agreement", "class consistency"):
        row = gain["perceptual", metric]
        assert row["low"] < 0 < row["high"]
    ((low, high),) = said(
        "03", r"I3D names another class in (\d) to (\d) % of the clips, with every head and with none"
    )
    assert mean.xs("I3D agreement", level="metric").between(1 - int(high) / 100, 1 - int(low) / 100).all()


def test_02_which_gains_last():
    ablation = study.load("tokenizer_ablation")
    early = ablation.gains(study.read("tokenizer_ablation")).groupby("variant")["gain"].mean()
    late = ablation.gains(study.read("long_ablation")).set_index("variant")["gain"]
    said("02", "most shrink, that of `chroma_weight_1` to nothing, but LFQ .*? falls further behind")
    assert (late.abs() < early[late.index].abs()).mean() > 0.5
    assert abs(late["chroma_weight_1"]) < 0.1 < early["chroma_weight_1"]
    assert late["lfq_1024"] < early["lfq_1024"] - 0.5
    said("02", "Muon, open gates and the foreground weight matter most .*? the first two still do")
    assert set(late.nsmallest(2).index) == {"adamw", "gates_shut"}


def test_04_what_a_codebook_of_262_144_entries_brings():
    rows = study.read("quantizers").set_index("quantizer")
    fsq, lfq, vq = rows.loc["FSQ 4,375"], rows.loc["LFQ 2^18"], rows.loc["VQ 1,024"]
    said("04", "FSQ has the highest PSNR; LFQ and VQ locate the dot a little more exactly")
    assert fsq["psnr"] == rows["psnr"].max()
    assert fsq["error_median"] == rows["error_median"].max()
    said("04", "costs the transformer almost twice as many bits.*? and a clip of VQ's tokens three times as many")
    assert 1.7 < lfq["video_bits"] / fsq["video_bits"] < 2
    assert 2.9 < vq["video_bits"] / fsq["video_bits"] < 3.3
    said("04", "draws all background to a few codes, LFQ and VQ spread it over hundreds or thousands")
    assert fsq["perplexity"] < 50 < 500 < vq["perplexity"] < 1000 < lfq["perplexity"]
    ((whole, *others, accuracy),) = said(
        "04", r"only ([\d.]+) % of its samples show .*? \(the others: ([\d.]+) and ([\d.]+) %\), .*? \(([\d.]+) %\)"
    )
    assert [float(share) for share in (whole, *others)] == [round(100 * row["one_dot"], 1) for row in (vq, fsq, lfq)]
    assert float(accuracy) == round(100 * vq["accuracy"], 1)
    said("04", "the largest mean change is less than twice the smallest")
    (ratio,) = printed("04", r"largest mean change over the smallest: ([\d.]+)")
    assert float(ratio) < 2


def test_04_what_a_token_tells():
    ((place, colour),) = said(
        "04", r"One token gives about ([\w ]+) of the position in its cell and ([\w ]+) of the colour"
    )
    shares = dict(printed("04", r"(position in the cell|colour) .*?, +(\d+)% of"))
    assert abs(FRACTIONS[place] - int(shares["position in the cell"])) < 5
    assert abs(FRACTIONS[colour] - int(shares["colour"])) < 5


def test_04_counts_its_studios():
    (number,) = said("04", "There (?:is|are) (one|two|three|four) studios? with controls")
    code = "\n".join(cell.source for cell in read("04").cells if cell.cell_type == "code")
    studios = re.findall(r"^(?:\w+ = )?(?:\w+Studio|TokenExplorer)\(", code, re.MULTILINE)
    assert {"one": 1, "two": 2, "three": 3, "four": 4}[number] == len(studios)


def test_05_what_refining_gains():
    gains = {
        task: float(after) - float(before)
        for task, before, after in printed("05", r"(\w+) +observed tokens right: +([\d.]+)% .*?, +([\d.]+)% as")
    }
    ((many, low, high),) = said("05", r"In (\w+) tasks the prediction is right more often .*?, by (\d) to (\d) points")
    (few,) = said("05", r"Where only one frame is observed \(([\w, ]+)\), refining gains less than a point")
    few = set(few.split(", "))
    assert all(gains[task] < 1 for task in few)
    rest = [round(gain) for task, gain in gains.items() if task not in few]
    assert many == {6: "six", 7: "seven", 8: "eight"}[len(rest)]
    assert (min(rest), max(rest)) == (int(low), int(high))


def test_08_names_the_corruptions_that_its_table_shows():
    (under,) = printed("08", r"corruptions the transformer keeps more than the 3D CNN under: (.*)")
    names = set(under.split(", "))
    for sentence in said("08", r"keeps more of its lead[^.]*? under ([\w ,]+)\."):
        assert set(re.split(r", | and ", sentence)) == names
    ((cnn, before, transformer, bare),) = said(
        "08", r"on clean clips: (\d+) instead of (\d+) %, and (\d+) instead of (\d+) %"
    )
    clean = dict(printed("08", r"\| ([^|]+?) \| (\d+) \| \**-?\d+\** \|"))
    assert (clean["3D CNN, trained on corruptions"], clean["3D CNN on pixels"]) == (cnn, before)
    assert (clean["transformer, trained on corruptions"], clean["transformer on tokens"]) == (transformer, bare)


def test_08_counts_methods_and_corruptions():
    (methods,) = said("08", r"for (\d+) methods with several seeds")
    assert int(methods) == pd.read_csv(options.NOTEBOOKS / "studies" / "label_efficiency.csv")["method"].nunique()


def test_13_what_a_tenth_of_the_training_time_costs():
    short, *_, whole = study.read("training_time").sort_values("share").itertuples()
    assert 0.08 < short.minutes / whole.minutes < 0.12
    ((db, before, after),) = said("13", r"A tenth of the time costs ([\d.]+) dB, .*? from ([\d.]+) to ([\d.]+) px")
    assert float(db) == round(whole.psnr - short.psnr, 1)
    assert (float(before), float(after)) == (round(whole.error_median, 2), round(short.error_median, 2))
    assert short.error_p99 / whole.error_p99 > short.error_median / whole.error_median
    assert abs(short.entropy_bits / whole.entropy_bits - 1) < 0.05


def test_06_and_13_what_the_best_of_four_videos_brings():
    rows = study.read("generation").query("seed == 0").set_index(["model", "metric"])
    joint, best, recon = (rows.xs(name) for name in ("joint", "joint, best of 4", "reconstructions"))
    share = {name: 100 * table.loc["class consistency", "value"] for name, table in (("one", joint), ("best", best))}
    ((four, one),) = said("06", r"best of four videos is class-consistent in ([\d.]+) %.*? of one \(([\d.]+) %\)")
    assert (float(four), float(one)) == (pytest.approx(share["best"]), pytest.approx(share["one"]))
    assert best.loc["class consistency", "high"] > recon.loc["class consistency", "low"]
    assert 3 < best.loc["CPU seconds a clip", "value"] / joint.loc["CPU seconds a clip", "value"] < 4
    colours = "colour diversity over real"
    assert best.loc[colours, "high"] < joint.loc[colours, "low"]
    (points,) = said("13", r"stays nearest to it, regain ([\d.]+) points")
    assert float(points) == pytest.approx(share["best"] - share["one"])


def test_10_whole_sentences_by_the_stricter_measure():
    ((made, real),) = said(
        "10", r"measure ([\d.]+) % of the sentences are fulfilled as a whole, of real clips ([\d.]+) %"
    )
    rows = study.read("language").query("part == 'prompts' and condition == 'sentences'").set_index("metric")
    for name, share in {"all fulfilled clearly": made, "all fulfilled clearly, real clips": real}.items():
        assert round(100 * rows.loc[name, "value"], 1) == float(share)


def test_10_video_tokens_are_needed_for_colour():
    said("10", r"video tokens matter for \*colour\*, and a little for \*size\*")
    rows = study.read("language").query("part == 'questions' and metric == 'accuracy'").set_index(["condition", "slot"])
    lost = {slot: rows.loc[("tokens", slot)]["value"] - rows.loc[("trajectory alone", slot)]["value"] for slot in SLOTS}
    assert sorted(lost, key=lost.get)[-2:] == ["size", "colour"]
    assert max(value for slot, value in lost.items() if slot not in ("size", "colour")) < 0.01


def test_11_what_longer_training_gains():
    table = study.read("own_videos").set_index("minutes")
    said("11", "From one minute on the tokens are above H.264 at the same bits, and the 95 % interval")
    longer = table[table.index >= 1]
    assert (longer["h264_gain_low"] > 0).all()
    said("11", "Some windows cost H.264 more than that even at its worst quality")
    assert longer["h264_bits"].between(1.001 * longer["bits"], 1.1 * longer["bits"]).all()
    said("11", "After one minute the tokens are still below a still picture that pays for its bits")
    assert table.loc[1, "still_gain_high"] < 0
    said("11", "After one minute, training windows are only a few tenths of a decibel better than held-out ones")
    assert 0.1 < table.loc[1, "train_psnr"] - table.loc[1, "psnr"] < 0.7


def test_11_the_short_training_next_to_still_pictures_and_a_codec():
    said("11", "After so short a training a still picture, which knows a true frame, is nearer to the truth everywhere")
    for _, ours, still in printed("11", r"(\w+) +reconstruction +([\d.]+) dB, mean frame of the clip +([\d.]+)"):
        assert float(ours) < float(still)
    text = "the short training above is behind H.264, and the longest training of the study is ahead at the same bits"
    said("11", text)
    lowest = min(float(dB) for dB in printed("11", r"H\.264 +[\d,]+ bits a window, +([\d.]+) dB"))
    ((bits, ours),) = printed("11", r"tokens +([\d,]+) bits a window, +([\d.]+) dB")
    assert float(ours) < lowest
    assert study.read("own_videos").sort_values("minutes")["h264_gain"].iloc[-1] > 0
    assert said("11", r"256 \\log_2 1000 = (\d+)\$ bits") == [bits.replace(",", "")]
    for _, ours, repeated in printed("11", r"(\w+) +predicted +([\d.]+) dB, last observed frame repeated +([\d.]+)"):
        assert float(ours) < float(repeated)


def test_11_what_is_assumed_of_a_gpu():
    assert said("11", r"(\d+) % of the peak in the data sheet of an (\w+)") == [
        (f"{scaling.SHARE:.0%}"[:-1], next(iter(scaling.GPUS)).split()[0])
    ]


def test_08_quotes_the_generative_classifier():
    """The share of new clips whose own class costs the AR baseline the fewest bits, and the labels of both."""
    ((share, clips, labels),) = said(
        "08", r"right for (\d+) % of new clips, after ([\d,]+) clips .*?transformer: ([\d,]+)\)"
    )
    table = pd.read_csv(options.NOTEBOOKS / "studies" / "likelihoods.csv")
    row = table.query("model == 'autoregressive' and clips == 'new' and metric == 'classifier'")
    assert int(share) == round(100 * row["value"].item())
    assert f"{clips} clips" in card("autoregressive")["data"]
    assert f"{labels} labelled clips" in card("token_classifier")["data"]


# ---- 13 ----


def test_13_what_the_shipped_generators_saw():
    counts = said("13", r"trajectory first ([\d,]+) clips .* plain MAGVIT ([\d,]+) clips, the AR baseline ([\d,]+)")
    joint, plain, autoregressive = (int(count.replace(",", "")) for count in counts[0])
    assert joint == card("transformer")["examples"]["clips given their trajectory"]
    assert (plain, autoregressive) == (card("plain_transformer")["examples"], card("autoregressive")["examples"])


def test_13_equal_budgets():
    module, table = study.load("equal_budgets"), study.read("equal_budgets")
    found = {metric: module.over_seeds(table, metric).set_index(["steps", "method"])["value"] * 100
             for metric in ("one dot", "class consistency")}  # fmt: skip
    steps = max(found["one dot"].index.get_level_values("steps"))
    (whole,) = said("13", r"After ([\d,]+) clips, ([\d.]+) % of `joint`'s samples .*? ([\d.]+) % of the AR baseline's")
    assert int(whole[0].replace(",", "")) == steps * module.FULL.batch
    for value, method in zip(whole[1:], ("joint", "autoregressive"), strict=True):
        assert float(value) == pytest.approx(found["one dot"][steps, method], abs=0.06)
    (right,) = said("13", r"The intervals of `joint` \(([\d.]+) %\) and of the AR baseline \(([\d.]+) %\)")
    for value, method in zip(right, ("joint", "autoregressive"), strict=True):
        assert float(value) == pytest.approx(found["class consistency"][steps, method], abs=0.06)
    (paths,) = said("13", r"the Gaussian, without a network: ([\d.]+) % against ([\d.]+) %")
    by_method = found["class consistency"].droplevel("steps")
    for value, method in zip(paths, (module.GAUSSIAN, "22 tokens, coarse to fine"), strict=True):
        assert float(value) == pytest.approx(by_method[method], abs=0.06)


def test_13_where_the_class_is_lost():
    table = study.read("generation").query("metric == 'class consistency' and seed == 0").set_index("model")["value"]
    (points,) = said("13", r"The largest loss, ([\d.]+) points")
    lost = 100 * (table["reconstructions"] - table["joint, real trajectories"])
    assert float(points) == pytest.approx(lost, abs=0.06)
    (shipped,) = said("13", r"The shipped `joint` does, in ([\d.]+) % of its samples")
    assert float(shipped) == pytest.approx(100 * table["joint"], abs=0.06)


def test_13_two_dots():
    table = study.read("two_dots")
    mean = table.groupby(["data", "method", "metric"])["value"].mean()

    def share(method, metric, data="two dots"):
        return 100 * mean[data, method, metric]

    there, coarse, frames = "all dots there", "coarse to fine", "frame by frame"
    consistent, labels = "class consistency", "accuracy, 6,400 labels"
    for pattern, values in {
        r"It keeps both dots in ([\d.]+) % of the frames": [share("shipped", there)],
        r"both dots are there in ([\d.]+) % of the frames only, against ([\d.]+) %": [
            share("own", there), share("own", there, "one dot")],
        r"with two dots, ([\d.]+) % against ([\d.]+) %": [
            share("3D CNN on pixels", labels), share("transformer on tokens", labels)],
        r"neither with one dot \(([\d.]+) % against ([\d.]+) %\)": [
            share(coarse, consistent, "one dot"), share(frames, consistent, "one dot")],
        r"in ([\d.]+) % of the samples, against ([\d.]+) % \(([\d.]+) % if": [
            share(method, "dots touch") for method in (frames, coarse, "Gaussian of each class")],
    }.items():  # fmt: skip
        (found,) = said("13", pattern)
        found = (found,) if isinstance(found, str) else found
        assert [float(x) for x in found] == pytest.approx(values, abs=0.06)
    verdicts = study.load("two_dots").compare(table)["verdict"]
    said("13", "six of twelve findings are shown in both worlds. None is reversed")
    assert len(verdicts) == 12
    assert (verdicts == "holds").sum() == 6
    assert "does not hold" not in set(verdicts)


def test_06_how_feature_distances_rank_the_sets():
    (quoted,) = said("06", r"\(rank correlation ([\d.]+)\).*?less so \(([\d.]+)\)")
    found = printed("06", r"rank correlation with the share of wrong clips ([\d.]+) over (\d+) sets")
    assert list(quoted) == [correlation for correlation, _ in found]
    said("06", "eleven sets are few")
    assert {sets for _, sets in found} == {"11"}
