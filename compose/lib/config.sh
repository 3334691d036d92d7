# shellcheck shell=bash
# DIR/sluice.yaml: made by the stack from what it started and from the environment; a section that the file given by
# --config has replaces the stack's own, and the Kafka, Redis or PostgreSQL that it names is used instead of starting one.

# section_of FILE NAME: prints the top-level section as it stands there; nothing when it is not there.
section_of() {
	[[ -n $1 ]] || return 0
	awk -v name="$2" '/^[^ \t#-][^:]*:/ { on = ($0 ~ "^" name "[ \t]*:") } on' "$1"
}

# value_in SECTION-TEXT KEY: sets REPLY to a scalar one level below the section's name, quotes and ${ENV} resolved.
value_in() {
	local line name
	REPLY=
	while IFS= read -r line; do
		[[ $line =~ ^[[:space:]]+$2:[[:space:]]*(.*)$ ]] || continue
		REPLY=${BASH_REMATCH[1]%%[[:space:]]#*}
		REPLY=${REPLY%"${REPLY##*[![:space:]]}"}
		[[ $REPLY =~ ^\"(.*)\"$ || $REPLY =~ ^\'(.*)\'$ ]] && REPLY=${BASH_REMATCH[1]}
		while [[ $REPLY =~ \$\{([A-Za-z_][A-Za-z0-9_]*)\} ]]; do
			name=${BASH_REMATCH[1]}
			REPLY=${REPLY//"\${$name}"/${!name:-}}
		done
		return 0
	done <<<"$1"
}

# externals_find: sets KAFKA, REDIS, POSTGRES to the addresses that services use and OWN_KAFKA, OWN_REDIS, OWN_POSTGRES to
# 1 where the stack runs it.
externals_find() {
	local i pw=
	OWN_KAFKA=1 OWN_REDIS=1 OWN_POSTGRES=1
	value_in "$(section_of "$USER_CONFIG" kafka)" brokers
	KAFKA=${SLUICE_KAFKA:-$REPLY}
	value_in "$(section_of "$USER_CONFIG" redis)" url
	REDIS=${SLUICE_REDIS:-$REPLY}
	value_in "$(section_of "$USER_CONFIG" postgres)" conninfo
	POSTGRES=${SLUICE_POSTGRES:-$REPLY}
	[[ -n $KAFKA ]] && OWN_KAFKA=
	[[ -n $REDIS ]] && OWN_REDIS=
	[[ -n $POSTGRES ]] && OWN_POSTGRES=
	if [[ -n $OWN_KAFKA ]]; then
		for ((i = 0; i < KAFKA_NODES; i++)); do
			KAFKA+=${KAFKA:+,}127.0.0.1:$((PORTS + 10 + i))
		done
	fi
	[[ -n $OWN_REDIS ]] && REDIS=redis://127.0.0.1:$((PORTS + 20))
	if [[ -n $OWN_POSTGRES ]]; then
		[[ -r $DIR/keys/postgres ]] && pw=$(<"$DIR/keys/postgres")
		POSTGRES=postgresql://sluice:$pw@127.0.0.1:$((PORTS + 21))/sluice
	fi
	return 0
}

# providers_find: for each provider sets ITS_url, ITS_ca, ITS_simulated (true or false) and ITS_key (an env or file line
# of the account) from the SDKs' environment variables; without them the simulator stands there. SIMULATED
# holds the names of those that are.
providers_find() {
	local sim=https://127.0.0.1:$((PORTS + 30)) name upper key url official path
	SIMULATED=
	for name in anthropic openai; do
		upper=${name^^}
		key=${upper}_API_KEY url=${upper}_BASE_URL
		case $name in
		anthropic) official=https://api.anthropic.com path= ;;
		openai) official=https://api.openai.com/v1 path=/v1 ;;
		esac
		if [[ -n ${!key:-} || -n ${!url:-} ]]; then
			declare -g "${name}_simulated=false" "${name}_ca=${SLUICE_CA_FILE:-}" "${name}_url=${!url:-$official}"
		else
			declare -g "${name}_simulated=true" "${name}_ca=$DIR/tls/ca.crt" "${name}_url=$sim$path"
			SIMULATED+=" $name"
		fi
		if [[ -n ${!key:-} ]]; then
			declare -g "${name}_key=key_env: $key"
		else
			declare -g "${name}_key=key_file: $DIR/keys/$name"
		fi
	done
}

# secrets_make: keys for the stack's own parts, readable by its owner only.
secrets_make() {
	local name
	mkdir -p "$DIR/keys"
	chmod 700 "$DIR/keys"
	for name in postgres anthropic openai; do
		[[ -s $DIR/keys/$name ]] && continue
		random_word
		(umask 077 && printf "sim-%s\n" "$REPLY" >"$DIR/keys/$name")
	done
}

# tls_make: a certificate authority of this stack and a certificate of it for the simulator on loopback.
tls_make() {
	local d=$DIR/tls
	[[ -s $d/server.crt && -s $d/ca.crt ]] && return 0
	mkdir -p "$d"
	(
		umask 077
		cd "$d" && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Sluice local stack' \
			-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
			-keyout ca.key -out ca.crt &&
			openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr &&
			printf '%s\n' subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 basicConstraints=CA:FALSE \
				extendedKeyUsage=serverAuth >server.ext &&
			openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext -out server.crt &&
			chmod 644 ca.crt server.crt && rm -f server.csr server.ext ca.srl
	) >"$DIR/logs/tls.log" 2>&1 || { tail -n 5 "$DIR/logs/tls.log" >&2; die "the simulator's certificate could not be made"; }
}

# config_write: DIR/sluice.yaml; its time changes only when its content does.
config_write() {
	local new=$CONFIG.new name own
	{
		echo "# Made by compose/stack at every up: changes here are lost. Sections of a file of yours, given with"
		echo "# --config, replace those of the same name."
		for name in log kafka redis postgres blob webhooks accounts routes prices front push pool archive; do
			own=$(section_of "$USER_CONFIG" "$name")
			if [[ -n $own ]]; then
				printf '%s\n' "$own"
				# settings without an address belong to the part that the stack runs
				case $name in
				kafka) [[ $own == *brokers:* ]] || echo "  brokers: \"$KAFKA\"" ;;
				redis) [[ $own == *url:* ]] || echo "  url: \"$REDIS\"" ;;
				postgres) [[ $own == *conninfo:* ]] || echo "  conninfo: \"$POSTGRES\"" ;;
				esac
			else
				"section_$name"
			fi
		done
		for name in fairness quotas notify scheduler dash; do
			section_of "$USER_CONFIG" "$name"
		done
	} >"$new" || die "$new cannot be written"
	chmod 600 "$new"
	if cmp -s "$new" "$CONFIG"; then rm -f "$new"; else mv "$new" "$CONFIG"; fi
}

