/* Modules. A loaded one stays for the life of the process: what it registered may be called. */
#include "lib/runner/runner.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int refuse(char *why, size_t size, int error, const char *path, const char *text)
{
	snprintf(why, size, "%s: %s", path, text);
	return error;
}

static int dlopen_error(char *why, size_t size)
{
	const char *text = dlerror();

	snprintf(why, size, "%s", text ? text : "cannot be loaded");
	return -ELIBACC;
}

int module_preload(const char *path, char *why, size_t size)
{
	return dlopen(path, RTLD_NOW | RTLD_GLOBAL) ? 0 : dlopen_error(why, size);
}

int module_open(struct module *ret, const char *path, char *why, size_t size)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const struct reeve_module *m;
	void *data = NULL;
	int r;

	if (!handle)
		return dlopen_error(why, size);
	m = dlsym(handle, "reeve_module");
	if (!m)
		return refuse(why, size, -ENOEXEC, path, "exports no reeve_module");
	if (m->abi != REEVE_ABI || m->size < sizeof(*m))
		return refuse(why, size, -ENOEXEC, path, "its reeve_module is of another ABI");
	if (!m->run)
		return refuse(why, size, -ENOEXEC, path, "its reeve_module has no run");
	r = m->load ? m->load(&data) : 0;
	if (r != 0)
		return refuse(why, size, r < 0 ? r : -ECANCELED, path,
			      r < 0 ? strerror(-r) : "load did not succeed");
	*ret = (struct module){ m, data };
	return 0;
}

int module_run(const struct module *m, const struct reeve_ctx *ctx)
{
	int code = m->m->run(m->data, ctx);

	if (m->m->unload)
		m->m->unload(m->data);
	if (code >= 0 && code <= 255)
		return code;
	runner_say("%s: run returned %d, which is no exit code", ctx->worker, code);
	return 1;
}
