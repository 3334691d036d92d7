/* A line of jobs: those that wait, ordered by tag and, where tags are equal, by arrival. A treap that counts its subtrees, so that a
 * place in the line is found without looking at those before it: every function takes O(log n) expected, line_first and line_next
 * included. (Seidel and Aragon, "Randomized Search Trees", 1996; order statistics: Cormen et al., chapter 14.) Refuses to own its
 * nodes, which stand in what waits, and to allocate. */
#ifndef SLUICE_POOL_LINE_H
#define SLUICE_POOL_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in its owner; zeroed = in no line. */
struct line_node {
	struct line_node *up;
	struct line_node *left;
	struct line_node *right;
	uint64_t tag;
	uint64_t order;	   /* of arrival */
	uint64_t priority; /* greater than its children's */
	size_t count;	   /* nodes of its subtree, itself too; 0: in no line */
};

/* Zero-initialised is empty and valid. */
struct line {
	struct line_node *root;
	uint64_t order;
};

/* @node is in no line. */
void line_add(struct line *l, struct line_node *node, uint64_t tag);
/* Safe where @node is in no line; @l is the one that it is in otherwise. */
void line_remove(struct line *l, struct line_node *node);
static inline bool line_holds(const struct line_node *node)
{
	return node->count != 0;
}
static inline size_t line_count(const struct line *l)
{
	return l->root ? l->root->count : 0;
}
/* Who is next; NULL where the line is empty. */
struct line_node *line_first(const struct line *l);
/* The one behind @node, NULL behind the last. */
struct line_node *line_next(const struct line_node *node);
/* How many stand before @node in its line: 0 is next. */
size_t line_before(const struct line_node *node);
/* How many of the line have a tag smaller than @tag. */
size_t line_below(const struct line *l, uint64_t tag);

#endif
