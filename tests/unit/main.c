/* Runs the unit tests: all, or the suites whose name contains the argument or $CK_RUN_SUITE. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/test.h"

#define SECONDS_PER_TEST 20

extern const struct test_case *const __start_sluice_tests[];
extern const struct test_case *const __stop_sluice_tests[];

/* What must() says is what the test wants; nobody needs to read it. */
static void quiet(void)
{
	if (!freopen("/dev/null", "w", stderr))
		ck_abort_msg("no /dev/null");
}

static TCase *add_tcase(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, SECONDS_PER_TEST);
	suite_add_tcase(suite, tcase);
	return tcase;
}

int main(int argc, char **argv)
{
	const char *wanted = argc > 1 ? argv[1] : getenv("CK_RUN_SUITE");
	SRunner *runner = srunner_create(NULL);
	TCase *holds = NULL, *aborts = NULL;
	const char *name = NULL;
	int failed;

	/* A file's tests lie side by side, so a new name begins a new suite. */
	for (const struct test_case *const *at = __start_sluice_tests; at < __stop_sluice_tests;
	     at++) {
		const struct test_case *one = *at;

		if (wanted && !strstr(one->suite, wanted))
			continue;
		if (!name || strcmp(name, one->suite) != 0) {
			Suite *suite = suite_create(name = one->suite);

			holds = add_tcase(suite, "holds");
			aborts = add_tcase(suite, "aborts");
			tcase_add_checked_fixture(aborts, quiet, NULL);
			srunner_add_suite(runner, suite);
		}
		if (one->signal)
			tcase_add_test_raise_signal(aborts, &one->test, one->signal);
		else
			tcase_add_test(holds, &one->test);
	}
	/* Check would take it for a whole name. */
	unsetenv("CK_RUN_SUITE");
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
