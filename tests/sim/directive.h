/* How one answer is given: its pace, and what goes wrong with it (fault.def). A prompt may ask for it, `[sim ttft=120
 * rate=50 tokens=200 fin=3]` anywhere in the last user message, and so may a rule (faults.c). Refuses unknown names and bad
 * numbers. tests/sim/README.md lists the names. */
#ifndef SLUICE_TESTS_SIM_DIRECTIVE_H
#define SLUICE_TESTS_SIM_DIRECTIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

#define SIM_BREAKS 8
#define SIM_CODE_SIZE 48
#define SIM_ONLY_SIZE 32
#define SIM_HUGE_BYTES (8 << 20)

enum sim_fault {
#define FAULT(NAME, name, place, text) SIM_FAULT_##NAME,
#include "tests/sim/fault.def"
#undef FAULT
	SIM_FAULTS
};

enum sim_place { SIM_PLACE_DOOR, SIM_PLACE_ANSWER, SIM_PLACE_WITHIN, SIM_PLACE_PACE };

enum sim_after {
	SIM_AFTER_ASK, /* as soon as asked, before the head */
	SIM_AFTER_TOKENS,
	SIM_AFTER_BYTES, /* of the answer's body; 0: behind the head */
};

/* One thing that goes wrong WITHIN an answer. */
struct sim_break {
	enum sim_fault fault;
	enum sim_after after;
	uint64_t at;
	uint64_t arg; /* stall: milliseconds, 0: for ever; huge: bytes */
	bool done;
};

struct sim_directive {
	uint64_t head_ms;	  /* until status and first event; 0: at once */
	uint64_t ttft_ms;	  /* until the first token, from the request's last byte */
	double rate;		  /* tokens a second; 0: all at once */
	uint64_t tokens;	  /* of the whole answer */
	unsigned status;	  /* 200, or the error that is answered instead */
	uint64_t retry_ms;	  /* Retry-After of such an error; 0: none */
	char code[SIM_CODE_SIZE]; /* its code; empty: the usual one */
	char only[SIM_ONLY_SIZE]; /* faults are for models that begin so; empty: for all */
	bool words;		  /* of plain words alone: to be looked at */
	bool no_usage;		  /* a stream of OpenAI's does not say what it used */
	bool page;
	bool bytes;
	bool crlf;
	unsigned count;
	struct sim_break breaks[SIM_BREAKS];
};

enum sim_directive_result { SIM_DIRECTIVE_OK = 0, SIM_DIRECTIVE_BAD = 1 };

/* Takes the faults out where they are for other models than @model. */
void sim_directive_for(struct sim_directive *directive, struct str model);

/* Changes in *@directive (the defaults) what @text asks for. @ret_bad is the word that is not understood. */
must_check enum sim_directive_result
sim_directive_read(struct str text, struct sim_directive *directive, struct str *ret_bad);
/* The words between the brackets. */
must_check enum sim_directive_result
sim_directive_words(struct str words, struct sim_directive *directive, struct str *ret_bad);
void sim_directive_slow(struct sim_directive *directive, double factor);
/* What breaks as soon as it is asked; NULL: nothing. */
struct sim_break *sim_directive_at_once(struct sim_directive *directive);
/* True where the client may take the request for never processed. */
bool sim_directive_undone(struct sim_directive *directive);

const char *sim_fault_name(enum sim_fault fault);
enum sim_place sim_fault_place(enum sim_fault fault);
/* SIM_FAULTS where there is none of that name. */
enum sim_fault sim_fault_of(struct str name);

#endif
