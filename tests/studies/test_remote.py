"""Studies at a URL: an S3-compatible store on this machine, and a plain file system."""

from __future__ import annotations

import pytest

from goaldriven.errors import StudyError
from goaldriven.studies import Settings, StudyFolder, remote, run_study

from .ray_nodes import assert_same, s3_store, study_of, trajectories


@pytest.fixture
def place(request, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "file":
        yield f"file://{tmp_path}/place/study"
        return
    pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    with s3_store() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket/study"
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["file", "s3"], indirect=True)
def test_a_study_at_a_url_is_the_study_in_a_folder(place, tmp_path):
    study = study_of(2)
    here = StudyFolder.create(tmp_path / "here", study)
    run_study(here, settings=Settings(keep_checkpoints=True), jobs=1)
    folder = remote.create(place, study)
    run_study(folder, study.networks()[:1], Settings(keep_checkpoints=True), jobs=1)
    assert remote.open_url(place).count() == {"trained": 1, "left": 1}
    assert not [p for p in (folder.path / "checkpoints").rglob("*") if p.is_file()]
    assert remote.push(here, remote.claim(place, study)) == 1  # what was trained here only
    assert run_study(remote.create(place, study), jobs=1).already_done == 2
    fetched, left_out = remote.fetch(place, tmp_path / "fetched")
    assert left_out == 2 * 3
    assert_same(trajectories(fetched), trajectories(here))
    fetched, left_out = remote.fetch(place, tmp_path / "fetched", checkpoints=True)
    for path in (here.path / "checkpoints").rglob("*.safetensors"):
        assert (fetched.path / path.relative_to(here.path)).read_bytes() == path.read_bytes()
    with pytest.raises(StudyError, match="belongs to study 'tiny', which differs in epochs"):
        remote.create(place, study_of(2, epochs=9))


@pytest.mark.parametrize("place", ["file"], indirect=True)
def test_other_places_are_refused(place, tmp_path):
    with pytest.raises(StudyError, match=r"must be a study folder .* got none there"):
        remote.fetch(place, tmp_path / "x")
    (tmp_path / "place" / "study").mkdir(parents=True)
    (tmp_path / "place" / "study" / "thesis.tex").write_text("precious")
    with pytest.raises(StudyError, match="which holds other files"):
        remote.create(place, study_of(1))
    with pytest.raises(StudyError, match="must be a URL that fsspec can open"):
        remote.create("nowhere://a/b", study_of(1))
    with pytest.raises(StudyError, match="goaldriven fetch URL DIR"):
        StudyFolder.open("s3:/bucket/study")
