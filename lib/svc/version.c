#include "lib/svc/svc.h"

#ifndef SLUICE_VERSION
#define SLUICE_VERSION "unversioned"
#endif

const char *svc_version(void)
{
	return SLUICE_VERSION;
}
