#include "tests/sim/answer.h"

/* Words, parts of words, line ends of every kind, quotes, backslashes, controls, and characters of two, three and four
 * bytes. The same list stands in tests/support/answer.mjs. */
/* clang-format off */
static const char *const tokens[SIM_TOKENS] = {
	" the", " learner", " writes", " a", " clear", " sentence", ",", ".", " and", " then",
	" stops", " to", " think", " about", " its", " end", " para", "graph", " inter", "est",
	"ing", "ly", " un", "believ", "able", " re", "read", "-", "write", " 12", ".5", "%",
	"\n", "\n\n", "\r\n", "\r", "\t", " \"quoted\"", "\"", "\\", "\\n", " C:\\essays", "'",
	" <b>&amp;</b>", " {\"score\":4}", " [1]", "\001", " \177", " é", "ß", " naïve",
	" über", " Ñandú", " —", "…", " “hm”", " 漢字", "かな", " €5", "ก็", " 😀", "👩‍🏫", "🇩🇪",
	" 𝄞",
};
/* clang-format on */

static uint32_t fnv(uint32_t h, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)bytes[i]) * UINT32_C(16777619);
	return h;
}

uint32_t sim_answer_seed(struct str model, struct str last_user)
{
	uint32_t h = fnv(UINT32_C(2166136261), model.ptr, model.len);
	h = fnv(h, "", 1);
	h = fnv(h, last_user.ptr, last_user.len);
	return h ? h : 1;
}

uint32_t sim_answer_choice(struct str model, struct str last_user, unsigned index)
{
	uint32_t h = sim_answer_seed(model, last_user) + index * UINT32_C(2654435769);
	return h ? h : 1;
}

unsigned sim_answer_next(uint32_t *state)
{
	uint32_t x = *state;
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	*state = x;
	return x % SIM_TOKENS;
}

struct str sim_answer_token(unsigned index)
{
	return str_of(tokens[index]);
}

void sim_answer_tokens(uint32_t state, uint64_t count, struct buf *out)
{
	for (uint64_t i = 0; i < count; i++)
		buf_add_str(out, sim_answer_token(sim_answer_next(&state)));
}

void sim_answer(struct str model, struct str last_user, uint64_t count, struct buf *out)
{
	sim_answer_tokens(sim_answer_seed(model, last_user), count, out);
}
