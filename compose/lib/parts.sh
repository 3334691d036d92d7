# shellcheck shell=bash
# The parts that Sluice stands on, each with how it is started and how it is asked whether it answers: Redis,
# PostgreSQL, Kafka (kafka.sh) and the provider simulator. Uses base.sh, proc.sh, probe.sh, kafka.sh.
#
# Ports from the base on: 0 front, 1 push, 2 dash, 3-5 further fronts, 7-9 further push nodes; 10-12 Kafka, 15-17 its controllers; 20 Redis; 21 PostgreSQL;
# 30 simulator, 31 its control; from 40 the services' admin ports (services.sh).

# part_port PART: sets REPLY to the port it listens on.
part_port() {
	case $1 in
	kafka-[123]) REPLY=$((PORTS + 9 + ${1#kafka-})) ;;
	redis) REPLY=$((PORTS + 20)) ;;
	postgres) REPLY=$((PORTS + 21)) ;;
	sluice-sim) REPLY=$((PORTS + 30)) ;;
	*) service_admin "$1" ;;
	esac
}

# part_ports PART: sets REPLY to every port it listens on.
part_ports() {
	case $1 in
	kafka-[123]) REPLY="$((PORTS + 9 + ${1#kafka-})) $((PORTS + 14 + ${1#kafka-}))" ;;
	sluice-sim) REPLY="$((PORTS + 30)) $((PORTS + 31))" ;;
	sluice-*) service_ports "$1" ;;
	*) part_port "$1" ;;
	esac
}

# part_answers PART: it answers in its own protocol.
part_answers() {
	part_port "$1"
	case $1 in
	kafka-*) probe_kafka 127.0.0.1 "$REPLY" "$KAFKA_NODES" ;;
	redis) probe_redis 127.0.0.1 "$REPLY" ;;
	postgres) probe_postgres 127.0.0.1 "$REPLY" ;;
	sluice-sim) probe_ready 127.0.0.1 $((PORTS + 31)) ;;
	*) probe_ready 127.0.0.1 "$REPLY" ;;
	esac
}

# part_start PART: whatever it needs made, then its process, recorded. Returns before it answers.
part_start() {
	case $1 in
	kafka-*) kafka_start "${1#kafka-}" ;;
	redis) redis_start ;;
	postgres) postgres_start ;;
	sluice-sim) sim_start ;;
	*) service_start "$1" ;;
	esac
}

# part_limit_ms PART: sets REPLY to how long it may take to end before it is killed.
part_limit_ms() {
	case $1 in
	sluice-sim) REPLY=3000 ;;
	sluice-*) REPLY=35000 ;;
	*) REPLY=15000 ;;
	esac
}

redis_start() {
	mkdir -p "$DIR/redis"
	cat >"$DIR/etc/redis.conf" <<-CONF
		# Written by compose/stack at every start.
		bind 127.0.0.1
		port $((PORTS + 20))
		dir $DIR/redis
		appendonly yes
		appendfsync everysec
		maxmemory-policy noeviction
		hash-max-listpack-value 4096
		save ""
		daemonize no
		tcp-backlog 511
		client-output-buffer-limit pubsub 64mb 16mb 10
	CONF
	spawn redis redis-server "$DIR/etc/redis.conf"
}

# sim_start: options for it from the environment (SLUICE_SIM_ARGS), for those who try the latency of a provider.
sim_start() {
	# shellcheck disable=SC2086 # words are meant
	spawn sluice-sim "$BIN/sluice-sim" --listen "127.0.0.1:$((PORTS + 30))" --control "127.0.0.1:$((PORTS + 31))" \
		--cert "$DIR/tls/server.crt" --key "$DIR/tls/server.key" ${SLUICE_SIM_ARGS:-}
}

# as_postgres COMMAND…: as the user that PostgreSQL may run as: postgres when we are root, else ourselves.
as_postgres() {
	if ((EUID == 0)); then
		setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
	else
		"$@"
	fi
}

# postgres_folder: sets PGDATA. It is in the stack's folder, unless its user cannot reach that (a home of root's):
# then it is in /var/tmp, under a name made from the stack's folder.
postgres_folder() {
	local sum
	PGDATA=$DIR/postgres
	((EUID == 0)) || return 0
	id postgres >/dev/null 2>&1 || die "PostgreSQL refuses root and there is no user named postgres to run it as"
	as_postgres test -x "$DIR" && return 0
	sum=$(printf '%s' "$DIR" | cksum)
	PGDATA=/var/tmp/sluice-postgres-${sum%% *}
}

# postgres_init: a new cluster whose one user is sluice, with a password of its own, and a database sluice.
postgres_init() {
	local new=$PGDATA.new pw=$PGDATA.pw
	rm -rf "$new" "$pw"
	mkdir -m 700 "$new" && (umask 077 && cat "$DIR/keys/postgres" >"$pw")
	((EUID == 0)) && chown postgres:postgres "$new" "$pw"
	(
		cd "$new" || exit 1
		as_postgres "$PG_BIN/initdb" -D "$new" -U sluice --pwfile="$pw" --auth=scram-sha-256 \
			--encoding=UTF8 --locale=C.UTF-8 --no-instructions &&
			echo 'CREATE DATABASE sluice;' |
			as_postgres "$PG_BIN/postgres" --single -D "$new" postgres
	) >>"$DIR/logs/postgres.log" 2>&1 || return 1
	rm -f "$pw"
	mv "$new" "$PGDATA"
}

# postgres_settle: after a crash, waits for what is left of the old server (its processes stand in its folder), then
# takes its lock file away, which a process of the same number would otherwise make it believe in.
postgres_settle() {
	local i busy
	for ((i = 0; i < 300; i++)); do
		# one process for all links: one for each takes a second on a busy machine
		busy=$(find /proc -maxdepth 2 -name cwd -printf '%l\n' 2>/dev/null | grep -Fxm 1 -- "$PGDATA")
		[[ -z $busy ]] && break
		sleep 0.1
	done
	[[ -z $busy ]] && rm -f "$PGDATA/postmaster.pid"
	return 0
}

postgres_start() {
	if [[ -f $PGDATA/PG_VERSION ]]; then
		[[ -f $PGDATA/postmaster.pid ]] && postgres_settle
	else
		postgres_init || return 1
	fi
	cd "$PGDATA" || return 1
	local as=()
	((EUID == 0)) && as=(setpriv --reuid=postgres --regid=postgres --init-groups --)
	spawn postgres "${as[@]}" "$PG_BIN/postgres" -D "$PGDATA" -c listen_addresses=127.0.0.1 \
		-c "port=$((PORTS + 21))" -c unix_socket_directories= -c max_connections=200 -c shared_buffers=64MB \
		-c log_line_prefix='%m [%p] '
}
