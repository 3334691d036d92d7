#include "lib/base/sm.h"

#include "tests/unit/test.h"

SUITE("base/sm");

enum { LAMP_OFF, LAMP_ON, LAMP_BROKEN };

static const struct sm_state lamp[] = {
    [LAMP_OFF] = {"off", SM(LAMP_ON)},
    [LAMP_ON] = {"on", SM(LAMP_OFF) | SM(LAMP_BROKEN)},
    [LAMP_BROKEN] = {"broken", 0},
};

TEST(an_allowed_move_is_made_and_logged)
{
	struct log_sink sink = {.fd = -1};
	struct log log = {.sink = &sink};
	struct sm m;

	sm_init(&m, lamp, &log, "lamp", LAMP_OFF);
	sm_move(&m, LAMP_ON);
	ck_assert_int_eq(sm_state(&m), LAMP_ON);
	ck_assert_str_eq(sm_name(&m), "on");
	ck_assert_str_eq(sink.last, "level=debug event=moved machine=lamp from=off to=on");
}

TEST(a_machine_needs_no_log)
{
	struct sm m;

	sm_init(&m, lamp, NULL, "lamp", LAMP_OFF);
	sm_move(&m, LAMP_ON);
	ck_assert_int_eq(sm_state(&m), LAMP_ON);
}

TEST_ABORTS(a_move_that_the_table_does_not_allow_ends_the_process)
{
	struct sm m;

	sm_init(&m, lamp, NULL, "lamp", LAMP_OFF);
	sm_move(&m, LAMP_BROKEN);
}

TEST_ABORTS(staying_is_a_move_too)
{
	struct sm m;

	sm_init(&m, lamp, NULL, "lamp", LAMP_OFF);
	sm_move(&m, LAMP_OFF);
}
