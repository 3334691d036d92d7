/* Memory of our own small objects: allocation never returns NULL (the process ends and the lane redelivers its
 * jobs). Refuses to be used for sizes that come from outside and were not checked against a limit first. */
#ifndef SLUICE_BASE_MEM_H
#define SLUICE_BASE_MEM_H

#include <stddef.h>

/* A zeroed object of @type; the caller frees it with mem_free. */
#define mem_new(type) ((type *)mem_alloc(sizeof(type)))

/* @size zeroed bytes (never NULL, also for 0). Dies when the system has no memory. */
void *mem_alloc(size_t size);

/* @old grown or shrunk to @size bytes; new bytes are not zeroed. Dies when the system has no memory. */
void *mem_resize(void *old, size_t size);

/* A copy of @size bytes of @from with a NUL byte behind them. */
void *mem_dup(const void *from, size_t size);

/* A copy of @text; NULL gives NULL. */
char *mem_strdup(const char *text);

/* printf into a fresh string; the caller frees it. */
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Accepts NULL. */
void mem_free(void *old);

/* Erases @size bytes so that the compiler does not leave it out: for keys and tokens. */
void mem_wipe(void *secret, size_t size);

/* Cleanup attribute: `cleanup_free char *x = …` frees x when it leaves its scope. */
void mem_free_cleanup(void *address);
#define cleanup_free __attribute__((cleanup(mem_free_cleanup)))

/* The struct that @member_ptr is embedded in. */
#define container_of(member_ptr, type, member) \
	((type *)((char *)(member_ptr)-offsetof(type, member)))

#define countof(array) (sizeof(array) / sizeof((array)[0]))

#endif
