/*
 * Owns the search in log files. Only one file is open at a time; the others are found again by
 * name, shifted by the rotations that happened since. pos is always the beginning of a line.
 */
#include "logger/history.h"

#include "base/clock.h"
#include "base/mem.h"
#include "logger/place.h"
#include "logger/sink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK	  (160u * 1024u) /* longer than any line of a text file */
#define FILES_MAX 1000
#define STAMP_LEN 27

static int open_file(struct history *h, int file)
{
	uint64_t shift = atomic_load(&h->row->rotations) - h->rotations;
	char path[LOGBOOK_PATH + 24];
	struct place p;
	struct stat st;
	int fd;

	close_fd(&h->fd);
	sink_place(h->row, &p);
	if ((uint64_t)file + shift > 0) {
		snprintf(path, sizeof(path), "%s.%llu", h->row->path,
			 (unsigned long long)((uint64_t)file + shift));
		p.path = path;
	}
	fd = place_read(&p, &st);
	if (fd < 0)
		return fd;
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return -EINVAL;
	}
	h->fd = fd;
	h->file = file;
	h->fd_size = file == 0 ? MIN_OF(h->end, (uint64_t)st.st_size) : (uint64_t)st.st_size;
	return 0;
}

int history_begin(struct history *h, const struct logbook_sink *row, int64_t lines,
		  int64_t since_us)
{
	int r;

	*h = (struct history){ .row = row,
			       .wanted = lines,
			       .rotations = atomic_load(&row->rotations),
			       .end = UINT64_MAX,
			       .fd = -1 };
	if (since_us > 0)
		clock_format(since_us, h->since);
	r = open_file(h, 0);
	if (r < 0)
		return r;
	h->block = malloc(BLOCK);
	if (!h->block) {
		close_fd(&h->fd);
		return -ENOMEM;
	}
	h->end = h->pos = h->fd_size;
	if (lines == 0)
		h->phase = HISTORY_DONE;
	return 0;
}

void history_fini(struct history *h)
{
	if (h->block) /* else it was never begun, and fd is 0 */
		close_fd(&h->fd);
	free(h->block);
	*h = (struct history){ .fd = -1, .phase = HISTORY_DONE };
}

bool history_parse(const char *line, size_t len, struct history_line *ret)
{
	const char *label = line + STAMP_LEN + 1, *end;

	if (len < STAMP_LEN + 3 || line[10] != 'T' || line[STAMP_LEN - 1] != 'Z' ||
	    line[STAMP_LEN] != ' ')
		return false;
	end = memchr(label, ' ', len - STAMP_LEN - 1);
	if (!end || end == label)
		return false;
	*ret = (struct history_line){ .at = line, .worker = label };
	ret->text = end + 1;
	ret->len = len - (size_t)(end + 1 - line);
	if (end[-1] == '+') {
		ret->partial = true;
		end--;
	}
	if (end[-1] == '!') {
		ret->err = true;
		end--;
	}
	ret->worker_len = (size_t)(end - label);
	return ret->worker_len > 0;
}

static void parse(const struct history *h, const char *line, size_t len, struct history_line *ret)
{
	*ret = (struct history_line){ .text = line, .len = len };
	if (atomic_load(&h->row->format) == CONF_FORMAT_TEXT)
		history_parse(line, len, ret);
}

/* Read bytes [from, to) of the open file; fewer if it became shorter. */
static size_t read_block(struct history *h, uint64_t from, uint64_t to)
{
	size_t len = 0;

	while (len < to - from) {
		ssize_t n = pread(h->fd, h->block + len, to - from - len, (off_t)(from + len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	return len;
}

static bool is_old(const struct history *h, const struct history_line *l)
{
	return h->since[0] && l->at && memcmp(l->at, h->since, STAMP_LEN) < 0;
}

static void begin_giving(struct history *h, uint64_t pos)
{
	h->phase = HISTORY_GIVE;
	h->pos = pos;
}

/* Lines of the block from its end; `top`: the block is the beginning of the file. */
static void search_block(struct history *h, uint64_t from, size_t len, history_wants *wants,
			 void *arg)
{
	size_t end = len; /* just behind a newline, or the end of the file */

	while (end > 0) {
		size_t text = end - (h->block[end - 1] == '\n');
		const char *nl = memrchr(h->block, '\n', text);
		size_t begin = nl ? (size_t)(nl + 1 - h->block) : 0;
		struct history_line l;

		if (!nl && from > 0 && end < len)
			break; /* it begins in the block before */
		parse(h, h->block + begin, text - begin, &l);
		if (is_old(h, &l)) {
			begin_giving(h, from + end);
			return;
		}
		if (wants(arg, &l) && ++h->found == h->wanted) {
			begin_giving(h, from + begin);
			return;
		}
		end = begin;
	}
	h->pos = from + end;
}

static void search(struct history *h, history_wants *wants, void *arg)
{
	uint64_t from = h->pos > BLOCK ? h->pos - BLOCK : 0;

	if (h->pos > 0) {
		search_block(h, from, read_block(h, from, h->pos), wants, arg);
		return;
	}
	/* No more in this file: the one before it, or this is the beginning of all. */
	if (h->file + 1 < FILES_MAX && open_file(h, h->file + 1) == 0)
		h->pos = h->fd_size;
	else if (h->fd >= 0 || open_file(h, h->file) == 0)
		begin_giving(h, 0);
	else
		h->phase = HISTORY_DONE;
}

static void next_file(struct history *h)
{
	h->pos = 0;
	while (h->file > 0) {
		if (open_file(h, h->file - 1) == 0)
			return;
		h->file--;
	}
	h->phase = HISTORY_DONE;
}

static void give_block(struct history *h, history_wants *wants, history_give *give, void *arg)
{
	uint64_t to = MIN_OF(h->fd_size, h->pos + BLOCK);
	size_t len = h->pos < to ? read_block(h, h->pos, to) : 0, at = 0;
	bool last = to == h->fd_size;

	if (len == 0) {
		next_file(h);
		return;
	}
	while (at < len) {
		const char *nl = memchr(h->block + at, '\n', len - at);
		size_t end = nl ? (size_t)(nl - h->block) : len;
		struct history_line l;
		bool more = true;

		if (!nl && !last && at > 0)
			break;
		parse(h, h->block + at, end - at, &l);
		at = nl ? end + 1 : end;
		if (wants(arg, &l) && !is_old(h, &l))
			more = give(arg, &l);
		if (!more)
			break;
	}
	h->pos += at;
}

bool history_step(struct history *h, history_wants *wants, history_give *give, void *arg)
{
	if (h->phase == HISTORY_SEARCH)
		search(h, wants, arg);
	else if (h->phase == HISTORY_GIVE)
		give_block(h, wants, give, arg);
	return h->phase != HISTORY_DONE;
}
