#!/bin/sh
# SLURM on this machine, as root, from Debian's packages: apt-get install -y slurm-wlm munge
#   tests/cluster/slurm.sh up FOLDER      starts munged, slurmctld and slurmd with everything they write in FOLDER;
#                                         then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/cluster/slurm.sh down FOLDER    ends them
set -eu
what=$1 state=$2 here=$(cd "$(dirname "$0")" && pwd)
pids="slurmd slurmctld munged"
case $what in
up)
    mkdir -p "$state/spool" "$state/state" "$state/log" "$state/munge"
    host=$(hostname -s)
    sed -e "s|@STATE@|$state|; s|@HOST@|$host|" "$here/slurm.conf.in" > "$state/slurm.conf"
    if [ ! -S /run/munge/munge.socket.2 ] || ! munge -n > /dev/null 2>&1; then
        mkdir -p /run/munge
        chown munge:munge /run/munge "$state/munge"
        chmod 755 "$state"
        setpriv --reuid=munge --regid=munge --clear-groups munged --force --pid-file "$state/munge/munged.pid" --log-file "$state/munge/munged.log"
        ln -sf munge/munged.pid "$state/munged.pid"
    fi
    export SLURM_CONF="$state/slurm.conf"
    slurmctld -i
    slurmd
    for _ in $(seq 60); do
        [ "$(sinfo -h -o %T 2> /dev/null)" = idle ] && exit 0
        sleep 0.5
    done
    sinfo >&2 || true
    tail -n 5 "$state"/log/*.log >&2
    exit 1
    ;;
down)
    export SLURM_CONF="$state/slurm.conf"
    scancel --me --full --signal=KILL 2> /dev/null || true
    for name in $pids; do
        [ -s "$state/$name.pid" ] || continue
        pid=$(cat "$state/$name.pid")
        kill "$pid" 2> /dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    done
    ;;
esac
