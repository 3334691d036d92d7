/* Dead letters: listed, shown, submitted again as new jobs, or dropped. The topic keeps every letter for its time; what was done with one
 * is said by a marker behind it (a record of the same key): {"v":1,"job":…,"dropped":true} or {"v":1,"job":…,"redriven_as":…}. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/id.h"
#include "lib/base/json.h"
#include "lib/base/map.h"
#include "lib/base/mem.h"
#include "lib/lane/lane.h"
#include "lib/net/loop.h"
#include "lib/relay/state.h"
#include "lib/store/redis.h"
#include "lib/svc/config.h"
#include "ops/ctl/ctl.h"
#include "schemas/codec.h"
#include "schemas/keys.h"
#include "schemas/lanes.h"

#define SCAN_US (60 * US_PER_S)
#define OPEN_US (10 * US_PER_S)
#define TURN_US (50 * US_PER_MS)
#define LIMIT 100
#define HEADERS_MAX 32
#define SHARDS 2 /* front.shards where nothing is said */

/* One job among the letters: the last letter, and what was done with it since. */
struct letter {
	char job[ID_SIZE];
	struct json_object *tree; /* NULL: only a marker was seen */
	uint64_t wall_ms;	  /* these three: of the letter's record */
	int32_t partition;
	int64_t offset;
	bool dropped;
	char redriven_as[ID_SIZE];
};

struct dead {
	const struct ctl *ctl;
	struct letter **letters; /* newest first once sorted */
	size_t count;
	size_t room;
	struct map by_job;
	uint64_t since_ms;
	/* for writing */
	struct loop *loop;
	struct lane_writer *writer;
	struct redis *redis;
};

/* ── reading ── */

static struct letter *letter_of(struct dead *d, struct str job)
{
	struct letter *l = map_find(&d->by_job, job);

	if (l)
		return l;
	if (d->count == d->room) {
		d->room = d->room ? d->room * 2 : 64;
		d->letters = mem_resize(d->letters, d->room * sizeof(struct letter *));
	}
	l = d->letters[d->count++] = mem_new(struct letter);
	snprintf(l->job, sizeof(l->job), "%.*s", STR_FMT(job));
	map_set(&d->by_job, str_of(l->job), l);
	return l;
}

static bool on_record(void *ctx, int32_t partition, int64_t offset, uint64_t wall_ms,
		      struct str key, struct str body)
{
	struct dead *d = ctx;
	struct json_object *tree = NULL;
	struct json_error error;
	struct letter *l;

	(void)key;
	if (json_read(body, &tree, &error) || !id_is(json_str(tree, "job"), "job")) {
		log_warn(d->ctl->log, "not a dead letter", F_INT("partition", partition),
			 F_INT("offset", offset));
		json_object_put(tree);
		return true;
	}
	l = letter_of(d, json_str(tree, "job"));
	if (json_bool(tree, "dropped", false)) {
		l->dropped = true;
	} else if (json_str(tree, "redriven_as").len) {
		snprintf(l->redriven_as, sizeof(l->redriven_as), "%.*s",
			 STR_FMT(json_str(tree, "redriven_as")));
	} else {
		json_object_put(l->tree);
		l->tree = tree;
		l->wall_ms = wall_ms;
		l->partition = partition;
		l->offset = offset;
		return true;
	}
	json_object_put(tree);
	return true;
}

/* The newer one first; of one millisecond the one further down its partition. */
static int newer(const void *left, const void *right)
{
	const struct letter *a = *(struct letter *const *)left;
	const struct letter *b = *(struct letter *const *)right;

	if (a->wall_ms != b->wall_ms)
		return a->wall_ms > b->wall_ms ? -1 : 1;
	if (a->partition != b->partition)
		return a->partition < b->partition ? -1 : 1;
	return (a->offset < b->offset) - (a->offset > b->offset);
}

