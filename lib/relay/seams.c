#include "lib/relay/seams.h"

#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"

void seam_write(const struct seam *seam, struct json_out *out)
{
	json_put_int(out, "at", seam->at);
	json_put_text(out, "provider", seam->provider);
	json_put_text(out, "model", seam->model);
}

void seams_fini(struct seams *s)
{
	mem_free(s->known);
	mem_free(s->told);
	*s = (struct seams){0};
}

void seams_begin(struct seams *s, int64_t from)
{
	s->from = from;
	s->told_count = 0;
}

void seams_read(struct seams *s, struct str calls, int64_t attempt)
{
	cleanup_json struct json_object *list = NULL;
	struct json_error error;
	size_t count;

	/* nearly every answer has none: that is seen without reading the list */
	if (!calls.len || !memmem(calls.ptr, calls.len, "\"at\":", 5) ||
	    json_read(calls, &list, &error) != JSON_OK ||
	    !json_object_is_type(list, json_type_array))
		return;
	s->count = 0;
	count = json_object_array_length(list);
	for (size_t i = 0; i < count && s->count < SEAMS_MAX; i++) {
		struct json_object *call = json_object_array_get_idx(list, i);
		int64_t at = json_int(call, "at", 0);
		struct seam *seam;

		if (!at || json_int(call, "attempt", 0) != attempt)
			continue;
		if (!s->known)
			s->known = mem_alloc(SEAMS_MAX * sizeof(*s->known));
		seam = &s->known[s->count];
		if (s->count && seam[-1].at == at)
			seam--; /* the call before said nothing */
		else
			s->count++;
		seam->at = at;
		snprintf(seam->provider, sizeof(seam->provider), "%.*s",
			 STR_FMT(json_str(call, "provider")));
		snprintf(seam->model, sizeof(seam->model), "%.*s",
			 STR_FMT(json_str(call, "model")));
	}
}

bool seams_tell(struct seams *s, int64_t at)
{
	if (at < s->from || s->told_count == SEAMS_MAX)
		return false;
	for (size_t i = 0; i < s->told_count; i++)
		if (s->told[i] == at)
			return false;
	if (!s->told)
		s->told = mem_alloc(SEAMS_MAX * sizeof(*s->told));
	s->told[s->told_count++] = at;
	return true;
}

int64_t seams_next(const struct seams *s, int64_t at, int64_t end)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->known[i].at > at && s->known[i].at < end)
			return s->known[i].at;
	return end;
}
