/*
 * Operation ids in the ledger's ring: a call that a client sends again, because the manager behind
 * the socket was replaced, learns that it was carried out, or that it has to be finished.
 */
#include "manager/methods.h"

#include "base/clock.h"
#include "base/failpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool parse_id(const char *text, uint8_t id[static 16])
{
	if (strlen(text) != 32)
		return false;
	for (int i = 0; i < 16; i++) {
		int high = hex(text[2 * i]), low = hex(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		id[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

int op_claim(struct manager *m, uid_t uid, const char *method, const char *text,
	     struct ledger_op **ret)
{
	struct ledger_header *h = m->ledger.h;
	struct ledger_op *op;
	uint8_t id[16];

	*ret = NULL;
	if (!text)
		return OP_NEW;
	if (!parse_id(text, id))
		return -EINVAL;
	for (uint32_t i = 0; i < LEDGER_OPS; i++) {
		op = ledger_op(&m->ledger, i);
		if (!op->state || op->uid != uid || memcmp(op->id, id, sizeof(id)) != 0 ||
		    strcmp(op->method, method) != 0)
			continue;
		*ret = op;
		return op->state == 2 ? OP_DONE : OP_UNFINISHED;
	}
	*ret = op = ledger_op(&m->ledger, h->op_next % LEDGER_OPS);
	/* Counted first: the next one must not be written over this one if we die in between. */
	h->op_next++;
	FAIL_HERE(OP_COUNTED);
	op->state = 0;
	FAIL_HERE(OP_BEGUN);
	memcpy(op->id, id, sizeof(id));
	op->uid = uid;
	op->at_real_us = clock_real_us();
	op->at_ms = clock_mono_ms();
	op->number = 0;
	snprintf(op->method, sizeof(op->method), "%s", method);
	FAIL_HERE(OP_FILLED);
	op->state = 1;
	FAIL_HERE(OP_ACCEPTED);
	return OP_NEW;
}

void op_done(struct ledger_op *op)
{
	FAIL_HERE(OP_ACTED);
	if (op)
		op->state = 2;
	FAIL_HERE(OP_DONE);
}

void op_keep(struct op_kept *k, struct ledger_op *op)
{
	*k = (struct op_kept){ .op = op };
	if (op)
		memcpy(k->id, op->id, sizeof(k->id));
}

void op_kept_done(struct op_kept *k)
{
	if (k->op && memcmp(k->op->id, k->id, sizeof(k->id)) == 0)
		op_done(k->op);
	k->op = NULL;
}