static int read_letters(struct dead *d, const struct ctl *ctl)
{
	struct lane_options kafka = ctl_kafka(ctl);
	cleanup_free char *topic = topic_full(ctl->config->kafka.topic_prefix, TOPIC_DEAD);
	int r;

	*d = (struct dead){.ctl = ctl};
	map_init(&d->by_job, 1);
	if (ctl->since && clock_parse(str_of(ctl->since), &d->since_ms) != CLOCK_OK) {
		log_error(ctl->log, "--since needs a time as in RFC 3339");
		return err_origin(-EINVAL);
	}
	r = lane_scan(&kafka, topic,
		      ctl->timeout_ms ? (uint64_t)ctl->timeout_ms * US_PER_MS : SCAN_US, ctl->log,
		      on_record, d);
	if (r < 0)
		log_error(ctl->log, "dead letters not read", F_ERR(r));
	if (d->count)
		qsort(d->letters, d->count, sizeof(struct letter *), newer);
	return r;
}

static void dead_fini(struct dead *d)
{
	for (size_t i = 0; i < d->count; i++) {
		json_object_put(d->letters[i]->tree);
		mem_free(d->letters[i]);
	}
	mem_free(d->letters);
	map_fini(&d->by_job);
	lane_writer_close(d->writer);
	redis_close(d->redis);
	if (d->loop)
		loop_free(d->loop);
}

/* Those that the command line means: by id, else all that the filters let pass and nothing was done with. */
static bool meant(const struct dead *d, const struct letter *l)
{
	const struct ctl *ctl = d->ctl;

	if (!l->tree)
		return false;
	if (ctl->text)
		return strcmp(ctl->text, l->job) == 0;
	if (!ctl->all && (l->dropped || l->redriven_as[0]))
		return false;
	if (ctl->org && !str_is(json_str(l->tree, "org"), ctl->org))
		return false;
	if (ctl->fault && !str_is(json_str(l->tree, "fault"), ctl->fault))
		return false;
	return l->wall_ms >= d->since_ms;
}

/* How many of those that are meant one command takes: what --limit says, or LIMIT, and then the rest is not passed over in silence. */
static size_t limit_of(const struct ctl *ctl)
{
	return ctl->limit ? (size_t)ctl->limit : LIMIT;
}

static void say_left(const struct ctl *ctl, size_t left)
{
	if (left && !ctl->limit)
		fprintf(stderr, "sluicectl: %zu more are left; --limit takes more than %d\n", left,
			LIMIT);
}

static const char *standing(const struct letter *l)
{
	return l->redriven_as[0] ? "redriven" : l->dropped ? "dropped" : "dead";
}

int ctl_dead_list(const struct ctl *ctl)
{
	struct dead d;
	int r = read_letters(&d, ctl);
	size_t limit = limit_of(ctl), left = 0;

	for (size_t i = 0; r >= 0 && i < d.count; i++) {
		const struct letter *l = d.letters[i];
		char when[CLOCK_TEXT_SIZE];

		if (!meant(&d, l))
			continue;
		if (!limit) {
			left++;
			continue;
		}
		limit--;
		clock_text(l->wall_ms, when);
		printf("%s %s %.*s %.*s %.*s tries=%lld %s\n", when, l->job,
		       STR_FMT(json_str(l->tree, "org")), STR_FMT(json_str(l->tree, "lane")),
		       STR_FMT(json_str(l->tree, "fault")),
		       (long long)json_int(l->tree, "tries", 0), standing(l));
	}
	say_left(ctl, left);
	dead_fini(&d);
	return r < 0 ? 1 : 0;
}

int ctl_dead_show(const struct ctl *ctl)
{
	struct dead d;
	int r = read_letters(&d, ctl);
	struct letter *l = r < 0 ? NULL : map_find(&d.by_job, str_of(ctl->text));
	bool found = l && l->tree;

	if (found) {
		json_object_object_add(l->tree, "standing", json_object_new_string(standing(l)));
		if (l->redriven_as[0])
			json_object_object_add(l->tree, "redriven_as",
					       json_object_new_string(l->redriven_as));
		printf("%s\n", json_object_to_json_string_ext(
				   l->tree, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
						JSON_C_TO_STRING_NOSLASHESCAPE));
	} else if (r >= 0) {
		fprintf(stderr, "sluicectl: no dead letter of %s\n", ctl->text);
	}
	dead_fini(&d);
	return found ? 0 : 1;
}

