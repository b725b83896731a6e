#!/usr/bin/env bash
# A throw-away SLURM on this machine, for the tests: slurmctld and three slurmd with fake GPUs.
#
#   cluster.sh start | stop
#   cluster.sh ctld | node N        starts slurmctld, or the slurmd of node N, again
#   cluster.sh kill-node N          node N dies: its slurmd and every process on it
#
# Needs root and Debian's slurm-wlm and munge. Everything lives in $E2MC_SLURM_FOLDER (default
# /tmp/e2mc-slurm); only processes whose ids are recorded there are ever ended.
set -u
folder=${E2MC_SLURM_FOLDER:-/tmp/e2mc-slurm}
nodes=3
port=${E2MC_SLURM_PORT:-17817}
export SLURM_CONF=$folder/slurm.conf

start() {
  [ ! -d "$folder" ] || stop # left by a run that was killed
  mkdir -p "$folder"/{state,log}
  chmod 755 "$folder" # munged refuses what others may write
  : >"$folder/namespaces"
  start_munge || return 1
  write_configuration
  start_ctld || return 1
  local i
  for i in $(seq $nodes); do start_node "$i" || return 1; done
  for i in $(seq 150); do
    [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | sort -u | wc -l)" = $nodes ] && return 0
    sleep .1
  done
  echo "the nodes did not become idle:" >&2
  { sinfo -R; sinfo -N -l; tail -n 20 "$folder"/log/*.log; } >&2
  return 1
}

start_munge() { # of its own, so that clusters beside each other end on their own
  head -c 128 /dev/urandom >"$folder/munge.key"
  chmod 400 "$folder/munge.key"
  munged --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munged.pid" --log-file="$folder/log/munged.log" \
    --seed-file="$folder/munge.seed"
}

write_configuration() {
  local host i
  host=$(hostname -s)
  { echo "127.0.0.1 localhost $host"
    for i in $(seq $nodes); do echo "127.0.0.1 n$i"; done; } >"$folder/hosts"
  # slurmd wants one distinct character device per GPU: memory devices will do
  for i in 0 1 2 3; do [ -e "$folder/gpu$i" ] || mknod "$folder/gpu$i" c 1 3; done
  echo "NodeName=n[1-$nodes] Name=gpu File=$folder/gpu[0-3]" >"$folder/gres.conf"
  cat >"$SLURM_CONF" <<CONFIGURATION
ClusterName=e2mc
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start (120 s without it)
AuthInfo=socket=$folder/munge.socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool.%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
# more processors and memory than the machine has
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=100
GresTypes=gpu
EnforcePartLimits=ALL
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=0,batch_sched_delay=0
SlurmdTimeout=10
KillWait=5
MinJobAge=${E2MC_SLURM_MIN_JOB_AGE:-300}
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# a preempted job gets the signal it asked for, not SIGTERM alone
SlurmctldParameters=preempt_send_user_signal
# the memory limit is enforced by polling: there are no cgroups here
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobcomp.txt
AccountingStorageType=accounting_storage/none
NodeName=n[1-$nodes] NodeAddr=127.0.0.1 Port=$((port + 11))-$((port + 10 + nodes)) CPUs=4 RealMemory=8000 Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL Default=NO MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=physics Nodes=ALL Default=NO State=UP AllowAccounts=physics
PartitionName=late Nodes=ALL Default=NO State=UP
CONFIGURATION
}

start_ctld() {
  slurmctld -i </dev/null >/dev/null 2>"$folder/log/slurmctld.err" && return 0
  cat "$folder/log/slurmctld.err" >&2
  return 1
}

# A node has its own host name, /etc/hosts and /etc/slurm: gloo finds its peers by name.
start_node() {
  local pid=$folder/slurmd.n$1.pid i
  unshare -m -u sh -c '
    mount --bind "$2/hosts" /etc/hosts
    [ ! -d /etc/slurm ] || mount --bind "$2" /etc/slurm
    hostname "n$1" && exec slurmd -N "n$1"' _ "$1" "$folder" || return 1
  for i in $(seq 50); do [ -s "$pid" ] && break; sleep .1; done
  readlink "/proc/$(cat "$pid")/ns/mnt" >>"$folder/namespaces"
}

stop() {
  local file namespace i
  scancel -u "$(id -u)" 2>/dev/null
  for i in $(seq 50); do [ -z "$(squeue -h 2>/dev/null)" ] && break; sleep .1; done
  for file in "$folder"/slurmd.*.pid "$folder/slurmctld.pid" "$folder/munged.pid"; do
    end "$file"
  done
  # steps that outlived their slurmd
  [ -e "$folder/namespaces" ] && while read -r namespace; do
    kill_in "$namespace"
  done <"$folder/namespaces"
  rm -rf "$folder"
}

kill_in() { # every process in a node's mount namespace
  local file
  [ -n "$1" ] && [ "$1" != "$(readlink /proc/self/ns/mnt)" ] || return 0
  for file in /proc/[0-9]*; do
    [ "$(readlink "$file/ns/mnt" 2>/dev/null)" = "$1" ] && kill -9 "${file#/proc/}"
  done
  return 0
}

kill_node() {
  kill_in "$(readlink "/proc/$(cat "$folder/slurmd.n$1.pid")/ns/mnt")"
  rm -f "$folder/slurmd.n$1.pid"
}

end() { # asks the process in a file of process ids to stop; kills it after 10 s
  local pid i
  [ -s "$1" ] || return 0
  pid=$(cat "$1")
  case $(cat "/proc/$pid/comm" 2>/dev/null) in
  slurmctld | slurmd | munged) ;;
  *) return 0 ;; # it ended, and its number may be somebody else's now
  esac
  kill "$pid" 2>/dev/null
  for i in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep .1; done
  kill -9 "$pid" 2>/dev/null
  rm -f "$1"
}

case ${1:-} in
start) start ;;
stop) stop ;;
ctld) start_ctld ;;
node) start_node "$2" ;;
kill-node) kill_node "$2" ;;
*) sed -n 2,9p "$0" >&2; exit 2 ;;
esac
