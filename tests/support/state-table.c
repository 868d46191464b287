/* Prints the table of worker states as the manual shows it: every pair that is allowed. */
#include "model/worker.h"

#include <stdio.h>

int main(void)
{
	for (int s = 0; s < WS_COUNT; s++) {
		for (int i = 0; i < WI_COUNT; i++) {
			struct worker_rule r =
				worker_rule_for((enum worker_status)s, (enum worker_input)i);

			if (r.allowed)
				printf("%-11s  %-14s  %-11s  %s\n",
				       worker_status_name((enum worker_status)s),
				       worker_input_name((enum worker_input)i),
				       worker_status_name((enum worker_status)r.next),
				       worker_effect_name((enum worker_effect)r.effect));
		}
	}
	return 0;
}
