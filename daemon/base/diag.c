/* Owns no storage: writes into the caller's struct diag, cutting text that does not fit. */
#include "base/diag.h"

#include <stdarg.h>
#include <stdio.h>

int diag_set(struct diag *d, int err, const char *format, ...)
{
	va_list ap;

	if (!d)
		return err;
	d->file[0] = '\0';
	d->line = 0;
	va_start(ap, format);
	vsnprintf(d->text, sizeof(d->text), format, ap);
	va_end(ap);
	return err;
}

int diag_at(struct diag *d, int err, const char *file, int line, const char *format, ...)
{
	va_list ap;

	if (!d)
		return err;
	snprintf(d->file, sizeof(d->file), "%s", file ? file : "");
	d->line = line;
	va_start(ap, format);
	vsnprintf(d->text, sizeof(d->text), format, ap);
	va_end(ap);
	return err;
}
