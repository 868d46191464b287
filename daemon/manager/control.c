/*
 * Owns the control socket, the rights of peers and the table of methods. The socket file is ours
 * only if its inode is: a losing or late daemon never unlinks another's (CT01, CT09).
 */
#include "manager/methods.h"

#include "base/fd.h"
#include "base/mem.h"
#include "lib/control_description.h"
#include "manager/worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define TIMEOUT_MAX_MS (366LL * 86400000)

#define ARG(args, field, kind, ...)                                                                \
	{                                                                                          \
		.name = #field, .type = kind, .offset = offsetof(struct args, field), __VA_ARGS__  \
	}
#define END                                                                                        \
	{                                                                                          \
		.name = NULL                                                                       \
	}
#define TARGETS ARG(args_change, targets, VL_STRINGS, .required = true)
#define WAITING                                                                                    \
	ARG(args_change, wait, VL_BOOL, .preset = true),                                           \
		ARG(args_change, timeout_ms, VL_INT, .preset = -1, .min = 0,                       \
		    .max = TIMEOUT_MAX_MS)
#define OP ARG(args_change, op, VL_STRING, .max = 32)

static const char *const to_words[] = { "main", "pgrp", "tree", NULL };
static const char *const state_words[] = { "stopped",  "waiting", "starting", "ready",
					   "stopping", "killing", "backoff",  "quarantined",
					   "done",     "stuck",	  NULL };

static const struct vl_param list_params[] = {
	ARG(args_list, targets, VL_STRINGS),
	ARG(args_list, memory, VL_BOOL),
	ARG(args_list, unwell, VL_BOOL),
	END,
};
static const struct vl_param show_params[] = {
	ARG(args_list, targets, VL_STRINGS, .required = true),
	ARG(args_list, memory, VL_BOOL),
	END,
};
static const struct vl_param tree_params[] = {
	ARG(args_list, targets, VL_STRINGS),
	ARG(args_list, memory, VL_BOOL),
	END,
};
static const struct vl_param start_params[] = { TARGETS, WAITING, OP, END };
static const struct vl_param stop_params[] = { TARGETS, ARG(args_change, cold, VL_BOOL), WAITING,
					       OP, END };
static const struct vl_param kill_params[] = {
	TARGETS,
	ARG(args_change, signal, VL_STRING, .max = 16),
	ARG(args_change, to, VL_WORD, .words = to_words),
	OP,
	END,
};
static const struct vl_param scale_params[] = {
	ARG(args_change, group, VL_STRING, .required = true, .max = 255),
	ARG(args_change, workers, VL_INT, .required = true, .min = 0, .max = CONF_WORKERS_MAX),
	WAITING,
	OP,
	END,
};
static const struct vl_param reset_params[] = { TARGETS, OP, END };
static const struct vl_param upgrade_params[] = {
	ARG(args_change, timeout_ms, VL_INT, .preset = -1, .min = 0, .max = TIMEOUT_MAX_MS),
	OP,
	END,
};
static const struct vl_param shutdown_params[] = { ARG(args_change, cold, VL_BOOL), OP, END };
static const struct vl_param reload_params[] = {
	ARG(args_reload, groups, VL_STRINGS),
	ARG(args_reload, wait, VL_BOOL, .preset = true),
	ARG(args_reload, timeout_ms, VL_INT, .preset = -1, .min = 0, .max = TIMEOUT_MAX_MS),
	ARG(args_reload, op, VL_STRING, .max = 32),
	END,
};
static const struct vl_param logs_params[] = {
	ARG(args_logs, targets, VL_STRINGS),
	ARG(args_logs, follow, VL_BOOL),
	ARG(args_logs, lines, VL_INT, .preset = -1, .min = 0, .max = 1000000),
	ARG(args_logs, since, VL_STRING, .max = 40),
	ARG(args_logs, streams, VL_STRINGS),
	ARG(args_logs, after, VL_STRING, .max = LOGBOOK_LOGS_MAX),
	END,
};
static const struct vl_param events_params[] = {
	ARG(args_events, targets, VL_STRINGS),
	ARG(args_events, since, VL_INT, .preset = -1, .min = 0, .max = INT64_MAX),
	ARG(args_events, follow, VL_BOOL),
	END,
};
static const struct vl_param wait_params[] = {
	ARG(args_wait, targets, VL_STRINGS, .required = true),
	ARG(args_wait, state, VL_WORD, .required = true, .words = state_words),
	ARG(args_wait, timeout_ms, VL_INT, .preset = -1, .min = 0, .max = TIMEOUT_MAX_MS),
	END,
};
static const struct vl_param no_params[] = { END };

