#!/usr/bin/env bash
# stack.sh: what compose/stack promises, tried with Kafka, Redis and PostgreSQL on ports of its own (no services).
# One line per claim, "ok" or "not ok"; the last line is "N passed, N failed". Status 1 when one failed.
set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/sluice-stack.XXXXXX")
chmod 755 "$work"
dir=$work/one
passed=0 failed=0 stranger= holder=

stack() { "$TOP/compose/stack" "$@" --dir "$dir"; }
cleanup() {
	local n
	stack reset >/dev/null 2>&1
	for n in "$work"/at-once-*; do [[ ! -d $n ]] || "$TOP/compose/stack" reset --dir "$n" >/dev/null 2>&1; done
	[[ -n $stranger ]] && kill "$stranger" 2>/dev/null
	[[ -n $holder ]] && kill "$holder" 2>/dev/null
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# claim WORDS -- COMMAND…: the command's status is the claim's; its output is shown when it fails.
claim() {
	local words=$1
	shift 2
	if "$@" >"$work/out" 2>&1; then
		passed=$((passed + 1))
		echo "ok      stack: $words"
	else
		failed=$((failed + 1))
		echo "not ok  stack: $words"
		sed 's/^/        | /' "$work/out"
	fi
}

pids() { cat "$dir"/run/*.pid; }
pid_of() { cut -d' ' -f1 "$dir/run/$1.pid"; }
port() { echo $(($(sed -n 's/^ports=//p' "$dir/settings") + $1)); }
redis() { redis-cli -p "$(port 20)" "$@"; }
sql() { PGPASSWORD=$(cat "$dir/keys/postgres") psql -At -h 127.0.0.1 -p "$(port 21)" -U sluice -d sluice -c "$1"; }

same_pids_after_up() {
	local before
	before=$(pids)
	stack up --no-services && [[ $(pids) == "$before" ]]
}

data_survives_a_crash() {
	redis set kept yes && sql 'CREATE TABLE kept AS SELECT 42 AS n' || return 1
	kill -KILL "$(pid_of kafka-1)" "$(pid_of redis)" "$(pid_of postgres)"
	stack status && return 1
	stack up --no-services && [[ $(redis get kept) == yes && $(sql 'SELECT n FROM kept') == 42 ]]
}

one_part_alone() {
	local kafka
	kafka=$(pid_of kafka-1)
	stack down redis && ! redis ping && stack up redis --no-services && [[ $(redis ping) == PONG && $(pid_of kafka-1) == "$kafka" ]]
}

others_port_is_named() {
	local out
	if out=$("$TOP/compose/stack" up --no-services --dir "$work/two" --ports "$(port 0)" 2>&1); then return 1; fi
	echo "$out"
	[[ $out == *"port $(port 10)"* ]]
}

second_stack_beside() {
	"$TOP/compose/stack" up --no-services --dir "$work/two" --ports auto || return 1
	[[ $(sed -n 's/^ports=//p' "$work/two/settings") != "$(port 0)" ]] && "$TOP/compose/stack" reset --dir "$work/two" && stack status
}

held_ports_are_passed_by() {
	local base out at
	base=$(($(port 0) + 300))
	SLUICE_STACK=$work/gone SLUICE_STACK_PORTS=$base sleep 600 &
	holder=$!
	out=$("$TOP/compose/stack" up --no-services --dir "$work/two" --ports "$base" 2>&1) && return 1
	echo "$out"
	[[ $out == *"process $holder "* ]] || return 1
	at=$(DIR=$work/new bash -c 'for l in base proc kafka; do TOP=$1; . "$1/compose/lib/$l.sh"; done; free_base "$2"; echo "$REPLY"' sh "$TOP" "$base") || return 1
	((at >= base + 100)) || return 1
	kill "$holder"
	wait "$holder"
	holder=
	DIR=$work/new bash -c 'TOP=$1; for l in base proc kafka; do . "$1/compose/lib/$l.sh"; done; bases_held; [[ -z ${HELD[$2]:-} ]]' sh "$TOP" "$base"
}

stranger_is_left_alone() {
	sleep 600 &
	stranger=$!
	echo "$stranger 1" >"$dir/run/sluice-old.pid"
	stack down && kill -0 "$stranger"
}

nothing_left() {
	local e
	for e in /proc/[0-9]*/environ; do
		if tr '\0' '\n' 2>/dev/null <"$e" | grep -qx "SLUICE_STACK=$dir"; then
			echo "left: ${e%/environ}"
			return 1
		fi
	done
}

# Each takes some seconds until it listens; the free ports of the one are not free for the other by then.
two_at_once_differ() {
	local n first second both=()
	for n in 1 2; do
		"$TOP/compose/stack" up --no-services --dir "$work/at-once-$n" --ports auto &
		both+=($!)
	done
	wait "${both[@]}"
	first=$(sed -n 's/^ports=//p' "$work/at-once-1/settings") second=$(sed -n 's/^ports=//p' "$work/at-once-2/settings")
	echo "ports from $first and from $second on"
	for n in 1 2; do "$TOP/compose/stack" status --dir "$work/at-once-$n" || first=; done
	for n in 1 2; do "$TOP/compose/stack" reset --dir "$work/at-once-$n" || return 1; done
	[[ -n $first && $first != "$second" ]]
}

reset_deletes() { stack reset && [[ ! -e $dir/postgres && ! -e $dir/redis && ! -e $dir/settings ]]; }

claim "a new folder comes up" -- stack up --no-services --ports auto
((failed == 0)) || { echo "$passed passed, $failed failed"; exit 1; }
claim "up again keeps what runs" -- same_pids_after_up
claim "after SIGKILL of every part, up starts them with their data" -- data_survives_a_crash
claim "one part is stopped and started while the others run on" -- one_part_alone
claim "a port that is somebody else's is named" -- others_port_is_named
claim "a second stack runs beside the first" -- second_stack_beside
claim "two stacks that come up at once take other ports" -- two_at_once_differ
claim "ports that another stack's process points to are passed by, and refused" -- held_ports_are_passed_by
claim "a process that only has a recorded pid is not ended" -- stranger_is_left_alone
claim "down leaves no process" -- nothing_left
claim "reset deletes the data" -- reset_deletes
echo "$passed passed, $failed failed"
((failed == 0))
