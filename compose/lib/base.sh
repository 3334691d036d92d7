# shellcheck shell=bash
# What every script of compose/ shares: where things are, how it speaks, how it fails.
# To be sourced after TOP (the top of the project) is set. Needs bash 5 and Debian's essential packages only.

BUILD=$TOP/build
KAFKA_HOME=$BUILD/kafka

# say WORDS: one line for the reader, on stderr so that stdout stays for what was asked for.
say() { printf '%s\n' "$*" >&2; }

# die WORDS: says what is wrong and ends with status 1.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# usage_error WORDS: the command line is wrong; status 2.
usage_error() {
	printf '%s: %s (see %s --help)\n' "${0##*/}" "$*" "${0##*/}" >&2
	exit 2
}

# now_ms: sets NOW to milliseconds since 1970.
now_ms() { NOW=$((${EPOCHREALTIME//[.,]/} / 1000)); }

# seconds MS: sets REPLY to "1.2 s".
seconds() { printf -v REPLY '%d.%d s' $(($1 / 1000)) $(($1 % 1000 / 100)); }

# short PATH: sets REPLY to the path as seen from the current folder, where that is shorter.
short() {
	REPLY=$1
	[[ $1 == "$PWD"/* ]] && REPLY=${1#"$PWD"/}
	return 0
}

# json_string TEXT: sets REPLY to the text as a JSON string, quotes included; "null" for an empty one.
json_string() {
	local s=$1
	[[ -n $s ]] || { REPLY=null; return 0; }
	s=${s//\\/\\\\}
	s=${s//\"/\\\"}
	s=${s//$'\n'/\\n}
	s=${s//$'\t'/\\t}
	REPLY="\"$s\""
}

# random_word: sets REPLY to 32 hexadecimal characters from the system's generator.
random_word() {
	REPLY=$(od -An -N16 -tx1 /dev/urandom)
	REPLY=${REPLY//[[:space:]]/}
}

# find_java: sets JAVA to a java of version 17 or newer, and JAVA_MAJOR; status 1 when there is none.
find_java() {
	local home release
	JAVA=${JAVA_HOME:+$JAVA_HOME/bin/java}
	[[ -x $JAVA ]] || JAVA=$(command -v java) || return 1
	home=$(readlink -f "$JAVA") || return 1
	home=${home%/bin/java}
	JAVA_MAJOR=
	if [[ -r $home/release ]]; then
		release=$(<"$home/release")
		[[ $release =~ JAVA_VERSION=\"([0-9]+) ]] && JAVA_MAJOR=${BASH_REMATCH[1]}
	fi
	if [[ -z $JAVA_MAJOR ]]; then
		[[ $("$JAVA" -version 2>&1) =~ version\ \"([0-9]+) ]] && JAVA_MAJOR=${BASH_REMATCH[1]}
	fi
	((${JAVA_MAJOR:-0} >= 17))
}

# find_postgres: sets PG_BIN to the folder of the newest installed PostgreSQL's programs; status 1 when there is none.
find_postgres() {
	local d
	PG_BIN=
	for d in /usr/lib/postgresql/*/bin; do
		[[ -x $d/postgres && -x $d/initdb ]] || continue
		[[ -z $PG_BIN || $(printf '%s\n%s\n' "$PG_BIN" "$d" | sort -V | tail -n 1) == "$d" ]] && PG_BIN=$d
	done
	if [[ -z $PG_BIN ]] && d=$(command -v initdb); then
		PG_BIN=${d%/initdb}
	fi
	[[ -n $PG_BIN ]]
}
