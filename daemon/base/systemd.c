/* Owns the only reference to libsystemd, by name and at run time. */
#include "base/systemd.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

/* dlsym gives an object pointer; ISO C has no conversion to a function's. */
static int look_up(void *library, const char *name, void *ret_function)
{
	void *p = dlsym(library, name);

	memcpy(ret_function, &p, sizeof(p));
	return p ? 0 : -ENOTSUP;
}

int systemd_open(struct systemd *ret)
{
	struct systemd s = { .library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL) };

	if (!s.library)
		return -ENOTSUP;
	if (look_up(s.library, "sd_notify", &s.notify) < 0 ||
	    look_up(s.library, "sd_watchdog_enabled", &s.watchdog) < 0) {
		systemd_close(&s);
		return -ENOTSUP;
	}
	*ret = s;
	return 0;
}

void systemd_close(struct systemd *s)
{
	if (s->library)
		dlclose(s->library);
	*s = (struct systemd){ 0 };
}