/* A macro, since clang-format stretches long tables of braces beyond all bounds. */
#define METHOD(...)                                                                                \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}

static const struct vl_method methods[] = {
	METHOD("Doctor", RIGHT_OPERATOR, 0, no_params, 0, method_doctor),
	METHOD("Dump", RIGHT_ADMIN, 0, no_params, 0, method_dump),
	METHOD("Events", RIGHT_READER, 0, events_params, sizeof(struct args_events), method_events),
	METHOD("Kill", RIGHT_OPERATOR, 0, kill_params, sizeof(struct args_change), method_kill),
	METHOD("List", RIGHT_READER, 0, list_params, sizeof(struct args_list), method_list),
	METHOD("Logs", RIGHT_READER, VL_STREAM | VL_GIVES, logs_params, sizeof(struct args_logs),
	       method_logs),
	METHOD("Plan", RIGHT_OPERATOR, 0, no_params, 0, method_plan),
	METHOD("Reload", RIGHT_OPERATOR, 0, reload_params, sizeof(struct args_reload),
	       method_reload),
	METHOD("Reset", RIGHT_OPERATOR, 0, reset_params, sizeof(struct args_change), method_reset),
	METHOD("Restart", RIGHT_OPERATOR, 0, start_params, sizeof(struct args_change),
	       method_restart),
	METHOD("Scale", RIGHT_OPERATOR, 0, scale_params, sizeof(struct args_change), method_scale),
	METHOD("Show", RIGHT_READER, 0, show_params, sizeof(struct args_list), method_show),
	METHOD("Shutdown", RIGHT_ADMIN, 0, shutdown_params, sizeof(struct args_change),
	       method_shutdown),
	METHOD("Start", RIGHT_OPERATOR, 0, start_params, sizeof(struct args_change), method_start),
	METHOD("Stop", RIGHT_OPERATOR, 0, stop_params, sizeof(struct args_change), method_stop),
	METHOD("Tree", RIGHT_READER, 0, tree_params, sizeof(struct args_list), method_tree),
	METHOD("Upgrade", RIGHT_ADMIN, 0, upgrade_params, sizeof(struct args_change),
	       method_upgrade),
	METHOD("Version", RIGHT_READER, 0, no_params, 0, method_version),
	METHOD("Wait", RIGHT_READER, 0, wait_params, sizeof(struct args_wait), method_wait),
};

static const struct vl_interface interface = {
	.name = CONTROL_INTERFACE,
	.description = control_description,
	.methods = methods,
	.n_methods = ARRAY_LEN(methods),
};

static bool named(const struct conf_who *who, const struct vl_peer *p)
{
	for (size_t i = 0; i < who->n_uids; i++)
		if (who->uids[i] == p->uid)
			return true;
	for (size_t i = 0; i < who->n_gids; i++) {
		if (who->gids[i] == p->gid)
			return true;
		for (size_t k = 0; k < p->n_groups; k++)
			if (who->gids[i] == p->groups[k])
				return true;
	}
	return false;
}

enum right call_right(struct vl_call *c)
{
	const struct conf_control *conf = &call_manager(c)->conf->daemon.control;
	const struct vl_peer *p = vl_call_peer(c);

	if (p->uid == 0 || p->uid == geteuid() || named(&conf->who_admins, p))
		return RIGHT_ADMIN;
	if (named(&conf->who_operators, p))
		return RIGHT_OPERATOR;
	return named(&conf->who_readers, p) ? RIGHT_READER : RIGHT_NONE;
}

static bool authorise(struct vl_call *c, const struct vl_method *method)
{
	static const char *const words[] = { "", "reader", "operator", "admin" };

	if ((int)call_right(c) >= method->right)
		return true;
	vl_error(c, CONTROL_ERROR("NotPermitted"),
		 json_pack("{s:s, s:s}", "method", method->name, "needs", words[method->right]));
	return false;
}

/*
 * Make room for our socket. In our runtime directory, whose lock we hold, whatever is there is ours
 * to remove; elsewhere only a socket that nobody answers is (CT01).
 */
