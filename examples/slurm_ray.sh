#!/usr/bin/env bash
# A Ray cluster inside one Slurm job, and a study trained on it. Resubmit the same job to go on.
#
#     sbatch --nodes=4 examples/slurm_ray.sh STUDY [OPTION of goaldriven run]...
#     sbatch --nodes=4 examples/slurm_ray.sh nayebi2020 --out /shared/nayebi2020 --device cuda
#
#SBATCH --job-name=goaldriven
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:INT@120
set -euo pipefail

if [[ $# -lt 1 ]]; then
    echo "usage: sbatch [--nodes=N] $0 STUDY [OPTION of goaldriven run]..." >&2
    exit 2
fi
if [[ -z "${SLURM_JOB_NODELIST:-}" ]]; then
    echo "$0 must run inside a Slurm job: sbatch $0 $*" >&2
    exit 2
fi

# Activate here the environment that has goaldriven[cluster]; it must be the same on all nodes.
# source /shared/venv/bin/activate

export RAY_USAGE_STATS_ENABLED=0
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_node=${nodes[0]}
head_ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head_node" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000)) # jobs that share a node have different ones
address=$head_ip:$port
cpus=${SLURM_CPUS_PER_TASK:-1}
gpus=${SLURM_GPUS_PER_TASK:-0}
gpus=${gpus##*:} # type:count

start_ray() { # on one node, in the background, until the job ends
    local node=$1
    shift
    srun --nodes=1 --ntasks=1 --nodelist="$node" \
        ray start "$@" --num-cpus "$cpus" --num-gpus "$gpus" --block &
}

start_ray "$head_node" --head --node-ip-address "$head_ip" --port "$port" --include-dashboard=false
for ((attempt = 0; attempt < 60; attempt++)); do
    if ray health-check --address "$address" >/dev/null 2>&1; then break; fi
    sleep 2
done
for node in "${nodes[@]:1}"; do
    start_ray "$node" --address "$address"
done

# Slurm's warning before the time is up, or before preemption, is a Ctrl-C: what is finished is kept.
goaldriven run "$@" --executor ray --address "$address" &
driver=$!
trap 'kill -INT "$driver" 2>/dev/null || true' INT TERM
status=0
wait "$driver" || status=$?
wait "$driver" 2>/dev/null || true # the first wait ends with the signal, before the driver does
exit "$status"