/* ── writing ── */

static int open_writing(struct dead *d)
{
	static const struct redis_ops ops = {0};
	const struct config *config = d->ctl->config;
	struct lane_writer_options writer = {
	    .kafka = ctl_kafka(d->ctl), .timeout_us = OPEN_US, .max_pending = 1000};
	struct redis_options redis = redis_defaults();
	int r;

	d->loop = loop_new(0);
	redis.url = config->redis.url;
	redis.ca_file = config->redis.ca_file;
	redis.connections = 1;
	redis.timeout_us = config->redis.command_ms * US_PER_MS;
	r = redis_open(d->loop, &redis, &ops, NULL, d->ctl->log, &d->redis);
	if (r >= 0)
		r = lane_writer_open(d->loop, &writer, d->ctl->log, &d->writer);
	if (r < 0) {
		log_error(d->ctl->log, "cannot write", F_ERR(r));
		return err_trace(r);
	}
	for (uint64_t end = loop_now_us(d->loop) + OPEN_US;
	     !redis_up(d->redis) || !lane_writer_ready(d->writer);) {
		loop_turn(d->loop, TURN_US);
		if (loop_now_us(d->loop) > end) {
			log_error(d->ctl->log, "Redis or Kafka does not answer");
			return err_origin(-ETIMEDOUT);
		}
	}
	return 0;
}

/* What became of one letter. */
enum acted {
	ACTED,	    /* as asked */
	ACTED_NOT,  /* it cannot be, and that was said: the next ones may */
	ACTED_AWAY, /* nothing can be written now, and that was said */
};

/* A write or a question under way: waited for, since this is a tool. */
struct word {
	bool ended;
	bool good;
	bool too_big;
	int32_t partition;
	int64_t offset;
};

static void on_written(void *ctx, enum lane_written result, int32_t partition, int64_t offset)
{
	struct word *w = ctx;

	*w = (struct word){true, result == LANE_WRITTEN, result == LANE_TOO_BIG, partition, offset};
}

static void on_state(void *ctx, enum redis_result result, struct str state)
{
	struct word *w = ctx;

	(void)state;
	w->ended = true;
	w->good = result == REDIS_OK;
}

static bool say_it(struct dead *d, const struct lane_write *what, struct word *w)
{
	*w = (struct word){0};
	lane_write(d->writer, what, on_written, w);
	while (!w->ended)
		loop_turn(d->loop, TURN_US);
	return w->good;
}

static bool mark(struct dead *d, const struct letter *l, const char *redriven_as)
{
	cleanup_free char *topic = topic_full(d->ctl->config->kafka.topic_prefix, TOPIC_DEAD);
	struct buf body = {0};
	struct json_out o = {.buf = &body};
	struct lane_write write = {.topic = topic, .partition = -1, .key = str_of(l->job)};
	struct word word;
	bool good;

	json_open(&o, '{');
	json_put_int(&o, "v", 1);
	json_put_text(&o, "job", l->job);
	if (redriven_as)
		json_put_text(&o, "redriven_as", redriven_as);
	else
		json_put_bool(&o, "dropped", true);
	json_close(&o, '}');
	write.body = buf_str(&body);
	good = say_it(d, &write, &word);
	buf_fini(&body);
	return good;
}

/* ── redrive ── */

/* The metadata with the name of the old job. */
static struct str new_metadata(struct arena *arena, struct str old, const char *of)
{
	cleanup_json struct json_object *tree = NULL;
	struct json_error error;
	const char *text;

	if (!old.len || json_read(old, &tree, &error) ||
	    !json_object_is_type(tree, json_type_object)) {
		json_object_put(tree);
		tree = json_object_new_object();
	}
	json_object_object_del(tree, "redrive_of");
	json_object_object_add(tree, "redrive_of", json_object_new_string(of));
	text = json_object_to_json_string_ext(tree, JSON_C_TO_STRING_PLAIN);
	return (struct str){arena_strdup(arena, text), strlen(text)};
}

