/* What a fuzz target is: one function that takes any bytes, and ends the process where a promise is broken. Refuses
 * to keep anything from one call to the next. */
#ifndef SLUICE_TESTS_FUZZ_FUZZ_H
#define SLUICE_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Returns 0. Bytes that reach it once and broke something belong into corpus/NAME/. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
