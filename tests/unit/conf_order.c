/* CF11: random graphs of `after`, against reachability worked out the slow way. */
#include "conf_rig.h"

#define GROUPS 12

static bool reaches(bool edges[GROUPS][GROUPS], bool closure[GROUPS][GROUPS])
{
	bool cycle = false;

	memcpy(closure, edges, sizeof(bool[GROUPS][GROUPS]));
	for (int k = 0; k < GROUPS; k++)
		for (int i = 0; i < GROUPS; i++)
			for (int j = 0; j < GROUPS; j++)
				closure[i][j] |= closure[i][k] && closure[k][j];
	for (int i = 0; i < GROUPS; i++)
		cycle |= closure[i][i];
	return cycle;
}

static unsigned draw(unsigned *seed, unsigned below)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % below;
}

Test(conf_order, CF11_random_graphs)
{
	unsigned seed = 4711;
	int with = 0, without = 0;

	for (int turn = 0; turn < 400; turn++) {
		bool edges[GROUPS][GROUPS] = { 0 }, closure[GROUPS][GROUPS];
		auto_str text = { 0 }, said = { 0 };
		struct conf *c = NULL;
		bool cycle;
		int err;

		for (unsigned e = draw(&seed, GROUPS + 4); e > 0; e--) {
			unsigned from = draw(&seed, GROUPS), to = draw(&seed, GROUPS);

			edges[from][to] = from != to;
		}
		str_add(&text, "groups: {\n");
		for (int i = 0; i < GROUPS; i++) {
			const char *comma = "";

			str_addf(&text, "g%d: { command = \"/x\"; after = [", i);
			for (int j = 0; j < GROUPS; j++) {
				if (!edges[i][j])
					continue;
				str_addf(&text, "%s \"g%d\"", comma, j);
				comma = ",";
			}
			str_add(&text, " ]; };\n");
		}
		str_add(&text, "};\n");
		cycle = reaches(edges, closure);
		err = rig_load(text.data, &c, &said);
		cr_assert_eq(err < 0, cycle, "%s%s", text.data, said.data);
		cr_assert(!cycle || strstr(said.data, "wait for each other: g"), "%s", said.data);
		*(cycle ? &with : &without) += 1;
		conf_free(c);
	}
	cr_expect(with > 50 && without > 50, "%d with, %d without", with, without);
}

/* The path of a cycle is a real one: each group waits for the next, and the last is the first. */
Test(conf_order, the_path_is_shown)
{
	auto_str said = { 0 };
	struct conf *c = NULL;

	cr_expect_eq(rig_load("groups: { a: { command = \"/x\"; after = [ \"b\" ]; };"
			      " b: { command = \"/x\"; after = [ \"d\", \"c\" ]; };"
			      " c: { command = \"/x\"; after = [ \"b\" ]; };"
			      " d: { command = \"/x\"; }; };",
			      &c, &said),
		     -EINVAL);
	cr_expect(strstr(said.data, "b -> c -> b"), "%s", said.data);
	cr_expect_null(strstr(said.data, "a -> b -> c -> b"));
}

Test(conf_order, a_chain_of_thousands)
{
	auto_str text = { 0 }, said = { 0 };
	struct conf *c = NULL;

	str_add(&text, "groups: {\n");
	for (int i = 0; i < GROUPS_MAX - 1; i++)
		str_addf(&text, "g%d: { command = \"/x\"; after = [ \"g%d\" ]; };\n", i, i + 1);
	str_addf(&text, "g%d: { command = \"/x\"; };\n};\n", GROUPS_MAX - 1);
	cr_expect_eq(rig_load(text.data, &c, &said), 0, "%.300s", said.data);
	cr_expect_eq(c->n_groups, (size_t)GROUPS_MAX);
	conf_free(c);
}
