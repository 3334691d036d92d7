# shellcheck shell=bash
# What the benchmarks with peers share: a stack that ends with the script, processor time of processes, tables of
# min / median / max. To be read with `.` from the top of the tree, after BUILD is set.

BENCH_DIR=${DIR:-build/bench-stack}
PEERS=$PWD/build/peers
bench_pids=()

# bench_end: ends what the script started; its trap.
bench_end() {
	local pid
	for pid in "${bench_pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	compose/stack reset --dir "$BENCH_DIR" >/dev/null 2>&1 || true
}

# bench_stack ARGUMENTS…: a fresh stack on free ports, with what `compose/stack up` takes; sets STATUS to its JSON.
bench_stack() {
	compose/stack reset --dir "$BENCH_DIR" >/dev/null 2>&1 || true
	trap bench_end EXIT
	trap 'exit 130' INT TERM
	compose/stack up "$@" --dir "$BENCH_DIR" --ports auto >"$BUILD/bench-stack.log" 2>&1 || { tail -n 25 "$BUILD/bench-stack.log" >&2; exit 1; }
	STATUS=$(compose/stack status --dir "$BENCH_DIR" --json || true)
}

# status_value KEY: a string of the top level of STATUS.
status_value() { printf '%s' "$STATUS" | tr ',{' '\n\n' | sed -n "s/^ *\"$1\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# part_pid NAME: the process of a part or of a service's instance; nothing when there is none.
part_pid() {
	printf '%s' "$STATUS" | tr '{}' '\n\n' |
		sed -n -e "s/.*\"id\" *: *\"$1\".*\"pid\" *: *\([0-9]*\).*/\1/p" -e "s/^\"name\" *: *\"$1\", *\"pid\" *: *\([0-9]*\).*/\1/p" | head -n 1
}

# cpu_ms PID…: processor time until now of these processes, of their children, and of those that ended, in ms.
cpu_ms() {
	local hertz
	hertz=$(getconf CLK_TCK)
	{ cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/^\([0-9]*\) (.*) /\1 /' | awk -v roots=" $* " -v hertz="$hertz" '
		{ parent[$1] = $3; own[$1] = $13 + $14 + $15 + $16 }
		END { for (p in own) { for (q = p; q in parent && !index(roots, " " q " "); q = parent[q]) ;
			if (q in parent) sum += own[p] }
			printf "%d\n", sum * 1000 / hertz }'
}

# spread: reads numbers, prints "min / median / max".
spread() {
	sort -g | awk '{ v[NR] = $1 } END { if (NR) printf "%s / %s / %s", v[1], v[int((NR + 1) / 2)], v[NR]; else printf "-" }'
}

# median: reads numbers, prints the middle one.
median() { sort -g | awk '{ v[NR] = $1 } END { print NR ? v[int((NR + 1) / 2)] : 0 }'; }

# peer_fetch NAME STAMP-FILE COMMAND…: runs COMMAND once for each content of STAMP-FILE; status 1 when it fails.
peer_fetch() {
	local name=$1 stamp=$2
	shift 2
	mkdir -p "$PEERS/$name"
	cmp -s "$stamp" "$PEERS/$name/.made" && return 0
	echo "fetching and building $name (once)"
	if ! "$@" >"$PEERS/$name.log" 2>&1; then
		echo "SKIPPED $name: it could not be fetched or built; see ${PEERS#"$PWD"/}/$name.log"
		return 1
	fi
	cp "$stamp" "$PEERS/$name/.made"
}

# scrape ADMIN-URL: its /metrics.
scrape() {
	local address=${1#http://}
	exec 7<>"/dev/tcp/${address%:*}/${address##*:}"
	printf 'GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n' >&7
	cat <&7
	exec 7<&-
}

# service_admin_url ID: where a service's instance shows its metrics.
service_admin_url() { printf '%s' "$STATUS" | tr '{}' '\n\n' | sed -n "s/.*\"id\" *: *\"$1\".*\"admin\" *: *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# jobs_ended LANE: how many the pool has ended, in whatever state.
jobs_ended() {
	scrape "$(service_admin_url sluice-pool-1)" |
		awk -v lane="lane=\"$1\"" 'index($0, "sluice_pool_jobs_ended_total{") == 1 && index($0, lane) { n += $NF } END { printf "%d\n", n }'
}

# await_ended LANE COUNT SECONDS: until the pool has ended so many; status 1 when it takes longer.
await_ended() {
	local i
	for ((i = 0; i < $3 * 20; i++)); do
		(($(jobs_ended "$1") >= $2)) && return 0
		sleep 0.05
	done
	return 1
}

now_ms() { date +%s%3N; }

# sleepers: accounts and routes of a provider that sleeps, as sections of a stack's configuration. Its key, which nobody
# asks for, comes from BENCH_KEY.
export BENCH_KEY=bench
sleepers() {
	local model
	printf 'accounts:\n  - name: sleeper\n    kind: sleep\n    base_url: "http://127.0.0.1:9"\n    key_env: BENCH_KEY\n'
	[[ -z ${1:-} ]] || printf '%s\n' "$1"
	printf 'routes:\n'
	for model in sleep-0ms sleep-5ms sleep-50ms; do
		printf '  - name: %s\n    kind: model\n    targets:\n      - account: sleeper\n        model: %s\n' "$model" "$model"
	done
}
