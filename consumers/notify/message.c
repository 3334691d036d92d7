#include "consumers/notify/message.h"

#include <stdio.h>

#include "lib/base/json.h"
#include "lib/relay/view.h"

void message_id(struct str job, char out[static ID_SIZE])
{
	snprintf(out, ID_SIZE, "msg_%.*s", (int)(job.len > 4 ? job.len - 4 : 0), job.ptr + 4);
}

void message_write(const struct result *result, struct buf *out)
{
	struct json_out o = {.buf = out};
	struct shown shown;
	char type[32];

	snprintf(type, sizeof(type), "job.%.*s", STR_FMT(result->status));
	json_open(&o, '{');
	json_put_text(&o, "type", type);
	json_put_time(&o, "timestamp", (uint64_t)result->finished_ms);
	json_key(&o, "data");
	shown_from_result(&shown, result);
	shown_write(&shown, result->text_blob.len > 0, out);
	json_close(&o, '}');
}
