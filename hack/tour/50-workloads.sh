# shellcheck shell=bash
# Workloads beside Deployments, Services of every kind, and images from a registry that asks for a password.

daemon_set() {
	k apply --filename "$here/manifests/daemonset.yaml"
	eventually 60 has "^${NODES:-1}$" k get daemonset everywhere --output 'jsonpath={.status.numberReady}'
	k set image daemonset/everywhere web=localhost/web:v2
	has 'successfully rolled out' k rollout status daemonset/everywhere --timeout=60s
	has 'v2' k get pods --selector app=everywhere --output 'jsonpath={.items[*].spec.containers[0].image}'
	k rollout undo daemonset/everywhere
	k rollout status daemonset/everywhere --timeout=60s
	k delete daemonset everywhere
}
stateful_set() {
	k apply --filename "$here/manifests/statefulset.yaml"
	k rollout status statefulset/ordered --timeout=60s
	has '^ordered-0 ordered-1$' k get pods --selector app=ordered --output 'jsonpath={.items[*].metadata.name}'
	eventually 20 has '^1 2$' k get poddisruptionbudget ordered --output 'jsonpath={.status.disruptionsAllowed} {.status.currentHealthy}'
	eventually 20 has '^1$' k get resourcequota ordered --output 'jsonpath={.status.used.count/statefulsets\.apps}'
	k set image statefulset/ordered web=localhost/web:v2
	k rollout status statefulset/ordered --timeout=90s
	has '^localhost/web:v2 localhost/web:v2$' k get pods --selector app=ordered --output 'jsonpath={.items[*].spec.containers[0].image}'
	k scale statefulset/ordered --replicas=1
	eventually 30 has '^ordered-0$' k get pods --selector app=ordered --output 'jsonpath={.items[*].metadata.name}'
	k delete --filename "$here/manifests/statefulset.yaml"
	eventually 30 lacks 'ordered' k get pods --output name
}
cron_job() {
	needs_client 21
	k apply --filename "$here/manifests/cronjob.yaml"
	k create job now --from=cronjob/sometimes
	has 'condition met' k wait --for=condition=Complete job/now --timeout=60s
	k delete --filename "$here/manifests/cronjob.yaml"
	eventually 30 lacks 'now' k get pods --output name
}
jobs_run() {
	k apply --filename "$here/manifests/job.yaml"
	has 'condition met' k wait --for=condition=Complete job/parallel --timeout=60s
	has '^4$' k get job parallel --output 'jsonpath={.status.succeeded}'
	has 'Complete +4/4' k get job parallel
	eventually 60 has 'True' k get job failing --output 'jsonpath={.status.conditions[?(@.type=="Failed")].status}'
	has 'BackoffLimitExceeded' k describe job failing
	k delete job parallel failing
	eventually 30 lacks 'parallel|failing' k get pods --selector 'job-name in (parallel,failing)' --output name
}
services() {
	k apply --filename "$here/manifests/services.yaml"
	k wait --for=condition=Ready pod/asker --timeout=60s
	k rollout status deployment/backend --timeout=60s
	local seen ip
	ip=$(k get service cluster --output 'jsonpath={.spec.clusterIP}')
	eventually 20 fetch "http://$ip/"
	eventually 20 has 'version: v1' k exec asker -- timeout 5 wget -q -O - http://cluster.tour.svc.cluster.local/
	has 'version: v1' k exec asker -- timeout 5 wget -q -O - http://cluster/
	seen=$(for _ in $(seq 24); do k exec asker -- timeout 5 wget -q -O - http://cluster/; done | grep '^host' | sort -u | wc -l)
	[[ $seen == 3 ]]
	seen=$(for _ in $(seq 12); do k exec asker -- timeout 5 wget -q -O - http://sticky/; done | grep '^host' | sort -u | wc -l)
	[[ $seen == 1 ]]
	seen=$(k exec asker -- nslookup -type=a headless.tour.svc.cluster.local | grep -c '^Address: 10.244')
	[[ $seen == 3 ]]
	has 'canonical name = web.default.svc.cluster.local|web.default.svc.cluster.local' k exec asker -- nslookup -type=cname external.tour.svc.cluster.local
	has "$ip" k exec asker -- nslookup cluster.tour.svc.cluster.local
	has 'name = cluster.tour.svc.cluster.local' k exec asker -- nslookup "$ip"
	# Without endpoints the connection is refused at once.
	k scale deployment/backend --replicas=0
	eventually 20 refuses 'refused|onnect' nsenter --net=/run/netns/corten-node-1 curl --silent --show-error --max-time 2 "http://$ip/"
	k delete --filename "$here/manifests/services.yaml" --now
}
private_registry() {
	local port=5443 secret=tour-password
	mkdir -p "$work/registry"
	htpasswd -Bbn tour "$secret" >"$work/htpasswd"
	cat >"$work/registry.yml" <<-EOF
		version: 0.1
		log: {level: error, accesslog: {disabled: true}}
		storage: {filesystem: {rootdirectory: $work/registry}}
		http: {addr: "$control_plane:$port"}
		auth: {htpasswd: {realm: tour, path: $work/htpasswd}}
	EOF
	behind docker-registry serve "$work/registry.yml"
	# In another format, and so another image to the kubelet: it remembers which images were pulled with a password.
	eventually 15 skopeo copy --quiet --format oci --insecure-policy --dest-tls-verify=false --dest-creds "tour:$secret" \
		"docker-archive:$CORTEN_DIR/images/web-v2.tar" "docker://$control_plane:$port/private/web:v2"
	local i certs
	for ((i = 1; i <= ${NODES:-1}; i++)); do
		certs=$CORTEN_DIR/nodes/corten-node-$i/etc-containerd/certs.d/$control_plane:$port
		mkdir -p "$certs"
		printf '[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$control_plane:$port" >"$certs/hosts.toml"
	done
	k run private --image="$control_plane:$port/private/web:v2"
	eventually 40 has 'ErrImagePull|ImagePullBackOff' k get pod private
	k delete pod private --now
	k create secret docker-registry registry --docker-server="$control_plane:$port" --docker-username=tour --docker-password="$secret"
	k run private --image="$control_plane:$port/private/web:v2" --overrides='{"spec":{"imagePullSecrets":[{"name":"registry"}]}}'
	k wait --for=condition=Ready pod/private --timeout=60s
	eventually 10 has 'Pulled.*(Successfully pulled image|can be accessed by the pod)' k describe pod private
	k delete pod private --now
	k delete secret registry
}

step "a DaemonSet" daemon_set 120
step "a StatefulSet with a budget and a quota" stateful_set 180
step "a CronJob's job" cron_job 120
step "Jobs: parallel, and one that fails" jobs_run 150
step "Services: ClusterIP, affinity, headless, ExternalName, DNS" services 180
step "a private registry" private_registry 120
