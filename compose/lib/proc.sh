# shellcheck shell=bash
# Processes of a stack: started detached, recorded by pid and start time, ended by that record alone.
# A record is DIR/run/NAME.pid with one line: the pid and field 22 of /proc/PID/stat. A pid whose start time is
# another one belongs to somebody else and is never signalled. Every process carries SLUICE_STACK=DIR in its
# environment, by which workers that outlived their parent are known.

# start_time PID: sets REPLY to the start time in clock ticks since boot; status 1 when there is no such process
# or only its remains (a zombie) are left.
start_time() {
	local stat
	{ stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
	[[ -n $stat ]] || return 1
	stat=${stat##*) }
	# shellcheck disable=SC2206 # the fields are numbers and one letter
	local f=($stat)
	[[ ${f[0]} != Z && ${f[0]} != X ]] || return 1
	REPLY=${f[19]}
}

# recorded NAME: sets PID when a process is recorded and is still that process; status 1 otherwise.
recorded() {
	local start
	PID=
	{ read -r PID start <"$DIR/run/$1.pid"; } 2>/dev/null || return 1
	[[ $PID =~ ^[0-9]+$ ]] && start_time "$PID" && [[ $REPLY == "$start" ]] && return 0
	PID=
	return 1
}

# leftovers NAME: sets LEFT to the pids of the recorded process's group that still live though it does not
# (workers whose parent was killed).
leftovers() {
	local pid start d stat env
	LEFT=()
	{ read -r pid start <"$DIR/run/$1.pid"; } 2>/dev/null || return 0
	[[ $pid =~ ^[0-9]+$ ]] || return 0
	kill -0 -- "-$pid" 2>/dev/null || return 0
	for d in /proc/[0-9]*; do
		{ stat=$(<"$d/stat"); } 2>/dev/null || continue
		stat=${stat##*) }
		# shellcheck disable=SC2206
		local f=($stat)
		[[ ${f[2]} == "$pid" && ${f[0]} != Z && ${f[19]} -ge $start ]] || continue
		env=$(tr '\0' '\n' 2>/dev/null <"$d/environ") || continue
		[[ $'\n'$env$'\n' == *$'\n'"SLUICE_STACK=$DIR"$'\n'* ]] && LEFT+=("${d#/proc/}")
	done
	return 0
}

# spawn NAME COMMAND…: starts it in a session of its own, stdin from /dev/null, output appended to DIR/logs/NAME.log,
# and records it. As many file descriptors as the system allows.
spawn() {
	local name=$1 i
	shift
	rm -f "$DIR/run/$name.pid"
	# shellcheck disable=SC2016 # expanded by the inner shell
	SLUICE_STACK=$DIR SLUICE_STACK_PORTS=$PORTS setsid bash -c '
		name=$1 dir=$2; shift 2
		ulimit -Sn "$(ulimit -Hn)" 2>/dev/null
		stat=$(</proc/$$/stat); stat=${stat##*) }; f=($stat)
		echo "$$ ${f[19]}" >"$dir/run/$name.pid.new" && mv "$dir/run/$name.pid.new" "$dir/run/$name.pid"
		exec "$@"' stack "$name" "$DIR" "$@" </dev/null >>"$DIR/logs/$name.log" 2>&1 8>&- 9>&- &
	for ((i = 0; i < 200; i++)); do
		[[ -s $DIR/run/$name.pid ]] && return 0
		sleep 0.01
	done
	return 1
}

# ask_to_end NAME [SIGNAL]: signals the recorded process (TERM by default); status 1 when there is none.
ask_to_end() {
	recorded "$1" && kill "-${2:-TERM}" "$PID" 2>/dev/null
}

# await_end NAME LIMIT_MS: waits until the recorded process and its group are gone; after the limit they are
# killed. Its record is removed. Says so when it had to kill.
await_end() {
	local name=$1 deadline
	now_ms
	deadline=$((NOW + $2))
	while recorded "$name"; do
		now_ms
		if ((NOW > deadline)); then
			say "  $name did not end within $(($2 / 1000)) s: killed"
			kill -KILL -- "-$PID" 2>/dev/null || kill -KILL "$PID" 2>/dev/null
			deadline=$((NOW + 5000))
		fi
		sleep 0.03
	done
	end_leftovers "$name"
	rm -f "$DIR/run/$name.pid"
}

# end_leftovers NAME: kills what remained of a group whose first process is gone.
end_leftovers() {
	leftovers "$1"
	((${#LEFT[@]})) && kill -KILL "${LEFT[@]}" 2>/dev/null
	return 0
}

# listening: fills the map LISTEN with the ports of this machine that something listens on -> socket's inode.
listening() {
	local file address inode
	declare -gA LISTEN=()
	for file in /proc/net/tcp /proc/net/tcp6; do
		[[ -r $file ]] || continue
		# read in large pieces: the shell's own small ones take seconds where thousands of connections linger, and tear lines
		while read -r address inode; do
			LISTEN[$((16#${address##*:}))]=$inode
		done < <(awk '$4 == "0A" { print $2, $10 }' "$file")
	done
}

# port_owner PORT: sets REPLY to "process 123 (name)" or to nothing; after listening.
port_owner() {
	local inode=${LISTEN[$1]} fd pid
	REPLY=
	for fd in /proc/[0-9]*/fd/*; do
		[[ $(readlink "$fd" 2>/dev/null) == "socket:[$inode]" ]] || continue
		pid=${fd#/proc/}
		pid=${pid%%/*}
		REPLY="process $pid ($(tr -d '\0' <"/proc/$pid/comm" 2>/dev/null))"
		return 0
	done
	return 0
}
