#include "lib/lane/lookup.h"

#include <stdint.h>
#include <unistd.h>

#include "lib/base/err.h"

static void *run(void *ctx)
{
	struct lookup *l = ctx;
	int fd = l->wake_fd;
	uint64_t one = 1;

	l->error = rd_kafka_committed(l->rk, l->list, l->timeout_ms);
	atomic_store(&l->over, true);
	if (write(fd, &one, sizeof(one)) < 0)
		return NULL; /* it is full of wake-ups already */
	return NULL;
}

bool lookup_ask(struct lookup *l, rd_kafka_t *rk, const rd_kafka_topic_partition_list_t *list,
		int timeout_ms, int wake_fd)
{
	must(!l->asked);
	l->rk = rk;
	l->list = rd_kafka_topic_partition_list_copy(list);
	l->timeout_ms = timeout_ms;
	l->wake_fd = wake_fd;
	atomic_store(&l->over, false);
	l->asked = pthread_create(&l->thread, NULL, run, l) == 0;
	if (!l->asked)
		rd_kafka_topic_partition_list_destroy(l->list);
	return l->asked;
}

bool lookup_take(struct lookup *l, rd_kafka_topic_partition_list_t **ret_list,
		 rd_kafka_resp_err_t *ret_error)
{
	if (!l->asked || !atomic_load(&l->over))
		return false;
	pthread_join(l->thread, NULL); /* it has nothing more to do */
	l->asked = false;
	*ret_list = l->list;
	*ret_error = l->error;
	return true;
}
