# shellcheck shell=bash
# Sluice's own services in a stack. A later one is one more line of this table.

# program | its folder | how many processes | first admin port, from the base | its section | arguments
SERVICES='
sluice-archive | consumers/archive | 1 | 70 | archive |
sluice-scheduler | scheduler | 1 | 75 | scheduler |
sluice-notify  | consumers/notify  | 1 | 80 | notify  |
sluice-pool    | consumers/pool    | 1 | 50 | pool    | --pool llm
sluice-front   | producer          | 1 | 40 | front   |
sluice-push    | consumers/push    | 1 | 60 | push    |
'

# service_count PROGRAM COUNT: sets REPLY to the number of its processes: the last --scale's, else the table's.
service_count() {
	local word
	REPLY=$2
	for word in $SCALE; do [[ ${word%=*} == "$1" ]] && REPLY=${word#*=}; done
	return 0
}

# services_load: from the table, for every program whose source is there: INSTANCES (sluice-pool-1…, in the order of their
# start) and the maps PROGRAM, SECTION, ADMIN, ARGS by instance. A program that is not built is an error, unless the caller
# does not start any (services_load look).
services_load() {
	local program folder count admin section args i
	INSTANCES=()
	declare -gA PROGRAM=() SECTION=() ADMIN=() ARGS=()
	while IFS='|' read -r program folder count admin section args; do
		program=${program// /} folder=${folder// /}
		[[ -n $program ]] || continue
		[[ -f $TOP/$folder/main.c || -x $BIN/$program ]] || continue
		[[ ${1:-} == look || -x $BIN/$program ]] || die "$BIN/$program is missing: run make first"
		service_count "$program" "$count"
		count=$REPLY
		for ((i = 1; i <= count; i++)); do
			INSTANCES+=("$program-$i")
			PROGRAM[$program-$i]=$program
			SECTION[$program-$i]=${section// /}
			ADMIN[$program-$i]=$((PORTS + admin + i - 1))
			ARGS[$program-$i]=$args
			service_listen "$program" "$i"
			((i > 1 && REPLY)) && ARGS[$program-$i]+=" --set ${SECTION[$program-$i]}.listen=127.0.0.1:$REPLY"
		done
	done <<<"$SERVICES"
}

# service_admin INSTANCE: sets REPLY to its admin port.
service_admin() { REPLY=${ADMIN[$1]}; }

# service_listen PROGRAM N: sets REPLY to the port at which its n-th process serves clients, or to nothing. Further fronts
# and push nodes (--scale) have ports of their own.
service_listen() {
	REPLY=
	case $1 in
	sluice-front) if (($2 == 1)); then REPLY=$PORTS; else REPLY=$((PORTS + 1 + $2)); fi ;;
	sluice-push) if (($2 == 1)); then REPLY=$((PORTS + 1)); else REPLY=$((PORTS + 5 + $2)); fi ;;
	sluice-dash) REPLY=$((PORTS + 2)) ;;
	esac
}

# service_ports INSTANCE: sets REPLY to the ports it listens on.
service_ports() {
	service_listen "${PROGRAM[$1]}" "${1##*-}"
	REPLY="${ADMIN[$1]} $REPLY"
}

# service_start INSTANCE
service_start() {
	# shellcheck disable=SC2086 # words are meant
	spawn "$1" "$BIN/${PROGRAM[$1]}" --config "$CONFIG" --id "$1" ${ARGS[$1]} \
		--set "${SECTION[$1]}.admin=127.0.0.1:${ADMIN[$1]}"
}

# service_outdated INSTANCE: it runs, but its program was built again since, or the configuration changed (the simulator
# reads none).
service_outdated() {
	local program=${PROGRAM[$1]:-$1}
	recorded "$1" || return 1
	[[ $(readlink "/proc/$PID/exe") != "$(readlink -f "$BIN/$program")" || $BIN/$program -nt $DIR/run/$1.pid ]] && return 0
	[[ $1 != sluice-sim && $CONFIG -nt $DIR/run/$1.pid ]]
}
