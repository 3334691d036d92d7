/* Unit tests that register themselves: a file is a suite, a test one claim, its name the claim as a sentence. A new
 * file in tests/unit needs no line elsewhere. Refuses ports, sleeps and order: every test runs in a process of its
 * own (CK_FORK=no runs them in one, for a debugger).
 *
 *   #include "tests/unit/test.h"
 *
 *   SUITE("base/map");
 *
 *   TEST(a_key_that_was_taken_is_not_found)
 *   {
 *           ck_assert_ptr_null(map_find(&m, STR("a")));
 *   }
 *
 * TEST_ABORTS is a test that must end in must(): our own bug, caught. */
#ifndef SLUICE_TESTS_UNIT_TEST_H
#define SLUICE_TESTS_UNIT_TEST_H

#include <check.h>
#include <signal.h>
#include <string.h>

#include "lib/base/str.h"

struct test_case {
	const char *suite;
	TTest test;
	int signal; /* that must end it, or 0 */
};

#define SUITE(name) static const char test_suite_[] = name

#define TEST(sentence) TEST_ENDS_(sentence, 0)
#define TEST_ABORTS(sentence) TEST_ENDS_(sentence, SIGABRT)

/* Each test puts a pointer into the linker's section `sluice_tests`, where main finds them all. */
#define TEST_ENDS_(sentence, signum)                                            \
	static void sentence(int);                                              \
	static const struct test_case sentence##_case_ = {                      \
	    test_suite_, {#sentence, sentence, __FILE__, __LINE__}, signum};    \
	static const struct test_case *const sentence##_entry_                  \
	    __attribute__((used, section("sluice_tests"))) = &sentence##_case_; \
	static void sentence(int test_index_ __attribute__((unused)))

/* The view @a holds exactly the text @b. */
#define ck_assert_view(a, b)                                                          \
	do {                                                                          \
		struct str view_ = (a);                                               \
		const char *text_ = (b);                                              \
		ck_assert_msg(str_is(view_, text_), "%s is \"%.*s\", not \"%s\"", #a, \
			      STR_FMT(view_), text_);                                 \
	} while (0)

#endif
