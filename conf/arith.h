/* The arithmetic of %{…}: whole numbers, i, + - * / % and brackets. */
#ifndef REEVE_CONF_ARITH_H
#define REEVE_CONF_ARITH_H

#include <stdbool.h>
#include <stddef.h>

struct arith {
	long long value;
	bool has_i;
	bool zero_pad;
	int width; /* 0 = as long as needed */
};
/* "8000+i", "02d:1+i" of len bytes, for the worker of that index. 0 or -EINVAL (syntax, overflow,
 * division by zero or by anything that holds i). */
int arith_eval(const char *text, size_t len, long long index, struct arith *ret);

#endif
