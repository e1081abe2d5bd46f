"""The Slurm recipe parses, says how it is used, and starts Ray and the study where it should."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[1] / "examples" / "slurm_ray.sh"
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")

_FAKES = {
    "scontrol": "echo n1; echo n2; echo n3",
    "srun": 'case "$*" in *hostname*) echo 10.0.0.1 ;; *) echo "srun $*" >> "$LOG" ;; esac',
    "ray": "exit 0",
    "goaldriven": 'echo "goaldriven $*" >> "$LOG"; exit 7',
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    return subprocess.run(
        ["bash", str(RECIPE), *arguments],
        capture_output=True,
        text=True,
        env=inherited | environment,
        check=False,
        timeout=60,
    )


def test_it_parses():
    subprocess.run(["bash", "-n", str(RECIPE)], check=True)


def test_it_says_how_it_is_used():
    assert (run().returncode, "usage: sbatch" in run().stderr) == (2, True)
    outside = run("digits")
    assert outside.returncode == 2
    assert "must run inside a Slurm job" in outside.stderr


def test_a_head_a_worker_per_other_node_and_the_study(tmp_path):
    for name, body in _FAKES.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "log"
    done = run(
        "digits", "--out", "/shared/my study", PATH=f"{tmp_path}:{os.environ['PATH']}",
        LOG=str(log), SLURM_JOB_NODELIST="n[1-3]", SLURM_JOB_ID="20005", SLURM_CPUS_PER_TASK="8",
        SLURM_GPUS_PER_TASK="a100:2",
    )  # fmt: skip
    assert done.returncode == 7, done.stderr  # the study's own
    ray = sorted(line for line in log.read_text().splitlines() if line.startswith("srun"))
    assert len(ray) == 3
    assert all(line.endswith("--num-cpus 8 --num-gpus 2 --block") for line in ray)
    assert "--nodelist=n1 ray start --head --node-ip-address 10.0.0.1 --port 20005" in ray[0]
    assert "--nodelist=n2 ray start --address 10.0.0.1:20005" in ray[1]
    (study,) = (line for line in log.read_text().splitlines() if line.startswith("goaldriven"))
    assert study == (
        "goaldriven run digits --out /shared/my study --executor ray --address 10.0.0.1:20005"
    )
