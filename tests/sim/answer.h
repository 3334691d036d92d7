/* What the simulator answers: a pure function of the model's name and the last user message, so that a test can
 * compute what must arrive. tests/support/answer.mjs is the same function for Node. Refuses to know a wire format.
 *
 * A seed (32-bit FNV-1a over the model's bytes, a zero byte, and the message's bytes; 1 where that gives 0) drives an
 * xorshift32 generator (13, 17, 5); each step's lowest six bits choose one of 64 tokens. */
#ifndef SLUICE_TESTS_SIM_ANSWER_H
#define SLUICE_TESTS_SIM_ANSWER_H

#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/str.h"

#define SIM_TOKENS 64
/* The first so many of them are plain words. */
#define SIM_WORDS 16

/* The generator at its beginning, and its next token (an index below SIM_TOKENS). */
uint32_t sim_answer_seed(struct str model, struct str last_user);
unsigned sim_answer_next(uint32_t *state);
/* The generator of OpenAI's choice @index; of choice 0 it is the one above. */
uint32_t sim_answer_choice(struct str model, struct str last_user, unsigned index);
/* A token's bytes. */
struct str sim_answer_token(unsigned index);
/* The first @tokens tokens from @state on, and of the answer, laid end to end behind what @out holds. */
void sim_answer_tokens(uint32_t state, uint64_t tokens, struct buf *out);
void sim_answer(struct str model, struct str last_user, uint64_t tokens, struct buf *out);

#endif
