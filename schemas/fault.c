#include "schemas/fault.h"

#include "lib/base/mem.h"

static const struct fault_info faults[] = {
#define FAULT(name, number, retry, status, code, text, operator_does) \
	{FAULT_##name, FAULT_##retry, status, code, text, operator_does},
#include "schemas/fault.def"
#undef FAULT
};

const struct fault_info *fault_info(enum fault fault)
{
	const struct fault_info *internal = NULL;

	for (size_t i = 0; i < countof(faults); i++) {
		if (faults[i].fault == fault)
			return &faults[i];
		if (faults[i].fault == FAULT_INTERNAL)
			internal = &faults[i];
	}
	return internal;
}

enum fault fault_find(struct str code)
{
	for (size_t i = 0; i < countof(faults); i++)
		if (str_is(code, faults[i].code))
			return faults[i].fault;
	return FAULT_NONE;
}

bool fault_retryable(enum fault fault)
{
	return fault_info(fault)->retry != FAULT_NEVER;
}

const struct fault_info *fault_at(size_t index)
{
	return index < countof(faults) ? &faults[index] : NULL;
}
