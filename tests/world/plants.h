/* The planted defects: those of lib/base/plant.h, in the product's C, and those in the scripts' text. One is switched on at a time.
 * Without SLUICE_PLANTS there are only those of the scripts. */
#ifndef SLUICE_TESTS_WORLD_PLANTS_H
#define SLUICE_TESTS_WORLD_PLANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t plants_count(void);
const char *plants_name(size_t plant);
/* Among so many histories it must be found. */
uint64_t plants_most(size_t plant);
/* The histories of quotas alone find it (budget.h). */
bool plants_in_budget(size_t plant);
/* Before redis_scripts_begin. */
void plants_set(size_t plant);

#endif
