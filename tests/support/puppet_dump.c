/*
 * What the puppet was given, as one JSON object: written beside the target and renamed onto it, so
 * a reader never sees half of it.
 */
#include "puppet.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
	const char *name;
	int resource;
} limits[] = {
	{ "as", RLIMIT_AS },	   { "core", RLIMIT_CORE },	{ "cpu", RLIMIT_CPU },
	{ "data", RLIMIT_DATA },   { "fsize", RLIMIT_FSIZE },	{ "memlock", RLIMIT_MEMLOCK },
	{ "nice", RLIMIT_NICE },   { "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC },
	{ "stack", RLIMIT_STACK }, { "rtprio", RLIMIT_RTPRIO },
};

static void put_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c < 0x20 || *c >= 0x7f || *c == '"' || *c == '\\')
			fprintf(out, "\\u%04x", *c);
		else
			fputc(*c, out);
	}
	fputc('"', out);
}

static void put_field(FILE *out, const char *name, const char *value)
{
	fprintf(out, "\"%s\": ", name);
	put_string(out, value);
	fputs(",\n", out);
}

static void put_list(FILE *out, const char *name, char **items, int n)
{
	fprintf(out, "\"%s\": [", name);
	for (int i = 0; i < n; i++) {
		fputs(i ? ", " : "", out);
		put_string(out, items[i]);
	}
	fputs("],\n", out);
}

static void put_ids(FILE *out)
{
	uid_t u[3];
	gid_t g[3], groups[256];
	getresuid(&u[0], &u[1], &u[2]);
	getresgid(&g[0], &g[1], &g[2]);
	fprintf(out, "\"uid\": [%u, %u, %u],\n", u[0], u[1], u[2]);
	fprintf(out, "\"gid\": [%u, %u, %u],\n", g[0], g[1], g[2]);
	int n = getgroups(256, groups);
	fputs("\"groups\": [", out);
	for (int i = 0; i < n; i++)
		fprintf(out, "%s%u", i ? ", " : "", groups[i]);
	fputs("],\n", out);
}

/* Lines of /proc/self/status that matter, as strings under their own names. */
static void put_status(FILE *out)
{
	static const char *const wanted[] = { "SigBlk", "SigIgn", "SigCgt",  "NoNewPrivs",
					      "CapEff", "CapBnd", "Seccomp", "Threads" };
	char line[1024];
	FILE *in = fopen("/proc/self/status", "re");
	while (in && fgets(line, sizeof(line), in)) {
		char *value = strchr(line, ':');
		if (!value)
			continue;
		*value++ = '\0';
		value += strspn(value, " \t");
		value[strcspn(value, "\n")] = '\0';
		for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
			if (!strcmp(line, wanted[i]))
				put_field(out, line, value);
	}
	if (in)
		fclose(in);
}

static void put_small_file(FILE *out, const char *name, const char *path)
{
	char text[4096] = "";
	FILE *in = fopen(path, "re");
	if (in) {
		size_t n = fread(text, 1, sizeof(text) - 1, in);
		while (n && text[n - 1] == '\n')
			n--;
		text[n] = '\0';
		fclose(in);
	}
	put_field(out, name, text);
}

static void put_stat(FILE *out)
{
	char text[1024] = "";
	int session = -1, tty = -1, pgrp = -1;
	FILE *in = fopen("/proc/self/stat", "re");
	if (in && fgets(text, sizeof(text), in)) {
		char *end = strrchr(text, ')');
		if (!end || sscanf(end + 1, " %*c %*d %d %d %d", &pgrp, &session, &tty) != 3)
			puppet_fail("/proc/self/stat");
	}
	if (in)
		fclose(in);
	fprintf(out, "\"pgid\": %d, \"sid\": %d, \"tty\": %d,\n", pgrp, session, tty);
}

static void put_limits(FILE *out)
{
	fputs("\"limits\": {", out);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit l = { 0, 0 };
		getrlimit(limits[i].resource, &l);
		fprintf(out, "%s\"%s\": [%lld, %lld]", i ? ", " : "", limits[i].name,
			(long long)l.rlim_cur, (long long)l.rlim_max);
	}
	fputs("},\n", out);
}

/* Open descriptors but the ones used for looking; called before the dump file is opened. */
static void put_fds(FILE *out)
{
	DIR *dir = opendir("/proc/self/fd");
	bool first = true;
	fputs("\"fds\": {", out);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char path[64], link[512] = "";
		struct stat st = { 0 };
		int fd = atoi(e->d_name);
		if (e->d_name[0] == '.' || fd == dirfd(dir) || fd == journal_fd())
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, link, sizeof(link) - 1) < 0)
			continue;
		fstat(fd, &st);
		fprintf(out, "%s\"%d\": {\"flags\": %d, \"fdflags\": %d, \"uid\": %u, \"link\": ",
			first ? "" : ", ", fd, fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), st.st_uid);
		put_string(out, link);
		fputs("}", out);
		first = false;
	}
	if (dir)
		closedir(dir);
	fputs("},\n", out);
}

static void put_all(FILE *out, struct puppet *p)
{
	char cwd[4096] = "", comm[32] = "";
	int n = 0, parent_death = -1;
	mode_t mask = umask(0);
	umask(mask);
	while (p->env[n])
		n++;
	if (!getcwd(cwd, sizeof(cwd)))
		puppet_fail("getcwd");
	prctl(PR_GET_NAME, comm, 0, 0, 0);
	prctl(PR_GET_PDEATHSIG, &parent_death, 0, 0, 0);
	fputs("{\n", out);
	put_fds(out);
	put_list(out, "argv", p->argv, p->argc);
	put_list(out, "env", p->env, n);
	put_field(out, "cwd", cwd);
	put_field(out, "comm", comm);
	put_ids(out);
	put_status(out);
	put_stat(out);
	put_limits(out);
	put_small_file(out, "oom_score_adj", "/proc/self/oom_score_adj");
	put_small_file(out, "cgroup", "/proc/self/cgroup");
	fprintf(out, "\"umask\": %u, \"nice\": %d, \"pdeathsig\": %d,\n", (unsigned)mask,
		getpriority(PRIO_PROCESS, 0), parent_death);
	fprintf(out, "\"pid\": %d, \"ppid\": %d\n}\n", (int)getpid(), (int)getppid());
}

void puppet_dump(struct puppet *p, const char *path)
{
	char temporary[4096], *text = NULL;
	size_t size = 0;
	FILE *memory = open_memstream(&text, &size);
	if (!memory)
		puppet_fail("memory");
	put_all(memory, p);
	fclose(memory);
	snprintf(temporary, sizeof(temporary), "%s.%d", path, (int)getpid());
	FILE *out = fopen(temporary, "we");
	if (!out || fwrite(text, 1, size, out) != size || fclose(out) != 0 ||
	    rename(temporary, path) < 0)
		puppet_fail(path);
	free(text);
}
