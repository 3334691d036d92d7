# shellcheck shell=bash
# Apache Kafka from its published jars, made ready once under build/kafka: the jars, a formatted folder per node id
# (format once, copy for each stack) and the class-data archive that halves the start. Then, per stack, its nodes.
# Uses base.sh, proc.sh and probe.sh.

CLUSTER_ID=c2x1aWNlLWxvY2FsLTAwMQ
JVM_FLAGS=(-Xms256m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true
	-Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ")

# kafka_jars_ready: the jars of this very pom.xml are there.
kafka_jars_ready() {
	[[ -f $KAFKA_HOME/.jars ]] && cmp -s "$KAFKA_HOME/.jars" "$TOP/compose/kafka/pom.xml"
}

# kafka_archive: sets ARCHIVE to the class-data archive's file for this JVM and these jars (it may not exist), CLASSPATH to
# the jars in a fixed order (the archive is tied to it). After find_java.
kafka_archive() {
	local jars=("$KAFKA_HOME"/libs/*.jar) id sum
	printf -v CLASSPATH '%s:' "${jars[@]}"
	CLASSPATH=${CLASSPATH%:}
	id=$(readlink -f "$JAVA")
	sum=$({ stat -c '%n %s %Y' "$id"; cat "$KAFKA_HOME/.jars"; echo "$CLASSPATH"; } | cksum)
	ARCHIVE=$KAFKA_HOME/classes-${sum%% *}.jsa
}

# kafka_ready: everything that is made once is there. After find_java.
kafka_ready() {
	kafka_jars_ready && kafka_archive && [[ -f $ARCHIVE && -f $KAFKA_HOME/formatted/3/meta.properties ]]
}

# kafka_make: fetches the jars, formats, makes the archive; what is there already stays. Says each step.
kafka_make() {
	kafka_jars_ready || kafka_fetch
	kafka_archive
	[[ -f $KAFKA_HOME/formatted/3/meta.properties ]] || kafka_format
	[[ -f $ARCHIVE ]] || kafka_dump
}

kafka_fetch() {
	local log=$KAFKA_HOME/fetch.log new=$KAFKA_HOME/libs.new
	mkdir -p "$KAFKA_HOME"
	rm -rf "$new"
	say "deps: Apache Kafka, by its Maven coordinates in compose/kafka/pom.xml -> build/kafka/libs (54 MB, once)"
	(cd "$TOP/compose/kafka" && mvn -q -B -f pom.xml \
		org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
		-DincludeScope=runtime "-DoutputDirectory=$new") >"$log" 2>&1 ||
		{ tail -n 15 "$log" >&2; die "Maven could not fetch Kafka; the whole log is in build/kafka/fetch.log"; }
	rm -rf "$KAFKA_HOME/libs" "$KAFKA_HOME/formatted"
	rm -f "$KAFKA_HOME"/classes-*.jsa
	mv "$new" "$KAFKA_HOME/libs"
	cp "$TOP/compose/kafka/pom.xml" "$KAFKA_HOME/.jars"
}

# kafka_properties NODE NODES BASE FOLDER: one node's configuration, on stdout. Clients at BASE+10+NODE-1,
# controllers at BASE+15+NODE-1.
kafka_properties() {
	local id=$1 n=$2 base=$3 folder=$4 i voters='' min=1
	for ((i = 1; i <= n; i++)); do
		voters+=${voters:+,}$i@127.0.0.1:$((base + 14 + i))
	done
	((n > 1)) && min=2
	cat <<-PROPERTIES
		# Written by compose/stack at every start.
		process.roles=broker,controller
		node.id=$id
		controller.quorum.voters=$voters
		listeners=PLAINTEXT://127.0.0.1:$((base + 9 + id)),CONTROLLER://127.0.0.1:$((base + 14 + id))
		advertised.listeners=PLAINTEXT://127.0.0.1:$((base + 9 + id))
		controller.listener.names=CONTROLLER
		inter.broker.listener.name=PLAINTEXT
		listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
		log.dirs=$folder
		default.replication.factor=$n
		min.insync.replicas=$min
		offsets.topic.replication.factor=$n
		offsets.topic.num.partitions=4
		# a year: a consumer that comes back after a long stop goes on where it was
		offsets.retention.minutes=525600
		transaction.state.log.replication.factor=$n
		transaction.state.log.min.isr=$min
		transaction.state.log.num.partitions=4
		share.coordinator.state.topic.replication.factor=$n
		share.coordinator.state.topic.min.isr=$min
		group.initial.rebalance.delay.ms=0
		# static members may be away for a restart, and a killed one is noticed soon
		group.min.session.timeout.ms=1000
		auto.create.topics.enable=false
		num.network.threads=2
		num.io.threads=2
		log.cleaner.dedupe.buffer.size=2097152
		log.segment.bytes=16777216
		broker.session.timeout.ms=3000
		broker.heartbeat.interval.ms=500
	PROPERTIES
}

kafka_format() {
	local id pids=() folder
	say "deps: formatting Kafka's folders (once)"
	rm -rf "$KAFKA_HOME/formatted" "$KAFKA_HOME/formatted.new"
	mkdir -p "$KAFKA_HOME/formatted.new"
	for id in 1 2 3; do
		folder=$KAFKA_HOME/formatted.new/$id
		kafka_properties "$id" 3 18000 "$folder" >"$folder.properties"
		"$JAVA" -Xshare:auto -XX:TieredStopAtLevel=1 -cp "$CLASSPATH" kafka.tools.StorageTool format -g -t "$CLUSTER_ID" \
			-c "$folder.properties" >>"$KAFKA_HOME/format.log" 2>&1 &
		pids+=($!)
	done
	for id in "${pids[@]}"; do
		wait "$id" || { tail -n 5 "$KAFKA_HOME/format.log" >&2; die "Kafka's folder could not be formatted"; }
	done
	mv "$KAFKA_HOME/formatted.new" "$KAFKA_HOME/formatted"
}

# kafka_dump: one start and stop of a node of its own, to record the classes it loads. Without the archive Kafka starts
# all the same, only slower, so a failure is said and no more.
kafka_dump() {
	local folder=$KAFKA_HOME/dump base pid i
	say "deps: making Kafka's class-data archive for this Java (once, some seconds)"
	rm -rf "$folder"
	mkdir -p "$folder"
	cp -r "$KAFKA_HOME/formatted/1" "$folder/data"
	base=$(free_base 25000 && echo "$REPLY") || exit 1
	kafka_properties 1 1 "$base" "$folder/data" >"$folder/server.properties"
	"$JAVA" "${JVM_FLAGS[@]}" "-XX:ArchiveClassesAtExit=$ARCHIVE.new" -cp "$CLASSPATH" kafka.Kafka \
		"$folder/server.properties" >"$folder/log" 2>&1 8>&- 9>&- &
	pid=$!
	# shellcheck disable=SC2064 # this pid
	trap "kill -TERM $pid 2>/dev/null" EXIT
	for ((i = 0; i < 600; i++)); do
		probe_kafka 127.0.0.1 $((base + 10)) && break
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.1
	done
	kill -TERM "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	trap - EXIT
	if [[ -s $ARCHIVE.new ]]; then
		rm -f "$KAFKA_HOME"/classes-*.jsa
		mv "$ARCHIVE.new" "$ARCHIVE"
		rm -rf "$folder"
	else
		say "deps: no archive was made (log: build/kafka/dump/log); Kafka starts without it, 2 to 4 s slower"
		: >"$ARCHIVE"
	fi
}

# bases_held: fills the map HELD with the port bases that live processes of other stacks point to -> a pid. A process says so by
# SLUICE_STACK_PORTS in its environment, also when its stack's folder, Kafka and record are gone. What points to this folder's
# stack is no other's, unless the folder is new.
bases_held() {
	local file pid env
	declare -gA HELD=()
	while IFS= read -r file; do
		pid=${file#/proc/}
		pid=${pid%%/*}
		env=$'\n'$(tr '\0' '\n' 2>/dev/null <"$file")$'\n'
		[[ -f ${DIR:-}/settings && $env == *$'\n'"SLUICE_STACK=$DIR"$'\n'* ]] && continue
		[[ $env =~ $'\n'SLUICE_STACK_PORTS=([0-9]+)$'\n' ]] && HELD[${BASH_REMATCH[1]}]=$pid
	done < <(grep -lsz '^SLUICE_STACK_PORTS=' /proc/[0-9]*/environ)
}

# free_base FROM: sets REPLY to the first of FROM, FROM+100… whose hundred ports nobody listens on, no stack's process points to, and no
# other stack that is just coming up has chosen: the choice is locked (descriptor 8) until this shell ends.
free_base() {
	local base p
	listening
	bases_held
	for ((base = $1; base < 32000; base += 100)); do
		for p in "${!LISTEN[@]}" "${!HELD[@]}"; do
			((p >= base && p < base + 100)) && continue 2
		done
		for p in "${!HELD[@]}"; do
			((base >= p && base < p + 100)) && continue 2
		done
		if { exec 8>"${TMPDIR:-/tmp}/sluice-ports-$UID-$base.lock"; } 2>/dev/null; then flock -n 8 || continue; fi
		REPLY=$base
		return 0
	done
	die "no hundred free ports between $1 and 32000"
}

# kafka_start NODE: the node's folder where it is new, its properties, its process.
kafka_start() {
	local id=$1 folder=$DIR/kafka-$1 flags=("${JVM_FLAGS[@]}")

	# For measurements: SLUICE_KAFKA_JVM="-Xmx1g -XX:+UseSerialGC" replaces the flags that make short lives cheap.
	[[ -n ${SLUICE_KAFKA_JVM:-} ]] && read -r -a flags <<<"$SLUICE_KAFKA_JVM"
	if [[ ! -f $folder/meta.properties ]]; then
		rm -rf "$folder" "$folder.new"
		cp -r "$KAFKA_HOME/formatted/$id" "$folder.new" && mv "$folder.new" "$folder"
	fi
	kafka_properties "$id" "$KAFKA_NODES" "$PORTS" "$folder" >"$DIR/etc/kafka-$id.properties"
	[[ -s $ARCHIVE ]] && flags+=(-Xshare:auto "-XX:SharedArchiveFile=$ARCHIVE")
	spawn "kafka-$id" "$JAVA" "${flags[@]}" -cp "$CLASSPATH" kafka.Kafka "$DIR/etc/kafka-$id.properties"
}