static int clear_place(const char *path, const char *runtime_dir, const struct sockaddr_un *at)
{
	size_t len = strlen(runtime_dir);
	bool ours = strncmp(path, runtime_dir, len) == 0 && path[len] == '/';
	auto_fd probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!ours && !S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (!ours && (connect(probe, (const struct sockaddr *)at, sizeof(*at)) == 0 ||
		      errno != ECONNREFUSED))
		return -EADDRINUSE;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/* fchmod before bind: the mode is right from the moment the file is there, whatever the umask. */
static int make_socket(const struct conf_control *conf, const char *runtime_dir)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	auto_fd fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t mask;
	int r;

	if (fd < 0)
		return -errno;
	if (strlen(conf->socket) >= sizeof(at.sun_path))
		return -ENAMETOOLONG;
	strcpy(at.sun_path, conf->socket);
	r = clear_place(conf->socket, runtime_dir, &at);
	if (r < 0)
		return r;
	if (fchmod(fd, conf->mode) < 0)
		return -errno;
	mask = umask(0);
	r = bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ? -errno : 0;
	umask(mask);
	if (r == 0 && conf->has_owner && lchown(conf->socket, conf->owner_uid, conf->owner_gid) < 0)
		r = -errno;
	if (r == 0 && listen(fd, SOMAXCONN) < 0)
		r = -errno;
	return r < 0 ? r : give_fd(&fd);
}

static int open_socket(struct control *c)
{
	struct manager *m = c->m;
	const struct conf_control *conf = &m->conf->daemon.control;
	struct stat st;

	if (c->listen_fd >= 0)
		return 0;
	c->listen_fd = make_socket(conf, m->conf->daemon.runtime_dir);
	if (c->listen_fd < 0) {
		log_error("control socket %s: %s", conf->socket, strerror(-c->listen_fd));
		return c->listen_fd;
	}
	if (lstat(conf->socket, &st) == 0)
		c->inode = st.st_ino;
	return store_put(m->store, RF_CONTROL, 0, 0, conf->socket, c->listen_fd);
}

/* A quarter of our descriptors: workers with a notify socket need one each. */
static unsigned clients_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 512;
	return (unsigned)MAX_OF(MIN_OF(limit.rlim_cur / 4, (rlim_t)4096), (rlim_t)64);
}

int control_init(struct manager *m)
{
	struct control *c = calloc(1, sizeof(*c));
	struct vl_server_options options = {
		.loop = m->loop,
		.interface = &interface,
		.vendor = "Reeve",
		.product = "reeved",
		.version = REEVE_VERSION,
		.url = "",
		.authorise = authorise,
		.data = c,
		.clients_max = clients_max(),
	};
	struct stat st;
	int r;

	if (!c)
		return -ENOMEM;
	c->m = m;
	m->control = c;
	c->listen_fd = role_fds_get(m->fds, RF_CONTROL);
	if (c->listen_fd >= 0 && lstat(m->conf->daemon.control.socket, &st) == 0)
		c->inode = st.st_ino;
	ev_timer_init(&c->sampler, sample_fired, 0., 0.);
	c->sampler.data = c;
	r = open_socket(c);
	if (r == 0)
		r = vl_server_new(&options, &c->server);
	if (r == 0)
		vl_server_listen(c->server, c->listen_fd);
	return r;
}

void control_fini(struct manager *m)
{
	if (!m->control)
		return;
	vl_server_free(m->control->server);
	free(m->control);
	m->control = NULL;
}

void control_wake(struct manager *m)
{
	if (!m->control)
		return;
	waiters_wake(m->control);
	followers_wake(m->control);
}

void control_configured(struct manager *m)
{
	const struct conf_control *conf = &m->conf->daemon.control;
	struct stat st;

	/* by inode: the path may have become somebody else's */
	if (!m->control || lstat(conf->socket, &st) < 0 || st.st_ino != m->control->inode ||
	    !S_ISSOCK(st.st_mode))
		return;
	if ((st.st_mode & 07777) != conf->mode && chmod(conf->socket, conf->mode) < 0)
		log_warn("control socket %s: changing its mode: %s", conf->socket, strerror(errno));
	if (conf->has_owner && lchown(conf->socket, conf->owner_uid, conf->owner_gid) < 0)
		log_warn("control socket %s: changing its owner: %s", conf->socket,
			 strerror(errno));
}

void control_check(struct manager *m)
{
	struct control *c = m->control;
	struct stat st;

	/* a new file may have been given our old number */
	if (!c || (lstat(m->conf->daemon.control.socket, &st) == 0 && st.st_ino == c->inode &&
		   S_ISSOCK(st.st_mode)))
		return;
	log_warn("control socket %s was removed or replaced, making it anew",
		 m->conf->daemon.control.socket);
	vl_server_listen(c->server, -1);
	close_fd(&c->listen_fd);
	if (open_socket(c) == 0)
		vl_server_listen(c->server, c->listen_fd);
}
