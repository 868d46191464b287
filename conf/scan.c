#include "scan.h"

#include <errno.h>

int scan_text(const char *text, size_t len, const char *file, struct conf_report *report,
	      struct str *out)
{
	str_add_bytes(out, text, len);
	return out->failed ? -ENOMEM : 0;
}
