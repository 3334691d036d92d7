/* The webhook is the golden example of schemas/json/examples/, byte for byte, and the signature that schemas/README.md shows is that
 * of the example. */
#include "consumers/notify/message.h"

#include "lib/identity/sign.h"
#include "schemas/codec.h"
#include "tests/unit/example.h"

SUITE("notify/message");

TEST(a_webhook_is_written_as_its_example)
{
	struct result r = example_result("background");
	struct buf out = {0};

	message_write(&r, &out);
	ck_assert_str_eq(buf_text(&out), example("webhook"));
	buf_fini(&out);
}

TEST(an_answer_in_the_blob_store_is_left_out)
{
	struct result r = example_result("background");
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

	message_id(STR(EXAMPLE_JOB), id);
	ck_assert_str_eq(id, "msg_01M8287AQSTJRB2D2PRTV8Q4CK");
}

TEST(the_signature_in_the_readme_is_that_of_the_example)
{
	struct buf signature = {0}, head = {0};
	struct sign_message m = {.id = STR("msg_01M8287AQSTJRB2D2PRTV8Q4CK"), .time_s = 1795342531};

	m.body = str_of(example("webhook"));
	buf_add_text(&head, "webhook-signature: ");
	sign_message(&m, STR("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), &head);
	ck_assert_msg(strstr(file_text("schemas/README.md"), buf_text(&head)) != NULL, "%s",
		      buf_text(&head));
	buf_fini(&signature);
	buf_fini(&head);
}
