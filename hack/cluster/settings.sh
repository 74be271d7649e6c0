# shellcheck shell=bash disable=SC2034
# Settings and helpers shared by the scripts of the local cluster. Source it; every setting can be given in the environment.
set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CORTEN_DIR=${CORTEN_DIR:-/var/lib/corten}
NODES=${NODES:-}
[[ -n $NODES ]] || NODES=$(cat "$CORTEN_DIR/nodes/count" 2>/dev/null || echo 1)

# A login's folder below /run, which nodes do not have: runc would put its files there.
unset XDG_RUNTIME_DIR

# Binaries: ours unless a path says otherwise, so that any daemon can be swapped for another build of it.
target=${CARGO_TARGET_DIR:-target}
[[ $target == /* ]] || target=$top/$target
BIN=${BIN:-$target/release}
KUBE_APISERVER=${KUBE_APISERVER:-$BIN/kube-apiserver}
KUBE_CONTROLLER_MANAGER=${KUBE_CONTROLLER_MANAGER:-$BIN/kube-controller-manager}
KUBE_SCHEDULER=${KUBE_SCHEDULER:-$BIN/kube-scheduler}
KUBELET=${KUBELET:-$BIN/kubelet}
KUBE_PROXY=${KUBE_PROXY:-$BIN/kube-proxy}
CLUSTER_DNS=${CLUSTER_DNS:-$BIN/cluster-dns}
ETCD=${ETCD:-etcd}
CONTAINERD=${CONTAINERD:-containerd}
KUBECTL=${KUBECTL:-kubectl}

# Addresses. The control plane runs on the host; every node is a network namespace behind one bridge.
bridge=corten0
node_network=172.31.0
control_plane=$node_network.1
pods=10.244.0.0/16
services=10.96.0.0/16
first_service=10.96.0.1
dns=10.96.0.10
server=https://$control_plane:6443

pki=$CORTEN_DIR/pki
conf=$CORTEN_DIR/conf
log=$CORTEN_DIR/log
run=$CORTEN_DIR/run
# A prefix of the cgroups' names lets several clusters stand beside each other, each in a network namespace of its own.
cgroup_prefix=${CGROUP_PREFIX:-}
cgroup=${cgroup_prefix}corten

node_name() { echo "corten-node-$1"; }
node_address() { echo "$node_network.$((10 + $1))"; }
kubectl() { command "$KUBECTL" --kubeconfig "$CORTEN_DIR/admin.conf" "$@"; }

# in_node NUMBER COMMAND...: runs a command in a node's network and mount namespaces
in_node() {
	local node
	node=$(node_name "$1")
	nsenter --net="/run/netns/$node" --mount="$run/mount/$node" -- "${@:2}"
}

started=$EPOCHREALTIME
step_started=$started

# step WHAT: prints a finished step with the time it took
step() {
	local now=$EPOCHREALTIME
	awk -v what="$1" -v from="$step_started" -v to="$now" 'BEGIN { printf "%-58s %6.1f s\n", what, to - from }'
	step_started=$EPOCHREALTIME
}

# fail WHAT [LOG]: names the log and shows its end
fail() {
	echo "FAILED: $1" >&2
	if [[ -n ${2:-} ]]; then
		echo "the end of $2:" >&2
		tail -n 20 "$2" >&2 || true
	fi
	exit 1
}

# until_true SECONDS LOG WHAT COMMAND...: waits for a condition
until_true() {
	local deadline=$((SECONDS + $1)) said
	until said=$("${@:4}" 2>&1); do
		((SECONDS < deadline)) || fail "$3: not so after $1 s${said:+: $said}" "$2"
		sleep 0.1
	done
}

# running NAME: whether the daemon that was started under this name is alive
running() {
	local pid
	pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
	[[ -n $pid && -e /proc/$pid/exe && $(cat "/proc/$pid/comm" 2>/dev/null) == "$(cat "$run/$1.comm")" ]] # the dead have no exe
}

# start NAME GROUP COMMAND...: starts a daemon in a session and a cgroup of its own unless it runs already
start() {
	local name=$1 group=$2
	shift 2
	! running "$name" || return 0
	echo "--- $(date --iso-8601=seconds) $*" >>"$log/$name.log"
	setsid "$top/hack/cluster/in-cgroup" "$cgroup/$group" "$@" >>"$log/$name.log" 2>&1 </dev/null &
	local pid=$!
	echo "$pid" >"$run/$name.pid"
	# The wrappers exec, so the pid stays; the name is known once the last of them has.
	local last=${daemon_binary:-$1}
	basename "$last" | cut -c1-15 >"$run/$name.comm"
	for _ in {1..50}; do
		! running "$name" || return 0
		[[ -e /proc/$pid ]] || fail "$name ended at once" "$log/$name.log"
		sleep 0.02
	done
}
