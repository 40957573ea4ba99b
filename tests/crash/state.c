/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "state.h"

#include <stdlib.h>
#include <string.h>

#include "dump.h"
#include "model-tree.h"

/* New things, changes of what is there, and something that frees blocks. */
const struct op state_alive_op[] = {
	{ .code = OP_CREATE, .path = "zz" },
	{ .code = OP_WRITE, .path = "zz", .len = 9000, .fill = 901 },
	{ .code = OP_WRITE, .path = "a", .off = 100, .len = 5000, .fill = 902 },
	{ .code = OP_MKDIR, .path = "zd" },
	{ .code = OP_RENAME, .path = "zz", .to = "zd/y" },
	{ .code = OP_TRUNCATE, .path = "d/c", .len = 10 },
	{ .code = OP_UNLINK, .path = "b" },
	{ .code = OP_COMMIT },
};
const unsigned state_alive_nr = sizeof(state_alive_op) / sizeof(state_alive_op[0]);

struct state *state_new(const struct model *m)
{
	struct state *s = model_alloc(NULL, sizeof(*s));
	struct dump d = { 0 };

	memset(s, 0, sizeof(*s));
	s->refs = 1;
	s->model = model_copy(m);
	dump_model(&d, s->model);
	s->text = d.text;
	s->hash = dump_hash(d.text, d.len);
	return s;
}

struct state *state_get(struct state *s)
{
	if (s)
		s->refs++;
	return s;
}

void state_put(struct state *s)
{
	if (!s || --s->refs)
		return;
	state_put(s->alive);
	model_free(s->model);
	free(s->text);
	free(s);
}

void state_set(struct state **place, struct state *s)
{
	state_put(*place);
	*place = s;
}

struct state *state_alive(struct state *s)
{
	struct model *m;

	if (s->alive)
		return s->alive;
	m = model_copy(s->model);
	for (unsigned i = 0; i < state_alive_nr; i++)
		s->alive_ret[i] = op_on_model(m, &state_alive_op[i]);
	s->alive = state_new(m);
	model_free(m);
	return s->alive;
}
