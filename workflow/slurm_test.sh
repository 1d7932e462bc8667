#!/bin/sh
# A cluster with Slurm that is this machine alone, on loopback, to try things on: slurm_test.sh start | stop.
# As root, in a container or a machine that may be thrown away: it writes /etc/slurm/slurm.conf.
# Needs Debian's packages: apt-get install --no-install-recommends slurm-wlm munge
set -eu
cores=${CORES:-1} # that the cluster has

case ${1:-} in
start)
    if [ -e /etc/slurm/slurm.conf ] && ! grep -q '^ClusterName=gdlayer-test$' /etc/slurm/slurm.conf; then
        echo "error: /etc/slurm/slurm.conf is of another cluster" >&2
        exit 2
    fi
    mkdir -p /etc/slurm /run/munge /var/lib/munge /var/log/munge
    mkdir -p /tmp/gdlayer-slurm/state /tmp/gdlayer-slurm/spool
    chown munge:munge /run/munge /var/lib/munge /var/log/munge
    chmod 755 /run/munge
    [ -e /etc/munge/munge.key ] || mungekey --create
    chown munge:munge /etc/munge/munge.key
    # a job that ended stays in squeue's list for MinJobAge seconds: there is no accounting to ask
    cat >/etc/slurm/slurm.conf <<EOF
ClusterName=gdlayer-test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
StateSaveLocation=/tmp/gdlayer-slurm/state
SlurmdSpoolDir=/tmp/gdlayer-slurm/spool
SlurmctldPidFile=/tmp/gdlayer-slurm/slurmctld.pid
SlurmdPidFile=/tmp/gdlayer-slurm/slurmd.pid
SlurmctldLogFile=/tmp/gdlayer-slurm/slurmctld.log
SlurmdLogFile=/tmp/gdlayer-slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MinJobAge=600
ReturnToService=2
SchedulerParameters=sched_interval=5
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$cores RealMemory=64000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
    runuser -u munge -- munged
    slurmctld
    slurmd
    tries=0
    until [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; do
        tries=$((tries + 1))
        if [ $tries -gt 60 ]; then
            sinfo >&2
            tail /tmp/gdlayer-slurm/*.log >&2
            exit 1
        fi
        sleep 0.5
    done
    sinfo
    ;;
stop)
    for file in /tmp/gdlayer-slurm/slurmd.pid /tmp/gdlayer-slurm/slurmctld.pid /run/munge/munged.pid; do
        [ -e $file ] || continue
        pid=$(cat $file)
        kill "$pid" || true
        while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done # it writes its state last
    done
    rm -rf /tmp/gdlayer-slurm
    rm -f /etc/slurm/slurm.conf
    ;;
*)
    echo "usage: $0 start | stop" >&2
    exit 2
    ;;
esac
