/* A client's end of a connection to a node that listens (conn.c). Refuses to know what is said on it. */
#ifndef SLUICE_TESTS_WORLD_LINE_H
#define SLUICE_TESTS_WORLD_LINE_H

#include "tests/world/world.h"

struct line;

struct line_ops {
	/* Any bytes, in their order. */
	void (*data)(void *ctx, struct str bytes);
	/* The node ended it (@reset: without order; or nobody listens). Last word. */
	void (*closed)(void *ctx, bool reset);
};

void lines_begin(void);
/* The node may hold back what is above @window bytes unread. The memory stays until the history ends. */
struct line *line_open(struct loop *loop, size_t window, const struct line_ops *ops, void *ctx);
void line_send(struct line *line, struct str bytes);
/* Reads nothing until it is taken back. */
void line_stall(struct line *line, bool stall);
/* Nothing more is sent (FIN); reading goes on. */
void line_end(struct line *line);
/* Cut with a reset, in the middle of whatever is on its way; no callback afterwards. */
void line_cut(struct line *line);
/* The same, but the node hears of nothing: a network that went away. */
void line_vanish(struct line *line);
/* The node's process is dead. */
bool line_gone(const struct line *line);

#endif
