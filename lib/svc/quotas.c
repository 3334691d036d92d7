#include <string.h>

#include "lib/base/mem.h"
#include "lib/svc/lists.h"

/* clang-format off */
#define OPTION_OF struct config_quota
static const struct option quota_options[] = {
#define OPTION OPTION_LINE
#include "lib/svc/quota.def"
#undef OPTION
};
#undef OPTION_OF
/* clang-format on */

static bool name_is_good(const char *name)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";

	return name[strspn(name, letters)] == '\0';
}

/* True where @text is one of the comma-separated @names; with a '*' at its end one stands for all that begin so. */
static bool one_of(const char *names, struct str text)
{
	struct str rest = str_of(names), name;

	while (str_split(&rest, ',', &name)) {
		name = str_trim(name);
		if (name.len && name.ptr[name.len - 1] == '*') {
			if (text.len + 1 >= name.len &&
			    memcmp(text.ptr, name.ptr, name.len - 1) == 0)
				return true;
		} else if (str_eq(name, text)) {
			return true;
		}
	}
	return false;
}

static void check_accounts(struct record_reader *r, const struct tree *t,
			   const struct config_quota *q, const struct config *config)
{
	struct str rest = str_of(q->accounts), name;

	while (str_split(&rest, ',', &name)) {
		name = str_trim(name);
		if (!config_account_find(config, name))
			record_refuse(r, record_line(t, "accounts"),
				      "quota '%s' names the unknown account '%.*s'", q->name,
				      STR_FMT(name));
	}
}

void lists_quotas(struct record_reader *r, const struct tree *list, struct config *config)
{
	size_t count = record_count(r, list, "quotas");

	config->quotas = arena_alloc(r->arena, (count + 1) * sizeof(*config->quotas));
	for (const struct tree *t = count ? list->children : NULL; t; t = t->next) {
		struct config_quota *q = &config->quotas[config->quota_count];

		record_read(r, t, "quotas",
			    &(struct record_table){quota_options, countof(quota_options), q}, 1,
			    NULL);
		q->line = t->line;
		if (!name_is_good(q->name))
			record_refuse(r, record_line(t, "name"),
				      "quota '%s': only letters, digits, '-', '_' and '.'",
				      q->name);
		if (*q->name && !q->requests && !q->input_tokens && !q->output_tokens && !q->tokens)
			record_refuse(r, t->line, "quota '%s' limits nothing", q->name);
		check_accounts(r, t, q, config);
		for (size_t i = 0; i < config->quota_count; i++)
			if (*q->name && strcmp(config->quotas[i].name, q->name) == 0)
				record_refuse(r, record_line(t, "name"),
					      "quota '%s' stands in line %u already", q->name,
					      config->quotas[i].line);
		config->quota_count++;
	}
}

const struct config_quota *config_quota_find(const struct config *config, struct str account,
					     struct str model)
{
	for (size_t i = 0; i < config->quota_count; i++) {
		const struct config_quota *q = &config->quotas[i];

		if (one_of(q->accounts, account) && one_of(q->models, model))
			return q;
	}
	return NULL;
}
