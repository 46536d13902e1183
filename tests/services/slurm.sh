#!/usr/bin/env bash
# Slurm on this machine alone, for tests: a controller, a node that says it has 4 CPUs, and munge; without systemd,
# without accounting, on loopback, as root or not, with every file in FOLDER.
#
#   tests/services/slurm.sh start FOLDER    prints the path of slurm.conf: export SLURM_CONF=... and use sbatch
#   tests/services/slurm.sh stop FOLDER
#
# Partitions: low (the default), and high, whose jobs take the node from those of low, which are requeued.
# Needs slurmctld, slurmd, srun and munged: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
set -euo pipefail
PATH=$PATH:/usr/sbin

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

start() {
    local folder host user
    mkdir -p "$1" && folder=$(cd "$1" && pwd) host=$(hostname -s) user=$(id -un)
    mkdir -p "$folder"/{state,spool}
    (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$user
SlurmdUser=$user
# A requeued job waits until its first credential is void: 120 s by default.
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=5
SlurmdParameters=config_overrides
NodeName=one NodeAddr=127.0.0.1 NodeHostname=$host CPUs=4
PartitionName=low Nodes=one Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=high Nodes=one MaxTime=INFINITE PriorityTier=2
CONF
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    export SLURM_CONF="$folder/slurm.conf"
    slurmctld -c
    slurmd -N one
    for _ in $(seq 100); do
        [ "$(sinfo --noheader --format=%t --partition=low 2>/dev/null)" = idle ] && break
        sleep 0.1
    done
    sinfo --noheader --format=%t --partition=low | grep -q idle || {
        echo "the node did not come up:" >&2
        tail -n 5 "$folder"/*.log >&2
        return 1
    }
    echo "$SLURM_CONF"
}

stop() {
    export SLURM_CONF="$1/slurm.conf"
    scancel --quiet --user="$(id -un)" || true
    for daemon in slurmd slurmctld munged; do
        [ -f "$1/$daemon.pid" ] && kill "$(cat "$1/$daemon.pid")" || true
    done
}

"${1:?start or stop}" "${2:?FOLDER}"
