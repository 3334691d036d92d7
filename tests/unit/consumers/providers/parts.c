/* Parts that vendors mix, repeat and name in their own ways: what is told of them, in any split of the bytes. */
#include <string.h>

#include "consumers/providers/parts.h"
#include "consumers/providers/provider.h"
#include "lib/base/mem.h"
#include "tests/unit/test.h"

SUITE("providers/parts");

static const struct {
	const char *claim;
	const char *provider;
	const char *events; /* one a line */
	const char *heard;
	enum fault fault;
} cases[] = {
    {"a content that is a list is text and thinking", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_"
     "reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{"
     "\"type\":\"text\",\"text\":\"hm \"}]}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":"
     "\"so\"}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"Yes\"},{"
     "\"type\":\"reference\",\"reference_ids\":[1]},{\"type\":\"text\",\"text\":\", "
     "it\"}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" is\"},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\" so.\"},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n"
     "[DONE]\n",
     "[thinking  ]hm so[text  ]Yes, it is so.", FAULT_NONE},
    {"a content of a kind that is not known is no success", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":[{\"type\":\"image_url\",\"image_url\":{"
     "\"url\":\"x\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n"
     "[DONE]\n",
     "", FAULT_PROVIDER_MALFORMED},
    {"nor is a content that is neither text nor a list", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":{\"text\":\"x\"}},\"finish_reason\":null}]}"
     "\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n"
     "[DONE]\n",
     "", FAULT_PROVIDER_MALFORMED},
    {"nor is sound", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"audio\":{\"id\":\"a\",\"transcript\":\"hi\"}},"
     "\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n"
     "[DONE]\n",
     "", FAULT_PROVIDER_MALFORMED},
    {"a function's call of before tools is a call", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null,\"function_"
     "call\":{\"name\":\"f\",\"arguments\":\"\"}},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\"{\\\"a\\\"\"}},"
     "\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\":1}\"}},\"finish_"
     "reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"function_call\"}]}\n"
     "[DONE]\n",
     "[tool_call  f]{\"a\":1}", FAULT_NONE},
    {"an end that speaks of a call where none was is no success", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_"
     "reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "", FAULT_PROVIDER_MALFORMED},
    {"an id that every piece repeats is one call", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]},\"finish_reason\":"
     "null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"arguments\":\":\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"1}\"}}]},\"finish_reason\":null}]}"
     "\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"arguments\":\"}\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{\"a\":1}[tool_call c2 g]{}", FAULT_NONE},
    {"two calls whose pieces are mixed are two calls", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"{\\\"a\\\":\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{"
     "\"arguments\":\"{\\\"b\\\":\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"1}\"}},{\"index\":1,\"function\":{\"arguments\":\"2}\"}}]},\"finish_reason\":"
     "null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{\"a\":1}[tool_call c2 g]{\"b\":2}", FAULT_NONE},
    {"what is mixed and never whole is told in order at the end", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\"}}]},\"finish_reason\":"
     "null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"b\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{"
     "\"arguments\":\"}\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{\"ab[tool_call c2 g]{}[text  ]hi", FAULT_NONE},
    {"another id at the same index is another call", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\"}}]},\"finish_"
     "reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"1}\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}"
     "\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{\"a\":1}[tool_call c2 f]{}", FAULT_NONE},
    {"brackets inside of strings end no call", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":\\\"}\\\\\\\"}\"}}]},"
     "\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}"
     "\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"\\\\\\\\\\\"}\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{\"a\":\"}\\\"}\\\\\"}[tool_call c2 g]{}", FAULT_NONE},
    {"a name may come behind the id, and arguments as an object", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":"
     "\"f\",\"arguments\":{\"a\":\"/\"}}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{\"a\":\"/\"}", FAULT_NONE},
    {"a call without arguments is one", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f][tool_call c2 g]", FAULT_NONE},
    {"blanks behind a call's end are nothing", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}"
     "\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"\\n \"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{"
     "\"arguments\":\"}\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{}[tool_call c2 g]{}", FAULT_NONE},
    {"more is a fault", "openai",
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"type\":"
     "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}"
     "\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":"
     "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
     "\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}\n"
     "{\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n"
     "[DONE]\n",
     "[tool_call c1 f]{}[tool_call c2 g]{", FAULT_PROVIDER_MALFORMED},
    {"what the vendor's own tools do and find is left out", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"I \"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"look. \"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"server_tool_"
     "use\",\"id\":\"s1\",\"name\":\"web_search\",\"input\":{}}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"{\\\"query\\\":\\\"x\\\"}\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":1}\n"
     "{\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"web_search_tool_"
     "result\",\"tool_use_id\":\"s1\",\"content\":[{\"type\":\"web_search_result\",\"title\":\"t\"}"
     "]}}\n"
     "{\"type\":\"content_block_stop\",\"index\":2}\n"
     "{\"type\":\"content_block_start\",\"index\":3,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"Foun\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"d.\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"citations_delta\","
     "\"citation\":{\"cited_text\":\"t\"}}}\n"
     "{\"type\":\"content_block_stop\",\"index\":3}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "I look. [text  ]Found.", FAULT_NONE},
    {"a delta for a block that never began is nobody's", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"a\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":7,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"b\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"{\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"c\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "ac", FAULT_NONE},
    {"an index that begins anew is another block", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"a\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"b\"}}\n"
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"server_tool_"
     "use\",\"id\":\"s\",\"name\":\"n\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"no\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"{}\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "ab", FAULT_NONE},
    {"mixed blocks are put in order", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\","
     "\"id\":\"t1\",\"name\":\"f\",\"input\":{}}}\n"
     "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\","
     "\"id\":\"t2\",\"name\":\"g\",\"input\":{}}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"{\\\"a\\\":\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"{\\\"b\\\":\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"2}\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":1}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"1}\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "[tool_call t1 f]{\"a\":1}[tool_call t2 g]{\"b\":2}", FAULT_NONE},
    {"a tool without input ends with its block", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\","
     "\"id\":\"t1\",\"name\":\"f\",\"input\":{}}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\","
     "\"partial_json\":\"\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"hi\"}}\n",
     "[tool_call t1 f][text  ]hi", FAULT_PROVIDER_CUT},
    {"thinking's signature is a part behind it", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\","
     "\"thinking\":\"\",\"signature\":\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\","
     "\"thinking\":\"hm\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\","
     "\"signature\":\"Eq\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\","
     "\"signature\":\"==\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"redacted_"
     "thinking\",\"data\":\"secret+/=\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":1}\n"
     "{\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"hi\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":2}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "[thinking  ]hm[signature  ]Eq==[redacted_thinking  ]secret+/=[text  ]hi", FAULT_NONE},
    {"thinking that is not shown is signed all the same", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\","
     "\"thinking\":\"\",\"signature\":\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\","
     "\"signature\":\"Eq\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":0}\n"
     "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"hi\"}}\n"
     "{\"type\":\"content_block_stop\",\"index\":1}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "[thinking  ][signature  ]Eq[text  ]hi", FAULT_NONE},
    {"a signature that comes late is a fault", "anthropic",
     "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\","
     "\"thinking\":\"hm\"}}\n"
     "{\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":"
     "\"\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":"
     "\"hi\"}}\n"
     "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\","
     "\"signature\":\"Eq\"}}\n"
     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n"
     "{\"type\":\"message_stop\"}\n",
     "[thinking  ]hm[text  ]hi", FAULT_PROVIDER_MALFORMED},
};

static void hear_part(void *ctx, const char *type, struct str id, struct str name)
{
	buf_printf(ctx, "[%s %.*s %.*s]", type, STR_FMT(id), STR_FMT(name));
}

static void hear_text(void *ctx, struct str text)
{
	buf_add_str(ctx, text);
}

static struct answer *begin(const char *provider, struct buf *heard)
{
	struct answer_sink sink = {hear_part, hear_text, heard};
	struct http_field type = {STR("content-type"), STR("text/event-stream")};
	struct answer *a = provider_find(str_of(provider))->answer_new(&sink);

	answer_head(a, 200, &type, 1, 0);
	return a;
}

static void add_events(struct buf *wire, const char *events)
{
	struct str rest = str_of(events), line;

	while (str_split(&rest, '\n', &line))
		if (line.len)
			buf_printf(wire, "data: %.*s\n\n", STR_FMT(line));
}

static void hears(size_t i, size_t piece)
{
	struct buf heard = {0}, wire = {0};
	struct answer *a = begin(cases[i].provider, &heard);
	const struct answer_outcome *o = answer_outcome(a);
	struct str all;

	add_events(&wire, cases[i].events);
	all = buf_str(&wire);
	for (size_t at = 0; at < all.len; at += piece)
		answer_data(
		    a, (struct str){all.ptr + at, all.len - at < piece ? all.len - at : piece});
	answer_end(a);
	ck_assert_msg(str_is(buf_str(&heard), cases[i].heard), "%s: heard %s", cases[i].claim,
		      buf_text(&heard));
	ck_assert_msg(o->fault == cases[i].fault, "%s: fault %d (%.*s)", cases[i].claim,
		      (int)o->fault, STR_FMT(o->message));
	ck_assert(o->complete == (o->fault == FAULT_NONE));
	answer_free(a);
	buf_fini(&wire);
	buf_fini(&heard);
}

TEST(parts_are_told_in_order_and_whole_in_any_split)
{
	for (size_t i = 0; i < countof(cases); i++) {
		hears(i, 1 << 20);
		hears(i, 1);
		hears(i, 37);
	}
}

TEST(what_a_call_says_is_told_as_it_comes_and_the_next_one_waits_for_its_end)
{
	struct buf heard = {0}, wire = {0};
	struct answer *a = begin("openai", &heard);

#define PIECE(i, id, text)                                                         \
	"{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":" #i ",\"id\":\"" id \
	"\",\"function\":{\"name\":\"f\",\"arguments\":\"" text "\"}}]}}]}\n"
	add_events(&wire, PIECE(0, "c1", "{") PIECE(1, "c2", "{"));
	answer_data(a, buf_str(&wire));
	ck_assert_view(buf_str(&heard), "[tool_call c1 f]{");
	buf_reset(&wire);
	add_events(&wire, PIECE(0, "c1", "}"));
	answer_data(a, buf_str(&wire));
	ck_assert_view(buf_str(&heard), "[tool_call c1 f]{}[tool_call c2 f]{");
	answer_free(a);
	buf_fini(&wire);
	buf_fini(&heard);
}

TEST(more_parts_than_an_answer_has_are_a_fault)
{
	struct buf heard = {0}, wire = {0}, event = {0};
	struct answer *a = begin("openai", &heard);

	for (int i = 0; i <= PARTS_MAX; i++) {
		ck_assert_int_eq(answer_outcome(a)->fault, FAULT_NONE);
		buf_reset(&wire);
		buf_reset(&event);
		buf_printf(&event,
			   "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":%d,\"id\":\"c%d\","
			   "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]}}]}",
			   i, i);
		add_events(&wire, buf_text(&event));
		answer_data(a, buf_str(&wire));
	}
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_TOO_BIG);
	answer_free(a);
	buf_fini(&event);
	buf_fini(&wire);
	buf_fini(&heard);
}

TEST(parts_that_wait_are_kept_up_to_a_bound)
{
	struct buf heard = {0}, wire = {0};
	struct answer *a = begin("openai", &heard);
	char some[4097];

	memset(some, 'x', sizeof(some) - 1);
	some[sizeof(some) - 1] = '\0';
	add_events(&wire, PIECE(0, "c1", "{") PIECE(1, "c2", "["));
	answer_data(a, buf_str(&wire));
	buf_reset(&wire);
	buf_printf(&wire,
		   "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":"
		   "{\"arguments\":\"%s\"}}]}}]}\n\n",
		   some);
	for (size_t i = 0; i + 1 < PARTS_HELD_MAX / 4096; i++)
		answer_data(a, buf_str(&wire));
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_NONE);
	answer_data(a, buf_str(&wire));
	ck_assert_int_eq(answer_outcome(a)->fault, FAULT_PROVIDER_TOO_BIG);
	ck_assert_view(buf_str(&heard), "[tool_call c1 f]{");
	answer_free(a);
	buf_fini(&wire);
	buf_fini(&heard);
}
