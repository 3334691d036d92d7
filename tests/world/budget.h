/* Histories of quotas alone (budget.c): nothing is ever overspent, everybody gets his turn, nothing is left. */
#ifndef SLUICE_TESTS_WORLD_BUDGET_H
#define SLUICE_TESTS_WORLD_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

/* One history from @seed; what it violates is counted in world->violations. */
void budget_history(uint64_t seed, bool story);

#endif
