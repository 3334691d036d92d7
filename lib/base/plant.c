#include "lib/base/plant.h"

#ifdef SLUICE_PLANTS
bool plants_on[PLANT_COUNT];
#endif
