/* sluice-front: everything over HTTP. */
#include "producer/front.h"

int main(int argc, char **argv)
{
	const struct svc_program program = {
	    .name = "sluice-front",
	    .section = "front",
	    .summary =
		"takes jobs over HTTP, publishes them to their lanes and streams their answers",
	    .admin = "127.0.0.1:9101",
	    .options = front_option_table,
	    .option_count = front_option_count,
	    .options_size = sizeof(struct front_options),
	    .open = front_open,
	    .ready = front_ready,
	    .drain = front_drain,
	    .reload = front_reload,
	    .close = front_close,
	};

	return svc_main(argc, argv, &program);
}
