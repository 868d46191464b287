/* NULL-terminated lists of owned strings. */
#include "key.h"

#include "base/mem.h"

#include <errno.h>
#include <string.h>

size_t strings_count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

void strings_free(char **list)
{
	for (char **s = list; s && *s; s++)
		free(*s);
	free(list);
}

bool strings_equal(char *const *a, char *const *b)
{
	size_t n = strings_count(a);

	if (n != strings_count(b) || !a != !b)
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

int strings_push(char ***list, char *s)
{
	size_t n = strings_count(*list);
	char **bigger;

	if (!s)
		return -ENOMEM;
	bigger = realloc(*list, (n + 2) * sizeof(*bigger));
	if (!bigger) {
		free(s);
		return -ENOMEM;
	}
	*list = bigger;
	(*list)[n] = s;
	(*list)[n + 1] = NULL;
	return 0;
}

char **strings_copy(char *const *list)
{
	size_t n = strings_count(list);
	char **copy = calloc(n + 1, sizeof(*copy));

	if (!copy || !list)
		return copy;
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(list[i]);
		if (!copy[i]) {
			strings_free(copy);
			return NULL;
		}
	}
	return copy;
}

json_t *strings_write(char *const *list)
{
	json_t *array = json_array();

	for (; list && *list; list++)
		json_array_append_new(array, json_string(*list));
	return array;
}
