/*
 * Owns the search in log files. Only one file is open at a time; the others are found again by
 * name, shifted by the rotations that happened since. pos is always the beginning of a line.
 */
#include "logger/history.h"

#include "base/clock.h"
#include "base/mem.h"
#include "logger/place.h"
#include "logger/record.h"
#include "logger/sink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK	   (160u * 1024u) /* longer than any line of a text file */
#define BLOCK_JSON (RECORD_MEMBER_MAX(LOGBOOK_LINE) + 1024u)
#define SHARE_MIN  4096u
#define FILES_MAX  1000

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
		  int64_t since_us, size_t share, bool keep_open)
{
	size_t most = atomic_load(&row->format) == CONF_FORMAT_JSON ? BLOCK_JSON : BLOCK;
	int r;

	*h = (struct history){ .row = row,
			       .keep_open = keep_open,
			       .wanted = lines,
			       .rotations = atomic_load(&row->rotations),
			       .end = UINT64_MAX,
			       .fd = -1,
			       .most = most,
			       .share = MIN_OF(MAX_OF(share, SHARE_MIN), most) };
	if (since_us > 0)
		clock_format(since_us, h->since);
	r = open_file(h, 0);
	if (r < 0)
		return r;
	h->end = h->pos = h->fd_size;
	if (lines == 0)
		h->phase = HISTORY_DONE;
	if (!keep_open)
		close_fd(&h->fd);
	return 0;
}

void history_fini(struct history *h)
{
	if (h->row) /* else it was never begun, and fd is 0 */
		close_fd(&h->fd);
	free(h->block);
	*h = (struct history){ .fd = -1, .phase = HISTORY_DONE };
}

static bool resize(struct history *h, size_t size)
{
	char *block = realloc(h->block, size);

	if (block) {
		h->block = block;
		h->size = size;
	}
	return block != NULL;
}

bool history_parse(const char *line, size_t len, struct history_line *ret)
{
	const char *label = line + HISTORY_STAMP + 1, *end;

	if (len < HISTORY_STAMP + 3 || line[10] != 'T' || line[HISTORY_STAMP - 1] != 'Z' ||
	    line[HISTORY_STAMP] != ' ')
		return false;
	end = memchr(label, ' ', len - HISTORY_STAMP - 1);
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
	/* The format may have changed within a file. */
	if (sink_has_heads(h->row) && !record_parse(line, len, ret))
		history_parse(line, len, ret);
}

/* Read bytes [from, to) of the open file; fewer if it became shorter. */
static size_t read_block(struct history *h, char *to_buf, uint64_t from, uint64_t to)
{
	size_t len = 0;

	while (len < to - from) {
		ssize_t n = pread(h->fd, to_buf + len, to - from - len, (off_t)(from + len));

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
	return h->since[0] && l->at && memcmp(l->at, h->since, HISTORY_STAMP) < 0;
}

/* Without memory for its lines there are none. */
static void begin_giving(struct history *h, uint64_t pos)
{
	h->phase = resize(h, h->share) ? HISTORY_GIVE : HISTORY_DONE;
	h->pos = pos;
	h->at = h->len = h->line_end = 0;
}

static bool reopen(struct history *h)
{
	return h->fd >= 0 || open_file(h, h->file) == 0;
}

static void rest(struct history *h)
{
	if (!h->keep_open)
		close_fd(&h->fd);
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
	uint64_t from = h->pos > h->most ? h->pos - h->most : 0;

	if (h->pos > 0 && reopen(h)) {
		search_block(h, from, read_block(h, h->block, from, h->pos), wants, arg);
		return;
	}
	/* No more in this file: the one before it, or this is the beginning of all. */
	if (h->file + 1 < FILES_MAX && open_file(h, h->file + 1) == 0)
		h->pos = h->fd_size;
	else
		begin_giving(h, 0);
}

bool history_search(struct history *h, history_wants *wants, void *arg)
{
	if (h->phase == HISTORY_SEARCH) {
		if (h->size >= h->most || resize(h, h->most))
			search(h, wants, arg);
		else
			h->phase = HISTORY_DONE;
		rest(h);
	}
	return h->phase == HISTORY_SEARCH;
}

/* The next newer file, or the end. */
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

/* The line at `at` goes beyond what was read: read on. A line that fills the block takes a larger
 * one, and gives it back once it was given. */
static void fill(struct history *h)
{
	size_t kept = h->len - h->at;
	uint64_t to;
	size_t n;

	memmove(h->block, h->block + h->at, kept);
	h->at = 0;
	h->len = kept;
	if (kept == h->size)
		resize(h, h->most);
	else if (kept < h->share && h->size > h->share)
		resize(h, h->share);
	if (!reopen(h)) {
		next_file(h);
		return;
	}
	to = MIN_OF(h->fd_size, h->pos + (h->size - kept));
	n = h->pos < to ? read_block(h, h->block + kept, h->pos, to) : 0;
	h->pos += n;
	h->len += n;
	/* A file that became shorter than it was has no more. */
	if (n == 0)
		h->fd_size = MIN_OF(h->fd_size, h->pos);
	if (h->len == 0)
		next_file(h);
}

/* Is the line at `at` all there? Its end into *ret, and where the next one begins. */
static bool line_at(const struct history *h, size_t *ret_end, size_t *ret_next)
{
	const char *nl = memchr(h->block + h->at, '\n', h->len - h->at);

	*ret_end = nl ? (size_t)(nl - h->block) : h->len;
	*ret_next = nl ? *ret_end + 1 : h->len;
	if (nl)
		return true;
	/* Its last line has no end; nothing has lines longer than a block but raw files. */
	return h->at < h->len && (h->pos >= h->fd_size || (h->at == 0 && h->len == h->most));
}

int history_peek(struct history *h, history_wants *wants, void *arg, struct history_line *ret)
{
	size_t end;

	while (h->phase == HISTORY_GIVE) {
		if (!line_at(h, &end, &h->line_end)) {
			fill(h);
			rest(h);
			return -EAGAIN;
		}
		parse(h, h->block + h->at, end - h->at, ret);
		if (wants(arg, ret) && !is_old(h, ret)) {
			if (ret->at)
				memcpy(h->key, ret->at, HISTORY_STAMP);
			return 1;
		}
		history_advance(h);
	}
	return 0;
}

void history_advance(struct history *h)
{
	h->at = h->line_end;
}