section_log() { printf 'log:\n  level: info\n'; }
section_kafka() { printf 'kafka:\n  brokers: "%s"\n' "$KAFKA"; }
section_redis() { printf 'redis:\n  url: "%s"\n' "$REDIS"; }
section_postgres() { printf 'postgres:\n  conninfo: "%s"\n' "$POSTGRES"; }
section_blob() { printf 'blob:\n  dir: "%s"\n' "$DIR/blob"; }
# A stack's clients and receivers are on this machine.
section_webhooks() { printf 'webhooks:\n  http: true\n  networks: "127.0.0.0/8, ::1"\n'; }
section_front() {
	printf 'front:\n  listen: "127.0.0.1:%d"\n' "$PORTS"
	printf '  pages: true\n  pages_push_url: "ws://127.0.0.1:%d/v1/ws"\n  pages_key_file: "%s"\n' $((PORTS + 1)) "$DIR/keys/demo"
	[[ -z $SIMULATED ]] || printf '  pages_simulated: true\n'
}
section_push() { printf 'push:\n  listen: "127.0.0.1:%d"\n' $((PORTS + 1)); }
section_pool() { :; }
section_archive() { :; }

section_accounts() {
	local name
	echo 'accounts:'
	for name in anthropic openai; do
		local url=${name}_url ca=${name}_ca key=${name}_key
		printf '  - name: %s-main\n    kind: %s\n    base_url: "%s"\n' "$name" "$name" "${!url}"
		[[ -n ${!ca} ]] && printf '    ca_file: "%s"\n' "${!ca}"
		printf '    %s\n' "${!key}"
	done
}

# Tasks are what a product asks for; aliases are the models' own names.
ROUTES='
task  feedback          | anthropic-main claude-sonnet-4-5 | openai-main gpt-5.4-mini
task  chat              | anthropic-main claude-haiku-4-5  | openai-main gpt-4o-mini
model claude-sonnet-5   | anthropic-main claude-sonnet-5
model claude-sonnet-4-5 | anthropic-main claude-sonnet-4-5
model claude-haiku-4-5  | anthropic-main claude-haiku-4-5
model claude-opus-4-5   | anthropic-main claude-opus-4-5
model gpt-5.4           | openai-main gpt-5.4
model gpt-5.4-mini      | openai-main gpt-5.4-mini
model gpt-4.1           | openai-main gpt-4.1
model gpt-4.1-mini      | openai-main gpt-4.1-mini
model gpt-4o            | openai-main gpt-4o
model gpt-4o-mini       | openai-main gpt-4o-mini
'

section_routes() {
	local head targets kind name account model target
	echo 'routes:'
	while IFS='|' read -r head targets; do
		read -r kind name <<<"$head"
		[[ -n $kind ]] || continue
		printf '  - name: %s\n    kind: %s\n    targets:\n' "$name" "$kind"
		while IFS= read -r -d '|' target; do
			read -r account model <<<"$target"
			printf '      - account: %s\n        model: %s\n' "$account" "$model"
		done <<<"$targets|"
	done <<<"$ROUTES"
}

# US dollars for a million tokens: provider, model, input, output, cache read, cache write (5 minutes, 1 hour), as the
# providers listed them in November 2026.
PRICES='
anthropic claude-sonnet-5   2    10   0.20  2.50 4
anthropic claude-sonnet-4-5 3    15   0.30  3.75 6
anthropic claude-haiku-4-5  1    5    0.10  1.25 2
anthropic claude-opus-4-5   5    25   0.50  6.25 10
openai    gpt-5.4           2.50 15   0.25  0    0
openai    gpt-5.4-mini      0.75 4.50 0.075 0    0
openai    gpt-4.1           2    8    0.50  0    0
openai    gpt-4.1-mini      0.40 1.60 0.10  0    0
openai    gpt-4o            2.50 10   1.25  0    0
openai    gpt-4o-mini       0.15 0.60 0.075 0    0
'

section_prices() {
	local provider model input output read write5 write1
	echo 'prices:'
	while read -r provider model input output read write5 write1; do
		[[ -n $provider ]] || continue
		printf '  - provider: %s\n    model: %s\n    valid_from: "2026-01-01"\n    input: "%s"\n    output: "%s"\n' \
			"$provider" "$model" "$input" "$output"
		printf '    cache_read: "%s"\n    cache_write_5m: "%s"\n    cache_write_1h: "%s"\n' "$read" "$write5" "$write1"
	done <<<"$PRICES"
}
