# shellcheck shell=bash
# The basic commands: nodes, a deployment and every way to look at it.

versions() {
	has 'v1\.37' k version
	has '"gitVersion": *"v1\.37' k version --output json
}
nodes() {
	has 'corten-node-1 +Ready' k get nodes
	has 'containerd://' k get nodes --output wide
	has 'KubeletReady' k describe node corten-node-1
	has 'corten-node-1' k get --raw /api/v1/nodes
}
create_deployment() {
	has 'deployment.apps/hello created' k create deployment hello --image=localhost/web:v1
	has 'already exists' bash -c "! '$KUBECTL' -n tour create deployment hello --image=localhost/web:v1 2>&1"
	k rollout status deployment/hello --timeout=60s
	has 'hello +1/1 +1 +1' k get deployments
}
looks() {
	local kind pod
	pod=$(first_pod app=hello)
	for kind in deployments pods rs services events; do
		has . k get "$kind"
		has . k get "$kind" --output wide
		has 'apiVersion: v1' k get "$kind" --output yaml
		has '"kind": "List"' k get "$kind" --output json
	done
	has 'kube-system' k get pods --all-namespaces
	has "pod/$pod" k get pods --output name
	has 'Running' k get pod "$pod" --output 'jsonpath={.status.phase}'
	has 'NAME +READY +STATUS +RESTARTS +AGE +IP +NODE' k get pods --output wide
	has 'hello' k get pods --output custom-columns=NAME:.metadata.name --sort-by=.metadata.creationTimestamp
	has "$pod" k get pods --field-selector status.phase=Running
	lacks "$pod" k get pods --field-selector status.phase=Failed
	has 'app=hello' k get pods --show-labels
	refuses 'pods "none" not found' k get pod none
	refuses "the server doesn't have a resource type" k get nothings
}
watches() {
	behind k get pods --watch --output name
	eventually 10 grep -q hello "$work/behind"
	k run watched --image=docker.io/library/busybox:stable --image-pull-policy=IfNotPresent --restart=Never -- true
	eventually 20 grep -q pod/watched "$work/behind"
	k delete pod watched --now
}
describes() {
	local pod
	pod=$(first_pod app=hello)
	has 'ScalingReplicaSet' k describe deployment hello
	has 'SuccessfulCreate' k describe rs --selector app=hello
	has 'Scheduled.*Successfully assigned tour/' k describe pod "$pod"
	has 'Created' k describe pod "$pod"
	has 'Started' k describe pod "$pod"
	has 'QoS Class: +BestEffort' k describe pod "$pod"
}
label_and_select() {
	local pod
	pod=$(first_pod app=hello)
	k label pod "$pod" colour=red
	has "$pod" k get pods --selector colour=red
	refuses 'overwrite is false' k label pod "$pod" colour=blue
	k label pod "$pod" colour=blue --overwrite
	lacks "$pod" k get pods --selector 'colour in (red)'
	has "$pod" k get pods --selector 'colour notin (red),app'
	k label pod "$pod" colour-
	k annotate pod "$pod" note=seen
	has seen k get pod "$pod" --output 'jsonpath={.metadata.annotations.note}'
}
expose() {
	local port
	has 'service/hello exposed' k expose deployment/hello --type=NodePort --port=80 --target-port=8080
	has 'NodePort' k describe service hello
	port=$(k get service hello --output 'jsonpath={.spec.ports[0].nodePort}')
	eventually 15 fetch "http://$(node_address 1):$port/"
	has 'version: v1' fetch "http://$(node_address 1):$port/"
	has 'hello' k get endpointslices --selector kubernetes.io/service-name=hello
}
scale() {
	k scale deployment/hello --replicas=3
	k rollout status deployment/hello --timeout=60s
	has '3/3' k get deployment hello
	k scale deployment/hello --current-replicas=3 --replicas=2
	eventually 20 has '2/2' k get deployment hello
}
update() {
	local port
	port=$(k get service hello --output 'jsonpath={.spec.ports[0].nodePort}')
	k set image deployment/hello web=localhost/web:v2
	has 'successfully rolled out' k rollout status deployment/hello --timeout=60s
	eventually 10 has 'version: v2' fetch "http://$(node_address 1):$port/"
	has '^2' k rollout history deployment/hello
	has 'localhost/web:v2' k rollout history deployment/hello --revision=2
	k rollout undo deployment/hello
	k rollout status deployment/hello --timeout=60s
	eventually 10 has 'version: v1' fetch "http://$(node_address 1):$port/"
	k rollout restart deployment/hello
	k rollout status deployment/hello --timeout=60s
	has 'restartedAt' k get deployment hello --output yaml
}
stuck() {
	k set image deployment/hello web=localhost/web:none
	refuses 'timed out|exceeded' k rollout status deployment/hello --timeout=5s
	eventually 30 has 'ErrImagePull|ImagePullBackOff' k get pods --selector app=hello
	has '(Failed|Error).*localhost/web:none' k describe pods --selector app=hello --show-events=true
	k rollout undo deployment/hello
	k rollout status deployment/hello --timeout=60s
	eventually 30 lacks 'ImagePull' k get pods --selector app=hello
}
delete_selected() {
	k label service hello tier=front
	has 'service "hello" deleted' k delete service --selector tier=front
	refuses 'not found' k get service hello
}

step "kubectl version" versions
step "get and describe nodes" nodes
step "create deployment" create_deployment
step "get in every form" looks
step "get --watch" watches
step "describe, with events" describes
step "label, annotate and select" label_and_select
step "expose as NodePort" expose
step "scale" scale
step "set image, rollout status, history, undo, restart" update 150
step "a rollout to an image that does not exist" stuck 150
step "delete by selector" delete_selected
