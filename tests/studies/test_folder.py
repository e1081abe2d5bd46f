"""The study's folder: states, identity, and what is refused."""

from __future__ import annotations

import json

import pytest

from goaldriven.errors import StudyError
from goaldriven.specs import Study
from goaldriven.studies import StudyFolder, run_study


def test_a_fresh_folder_has_everything_left(tiny_study, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", tiny_study)
    assert folder.count() == {"left": 4}
    assert StudyFolder.open(tmp_path / "out").study == tiny_study


def test_running_counts_only_while_the_process_lives(tiny_study, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", tiny_study)
    network = tiny_study.networks()[0]
    folder.mark_running(network)
    assert folder.state(network) == "running"
    folder.running_path(network).write_text(json.dumps({"pid": 2**22 + 1}))
    assert folder.state(network) == "left"


def test_another_study_s_folder_is_refused_and_the_difference_named(tiny_study, tmp_path):
    StudyFolder.create(tmp_path / "out", tiny_study)
    other = Study(**tiny_study.model_dump() | {"epochs": 4})
    with pytest.raises(StudyError, match="belongs to study 'tiny', which differs in epochs"):
        StudyFolder.create(tmp_path / "out", other)


def test_a_folder_with_other_files_is_refused(tiny_study, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StudyError, match="which holds other files"):
        StudyFolder.create(tmp_path, tiny_study)


def test_leftovers_of_killed_writers_are_cleared(tiny_study, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", tiny_study)
    leftover = folder.path / "networks" / ".abc.nc.123.partial"
    leftover.write_text("half")
    StudyFolder.create(tmp_path / "out", tiny_study)
    assert not leftover.exists()


def test_networks_are_found_by_the_beginning_of_their_id(tiny_study, tmp_path):
    folder = StudyFolder.create(tmp_path / "out", tiny_study)
    network = tiny_study.networks()[2]
    assert folder.find(network.network_id[:7]) == network
    with pytest.raises(StudyError, match="which is that of none"):
        folder.find("zzz")
    with pytest.raises(StudyError, match="which is that of 4 of them"):
        folder.find("")


def test_a_folder_whose_lock_cannot_be_written(tiny_study, tmp_path):
    """As on a file system that is mounted read-only."""
    folder = StudyFolder.create(tmp_path / "out", tiny_study)
    (folder.path / ".lock").mkdir()
    with pytest.raises(StudyError, match=r"^cannot write .*\.lock: Is a directory$"):
        run_study(folder, jobs=1)
