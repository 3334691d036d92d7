/* The webhook is the golden example of schemas/json/examples/, byte for byte, and the signature that schemas/README.md shows is that
 * of the example. */
#include "consumers/notify/message.h"

#include <stdio.h>

#include "lib/identity/sign.h"
#include "schemas/codec.h"
#include "tests/unit/test.h"

SUITE("notify/message");

#define JOB "job_01M8287AQSTJRB2D2PRTV8Q4CK"

static char text[65536];

static const char *file(const char *path)
{
	FILE *f = fopen(path, "r");
	size_t len;

	ck_assert_msg(f != NULL, "%s cannot be read", path);
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	while (len && text[len - 1] == '\n')
		len--;
	text[len] = '\0';
	return text;
}

static struct result good_result(void)
{
	struct result r;

	codec_init(&codec_result, &r);
	r.id = STR(JOB);
	r.kind = STR("chat");
	r.lane = STR("background");
	r.status = STR("succeeded");
	r.attempt = 1;
	r.created_ms = 1795342530000;
	r.picked_up_ms = 1795342530004;
	r.first_token_ms = 1795342530321;
	r.finished_ms = 1795342531500;
	r.provider = STR("anthropic");
	r.account = STR("main");
	r.target_model = STR("claude-sonnet-4-5");
	r.text = STR("No: “well” is.");
	r.bytes = 18;
	r.finish_reason = STR("stop");
	r.input_tokens = 812;
	r.output_tokens = 214;
	r.cost_microusd = 3120;
	r.metadata = STR("{\"essay\":\"42\"}");
	return r;
}

TEST(a_webhook_is_written_as_its_example)
{
	struct result r = good_result();
	struct buf out = {0};

	message_write(&r, &out);
	ck_assert_str_eq(buf_text(&out), file("schemas/json/examples/webhook.json"));
	buf_fini(&out);
}

TEST(an_answer_in_the_blob_store_is_left_out)
{
	struct result r = good_result();
	struct buf out = {0};

	r.text = STR("");
	r.text_blob = STR("blob_ab");
	r.bytes = 300000;
	message_write(&r, &out);
	ck_assert_ptr_nonnull(strstr(buf_text(&out), "\"result\":{\"bytes\":300000"));
	ck_assert_ptr_null(strstr(buf_text(&out), "\"text\":"));
	buf_fini(&out);
}

TEST(the_id_is_the_jobs_own)
{
	char id[ID_SIZE];

	message_id(STR(JOB), id);
	ck_assert_str_eq(id, "msg_01M8287AQSTJRB2D2PRTV8Q4CK");
}

TEST(the_signature_in_the_readme_is_that_of_the_example)
{
	struct buf signature = {0}, head = {0};
	struct sign_message m = {.id = STR("msg_01M8287AQSTJRB2D2PRTV8Q4CK"), .time_s = 1795342531};

	m.body = str_of(file("schemas/json/examples/webhook.json"));
	buf_add_text(&head, "webhook-signature: ");
	sign_message(&m, STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &head);
	ck_assert_msg(strstr(file("schemas/README.md"), buf_text(&head)) != NULL, "%s",
		      buf_text(&head));
	buf_fini(&signature);
	buf_fini(&head);
}
