#!/bin/bash
# Runs a command on two ranks with addresses of their own, over a link of a given rate. For measurements, as root under Linux.
#
#   two_hosts.sh RATE COMMAND [ARGUMENT...]
#   two_hosts.sh 1gbit target/release/kindling bench recipe.toml --ranks
#   two_hosts.sh 100mbit target/release/kindling train small --run slow --set run.sync_interval=10
#
# Each rank runs in a network namespace, with half of the cores. Needs Open MPI, iproute2 and util-linux. The namespaces are
# removed at the end.
set -euo pipefail

rate=$1
shift
network=10.9.0
scratch=$(mktemp -d)

finish() {
    for rank in 0 1; do ip netns delete "kindling$rank" 2>/dev/null || true; done
    rm -r "$scratch"
}
trap finish EXIT

for rank in 0 1; do
    ip netns add "kindling$rank"
    ip -n "kindling$rank" link set lo up
done
ip link add kindling0 netns kindling0 type veth peer name kindling1 netns kindling1
for rank in 0 1; do
    ip -n "kindling$rank" addr add "$network.$((rank + 1))/24" dev "kindling$rank"
    ip -n "kindling$rank" link set "kindling$rank" up
    ip netns exec "kindling$rank" tc qdisc add dev "kindling$rank" root tbf rate "$rate" burst 256kb latency 50ms
done

# Instead of SSH: `agent HOST COMMAND...` starts Open MPI's daemon in the namespace of HOST.
cat >"$scratch/agent" <<AGENT
#!/bin/bash
host=\$1
shift
exec ip netns exec "kindling\$((\${host##*.} - 1))" bash -c "\$*"
AGENT
# A rank on its half of the cores.
cat >"$scratch/rank" <<'RANK'
#!/bin/bash
half=$(($(nproc) / 2))
first=$((OMPI_COMM_WORLD_RANK * half))
exec taskset --cpu-list "$first-$((first + half - 1))" "$@"
RANK
chmod +x "$scratch/agent" "$scratch/rank"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
ip netns exec kindling0 mpirun -n 2 --host "$network.1:1,$network.2:1" --bind-to none \
    --mca plm_rsh_agent "$scratch/agent" --mca btl tcp,self \
    --mca oob_tcp_if_include "$network.0/24" --mca btl_tcp_if_include "$network.0/24" \
    "$scratch/rank" "$@"
