"""The shipped tables: complete, of today's settings, readable; and every study runs in smoke size."""

import pytest

from trajlib.course import study

WITH_TABLE = [name for name in study.available() if (study.STUDIES / f"{name}.csv").exists()]


def test_every_table_has_a_study():
    assert {path.stem for path in study.STUDIES.glob("*.csv")} <= set(study.available())
    assert {"tokenizer_ablation", "commit_ablation", "label_efficiency", "robustness", "codecs"} <= set(WITH_TABLE)


@pytest.mark.parametrize("name", WITH_TABLE)
def test_a_shipped_table_has_every_job_of_todays_settings(name):
    module, frame = study.load(name), study.read(name)
    jobs = [job for job in module.jobs(module.FULL) if not set(job.values()) & set(getattr(module, "OPTIONAL", ()))]
    digests = {study.digest(name, module.FULL, job) for job in jobs}
    assert set(frame["digest"]) == digests
    assert not frame["status"].str.startswith(study.FAILED).any()
    assert frame["examples"][frame["status"] == "ok"].gt(0).all()
    several = ("method", "slot", "metric", "steps", "distance")  # tell the rows of a job apart
    within = [column for column in several if column in frame]
    assert not frame.duplicated([*module.KEYS, *(column for column in within if column not in module.KEYS)]).any()
    assert set(frame["status"]) - {"ok"} == set() or name == "tokenizer_ablation"


def test_what_the_library_cannot_run_is_known():
    module, frame = study.load("tokenizer_ablation"), study.read("tokenizer_ablation")
    failed = frame[frame["status"] != "ok"]
    assert set(failed["variant"]) == {name for name, variant in module.VARIANTS.items() if variant.raises}
    assert failed["psnr"].isna().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", study.available())
def test_a_study_runs_in_smoke_size(name, tmp_path, capsys):
    out = tmp_path / f"{name}.csv"
    assert study.main(name, smoke=True, jobs=1, out=out) == 0
    module, frame = study.load(name), study.read(name, out)
    assert set(frame["digest"]) == {study.digest(name, module.SMOKE, job) for job in module.jobs(module.SMOKE)}
    ends = [column for column in ("low", "high") if column in frame]  # some figures have no interval
    measured = [column for column, kind in module.COLUMNS.items() if kind is not str and column not in ends]
    counted = frame[frame["n"] > 0] if "n" in frame else frame  # a tiny grid may have no example of a kind
    assert counted[measured].notna().to_numpy().all()
    assert frame[ends].notna().sum(axis=1).isin([0, len(ends)]).all()
    assert all(part in frame["weights"].iloc[0] for part in getattr(module, "MODELS", ()))
