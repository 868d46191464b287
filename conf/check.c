/* Checks of what concerns more than one key of a group, or more than one group. */
#include "load.h"

void check_group(struct loading *l, size_t i)
{
}

void check_all(struct loading *l)
{
}
