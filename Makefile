# Sluice: one Makefile, no recursion but its own second pass. `make help` lists what it can do.
#
# The first pass needs git and make alone: it has compose/deps install what is missing and calls make again, so
# that the compiler and pkg-config are asked only when they are there. Sources are found by folder: a new file
# needs no line here, a new program one line in PROGRAMS.

SHELL := /bin/sh
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := all

ifeq ($(origin CC),default)
CC := gcc
endif
MODE ?= release
MODES := dev release asan tsan cov fuzz world
ifeq ($(filter $(MODE),$(MODES)),)
$(error MODE=$(MODE): one of $(MODES))
endif
PREFIX ?= /usr/local
FUZZ_S ?= 60

ifndef SLUICE_READY
# ---- First pass: what the build needs is installed, then the real work begins --------------------------------

GOALS := $(or $(MAKECMDGOALS),all)
PLAIN := help clean distclean
NEEDS := $(filter-out $(PLAIN),$(GOALS))
TOOLS := $(if $(filter test check asan tsan tidy cov conformance fuzz bench bench-% soak chaos replay unit swarm plants format headers,$(GOALS)),test,$(if $(filter test-browser,$(GOALS)),browser,build))
jobs = $(if $(findstring j,$(filter -j% --jobserver%,$(MAKEFLAGS))),,-j$(shell nproc))

.PHONY: $(GOALS) second
$(NEEDS): second
	@:

second: build/.deps-$(TOOLS)
	@+$(MAKE) $(jobs) SLUICE_READY=1 $(NEEDS)

# What is installed is looked at again when the list of what is needed changes, and after `make clean`.
build/.deps-%: $(wildcard compose/deps)
	@mkdir -p build
	@if [ -x compose/deps ]; then compose/deps $(filter test browser,$*); fi
	@touch $@

# Kafka's jars took a download: they stay.
clean:
	@mkdir -p build
	find build -mindepth 1 -maxdepth 1 ! -name kafka -exec rm -rf {} +
	rm -f compile_commands.json

distclean:
	rm -rf build compile_commands.json

help:
	@echo 'make            build every program into build/release/bin'
	@echo 'make run        build, start the local stack, send one job and show its answer'
	@echo 'make test       build, check, then every integration test; ends with "N passed, N failed"'
	@echo 'make check      layers headers docs format unit js replay corpus: what needs no service'
	@echo 'make unit       the unit tests alone (U="part of a suite name" to choose)'
	@echo 'make test-browser  the example page in Chromium, which is installed (300 MB); make test does it where it is there'
	@echo 'make asan tsan  make check under AddressSanitizer with UBSan, under ThreadSanitizer'
	@echo 'make cov        unit tests with line coverage per file'
	@echo 'make tidy       clang-tidy over everything'
	@echo 'make fuzz F=x   fuzz tests/fuzz/x.c for FUZZ_S=60 seconds (without F: lists the targets)'
	@echo 'make conformance  every case of the Autobahn test suite against the WebSocket server (make test runs the short ones)'
	@echo 'make swarm      N=1000 SEED=1: so many histories of the deterministic world; N=1 tells its story'
	@echo 'make plants     each planted defect, and the first seed that finds it'
	@echo 'make chaos      the long runs of tests/chaos with a ledger at their end (C=rounds ROUNDS=50 SEED=1: one of them)'
	@echo 'make soak       JOBS=1000000 through a stack of its own: what each process holds meanwhile, and what is left (tests/bench/soak)'
	@echo 'make bench      lists the benchmarks in tests/bench; make bench-NAME runs one'
	@echo 'make install    PREFIX=/usr/local, DESTDIR'
	@echo 'make clean      remove what was built (distclean: and what was downloaded)'
	@echo
	@echo 'MODE=dev|release|asan|tsan|cov|fuzz|world (build/MODE; default release), CC=gcc|clang-14'

else
# ---- Second pass: the real work ------------------------------------------------------------------------------

# name:folder of its main.c
PROGRAMS := \
	sluice-front:producer \
	sluice-pool:consumers/pool \
	sluice-push:consumers/push \
	sluice-archive:consumers/archive \
	sluice-notify:consumers/notify \
	sluice-scheduler:scheduler \
	sluice-dash:ops/dash \
	sluicectl:ops/ctl \
	sluice-load:ops/load \
	sluice-sim:tests/sim