/* The new job's id follows from the old one's, so that two redrives at once, or one that ended before its mark, make one job: a
 * second record of an id finds the claim or the end of the first. */
static void new_id(const struct letter *l, char id[static ID_SIZE])
{
	uint64_t made = id_wall_ms(str_of(l->job));
	struct rand rand;

	rand_init(&rand, lane_hash(str_of(l->job)));
	id_make(id, "job", (uint64_t)json_int(l->tree, "finished_ms", (int64_t)made), &rand);
}

/* The old job made new: another id, its times from now on, no turn; where it was a turn, no session. False where the letter holds no
 * record. */
static bool new_job(struct dead *d, const struct letter *l, struct arena *arena, struct job *job,
		    char id[static ID_SIZE])
{
	struct json_object *record = json_member(l->tree, "record");
	struct codec_error error;
	struct key channel;
	uint64_t now = loop_wall_ms(d->loop);

	if (!json_object_is_type(record, json_type_object) ||
	    codec_decode_tree(&codec_job, arena, record, false, job, &error) != CODEC_OK)
		return false;
	new_id(l, id);
	job->id = str_of(id);
	if (job->turn)
		job->session = STR("");
	job->turn = 0;
	job->prev = STR("");
	channel = key_channel(job->session.len ? job->session : job->id);
	job->channel = (struct str){arena_strdup(arena, channel.text), channel.len};
	job->metadata = new_metadata(arena, job->metadata, l->job);
	job->created_ms = (int64_t)now;
	job->not_before_ms = 0;
	job->deadline_ms = job->created_ms + job->queue_ms + job->run_ms;
	return true;
}

/* One of the organisation's partitions, as the front chooses; by the key where their number does not come. */
static int32_t shard(struct dead *d, const char *topic, const struct job *job)
{
	uint64_t shards = d->ctl->shards ? (uint64_t)d->ctl->shards : SHARDS;
	uint64_t end = loop_now_us(d->loop) + OPEN_US;
	struct str by = job->session.len ? job->session : job->id;
	int32_t partitions;

	while ((partitions = lane_partitions(d->writer, topic)) <= 0) {
		if (loop_now_us(d->loop) > end)
			return -1;
		loop_turn(d->loop, TURN_US);
	}
	return lane_shard(job->org, lane_hash(by) % shards, partitions);
}

static enum acted submit(struct dead *d, const struct letter *l, const struct job *job)
{
	enum lane lane = LANE_BACKGROUND;
	struct job_head head;
	struct lane_header headers[HEADERS_MAX];
	char numbers[HEADERS_MAX][24], score[24];
	cleanup_free char *topic = NULL;
	struct buf body = {0};
	struct lane_write write = {.key = job->session.len ? job->session : job->id,
				   .headers = headers};
	struct key open = key_open(job->org);
	struct word word;
	bool good;

	if (lane_find(json_str(l->tree, "lane"), &lane) != LANE_FOUND)
		lane = LANE_BACKGROUND;
	topic = topic_full(d->ctl->config->kafka.topic_prefix, lane_topic_llm(lane));
	codec_init(&codec_head, &head);
	head.v = 1;
	head.job = job->id;
	head.org = job->org;
	head.session = job->session;
	head.kind = json_str(l->tree, "kind");
	head.class = json_str(l->tree, "class");
	head.estimate = json_int(l->tree, "estimate", 0);
	head.created_ms = job->created_ms;
	head.start_by_ms = job->created_ms + job->queue_ms;
	head.deadline_ms = job->deadline_ms;
	for (size_t i = 0; i < codec_head.count; i++) {
		struct str text = codec_text(&codec_head.fields[i], &head, numbers[i]);

		if (text.ptr)
			headers[write.header_count++] =
			    (struct lane_header){str_of(codec_head.fields[i].name), text};
	}
	codec_encode(&codec_job, job, &body);
	write.topic = topic;
	write.partition = shard(d, topic, job);
	write.body = buf_str(&body);
	good = say_it(d, &write, &word);
	buf_fini(&body);
	if (!good)
		return word.too_big ? ACTED_NOT : ACTED_AWAY;
	/* As the front does: what stands of it, and that it is open. */
	snprintf(score, sizeof(score), "%lld", (long long)job->created_ms);
	redis_command(d->redis, job->org,
		      (const struct str[]){STR("ZADD"), key_str(&open), str_of(score), job->id}, 4,
		      NULL, NULL);
	word.ended = false;
	state_submit(d->redis, job, topic, word.partition, word.offset, loop_wall_ms(d->loop),
		     on_state, &word);
	while (!word.ended)
		loop_turn(d->loop, TURN_US);
	return ACTED; /* the pool makes the state where Redis did not answer */
}

