#include "lib/net/fetch.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>

struct transfer {
	const struct fetch *fetch;
	CURL *curl;
	bool ended; /* the owner has enough */
};

static size_t on_data(char *bytes, size_t size, size_t count, void *ctx)
{
	struct transfer *t = ctx;
	long status = 0;

	(void)size;
	curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
	if (t->fetch->data &&
	    !t->fetch->data(t->fetch->ctx, (int)status, (struct str){bytes, count})) {
		t->ended = true;
		return 0;
	}
	return count;
}

static void set_options(struct transfer *t, struct curl_slist *fields, char *why)
{
	const struct fetch *f = t->fetch;
	CURL *c = t->curl;

	curl_easy_setopt(c, CURLOPT_URL, f->url);
	curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, f->method);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, fields);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)f->connect_ms);
	if (why)
		curl_easy_setopt(c, CURLOPT_ERRORBUFFER, why);
	if (f->silence_ms) {
		curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
		curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)((f->silence_ms + 999) / 1000));
	}
	if (f->ca_file)
		curl_easy_setopt(c, CURLOPT_CAINFO, f->ca_file);
	if (f->body.ptr) {
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)f->body.len);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, f->body.ptr);
	}
}

static int result_of(CURLcode code)
{
	if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
		return err_origin(-ECONNREFUSED);
	if (code == CURLE_OPERATION_TIMEDOUT)
		return err_origin(-ETIMEDOUT);
	return err_origin(-EPROTO);
}

int fetch_run(const struct fetch *fetch, int *ret_status, char *why)
{
	struct transfer t = {.fetch = fetch, .curl = curl_easy_init()};
	struct curl_slist *fields = NULL;
	long status = 0;
	CURLcode code;
	int r = 0;

	if (why)
		why[0] = '\0';
	if (!t.curl)
		return err_origin(-ENOMEM);
	for (const char *const *f = fetch->fields; f && *f; f++)
		fields = curl_slist_append(fields, *f);
	set_options(&t, fields, why);
	code = curl_easy_perform(t.curl);
	curl_easy_getinfo(t.curl, CURLINFO_RESPONSE_CODE, &status);
	if (code == CURLE_OK || t.ended) {
		*ret_status = (int)status;
	} else {
		if (why && !why[0])
			snprintf(why, 256, "%s", curl_easy_strerror(code));
		r = result_of(code);
	}
	curl_slist_free_all(fields);
	curl_easy_cleanup(t.curl);
	return r;
}
