# shellcheck shell=bash
# What streams: logs, exec, attach, port-forward, cp, proxy.

talker() {
	k apply --filename "$here/manifests/talker.yaml"
	k wait --for=condition=Ready pod/talker --timeout=60s
}
logs() {
	eventually 10 has 'line 3' k logs talker
	has '^line' k logs talker --tail=1
	[[ $(k logs talker --tail=2 | wc -l) == 2 ]]
	has '^20[0-9][0-9]-.*Z line' k logs talker --timestamps --tail=1
	behind k logs --follow talker
	eventually 10 grep -q 'line 5' "$work/behind"
	has 'line' k logs --selector app=talker
	refuses 'container nothing is not valid' k logs talker --container nothing
}
logs_previous() {
	k exec talker -- kill 1
	eventually 30 has 'talker.* 1 \(' k get pods talker
	has 'line 1' k logs talker --previous
	has 'bye' k logs talker --previous --tail=1
}
execs() {
	eventually 20 k exec talker -- true
	has '^HOSTNAME=talker' k exec talker -- env
	has 'KUBERNETES_SERVICE_HOST=10.96.0.1' k exec talker -- env
	[[ $(echo through | k exec -i talker -- cat) == through ]]
	[[ $(k exec talker -- sh -c 'echo out; echo err >&2' 2>/dev/null) == out ]]
	local status=0
	k exec talker -- sh -c 'exit 3' || status=$?
	[[ $status == 3 ]]
	refuses 'executable file not found|no such file' k exec talker -- /no/such
	# A mebibyte in and out again, whole.
	head -c 1048576 /dev/urandom >"$work/blob"
	k exec -i talker -- cat <"$work/blob" | cmp - "$work/blob"
}
terminal() {
	printf 'stty size; echo $((6*7)); exit 4\n' >"$work/typed"
	local status=0
	(sleep 1; cat "$work/typed"; sleep 1) | script --quiet --return --command "$KUBECTL -n tour exec -ti talker -- sh" "$work/terminal" || status=$?
	cat "$work/terminal"
	grep -q 42 "$work/terminal"
	[[ $status == 4 ]]
}
attaches() {
	behind k attach talker
	eventually 15 grep -q line "$work/behind"
}
forwards() {
	local pod
	pod=$(first_pod app=hello)
	behind k port-forward "$pod" 18080:8080
	eventually 15 fetch http://127.0.0.1:18080/
	has "host: $pod" fetch http://127.0.0.1:18080/
	for _ in 1 2 3 4 5; do has 'version' fetch http://127.0.0.1:18080/; done
}
copies() {
	head -c 300000 /dev/urandom >"$work/file"
	k cp "$work/file" talker:/tmp/file
	k cp talker:/tmp/file "$work/back"
	cmp "$work/file" "$work/back"
}
proxies() {
	local pod
	pod=$(first_pod app=hello)
	behind k proxy --port=18001
	eventually 15 fetch http://127.0.0.1:18001/version
	has '"major": "1"' fetch http://127.0.0.1:18001/version
	has 'version: v1' fetch "http://127.0.0.1:18001/api/v1/namespaces/tour/pods/$pod:8080/proxy/"
	k create service clusterip hello --tcp=80:8080
	eventually 10 has 'version: v1' fetch "http://127.0.0.1:18001/api/v1/namespaces/tour/services/hello:80/proxy/"
	k delete service hello
}

step "a pod that talks" talker
step "logs, --tail, --timestamps, --follow" logs
step "logs --previous" logs_previous
step "exec" execs
step "exec with a terminal" terminal
step "attach" attaches
step "port-forward" forwards
step "cp" copies
step "proxy" proxies
