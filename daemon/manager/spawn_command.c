/*
 * The command of `reevectl run`: its words are not the configuration's, it stays where its caller
 * stands, and what it reads and writes passes through nobody's hands.
 */
#include "manager/spawn_job.h"

#include <errno.h>

/* A script without a first line that names its interpreter goes to the shell, as execvp(3) has it.
 */
static int plan_script(struct job *job, const struct manager *m, struct diag *d)
{
	int r;

	words_clear(&job->argv);
	words_add(&job->argv, "/bin/sh");
	for (char **word = m->command; *word; word++)
		words_add(&job->argv, *word);
	r = words_finish(&job->argv, &job->plan.script, d);
	if (r == -E2BIG) /* then it has to be a program */
		job->plan.script = NULL;
	return r == -E2BIG ? 0 : r;
}

int spawn_plan_command(struct job *job, const struct manager *m, struct diag *d)
{
	job->plan.cwd = NULL;
	job->plan.terminal = m->ledger.h->run_mode == RUN_TERMINAL;
	for (int i = 0; i < 3; i++)
		job->plan.stdio[i] = i;
	return plan_script(job, m, d);
}
