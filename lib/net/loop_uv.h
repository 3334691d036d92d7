/* The libuv loop inside a loop: for the files of lib/net that hand it to libuv themselves (name
 * look-ups). Refuses everyone else; the loop on simulated time has none. */
#ifndef SLUICE_NET_LOOP_UV_H
#define SLUICE_NET_LOOP_UV_H

#include <uv.h>

struct loop;

/* The loop's own; valid as long as it. Requests under way when the loop is freed are waited for. */
uv_loop_t *loop_uv(struct loop *loop);

#endif
