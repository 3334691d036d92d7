/* An intrusive binary heap of nodes with a 64-bit key, smallest first; equal keys leave in the order in which they
 * came. Owns only its array of pointers. */
#ifndef SLUICE_BASE_HEAP_H
#define SLUICE_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Embedded in its owner; zeroed = in no heap. */
struct heap_node {
	uint64_t key;
	uint64_t order;
	size_t place; /* index + 1, 0 = in no heap */
};

/* Zero-initialised is empty and valid. */
struct heap {
	struct heap_node **nodes;
	size_t count;
	size_t cap;
	uint64_t order;
};

void heap_fini(struct heap *h);
/* @node is in no heap. */
void heap_add(struct heap *h, struct heap_node *node, uint64_t key);
/* Safe where @node is in no heap. */
void heap_remove(struct heap *h, struct heap_node *node);
/* The node with the smallest key, NULL where the heap is empty. */
struct heap_node *heap_top(const struct heap *h);
static inline bool heap_holds(const struct heap_node *node)
{
	return node->place != 0;
}

#endif