ifeq ($(MODE),fuzz)
CC := clang-14
endif
# gcc's objects and another compiler's do not share a folder.
B := build/$(MODE)$(if $(filter-out gcc cc,$(notdir $(CC))),$(if $(filter fuzz,$(MODE)),,-$(notdir $(CC))))

flags_dev := -O1
flags_release := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong
flags_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
flags_tsan := -O1 -fno-omit-frame-pointer -fsanitize=thread
flags_cov := -O0 --coverage
# The deterministic world with its planted defects (lib/base/plant.h).
flags_world := -O2 -DSLUICE_PLANTS
flags_fuzz := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=undefined
link_release := -Wl,-z,relro,-z,now
link_fuzz := -fsanitize=fuzzer

PACKAGES := libuv libnghttp2 hiredis libpq json-c yaml-0.1 libssl libcrypto rdkafka libcurl zlib
PACKAGE_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags $(PACKAGES)))
PACKAGE_LIBS := $(shell pkg-config --libs $(PACKAGES)) -lwslay -lm -lpthread
LUA_CFLAGS := $(patsubst -I%,-isystem %,$(shell pkg-config --cflags lua5.1 2>/dev/null))
LUA_LIBS := $(shell pkg-config --libs lua5.1 2>/dev/null)
CHECK_LIBS := $(shell pkg-config --libs check 2>/dev/null)
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unversioned)

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
BASE_CFLAGS := -std=gnu11 -D_GNU_SOURCE -g -pthread $(flags_$(MODE))
# llhttp comes as C sources with Debian's node-llhttp; they are compiled into the archive.
LLHTTP_FILES := $(filter %.c %.h,$(shell dpkg -L node-llhttp 2>/dev/null))
LLHTTP_C := $(filter %.c,$(LLHTTP_FILES))
LLHTTP_H := $(filter %/llhttp.h,$(LLHTTP_FILES))
LLHTTP_FLAGS := -DLLHTTP_STRICT_MODE=1 $(if $(LLHTTP_H),-isystem $(dir $(LLHTTP_H)) \
	-isystem $(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $(LLHTTP_H))))))
ALL_CFLAGS := $(BASE_CFLAGS) $(WARN) -I. -I$(B)/gen $(PACKAGE_CFLAGS) $(LLHTTP_FLAGS) $(CFLAGS)
ALL_LDFLAGS := -pthread $(flags_$(MODE)) $(link_$(MODE)) $(LDFLAGS)

