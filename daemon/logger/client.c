#include "logger/logger.h"
void client_accept(struct logger *lg)
{
}
void client_event(struct logger *lg, uint32_t which, uint32_t events)
{
}
void client_pump(struct logger *lg)
{
}
int64_t client_rest(struct logger *lg)
{
	return INT64_MAX;
}
void client_fini(struct logger *lg)
{
}
