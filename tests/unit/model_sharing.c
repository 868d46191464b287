/* Which copies of a seed are made anew. */
#include "model/sharing.h"

#include <criterion/criterion.h>

#define MIB ((int64_t)1 << 20)

/* An old copy of which `own` MiB of 100 are its own. */
static struct sharing copy(int own)
{
	return (struct sharing){ .private_bytes = own * MIB,
				 .shared_bytes = (100 - own) * MIB,
				 .age_ms = SHARING_PATIENCE_MS,
				 .copy = true };
}

Test(sharing, the_bound)
{
	struct sharing below = copy(74), at = copy(75);

	cr_expect_eq(sharing_judge(&below), SHARING_WELL);
	cr_expect_eq(sharing_judge(&at), SHARING_DECAYED);
	cr_expect_eq(sharing_own(&at), 75);
}

Test(sharing, small_ones_are_left_alone)
{
	struct sharing s = { .private_bytes = 8 * MIB - 1,
			     .age_ms = SHARING_PATIENCE_MS,
			     .copy = true };

	cr_expect_eq(sharing_judge(&s), SHARING_WELL);
	s.private_bytes++;
	cr_expect_eq(sharing_judge(&s), SHARING_DECAYED);
}

Test(sharing, nobody_is_judged_before_its_time)
{
	struct sharing s = copy(100);

	cr_expect(sharing_asks(&s));
	s.age_ms--;
	cr_expect_eq(sharing_judge(&s), SHARING_WELL);
	cr_expect(!sharing_asks(&s), "it would be measured for nothing");
}

Test(sharing, one_that_was_made_anew_for_nothing)
{
	struct sharing s = copy(75);

	s.anew = 1;
	cr_expect_eq(sharing_judge(&s), SHARING_WELL, "that took its time");
	cr_expect(!sharing_asks(&s));
	s.age_ms--;
	cr_expect_eq(sharing_judge(&s), SHARING_USELESS);
	cr_expect(sharing_asks(&s));
	s = copy(74);
	s.anew = 1;
	cr_expect_eq(sharing_judge(&s), SHARING_WELL);
}

Test(sharing, executed_instead_of_forked)
{
	struct sharing s = copy(0);

	s.copy = false;
	cr_expect_eq(sharing_judge(&s), SHARING_WELL, "whoever decided that, it was not for us");
	cr_expect(!sharing_asks(&s));
	s.anew = 1;
	cr_expect_eq(sharing_judge(&s), SHARING_USELESS);
	cr_expect(sharing_asks(&s));
}

Test(sharing, each_time_twice_as_long)
{
	struct sharing s = copy(100);

	for (s.anew = 1; s.anew <= SHARING_ANEW_MAX; s.anew++) {
		s.age_ms *= 2;
		cr_expect_eq(sharing_judge(&s), SHARING_DECAYED, "%d", s.anew);
		cr_expect(sharing_asks(&s));
		s.age_ms--;
		cr_expect_eq(sharing_judge(&s), SHARING_WELL, "%d", s.anew);
		cr_expect(!sharing_asks(&s), "it would be measured for nothing");
		s.age_ms++;
	}
}

Test(sharing, nothing_is_no_share)
{
	struct sharing s = { .copy = true, .age_ms = SHARING_PATIENCE_MS };

	cr_expect_eq(sharing_own(&s), 0);
	cr_expect_eq(sharing_judge(&s), SHARING_WELL);
}
