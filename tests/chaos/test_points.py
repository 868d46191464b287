"""Every failpoint has somebody who walks it: here, or the tests of its area in tests/live."""
import pathlib
import re

import test_ends
import test_handover
import test_seed
import test_spares
import test_threads
import test_walk
import test_watchdog
from harness import Case

HERE = pathlib.Path(__file__).resolve().parent
LIST = HERE.parents[1] / "daemon/base/failpoint_list.h"


class Points(Case):
    def test_every_point_is_walked_somewhere(self):
        """What the walk leaves out is named one by one by the tests that kill there instead."""
        listed = re.findall(r"^FAILPOINT\('(\w)', \w+, \"([^\"]+)\"\)$", LIST.read_text(), re.M)
        self.assertEqual(len(listed), LIST.read_text().count("FAILPOINT('"))
        names = {name for _, name in listed}
        live = {*test_handover.POINTS, *test_threads.POINTS, *test_seed.POINTS, *test_seed.BAD,
                *test_seed.RELEASE, *test_spares.POINTS, *test_spares.ENDS, *test_watchdog.POINTS}
        self.assertEqual(live - names, set(), "no such points")
        left_out = {n for n in names if n.startswith(test_walk.ELSEWHERE)}
        ends = {n for n in left_out if n.startswith((*test_ends.BEGIN, *test_ends.END))}
        self.assertEqual(left_out - ends - live, set(), "nobody walks these points")
        # test_ends kills the keeper at all of its points, other roles at those that an end passes
        others = {n for role, n in listed if n in ends and role != "K"}
        self.assertEqual(others, set(test_ends.OTHERS))