FOLDERS := $(wildcard lib schemas producer consumers scheduler ops tests/sim)
SOURCES := $(sort $(if $(FOLDERS),$(shell find $(FOLDERS) -name '*.c')))
MAINS := $(filter %/main.c,$(SOURCES))
LIB_SOURCES := $(filter-out $(MAINS),$(SOURCES))
SCRIPTS := $(sort $(wildcard schemas/redis/*.lua))
MIGRATIONS := $(sort $(wildcard schemas/sql/*.sql))
PAGES := $(sort $(wildcard ops/client/js/*.js ops/client/chat/*.*))
GEN := $(B)/gen/page_files.c $(if $(SCRIPTS),$(B)/gen/redis_scripts.c) $(if $(MIGRATIONS),$(B)/gen/sql_files.c)
ARCHIVE := $(B)/libsluice.a
ARCHIVE_OBJECTS := $(LIB_SOURCES:%.c=$(B)/o/%.o) $(GEN:$(B)/%.c=$(B)/o/%.o) \
	$(patsubst %.c,$(B)/o/llhttp/%.o,$(notdir $(LLHTTP_C)))

folder_of = $(patsubst $(1):%,%,$(filter $(1):%,$(PROGRAMS)))
NAMES := $(foreach p,$(PROGRAMS),$(if $(wildcard $(lastword $(subst :, ,$p))/main.c),$(firstword $(subst :, ,$p))))
BINS := $(NAMES:%=$(B)/bin/%)

# Tests in C: one binary each for unit, replay and world; one per file in integration and bench.
# What tests/support has for them stands on the real loop, so the world goes without.
find_c = $(sort $(if $(wildcard $(1)),$(shell find $(1) -name '*.c')))
SUPPORT := $(call find_c,tests/support)
UNIT := $(call find_c,tests/unit)
REPLAY := $(call find_c,tests/replay)
WORLD := $(call find_c,tests/world)
SINGLE := $(wildcard tests/integration/*.c tests/bench/*.c tests/chaos/ledger/*.c tests/conformance/*.c)
FUZZ_NAMES := $(patsubst tests/fuzz/%.c,%,$(filter-out tests/fuzz/replay_main.c,$(wildcard tests/fuzz/*.c)))
SUITES := $(if $(UNIT),$(B)/tests/unit) $(if $(REPLAY),$(B)/tests/replay) $(if $(WORLD),$(B)/tests/world)
SINGLES := $(SINGLE:tests/%.c=$(B)/tests/%)
FUZZERS := $(FUZZ_NAMES:%=$(B)/fuzz/%)
TEST_SOURCES := $(SUPPORT) $(UNIT) $(REPLAY) $(WORLD) $(SINGLE) $(wildcard tests/fuzz/*.c)

objects = $(patsubst %.c,$(B)/o/%.o,$(1))

.PHONY: all conformance test check unit replay layers headers docs format asan tsan tidy cov fuzz bench soak chaos swarm plants run install FORCE
.SECONDARY:
.DELETE_ON_ERROR:

all: $(BINS) $(ARCHIVE) compile_commands.json

# -- objects, archive, programs

$(B)/o/%.o: %.c
	@mkdir -p $(@D)
	@echo "cc    $<"
	@$(CC) $(ALL_CFLAGS) $(if $(filter lib/svc/version.c,$<),-DSLUICE_VERSION='"$(VERSION)"') \
		$(if $(filter tests/%,$<),$(LUA_CFLAGS)) -MMD -MP -c -o $@ $<

$(B)/o/gen/%.o: $(B)/gen/%.c
	@mkdir -p $(@D)
	@$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Foreign code: without our warnings.
$(B)/o/llhttp/%.o: $(dir $(firstword $(LLHTTP_C)))%.c
	@mkdir -p $(@D)
	@echo "cc    $<"
	@$(CC) $(BASE_CFLAGS) $(LLHTTP_FLAGS) $(CFLAGS) -w -c -o $@ $<

# The atomic scripts, embedded: `const struct script script_NAME` for each schemas/redis/NAME.lua.
$(B)/gen/redis_scripts.c: $(SCRIPTS) $(B)/sources.list
	@mkdir -p $(@D)
	@echo "gen   $@"
	@awk 'function close_one() { if (open) print "\t};" } \
	BEGIN { print "#include \"lib/store/redis.h\"\n#include \"schemas/scripts.h\"" } \
	FNR == 1 { close_one(); open = 1; name = FILENAME; sub(/.*\//, "", name); sub(/\.lua$$/, "", name); \
		id = name; gsub(/[^A-Za-z0-9_]/, "_", id); \
		printf "\nconst struct script script_%s = {\n\t.name = \"%s\",\n\t.body =\n", id, name } \
	{ gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); printf "\t\"%s\\n\"\n", $$0 } \
	END { close_one() }' $(SCRIPTS) > $@

# The migrations, embedded in their order: `sql_files` of schemas/sql.h.
$(B)/gen/sql_files.c: $(MIGRATIONS) $(B)/sources.list
	@mkdir -p $(@D)
	@echo "gen   $@"
	@awk 'function close_one() { if (open) print "\t},"; } \
	BEGIN { print "#include \"schemas/sql.h\"\n\nconst struct sql_file sql_files[] = {" } \
	FNR == 1 { close_one(); open = 1; name = FILENAME; sub(/.*\//, "", name); sub(/\.sql$$/, "", name); \
		printf "\t{\n\t\t.number = %d,\n\t\t.name = \"%s\",\n\t\t.text =\n", name + 0, name } \
	{ gsub(/\\/, "\\\\"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); printf "\t\t\"%s\\n\"\n", $$0 } \
	END { close_one(); print "};\nconst size_t sql_file_count = sizeof(sql_files) / sizeof(sql_files[0]);" }' \
		$(MIGRATIONS) > $@

# The example page and the browser's client, embedded: `page_files` of producer/page.h.
$(B)/gen/page_files.c: $(PAGES) $(B)/sources.list
	@mkdir -p $(@D)
	@echo "gen   $@"
	@awk 'function close_one() { if (open) print "\t)},"; } \
	BEGIN { print "#include \"producer/page.h\"\n\nconst struct page_file page_files[] = {" } \
	FNR == 1 { close_one(); open = 1; name = FILENAME; sub(/.*\//, "", name); \
		printf "\t{\n\t\t.name = \"%s\",\n\t\t.text = STR(\n", name } \
	{ gsub(/\\/, "&&"); gsub(/\?/, "\\?"); gsub(/"/, "\\\""); gsub(/\t/, "\\t"); printf "\t\t\"%s\\n\"\n", $$0 } \
	END { close_one(); print "};\nconst size_t page_file_count = sizeof(page_files) / sizeof(page_files[0]);" }' \
		$(PAGES) > $@

# Changes when a source comes or goes, so that the archive does not keep what was deleted.
$(B)/sources.list: FORCE
	@mkdir -p $(@D)
	@echo '$(SOURCES) $(SCRIPTS) $(MIGRATIONS) $(PAGES) $(TEST_SOURCES)' | cmp -s - $@ || \
		echo '$(SOURCES) $(SCRIPTS) $(MIGRATIONS) $(PAGES) $(TEST_SOURCES)' > $@
FORCE:

$(ARCHIVE): $(ARCHIVE_OBJECTS) $(B)/sources.list
	@echo "ar    $@"
	@rm -f $@ && ar rcs $@ $(ARCHIVE_OBJECTS)

.SECONDEXPANSION:
$(BINS): $(B)/bin/%: $(B)/o/$$(call folder_of,$$*)/main.o $(ARCHIVE)
	@mkdir -p $(@D)
	@echo "link  $@"
	@$(CC) $(filter-out -fsanitize=fuzzer,$(ALL_LDFLAGS)) -o $@ $< $(ARCHIVE) $(PACKAGE_LIBS)

# The commit is compiled into one object, again only when it changed.
$(B)/o/lib/svc/version.o: $(B)/version
$(B)/version: FORCE
	@mkdir -p $(@D)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

compile_commands.json: $(B)/sources.list Makefile
	@{ echo '['; for f in $(SOURCES) $(TEST_SOURCES); do \
		printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' "$$comma" '$(CURDIR)' "$$f" \
			"$(CC) $(subst ",,$(ALL_CFLAGS)) -c $$f"; comma=,; done; echo ']'; } > $@

# -- tests in C

$(B)/tests/unit: $(call objects,$(UNIT) $(SUPPORT)) $(ARCHIVE)
	@mkdir -p $(@D)
	@echo "link  $@"
	@$(CC) $(filter-out -fsanitize=fuzzer,$(ALL_LDFLAGS)) -o $@ $(filter %.o,$^) $(ARCHIVE) \
		$(CHECK_LIBS) $(PACKAGE_LIBS)

$(B)/tests/replay: $(call objects,$(REPLAY) $(SUPPORT)) $(ARCHIVE)
$(B)/tests/world: $(call objects,$(WORLD)) $(ARCHIVE)
$(B)/tests/replay $(B)/tests/world:
	@mkdir -p $(@D)
	@echo "link  $@"
	@$(CC) $(filter-out -fsanitize=fuzzer,$(ALL_LDFLAGS)) -o $@ $(filter %.o,$^) $(ARCHIVE) \
		$(LUA_LIBS) $(PACKAGE_LIBS)

$(SINGLES): $(B)/tests/%: $(B)/o/tests/%.o $(call objects,$(SUPPORT)) $(ARCHIVE)
	@mkdir -p $(@D)
	@echo "link  $@"
	@$(CC) $(filter-out -fsanitize=fuzzer,$(ALL_LDFLAGS)) -o $@ $(filter %.o,$^) $(ARCHIVE) $(PACKAGE_LIBS)

# Under MODE=fuzz with libFuzzer's main; else with one that runs the corpus it is given.
fuzz_main := $(if $(filter fuzz,$(MODE)),,$(B)/o/tests/fuzz/replay_main.o)
$(FUZZERS): $(B)/fuzz/%: $(B)/o/tests/fuzz/%.o $(fuzz_main) $(ARCHIVE)
	@mkdir -p $(@D)
	@echo "link  $@"
	@$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) $(ARCHIVE) $(PACKAGE_LIBS)

unit: $(SUITES)
	@CK_RUN_SUITE='$(U)' $(B)/tests/unit

replay: $(SUITES)
	@if [ -x $(B)/tests/replay ]; then $(B)/tests/replay; else echo 'replay: no scenarios yet'; fi

# -- house checks and the whole

layers headers docs format:
	@CC='$(CC)' CHECK_CFLAGS='$(subst ','\'',$(ALL_CFLAGS))' sh tests/checks/$@ $(B)

PARTS := layers headers docs format unit js replay world corpus
check: all $(SUITES) $(FUZZERS)
	@CC='$(CC)' CHECK_CFLAGS='$(subst ','\'',$(ALL_CFLAGS))' sh tests/checks/run $(B) $(PARTS)

test: all $(SUITES) $(SINGLES) $(FUZZERS)
	@CC='$(CC)' CHECK_CFLAGS='$(subst ','\'',$(ALL_CFLAGS))' sh tests/checks/run $(B) $(PARTS) scripts

# The example page in Chromium.
test-browser: all
	@BUILD=$(B) SCRIPTS='tests/browser/*.mjs' tests/run

asan tsan:
	@+$(MAKE) MODE=$@ PARTS='unit replay world corpus' check

cov:
	@+$(MAKE) MODE=cov PARTS='unit replay world corpus' check
	@sh tests/checks/coverage build/cov $(LIB_SOURCES)

tidy: compile_commands.json $(GEN)
	@command -v clang-tidy-14 >/dev/null || { echo 'tidy: clang-tidy-14 is not installed'; exit 1; }
	clang-tidy-14 --quiet -p . --checks='-*,clang-analyzer-*,bugprone-*,-bugprone-easily-swappable-parameters,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling,-bugprone-reserved-identifier,-bugprone-assignment-in-if-condition' $(SOURCES)

ifneq ($(and $(F),$(filter fuzz,$(MODE))),)
fuzz: $(B)/fuzz/$(F)
	@mkdir -p build/fuzz/found/$(F)
	$(B)/fuzz/$(F) -max_total_time=$(FUZZ_S) -artifact_prefix=build/fuzz/found/$(F)/ \
		build/fuzz/found/$(F) $(wildcard tests/fuzz/corpus/$(F))
else
fuzz:
	$(if $(F),@+$(MAKE) MODE=fuzz fuzz F=$(F),@echo 'make fuzz F=name; targets: $(FUZZ_NAMES)')
endif

# Histories of the deterministic world, and the defects that it must find.
N ?= 1000
SEED ?= 1
ifeq ($(MODE),world)
swarm: $(B)/tests/world
	@$(B)/tests/world $(N) $(SEED)
plants: $(B)/tests/world
	@$(B)/tests/world plants
else
swarm plants:
	@+$(MAKE) MODE=world N=$(N) SEED=$(SEED) $@
endif

# Processes killed and stopped for half an hour, on a stack of its own with three brokers: tests/chaos/README.md.
LONG := rounds storm rolling pickup partitions fairness clients
FLEET := --kafka-nodes 3 --scale sluice-pool=2 --scale sluice-front=2 --scale sluice-push=2 --scale sluice-scheduler=2
chaos: all $(SINGLES)
	@BUILD=$(B) DIR=$(CURDIR)/build/chaos-stack SCRIPTS='$(LONG:%=tests/chaos/long/%.mjs)' STACK='$(FLEET)' $(if $(ROUNDS),ROUNDS='$(ROUNDS)') $(if $(filter command% env%,$(origin SEED)),SEED='$(SEED)') \
		tests/run $(C)

# The WebSocket server beside the whole Autobahn test suite; minutes.
conformance: all $(SINGLES)
	@BUILD=$(B) tests/conformance/run $(CASES)

# A benchmark is a script tests/bench/NAME or a program tests/bench/NAME.c.
bench:
	@echo 'make bench-NAME; benchmarks:'
	@ls tests/bench 2>/dev/null | sed -n '/^README/d; s/\.[a-z]*$$//; s/^/  bench-/p' | sort -u

soak: all $(SINGLES)
	@MODE=$(MODE) $(if $(JOBS),JOBS='$(JOBS)') tests/bench/soak

bench-%: all $(SINGLES)
	@if [ -x tests/bench/$* ]; then MODE=$(MODE) tests/bench/$*; else $(B)/tests/bench/$*; fi

# The build is whole before the stack starts.
run: all
	@MODE=$(MODE) compose/run

install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BINS) $(DESTDIR)$(PREFIX)/bin/

-include $(patsubst %.c,$(B)/o/%.d,$(SOURCES) $(TEST_SOURCES))
endif
