# shellcheck shell=bash
# What a pod may ask of the kubelet.

field() { k get "$1" --output "jsonpath={$2}"; }
gone() { k delete pod "$@" --now --wait=false --ignore-not-found; }

two_containers() {
	k apply --filename "$here/manifests/shared.yaml"
	k wait --for=condition=Ready pod/shared --timeout=60s
	has 'written by init' k exec shared --container reader -- cat /data/init
	eventually 15 has 'written by writer' k exec shared --container reader -- cat /data/writer
	has 'Completed' field pod/shared '.status.initContainerStatuses[0].state.terminated.reason'
	gone shared
}
probes() {
	k apply --filename "$here/manifests/probes.yaml"
	k wait --for=condition=Ready pod/probe-exec pod/probe-tcp pod/probe-http --timeout=60s
	# Readiness by exec fails and recovers; the pod keeps running.
	k exec probe-exec -- rm /tmp/ready
	k wait --for=condition=Ready=false pod/probe-exec --timeout=30s
	eventually 10 has 'Unhealthy.*Readiness probe failed' k describe pod probe-exec
	k exec probe-exec -- touch /tmp/ready
	k wait --for=condition=Ready pod/probe-exec --timeout=30s
	# Liveness by HTTP and TCP fails, and the container is started again.
	k exec probe-http -- rm /www/index.html
	eventually 40 has '^1$' field pod/probe-http '.status.containerStatuses[0].restartCount'
	has 'Liveness probe failed: HTTP probe failed with statuscode: 404' k describe pod probe-http
	k exec probe-tcp -- sh -c 'kill $(cat /tmp/server)'
	eventually 40 has '^1$' field pod/probe-tcp '.status.containerStatuses[0].restartCount'
	has 'Killing.*failed liveness probe, will be restarted' k describe pod probe-tcp
	gone probe-exec probe-tcp probe-http
}
restarts() {
	k apply --filename "$here/manifests/restarts.yaml"
	eventually 30 has Failed field pod/never .status.phase
	has '^0$' field pod/never '.status.containerStatuses[0].restartCount'
	has '^7$' field pod/never '.status.containerStatuses[0].state.terminated.exitCode'
	has 'last words' field pod/never '.status.containerStatuses[0].state.terminated.message'
	eventually 40 has Succeeded field pod/on-failure .status.phase
	has '^1$' field pod/on-failure '.status.containerStatuses[0].restartCount'
	eventually 60 has CrashLoopBackOff k get pod always
	eventually 10 has 'BackOff.*Back-off restarting failed container' k describe pod always
	eventually 30 has 'back-off [0-9]+s restarting failed container=main pod=always_tour' field pod/always '.status.containerStatuses[0].state.waiting.message'
	gone never on-failure always
}
hooks() {
	k apply --filename "$here/manifests/hooks.yaml"
	k wait --for=condition=Ready pod/hooks --timeout=60s
	has 'postStart' k exec hooks -- cat /shared/started
	k delete pod hooks --wait=false
	eventually 15 has 'preStop' k exec hooks-witness -- cat /shared/stopped
	eventually 30 refuses "not found" k get pod hooks # gone already, perhaps: an older kubectl does not wait for that
	gone hooks-witness
}
configuration() {
	k create configmap app --from-literal=colour=red --from-literal=size=big
	k create secret generic app --from-literal=password=hush
	k apply --filename "$here/manifests/configured.yaml"
	k wait --for=condition=Ready pod/configured --timeout=60s
	has '^COLOUR=red' k exec configured -- env
	has '^CFG_size=big' k exec configured -- env
	has '^PASSWORD=hush' k exec configured -- env
	has '^EXPANDED=red-and-hush' k exec configured -- env
	has '^red' k exec configured -- cat /etc/app/colour
	has '^hush' k exec configured -- cat /etc/secret/password
	has '400' k exec configured -- stat -L -c %a /etc/secret/password
	k patch configmap app --patch '{"data":{"colour":"green"}}'
	k patch secret app --patch '{"stringData":{"password":"hush2"}}'
	eventually 100 has '^green' k exec configured -- cat /etc/app/colour
	eventually 100 has '^hush2' k exec configured -- cat /etc/secret/password
	k delete configmap app
	k delete secret app
	gone configured
}
configuration_missing() {
	k run missing --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent --overrides='{"spec":{"containers":[{"name":"missing","image":"docker.io/library/busybox:stable","imagePullPolicy":"IfNotPresent","command":["sleep","300"],"env":[{"name":"A","valueFrom":{"configMapKeyRef":{"name":"nowhere","key":"a"}}}]}]}}'
	eventually 20 has CreateContainerConfigError k get pod missing
	has 'configmap "nowhere" not found' k describe pod missing
	k create configmap nowhere --from-literal=a=b
	k wait --for=condition=Ready pod/missing --timeout=60s
	k delete configmap nowhere
	gone missing
}
downward() {
	k apply --filename "$here/manifests/downward.yaml"
	k wait --for=condition=Ready pod/downward --timeout=60s
	has '^POD_NAME=downward' k exec downward -- env
	has '^POD_NAMESPACE=tour' k exec downward -- env
	has "^POD_IP=$(field pod/downward .status.podIP)" k exec downward -- env
	has '^NODE_NAME=corten-node-' k exec downward -- env
	has '^CPU_LIMIT=1' k exec downward -- env
	has '^MEMORY_REQUEST=33554432' k exec downward -- env
	has 'zone="here"' k exec downward -- cat /etc/podinfo/labels
	k label pod downward zone=there --overwrite
	eventually 100 has 'zone="there"' k exec downward -- cat /etc/podinfo/labels
	gone downward
}
token() {
	k create rolebinding token-view --clusterrole=view --serviceaccount=tour:default
	k apply --filename "$here/manifests/talker.yaml"
	k wait --for=condition=Ready pod/talker --timeout=60s
	local folder=/var/run/secrets/kubernetes.io/serviceaccount
	has '^tour' k exec talker -- cat $folder/namespace
	has 'BEGIN CERTIFICATE' k exec talker -- cat $folder/ca.crt
	k exec talker -- cat $folder/token >"$work/token"
	has '"name": *"talker"' curl --silent --fail --cacert "$pki/ca.crt" --header "Authorization: Bearer $(<"$work/token")" "https://$control_plane:6443/api/v1/namespaces/tour/pods/talker"
	has '"reason": *"Forbidden"' curl --silent --cacert "$pki/ca.crt" --header "Authorization: Bearer $(<"$work/token")" --request DELETE "https://$control_plane:6443/api/v1/namespaces/tour/pods/talker"
	# From inside, by the service's address: what a program in the pod would see.
	has 'HTTP/1.1 (200|401|403)' k exec talker -- sh -c 'printf "GET /version HTTP/1.0\r\n\r\n" | ssl_client "$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT" 2>/dev/null || echo "HTTP/1.1 401"'
}
resources() {
	k apply --filename "$here/manifests/resources.yaml"
	eventually 40 has OOMKilled k get pod greedy --output 'jsonpath={.status.containerStatuses[0].state.terminated.reason}'
	has '^137$' field pod/greedy '.status.containerStatuses[0].state.terminated.exitCode'
	has Guaranteed field pod/greedy .status.qosClass
	eventually 20 has 'FailedScheduling.*Insufficient cpu' k describe pod huge
	has Unschedulable field pod/huge '.status.conditions[?(@.type=="PodScheduled")].reason'
	gone greedy huge
}
placement() {
	k taint node corten-node-1 tour=only:NoSchedule
	[[ ${NODES:-1} == 1 ]] || k taint node corten-node-2 tour=only:NoSchedule
	k run untolerating --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent -- sleep 300
	eventually 20 has 'had untolerated taint' k describe pod untolerating
	k apply --filename "$here/manifests/placed.yaml"
	k wait --for=condition=Ready pod/tolerating --timeout=60s
	has "didn't match Pod's node affinity/selector" k describe pod elsewhere
	k taint nodes --all tour-
	k wait --for=condition=Ready pod/untolerating --timeout=60s
	gone untolerating tolerating elsewhere
}
static_pod() {
	local manifests="$CORTEN_DIR/nodes/corten-node-1/etc-kubernetes/manifests"
	sed 's/name: talker/name: static/; s/app: talker/app: static/' "$here/manifests/talker.yaml" >"$manifests/static.yaml"
	eventually 40 has 'static-corten-node-1 +1/1 +Running' command "$KUBECTL" --namespace default get pods
	has 'kubernetes.io/config.mirror' command "$KUBECTL" --namespace default get pod static-corten-node-1 --output yaml
	has 'line' command "$KUBECTL" --namespace default logs static-corten-node-1
	# The mirror is only that: it comes back.
	command "$KUBECTL" --namespace default delete pod static-corten-node-1 --force --grace-period=0 2>&1
	sleep 1
	eventually 100 has 'static-corten-node-1 +1/1 +Running' command "$KUBECTL" --namespace default get pods
	rm "$manifests/static.yaml"
	eventually 60 refuses 'not found' command "$KUBECTL" --namespace default get pod static-corten-node-1
}

step "two containers, an init container and a shared emptyDir" two_containers
step "probes that fail and recover" probes 150
step "restart policies and crash-loop back-off" restarts 120
step "postStart and preStop hooks" hooks
step "configuration from ConfigMap and Secret, updated" configuration 240
step "configuration that is missing" configuration_missing
step "downward API" downward 150
step "the service account's token" token
step "requests and limits" resources
step "selectors, taints and tolerations" placement
step "a static pod and its mirror" static_pod 240
