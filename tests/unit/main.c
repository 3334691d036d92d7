/* Runs the unit tests: all, or the suites whose name contains the argument or $CK_RUN_SUITE. */
#include <stdlib.h>

#include "tests/unit/test.h"

#define SECONDS_PER_TEST 20

extern const struct test_case *const __start_sluice_tests[];
extern const struct test_case *const __stop_sluice_tests[];

/* The suite of this name among those of @runner's making, which are in the order of the section. */
static TCase *tcase_of(SRunner *runner, const char *suite_name)
{
	Suite *suite = suite_create(suite_name);
	TCase *tcase = tcase_create(suite_name);

	tcase_set_timeout(tcase, SECONDS_PER_TEST);
	suite_add_tcase(suite, tcase);
	srunner_add_suite(runner, suite);
	return tcase;
}

int main(int argc, char **argv)
{
	const char *wanted = argc > 1 ? argv[1] : getenv("CK_RUN_SUITE");
	SRunner *runner = srunner_create(NULL);
	const char *suite = NULL;
	TCase *tcase = NULL;
	int failed;

	/* A file's tests lie side by side, so a new name begins a new suite. */
	for (const struct test_case *const *at = __start_sluice_tests; at < __stop_sluice_tests;
	     at++) {
		const struct test_case *one = *at;

		if (wanted && !strstr(one->suite, wanted))
			continue;
		if (!suite || strcmp(suite, one->suite) != 0) {
			suite = one->suite;
			tcase = tcase_of(runner, suite);
		}
		if (one->signal)
			tcase_add_test_raise_signal(tcase, &one->test, one->signal);
		else
			tcase_add_test(tcase, &one->test);
	}
	/* Check would take it for a whole name. */
	unsetenv("CK_RUN_SUITE");
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
