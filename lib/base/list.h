/* An intrusive doubly linked list: the links live in the owner. Refuses to own or to count. */
#ifndef SLUICE_BASE_LIST_H
#define SLUICE_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/mem.h"

/* A head, or a link in an element. An element that is in no list points to itself after list_init and
 * list_remove; a zeroed link is in no list too. */
struct list {
	struct list *next;
	struct list *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l;
	l->prev = l;
}

static inline bool list_empty(const struct list *head)
{
	return !head->next || head->next == head;
}

/* True where the element with this link is in a list. */
static inline bool list_linked(const struct list *link)
{
	return link->next && link->next != link;
}

static inline void list_insert_before(struct list *at, struct list *link)
{
	link->next = at;
	link->prev = at->prev;
	at->prev->next = link;
	at->prev = link;
}

static inline void list_push_back(struct list *head, struct list *link)
{
	list_insert_before(head, link);
}

static inline void list_push_front(struct list *head, struct list *link)
{
	list_insert_before(head->next, link);
}

/* Safe for a link that is in no list. */
static inline void list_remove(struct list *link)
{
	if (link->next) {
		link->next->prev = link->prev;
		link->prev->next = link->next;
	}
	list_init(link);
}

/* The element at the front (NULL where the list is empty). */
#define list_first(head, type, member) \
	(list_empty(head) ? NULL : container_of((head)->next, type, member))

/* Takes the element at the front out (NULL where the list is empty). */
#define list_pop_front(head, type, member) \
	(list_empty(head) ? NULL : container_of(list_unlink_((head)->next), type, member))

static inline struct list *list_unlink_(struct list *link)
{
	list_remove(link);
	return link;
}

/* Visits each link; the body may remove the visited one. */
#define list_each(head, at)                                                      \
	for (struct list *at = (head)->next, *at##_next_ = at ? at->next : NULL; \
	     at && at != (head); at = at##_next_, at##_next_ = at->next)

#endif
