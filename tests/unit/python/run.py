#!/usr/bin/env python3
"""Runs the tests of the Python runtime and prints TAP. REEVE_TEST_PYTHON is another interpreter."""
import os
import pathlib
import signal
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True


class Tap(unittest.TestResult):
    """One line per test; what went wrong as comments."""

    def say(self, test, good, more="", text=""):
        number = self.testsRun
        print(f"{'' if good else 'not '}ok {number} {test.id()}{more}")
        for line in text.splitlines():
            print(f"# {line}")
        sys.stdout.flush()

    def addSuccess(self, test):
        self.say(test, True)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say(test, True, f" # SKIP {reason}")

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.say(test, False, text=self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self.say(test, False, text=self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        if err is not None:
            super().addSubTest(test, subtest, err)
            self.testsRun += 1
            self.say(subtest, False, text=(self.failures + self.errors)[-1][1])


def main():
    for number in signal.valid_signals():  # nohup and shells ignore some for what they run
        if signal.getsignal(number) == signal.SIG_IGN and number not in (
                signal.SIGPIPE, signal.SIGXFSZ):  # those are Python's own
            signal.signal(number, signal.SIG_DFL)
    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    for path in sorted(HERE.glob("test_*.py")):
        if len(sys.argv) < 2 or any(word in path.stem for word in sys.argv[1:]):
            suite.addTests(loader.loadTestsFromName(path.stem))
    result = Tap()
    print("TAP version 13")
    suite.run(result)
    print(f"1..{result.testsRun}")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    os.environ.pop("NOTIFY_SOCKET", None)
    sys.exit(main())
