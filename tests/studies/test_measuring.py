"""A study measured from its checkpoints: as during training, resumed, interrupted, refused."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import pytest
import xarray as xr

from goaldriven.errors import SpecError, StudyError
from goaldriven.specs import Study
from goaldriven.specs.measurement import MeasurementSpec, published_design
from goaldriven.studies import Settings, StudyFolder, run_study
from goaldriven.studies.measuring import (
    load_measurements,
    measure_study,
    plan_measuring,
    shipped_measurements,
)
from goaldriven.trajectories import load_examples
from goaldriven.trajectories.measured import (
    load_measured_examples,
    measured_ids,
    measurements_of,
    read_measured,
)

CONDITIONS = [MeasurementSpec(), MeasurementSpec(unit_count=20, relative_noise=0.3)]
MORE = [*CONDITIONS, MeasurementSpec(unit_fraction=0.1, own_units=True)]


def tiny() -> Study:
    return Study(
        name="tiny",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm", "fa"],
        batch_sizes=[32],
        epochs=2,
        record_every=1,
    )


@pytest.fixture(scope="module")
def during(tmp_path_factory) -> StudyFolder:
    """Trained with checkpoints kept, and measured along the way."""
    folder = StudyFolder.create(tmp_path_factory.mktemp("study") / "during", tiny())
    run_study(
        folder, settings=Settings(keep_checkpoints=True, measurements=tuple(CONDITIONS)), jobs=1
    )
    return folder


@pytest.fixture
def unmeasured(during, tmp_path) -> StudyFolder:
    """The same networks and checkpoints without their measurements."""
    shutil.copytree(during.path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "measurements")
    return StudyFolder.open(tmp_path / "copy")


def test_measured_later_is_measured_during_training(during, unmeasured):
    summary = measure_study(unmeasured, CONDITIONS, jobs=1)
    assert (summary.measured, summary.failed, summary.already_done) == (2, 0, 0)
    for network in during.study.networks():
        xr.testing.assert_identical(
            read_measured(during.measurements_path(network)),
            read_measured(unmeasured.measurements_path(network)),
        )
    assert measurements_of(unmeasured.path) == tuple(CONDITIONS)
    xr.testing.assert_identical(
        load_measured_examples(unmeasured.path, CONDITIONS[0]), load_examples(unmeasured.path)
    )


@pytest.mark.slow
def test_only_what_is_missing_is_measured(unmeasured):
    first, second = unmeasured.study.networks()
    measure_study(unmeasured, CONDITIONS, jobs=1)
    before = unmeasured.measurements_path(first).stat().st_mtime_ns
    assert measure_study(unmeasured, CONDITIONS, jobs=1).already_done == 2
    assert unmeasured.measurements_path(first).stat().st_mtime_ns == before
    unmeasured.measurements_path(second).unlink()
    plan = plan_measuring(unmeasured, CONDITIONS)
    assert (plan.left, plan.done) == ((second,), (first,))
    events = []
    measure_study(unmeasured, MORE, jobs=1, report=lambda kind, n: events.append((kind, n)))
    assert events.count(("epoch", first)) == events.count(("epoch", second)) == 3
    for network in (first, second):
        ids = measured_ids(unmeasured.measurements_path(network))
        assert ids == tuple(m.measurement_id for m in MORE)


@pytest.mark.slow
def test_a_broken_checkpoint_fails_its_network_and_no_other(unmeasured):
    first, _ = unmeasured.study.networks()
    path = unmeasured.checkpoints_path(first) / "1.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    summary = measure_study(unmeasured, CONDITIONS, jobs=1)
    assert (summary.measured, summary.failed) == (1, 1)
    assert "cannot be read" in unmeasured.failure_path(first, "unmeasured").read_text()
    assert not unmeasured.measurements_path(first).exists()
    assert unmeasured.state(first) == "trained"
    path.write_bytes(whole)
    summary = measure_study(unmeasured, CONDITIONS, jobs=1)
    assert (summary.measured, summary.already_done) == (1, 1)
    assert not unmeasured.failure_path(first, "unmeasured").exists()


def test_without_checkpoints_it_is_said_how_to_get_them(unmeasured):
    first, second = unmeasured.study.networks()
    shutil.rmtree(unmeasured.checkpoints_path(first))
    assert plan_measuring(unmeasured, CONDITIONS).without_checkpoints == (first,)
    assert measure_study(unmeasured, CONDITIONS, jobs=1).measured == 1
    unmeasured.measurements_path(second).unlink()
    shutil.rmtree(unmeasured.path / "checkpoints")
    with pytest.raises(StudyError, match=r"none for its 2 trained networks.*--keep-checkpoints"):
        measure_study(unmeasured, CONDITIONS)


def test_other_bad_input(tmp_path, unmeasured):
    with pytest.raises(StudyError, match="must hold networks that have been trained"):
        measure_study(StudyFolder.create(tmp_path / "new", tiny()), CONDITIONS)
    with pytest.raises(SpecError, match="at least one"):
        measure_study(unmeasured, [])
    with pytest.raises(StudyError, match="jobs must be at least 1"):
        measure_study(unmeasured, CONDITIONS, jobs=0)
    with pytest.raises(SpecError, match="YAML file or one of electrophysiology, published, quick"):
        load_measurements(tmp_path / "nothing.yaml")
    (tmp_path / "bad.yaml").write_text("name: bad\nmeasurements: [{noise: loud}]")
    with pytest.raises(SpecError, match=r"bad.yaml: measurements\[0\].noise\[0\] must be a number"):
        load_measurements(tmp_path / "bad.yaml")


def test_the_shipped_measurements(during):
    sets = {name: load_measurements(path) for name, path in shipped_measurements().items()}
    assert {name: len(s.specs()) for name, s in sets.items()} == {
        "electrophysiology": 50, "published": 134, "quick": 20, "through_feedback": 1,
    }  # fmt: skip
    assert all(name == s.name and s.description for name, s in sets.items())
    ids = {m.measurement_id for m in sets["published"].specs()}
    assert ids == {m.measurement_id for m in published_design()}


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(unmeasured):
    process = subprocess.Popen(
        [sys.executable, "-m", "goaldriven.cli", "measure", str(unmeasured.path), "published",
         "--jobs", "1"],
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    where, deadline = unmeasured.path / "measurements", time.monotonic() + 60
    while not list(where.glob("*.nc")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from here" in " ".join(said.split())
    assert list(where.glob(".*")) == []
    assert len(measured_ids(next(where.glob("*.nc")))) == 134
    summary = measure_study(unmeasured, published_design(), jobs=1)
    assert summary.measured + summary.already_done == 2
