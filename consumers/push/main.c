/* sluice-push: WebSocket connections. */
#include "consumers/push/push.h"

int main(int argc, char **argv)
{
	const struct svc_program program = {
	    .name = "sluice-push",
	    .section = "push",
	    .summary = "takes jobs over WebSockets and returns their answers as they come",
	    .admin = "127.0.0.1:9121",
	    .options = push_option_table,
	    .option_count = push_option_count,
	    .options_size = sizeof(struct push_options),
	    .open = push_open,
	    .ready = push_ready,
	    .drain = push_drain,
	    .reload = push_reload,
	    .close = push_close,
	};

	return svc_main(argc, argv, &program);
}
