#include "consumers/pool/line.h"

#include "lib/base/err.h"

/* A number without a pattern for each arrival (the finaliser of SplitMix64): the tree's shape does not depend on the tags. */
static uint64_t mixed(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static size_t count_of(const struct line_node *n)
{
	return n ? n->count : 0;
}

static bool comes_before(const struct line_node *a, const struct line_node *b)
{
	return a->tag < b->tag || (a->tag == b->tag && a->order < b->order);
}

/* @child, which may be NULL, in the place of @node under its parent. */
static void put_in_place(struct line *l, const struct line_node *node, struct line_node *child)
{
	if (!node->up)
		l->root = child;
	else if (node->up->left == node)
		node->up->left = child;
	else
		node->up->right = child;
	if (child)
		child->up = node->up;
}

/* @node changes places with its parent. */
static void rotate_up(struct line *l, struct line_node *node)
{
	struct line_node *parent = node->up, *moved;

	put_in_place(l, parent, node);
	if (parent->left == node) {
		moved = node->right;
		parent->left = moved;
		node->right = parent;
	} else {
		moved = node->left;
		parent->right = moved;
		node->left = parent;
	}
	if (moved)
		moved->up = parent;
	parent->up = node;
	node->count = parent->count;
	parent->count = count_of(parent->left) + count_of(parent->right) + 1;
}

void line_add(struct line *l, struct line_node *node, uint64_t tag)
{
	struct line_node **at = &l->root, *up = NULL;

	must(!line_holds(node));
	*node = (struct line_node){.tag = tag, .order = l->order++, .count = 1};
	node->priority = mixed(node->order + 1);
	while (*at) {
		up = *at;
		up->count++;
		at = comes_before(node, up) ? &up->left : &up->right;
	}
	*at = node;
	node->up = up;
	while (node->up && node->priority > node->up->priority)
		rotate_up(l, node);
}

void line_remove(struct line *l, struct line_node *node)
{
	if (!line_holds(node))
		return;
	while (node->left && node->right)
		rotate_up(l,
			  node->left->priority > node->right->priority ? node->left : node->right);
	put_in_place(l, node, node->left ? node->left : node->right);
	for (struct line_node *up = node->up; up; up = up->up)
		up->count--;
	*node = (struct line_node){0};
}

struct line_node *line_first(const struct line *l)
{
	struct line_node *n = l->root;

	while (n && n->left)
		n = n->left;
	return n;
}

struct line_node *line_next(const struct line_node *node)
{
	struct line_node *n = node->right;

	if (!n) {
		while (node->up && node->up->right == node)
			node = node->up;
		return node->up;
	}
	while (n->left)
		n = n->left;
	return n;
}

size_t line_before(const struct line_node *node)
{
	size_t before = count_of(node->left);

	for (; node->up; node = node->up)
		if (node->up->right == node)
			before += count_of(node->up->left) + 1;
	return before;
}

size_t line_below(const struct line *l, uint64_t tag)
{
	const struct line_node *n = l->root;
	size_t below = 0;

	while (n) {
		if (n->tag < tag) {
			below += count_of(n->left) + 1;
			n = n->right;
		} else {
			n = n->left;
		}
	}
	return below;
}
