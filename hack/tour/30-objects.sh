# shellcheck shell=bash
# Objects as files, and the commands about the API itself.

apply_and_delete() {
	has 'configmap/settings created' k apply --filename "$here/manifests/settings.yaml"
	has 'configmap/settings unchanged' k apply --filename "$here/manifests/settings.yaml"
	sed 's/colour: red/colour: blue/' "$here/manifests/settings.yaml" >"$work/changed.yaml"
	has 'configured' k apply --filename "$work/changed.yaml"
	has blue k get configmap settings --output 'jsonpath={.data.colour}'
	has 'settings" deleted' k delete --filename "$here/manifests/settings.yaml"
	refuses 'not found' k get configmap settings
}
edits() {
	k create configmap edited --from-literal=a=b
	k label configmap edited x=y
	k edit configmap edited
	has yes k get configmap edited --output 'jsonpath={.metadata.labels.edited}'
	k delete configmap edited
}
patches() {
	k create configmap patched --from-literal=a=b
	k patch configmap patched --type=merge --patch '{"data":{"c":"d"}}'
	k patch configmap patched --type=json --patch '[{"op":"replace","path":"/data/a","value":"z"}]'
	[[ $(k get configmap patched --output 'jsonpath={.data.a}{.data.c}') == zd ]]
	k patch deployment hello --type=strategic --patch '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"X","value":"1"}]}]}}}}'
	has 'localhost/web:v1' k get deployment hello --output 'jsonpath={.spec.template.spec.containers[0].image}'
	has '"name":"X"' k get deployment hello --output 'jsonpath={.spec.template.spec.containers[0].env}'
	refuses 'the server rejected our request|request is invalid|the JSON Patch|doc is missing|nonexistent|error' k patch configmap patched --type=json --patch '[{"op":"remove","path":"/data/none"}]'
	k rollout status deployment/hello --timeout=60s
	k delete configmap patched
}
api_resources() {
	has '^deployments +deploy +apps/v1 +true +Deployment' k api-resources
	has '^nodes +no +v1 +false +Node' k api-resources
	has 'rbac.authorization.k8s.io/v1' k api-versions
	has 'pods' k api-resources --api-group=''
	has 'control plane.* is running at' k cluster-info
}
explains() {
	has 'replicas' k explain deployment.spec
	has 'restartPolicy' k explain pod.spec --recursive
	refuses 'field "nothing" does not exist' k explain pod.nothing
}
can_i() {
	has yes k auth can-i create deployments
	has no bash -c "'$KUBECTL' -n tour auth can-i create deployments --as nobody; true"
	has yes k auth can-i get configmaps --as system:serviceaccount:tour:default --as-group system:masters
	k create role reader --verb=get,list --resource=pods
	k create rolebinding reader --role=reader --serviceaccount=tour:default
	eventually 5 has yes k auth can-i list pods --as system:serviceaccount:tour:default
	has no bash -c "'$KUBECTL' -n tour auth can-i delete pods --as system:serviceaccount:tour:default; true"
	refuses 'pods is forbidden: User "nobody" cannot list resource "pods" in API group "" in the namespace "tour"' k get pods --as nobody
}
tokens() {
	needs_client 24
	local token
	token=$(k create token default --duration=10m)
	[[ $(tr -cd . <<<"$token") == .. ]]
	has 'PodList' curl --silent --fail --cacert "$pki/ca.crt" --header "Authorization: Bearer $token" "$server/api/v1/namespaces/tour/pods"
	has '"code": *401' curl --silent --cacert "$pki/ca.crt" --header "Authorization: Bearer ${token%?????}AAAAA" "$server/api/v1/namespaces/tour/pods"
}
runs() {
	has 'pod/once created' k run once --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent --restart=Never -- sh -c 'echo done once'
	eventually 30 has 'once +0/1 +Completed' k get pod once
	has 'done once' k logs once
	k delete pod once
	has 'inside' k run inter --rm -i --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent --restart=Never -- sh -c 'sleep 1; echo inside'
}
waits() {
	k run waited --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent --restart=Never -- sleep 300
	has 'condition met' k wait --for=condition=Ready pod/waited --timeout=30s
	k delete pod waited --wait=false --grace-period=1
	k wait --for=delete pod/waited --timeout=30s
	has 'condition met' k wait --for=condition=Available deployment/hello --timeout=30s
}
dry_runs() {
	has 'created \(server dry run\)' k create configmap dry --from-literal=a=b --dry-run=server
	refuses 'not found' k get configmap dry
	refuses 'Invalid value|is invalid|validation' k create configmap 'UPPER' --from-literal=a=b
}
node_care() {
	has 'cordoned' k cordon corten-node-1
	has 'SchedulingDisabled' k get node corten-node-1
	k run nowhere --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent --overrides='{"spec":{"nodeSelector":{"kubernetes.io/hostname":"corten-node-1"}}}' -- sleep 300
	eventually 15 has 'FailedScheduling.*node\(s\) were unschedulable' k describe pod nowhere
	has 'uncordoned' k uncordon corten-node-1
	k wait --for=condition=Ready pod/nowhere --timeout=60s
	k delete pod nowhere --now
	k taint node corten-node-1 tour=yes:NoSchedule
	has 'tour=yes:NoSchedule' k describe node corten-node-1
	k taint node corten-node-1 tour-
}
drains() {
	k drain corten-node-1 --ignore-daemonsets --delete-emptydir-data --force --timeout=60s --pod-selector=app=hello
	has 'SchedulingDisabled' k get node corten-node-1
	k uncordon corten-node-1
	k rollout status deployment/hello --timeout=60s
}

step "apply and delete files" apply_and_delete
step "edit" edits
step "patch in three ways" patches
step "api-resources, api-versions, cluster-info" api_resources
step "explain" explains
step "auth can-i" can_i
step "create token" tokens
step "run" runs
step "wait" waits
step "dry runs and refusals" dry_runs
step "cordon and taint" node_care
step "drain" drains
