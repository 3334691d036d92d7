/* Errors of code (not of jobs; those are faults, schemas/fault.def). Refuses to carry text: a number and a trace.
 *
 * A function that can fail returns int and is must_check:
 *    0   done
 *   <0   -errno: unexpected, passed up through err_trace(), logged once at the top
 *   >0   the callee's own enum, listed at its declaration, handled by the caller, never passed on
 */
#ifndef SLUICE_BASE_ERR_H
#define SLUICE_BASE_ERR_H

#include <stddef.h>

#define must_check __attribute__((warn_unused_result))

/* err_origin(-errno) begins a trace, err_trace(r) adds the caller's line; both return their argument. */
#define err_origin(r) err_mark((r), true_, __FILE__, __LINE__)
#define err_trace(r) err_mark((r), false_, __FILE__, __LINE__)

enum err_mark_kind { false_ = 0, true_ = 1 };

/* Remembers file and line of @r in this thread's trace (the last 16 frames) and returns @r. */
int err_mark(int r, enum err_mark_kind begins, const char *file, int line);

/* Writes the trace of the newest error of this thread into @out ("a.c:10 < b.c:20"), always
 * NUL-terminated. Diagnostics only. */
void err_trace_text(char *out, size_t size);

/* Our own bug: prints the expression with its place and aborts. Kept in release builds; never used on
 * data that comes from outside. */
#define must(x) ((x) ? (void)0 : err_must_failed(#x, __FILE__, __LINE__))
_Noreturn void err_must_failed(const char *expression, const char *file, int line);

#endif
