/* on_cut continue: the next provider is given the text so far, and what it says is laid behind it in the same attempt. Where no model
 * of the route can, or the provider refuses to, the answer is begun anew. The seam is told with the first output behind it, so
 * that there is one at most at a byte; who comes later finds it among the calls of the job's state: a call that did not begin at
 * byte 0 of its attempt (work_call.at). */
#include <string.h>

#include "consumers/pool/work.h"
#include "lib/base/json.h"
#include "lib/base/plant.h"

bool seam_may(const struct work *w)
{
	if (!str_is(w->job.on_cut, "continue") || w->goes_on_never)
		return false;
	for (size_t i = 0; i < w->scribe.part_count; i++)
		if (strcmp(w->scribe.parts[i].type, "text") != 0)
			return false; /* thinking and tool calls are one model's own */
	return provider_prefix(buf_str(&w->scribe.text)).len > 0;
}

bool seam_is_full(const struct work *w)
{
	int64_t most = w->job.max_tokens ? w->job.max_tokens : w->route.max_tokens;

	if (w->body)
		most =
		    json_int(w->body, "max_completion_tokens", json_int(w->body, "max_tokens", 0));
	return most > 0 && provider_tokens(buf_str(&w->scribe.text)) >= most;
}

bool seam_or_end(const struct work *w)
{
	/* a dialect's stream has no word for a text that is begun anew */
	return str_is(w->job.on_cut, "fail") ||
	       (w->body && w->job.stream && str_is(w->job.on_cut, "continue"));
}

bool seam_refused(struct work *w, enum fault fault)
{
	if (!w->seam_due ||
	    (fault != FAULT_PROVIDER_BAD_REQUEST && fault != FAULT_PROVIDER_TOO_BIG))
		return false;
	w->goes_on_never = true;
	return true;
}

void seam_begin(struct work *w)
{
	w->calls[w->call_count - 1].at = PLANTED(SEAM_UNTOLD) ? 0 : (int64_t)w->scribe.text.len;
	w->seam_due = true;
	w->seam_space = provider_prefix(buf_str(&w->scribe.text)).len;
}

/* White space that was not handed on stands in the text already: it is not said twice. */
static void drop_space(struct work *w, struct str *text)
{
	struct str stands = buf_str(&w->scribe.text);

	while (text->len && w->seam_space < stands.len &&
	       text->ptr[0] == stands.ptr[w->seam_space]) {
		w->seam_space++;
		text->ptr++;
		text->len--;
	}
	if (text->len)
		w->seam_space = stands.len;
}

struct str seam_output(struct work *w, struct str text, bool part)
{
	const struct work_call *c = &w->calls[w->call_count - 1];

	if (!w->seam_due)
		return text;
	drop_space(w, &text);
	if (!text.len && !part)
		return text;
	w->seam_due = false;
	if (PLANTED(SEAM_UNTOLD))
		return text;
	ask_call_due(w);
	scribe_seam(&w->scribe, c->provider, c->model);
	return text;
}
