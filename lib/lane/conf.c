#include "lib/lane/conf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/net/loop.h"

static int conf_set(rd_kafka_conf_t *conf, const struct lane_setting *setting,
		    const struct log *log)
{
	char why[256];

	if (!setting->value)
		return 0;
	if (rd_kafka_conf_set(conf, setting->name, setting->value, why, sizeof(why)) ==
	    RD_KAFKA_CONF_OK)
		return 0;
	log_error(log, "kafka_setting_refused", F_STR("name", setting->name), F_STR("why", why));
	return err_origin(-EINVAL);
}

int lane_conf_new(const struct lane_options *options, const struct lane_setting *ours, size_t count,
		  const struct log *log, rd_kafka_conf_t **ret_conf)
{
	const struct lane_setting first[] = {
	    {"bootstrap.servers", options->brokers},
	    {"client.id", options->client_id},
	    {"log.queue", "true"},
	    {"log.connection.close", "false"},
	    {"socket.nagle.disable", "true"},
	    {"socket.keepalive.enable", "true"},
	    {"socket.timeout.ms", "10000"},
	    {"reconnect.backoff.ms", "50"},
	    {"reconnect.backoff.max.ms", "1000"},
	    {"topic.metadata.refresh.interval.ms", "10000"},
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	int r = 0;

	for (size_t i = 0; !r && i < countof(first); i++)
		r = conf_set(conf, &first[i], log);
	for (size_t i = 0; !r && i < count; i++)
		r = conf_set(conf, &ours[i], log);
	for (size_t i = 0; !r && i < options->setting_count; i++)
		r = conf_set(conf, &options->settings[i], log);
	if (r) {
		rd_kafka_conf_destroy(conf);
		return err_trace(r);
	}
	*ret_conf = conf;
	return 0;
}

int lane_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, const struct log *log,
		    rd_kafka_t **ret_handle)
{
	char why[256];
	rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));

	if (!rk) {
		rd_kafka_conf_destroy(conf);
		log_error(log, "kafka_client_refused", F_STR("why", why));
		return err_origin(-EINVAL);
	}
	rd_kafka_set_log_queue(rk, NULL);
	*ret_handle = rk;
	return 0;
}

void lane_options_copy(struct lane_options *to, const struct lane_options *from)
{
	struct lane_setting *settings = mem_alloc(from->setting_count * sizeof(*settings));

	for (size_t i = 0; i < from->setting_count; i++) {
		settings[i].name = mem_strdup(from->settings[i].name);
		settings[i].value = mem_strdup(from->settings[i].value);
	}
	*to = (struct lane_options){
	    .brokers = mem_strdup(from->brokers),
	    .client_id = mem_strdup(from->client_id),
	    .settings = settings,
	    .setting_count = from->setting_count,
	};
}

void lane_options_fini(struct lane_options *options)
{
	for (size_t i = 0; i < options->setting_count; i++) {
		mem_free((char *)options->settings[i].name);
		mem_free((char *)options->settings[i].value);
	}
	mem_free((void *)options->settings);
	mem_free((char *)options->brokers);
	mem_free((char *)options->client_id);
	*options = (struct lane_options){0};
}

static void signal_ready(void *ctx, unsigned events)
{
	struct lane_signal *s = ctx;
	uint64_t count;

	(void)events;
	if (read(s->fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
		s->wake(s->ctx);
}

int lane_signal_open(struct lane_signal *s, struct loop *loop, void (*wake)(void *ctx), void *ctx)
{
	*s = (struct lane_signal){.wake = wake, .ctx = ctx};
	s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (s->fd < 0)
		return err_origin(-errno);
	s->watch = watch_open(loop, s->fd, signal_ready, s);
	if (!s->watch) {
		close(s->fd);
		return err_origin(-EIO);
	}
	watch_set(s->watch, WATCH_READ);
	return 0;
}

void lane_signal_close(struct lane_signal *s)
{
	if (!s->watch)
		return;
	watch_close(s->watch);
	close(s->fd);
	*s = (struct lane_signal){0};
}

void lane_signal_attach(struct lane_signal *s, rd_kafka_queue_t *queue)
{
	static const uint64_t one = 1;

	rd_kafka_queue_io_event_enable(queue, s->fd, &one, sizeof(one));
}

void lane_signal_detach(rd_kafka_queue_t *queue)
{
	rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
}

void lane_log_event(const struct log *log, rd_kafka_event_t *event)
{
	const char *facility, *text;
	int level;

	if (rd_kafka_event_log(event, &facility, &text, &level) == 0)
		log_debug(log, "librdkafka", F_STR("facility", facility), F_STR("text", text),
			  F_INT("level", level));
}

bool lane_error_is_trouble(rd_kafka_resp_err_t code)
{
	switch ((int)code) {
	case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
	case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
	case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
	case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
	case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
	case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
	case RD_KAFKA_RESP_ERR__AUTHENTICATION:
	case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
	case RD_KAFKA_RESP_ERR__FATAL:
		return true;
	default:
		return false;
	}
}

/* The statistics hold per topic `"topic":"NAME"` and then, per partition, `"partition":N`. */
int32_t lane_stats_partitions(const char *json, const char *topic)
{
	static const char key[] = "\"partition\":";
	cleanup_free char *name = mem_printf("\"topic\":\"%s\"", topic);
	const char *at = strstr(json, "\"topics\":");
	const char *end;
	int32_t count = 0;

	at = at ? strstr(at, name) : NULL;
	if (!at)
		return 0;
	at += strlen(name);
	end = strstr(at, "\"topic\":\"");
	while ((at = strstr(at, key)) && (!end || at < end)) {
		long number;

		at += sizeof(key) - 1;
		number = strtol(at, NULL, 10);
		if (number >= count && number < INT32_MAX)
			count = (int32_t)number + 1;
	}
	return count;
}

bool lane_stats_ready(const char *json)
{
	return strstr(json, "\"state\":\"UP\"") && strstr(json, "\"idemp_state\": \"Assigned\"");
}