static enum acted redrive(struct dead *d, const struct letter *l)
{
	struct arena arena = {0};
	enum acted acted = ACTED_NOT;
	bool has_record;
	struct job job;
	char id[ID_SIZE];

	if (l->redriven_as[0]) { /* named by its id, or by --all: the job that there is */
		printf("%s %s\n", l->job, l->redriven_as);
		return ACTED;
	}
	has_record = new_job(d, l, &arena, &job, id);
	if (has_record)
		acted = submit(d, l, &job);
	if (acted == ACTED)
		printf("%s %s\n", l->job, id);
	else
		fprintf(stderr, "sluicectl: %s cannot be submitted again: %s\n", l->job,
			!has_record	     ? "the letter holds no record of the job"
			: acted == ACTED_NOT ? "the record is larger than the broker takes"
					     : "Kafka did not acknowledge it");
	if (acted == ACTED && !mark(d, l, id)) {
		fprintf(stderr, "sluicectl: %s was submitted again, but is not marked so\n",
			l->job);
		acted = ACTED_AWAY;
	}
	arena_reset(&arena);
	return acted;
}

static enum acted drop(struct dead *d, const struct letter *l)
{
	if (mark(d, l, NULL)) {
		printf("%s\n", l->job);
		return ACTED;
	}
	fprintf(stderr, "sluicectl: %s is not marked as dropped\n", l->job);
	return ACTED_AWAY;
}

/* A session's turn made a job of its own does not know the conversation, and its answer is no part of it. */
static bool refuse(struct dead *d, const struct letter *l)
{
	struct json_object *record = json_member(l->tree, "record");
	struct str session = json_str(l->tree, "session");

	if (d->ctl->without_session || l->redriven_as[0] ||
	    !json_object_is_type(record, json_type_object) || !json_int(record, "turn", 0))
		return false;
	fprintf(
	    stderr,
	    "sluicectl: %s is not submitted again: it is turn %lld of %.*s, and a new job would "
	    "not know the conversation, nor its answer be part of it; --without-session submits "
	    "it as a job without a session\n",
	    l->job, (long long)json_int(record, "turn", 0), STR_FMT(session));
	return true;
}

/* What cannot be done with one letter is no reason to leave the others as they are, nor counts against the limit; it ends with status 1. */
static int for_each(const struct ctl *ctl,
		    enum acted (*act)(struct dead *d, const struct letter *l))
{
	struct dead d;
	bool good = read_letters(&d, ctl) >= 0, away = !good, any = false;
	size_t limit = limit_of(ctl), left = 0;

	for (size_t i = 0; i < d.count && !away; i++) {
		const struct letter *l = d.letters[i];
		enum acted acted = ACTED_NOT;

		if (!meant(&d, l))
			continue;
		if (!limit) {
			left++;
			continue;
		}
		any = true;
		if (act == drop || !refuse(&d, l)) {
			if (!d.loop && open_writing(&d) < 0)
				acted = ACTED_AWAY;
			else
				acted = act(&d, l);
		}
		limit -= acted == ACTED;
		good = good && acted == ACTED;
		away = acted == ACTED_AWAY;
	}
	if (good && !any)
		fprintf(stderr, "sluicectl: no such dead letter\n");
	say_left(ctl, left);
	dead_fini(&d);
	return good && any ? 0 : 1;
}

int ctl_dead_redrive(const struct ctl *ctl)
{
	return for_each(ctl, redrive);
}

int ctl_dead_drop(const struct ctl *ctl)
{
	return for_each(ctl, drop);
}
