/* Owns the dump: libconfig text with every key, that loads to an equal struct conf. */
#include "dump.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static void indent(struct str *out, int depth)
{
	for (int i = 0; i < depth; i++)
		str_add(out, "\t");
}

static void dump_string(const char *text, struct str *out)
{
	static const char plain[] = "\n\r\t\f";
	static const char letter[] = "nrtf";

	str_add(out, "\"");
	for (const char *c = text; *c; c++) {
		const char *at = strchr(plain, *c);

		if (*c == '"' || *c == '\\')
			str_addf(out, "\\%c", *c);
		else if (at)
			str_addf(out, "\\%c", letter[at - plain]);
		else if ((unsigned char)*c < 0x20 || *c == 0x7f)
			str_addf(out, "\\x%02x", (unsigned char)*c);
		else
			str_add_bytes(out, c, 1);
	}
	str_add(out, "\"");
}

/* The shortest text that reads back to the same number. */
static void dump_real(double f, struct str *out)
{
	char text[40];

	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, f);
		if (strtod(text, NULL) == f)
			break;
	}
	str_add(out, text);
	if (!strpbrk(text, ".en"))
		str_add(out, ".0");
}

static void dump_object(json_t *j, int depth, struct str *out)
{
	const char *name;
	json_t *value;

	str_add(out, "{");
	json_object_foreach(j, name, value)
	{
		str_addf(out, " %s = ", name);
		dump_value(value, depth, out);
		str_add(out, ";");
	}
	str_add(out, " }");
}

static void dump_array(json_t *j, int depth, struct str *out)
{
	bool blocks = json_is_object(json_array_get(j, 0));
	json_t *value;
	size_t i;

	str_add(out, blocks ? "(" : "[");
	json_array_foreach(j, i, value)
	{
		str_add(out, i ? "," : "");
		if (blocks) {
			str_add(out, "\n");
			indent(out, depth + 1);
		} else {
			str_add(out, " ");
		}
		dump_value(value, depth + 1, out);
	}
	if (blocks) {
		str_add(out, "\n");
		indent(out, depth);
	}
	str_add(out, blocks ? ")" : " ]");
}

void dump_value(json_t *j, int depth, struct str *out)
{
	switch (json_typeof(j)) {
	case JSON_OBJECT:
		dump_object(j, depth, out);
		break;
	case JSON_ARRAY:
		dump_array(j, depth, out);
		break;
	case JSON_STRING:
		dump_string(json_string_value(j), out);
		break;
	case JSON_INTEGER:
		str_addf(out, "%lld", (long long)json_integer_value(j));
		break;
	case JSON_REAL:
		dump_real(json_real_value(j), out);
		break;
	default:
		str_add(out, json_is_true(j) ? "true" : "false");
	}
}

/* Rows come sorted, so the keys of an inner block stand together. */
static void dump_rows(const char *prefix, const void *base, int depth, struct str *out)
{
	char open[64] = "";
	size_t n, len = strlen(prefix);
	const struct conf_key *keys = conf_keys(&n);

	for (size_t i = 0; i < n; i++) {
		const char *name = keys[i].path + len, *dot;
		json_t *j;

		if (strncmp(keys[i].path, prefix, len) != 0 ||
		    (keys[i].flags & (KEY_ELEMENT | KEY_SHORTHAND)))
			continue;
		j = keys[i].how->write(&keys[i], key_field_const(&keys[i], base), WRITE_DUMP);
		if (!j)
			continue;
		dot = strchr(name, '.');
		if (open[0] && (!dot || strncmp(open, name, strlen(open)) != 0)) {
			open[0] = '\0';
			indent(out, depth);
			str_add(out, "};\n");
		}
		if (dot && !open[0]) {
			snprintf(open, sizeof(open), "%.*s", (int)(dot - name + 1), name);
			indent(out, depth);
			str_addf(out, "%.*s: {\n", (int)(dot - name), name);
		}
		indent(out, depth + (dot ? 1 : 0));
		str_addf(out, "%s = ", dot ? dot + 1 : name);
		dump_value(j, depth + (dot ? 1 : 0), out);
		str_add(out, ";\n");
		json_decref(j);
	}
	if (open[0]) {
		indent(out, depth);
		str_add(out, "};\n");
	}
}

static void dump_one_group(const struct conf_group *g, struct str *out)
{
	str_addf(out, "\t%s: {\n", g->name);
	dump_rows("group.", g, 2, out);
	str_add(out, "\t};\n");
}

void conf_dump_group(const struct conf_group *g, struct str *out)
{
	str_add(out, "groups: {\n");
	dump_one_group(g, out);
	str_add(out, "};\n");
}

void conf_dump(const struct conf *c, struct str *out)
{
	str_add(out, "daemon: {\n");
	dump_rows("daemon.", &c->daemon, 1, out);
	str_add(out, "};\ngroups: {\n");
	for (size_t i = 0; i < c->n_groups; i++)
		dump_one_group(&c->groups[i], out);
	str_add(out, "};\n");
}
