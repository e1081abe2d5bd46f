"""Tiny studies: real training on a handful of digits, a second or two."""

from __future__ import annotations

import pytest

from goaldriven.specs import Study
from goaldriven.studies.executors.ray_cluster import RayOptions

from .ray_nodes import Brake, s3_store, two_nodes


@pytest.fixture
def tiny_study() -> Study:
    return Study(
        name="tiny",
        tasks=[{"name": "digits", "train_limit": 64, "validation_limit": 32}],
        architectures=[{"name": "knet4", "width": 0.1}],
        rules=["sgdm", "fa"],
        batch_sizes=[32],
        model_seeds=[0, 1],
        epochs=2,
        record_every=1,
    )


@pytest.fixture(scope="package")
def cluster():
    """Two Ray nodes, which the tests of this package share, with an S3-compatible store."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other tests fill this machine too
        patch.setenv("RAY_health_check_failure_threshold", "40")
        with s3_store() as environment:
            for name, value in environment.items():
                patch.setenv(name, value)  # the nodes' own credentials
            with two_nodes() as nodes:
                yield nodes
                ray.shutdown()


@pytest.fixture
def options(cluster) -> RayOptions:
    return RayOptions(cluster.address)


@pytest.fixture(scope="package")
def _brake(tmp_path_factory) -> Brake:
    return Brake(tmp_path_factory.mktemp("brake") / "from")


@pytest.fixture
def brake(joined, _brake):
    """For what is trained over the connection `joined`."""
    yield _brake
    _brake.release()


@pytest.fixture
def joined(options, _brake):
    """A connection that is there before the run, and stays: its workers need not start anew."""
    ray = pytest.importorskip("ray")
    if not ray.is_initialized():
        hook = {"worker_process_setup_hook": _brake.hook()}
        ray.init(options.address, log_to_driver=False, logging_level="ERROR", runtime_env=hook)
    yield options
    assert ray.is_initialized()


@pytest.fixture
def apart():
    """No connection that was there before."""
    pytest.importorskip("ray").shutdown()
