#include "lib/base/heap.h"

#include "lib/base/err.h"
#include "lib/base/mem.h"

static bool before(const struct heap_node *a, const struct heap_node *b)
{
	return a->key < b->key || (a->key == b->key && a->order < b->order);
}

static void put(struct heap *h, size_t at, struct heap_node *node)
{
	h->nodes[at] = node;
	node->place = at + 1;
}

static void rise(struct heap *h, size_t at, struct heap_node *node)
{
	while (at) {
		size_t parent = (at - 1) / 2;

		if (!before(node, h->nodes[parent]))
			break;
		put(h, at, h->nodes[parent]);
		at = parent;
	}
	put(h, at, node);
}

static void sink(struct heap *h, size_t at, struct heap_node *node)
{
	for (;;) {
		size_t child = at * 2 + 1;

		if (child >= h->count)
			break;
		if (child + 1 < h->count && before(h->nodes[child + 1], h->nodes[child]))
			child++;
		if (!before(h->nodes[child], node))
			break;
		put(h, at, h->nodes[child]);
		at = child;
	}
	put(h, at, node);
}

void heap_fini(struct heap *h)
{
	for (size_t i = 0; i < h->count; i++)
		h->nodes[i]->place = 0;
	mem_free(h->nodes);
	*h = (struct heap){0};
}

void heap_add(struct heap *h, struct heap_node *node, uint64_t key)
{
	must(!node->place);
	if (h->count == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 16;
		h->nodes = mem_resize(h->nodes, h->cap * sizeof(*h->nodes));
	}
	node->key = key;
	node->order = h->order++;
	rise(h, h->count++, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
	struct heap_node *last;
	size_t at;

	if (!node->place)
		return;
	at = node->place - 1;
	must(at < h->count && h->nodes[at] == node);
	node->place = 0;
	last = h->nodes[--h->count];
	if (last == node)
		return;
	if (at && before(last, h->nodes[(at - 1) / 2]))
		rise(h, at, last);
	else
		sink(h, at, last);
}

struct heap_node *heap_top(const struct heap *h)
{
	return h->count ? h->nodes[0] : NULL;
}
