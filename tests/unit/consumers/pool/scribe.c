#include "consumers/pool/scribe.h"
#include "tests/unit/test.h"

SUITE("pool/scribe");

/* A scribe whose Redis is away for ever: what it holds in memory can be looked at. */
static struct scribe make(struct loop *loop)
{
	return (struct scribe){.loop = loop, .rewrite = true};
}

TEST(an_answer_without_parts_is_all_text)
{
	struct scribe s = make(NULL);
	struct buf out = {0};

	buf_add_text(&s.text, "hello");
	scribe_parts_json(&s, &out);
	ck_assert_view(buf_str(&out), "[{\"at\":0,\"type\":\"text\"}]");
	buf_fini(&out);
	buf_fini(&s.text);
}

TEST(only_text_parts_go_into_the_conversation)
{
	struct scribe s = make(NULL);
	struct buf out = {0};

	buf_add_text(&s.text, "hmHello{}");
	s.parts = (struct scribe_part[]){{0, "thinking", STR(""), STR("")},
					 {2, "text", STR(""), STR("")},
					 {7, "tool_call", STR("t1"), STR("f")}};
	s.part_count = 3;
	scribe_plain(&s, &out);
	ck_assert_view(buf_str(&out), "Hello");
	buf_reset(&out);
	scribe_parts_json(&s, &out);
	ck_assert_view(buf_str(&out),
		       "[{\"at\":0,\"type\":\"thinking\"},{\"at\":2,\"type\":\"text\"},"
		       "{\"at\":7,\"type\":\"tool_call\",\"id\":\"t1\",\"name\":\"f\"}]");
	buf_fini(&out);
	buf_fini(&s.text);
}
