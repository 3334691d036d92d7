# shellcheck shell=bash
# Does a part answer in its own protocol? Each probe returns at once or within its small limit, says nothing, and has
# status 0 for yes. No client programs are needed: bash speaks to the port.

# probe_redis HOST PORT: PONG, or a demand for credentials (then it lives too); loading its data is a no.
probe_redis() {
	(
		exec 3<>"/dev/tcp/$1/$2" || exit 1
		printf 'PING\r\n' >&3
		IFS= read -r -t 1 line <&3
		[[ $line == +PONG* || $line == -NOAUTH* ]]
	) 2>/dev/null
}

# probe_postgres HOST PORT: the server accepts connections (not starting up, not in recovery).
probe_postgres() {
	"$PG_BIN/pg_isready" -q -t 1 -h "$1" -p "$2" 2>/dev/null
}

# probe_kafka HOST PORT [N]: a metadata request (version 1, no topics) is answered with at least N brokers.
probe_kafka() {
	(
		exec 3<>"/dev/tcp/$1/$2" || exit 1
		printf '\0\0\0\016\0\003\0\001\0\0\0\001\377\377\0\0\0\0' >&3
		# length, correlation id, number of brokers: four bytes each, the highest first
		read -r -a b < <(timeout 1 head -c 12 <&3 | od -An -v -tu1)
		((${#b[@]} == 12 && b[7] == 1 && b[10] * 256 + b[11] >= ${3:-1}))
	) 2>/dev/null
}

# http_get HOST PORT PATH: sets HTTP_STATUS (000 when there is no answer) and HTTP_BODY (its first line).
http_get() {
	local reply
	reply=$(
		exec 2>/dev/null
		exec 3<>"/dev/tcp/$1/$2" || exit 1
		printf 'GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$3" "$1" "$2" >&3
		IFS=' ' read -r -t 2 _ status _ <&3 || exit 1
		while IFS= read -r -t 2 line <&3 && [[ -n ${line%$'\r'} ]]; do :; done
		IFS= read -r -t 2 line <&3
		printf '%s %s' "$status" "$line"
	)
	HTTP_STATUS=${reply%% *}
	HTTP_BODY=${reply#* }
	[[ $HTTP_STATUS =~ ^[0-9]{3}$ ]] || HTTP_STATUS=000 HTTP_BODY=
}

# probe_ready HOST PORT: /readyz says 200.
probe_ready() {
	http_get "$1" "$2" /readyz
	[[ $HTTP_STATUS == 200 ]]
}
