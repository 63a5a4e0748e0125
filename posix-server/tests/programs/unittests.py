"""unittests.py MODULE [PART/PARTS]: runs each test of a module in a process of its own, with a time limit.

Prints one line for each: PASS, FAIL or SKIPPED, and the test's name; after a failure, the end of what it said. So a test
that hangs or kills its process costs no other. With PART, only every PARTS-th test, from that one on.
"""

import io
import itertools
import os
import signal
import sys
import time
import traceback
import unittest

LIMIT_S = 45
TAIL_LINES = 12
PASSED, FAILED, SKIPPED = 0, 1, 2


def tests_of(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from tests_of(test)
        else:
            yield test


def run_in_child(test):
    os.setpgid(0, 0)
    report = open("report", "w")
    stream = io.StringIO()
    result = unittest.TextTestRunner(stream=stream, verbosity=0).run(unittest.TestSuite([test]))
    report.write(stream.getvalue())
    report.close()
    if not result.wasSuccessful():
        return FAILED
    return SKIPPED if result.skipped else PASSED


def wait_for(pid):
    """The status of a child, or None if it had to be killed."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    return None


def run(test):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            status = run_in_child(test)
        except BaseException:
            traceback.print_exc()
            status = FAILED
        os._exit(status)
    status = wait_for(pid)
    for victim in (lambda: os.killpg(pid, signal.SIGKILL), lambda: os.kill(pid, signal.SIGKILL)):
        try:
            victim()
        except OSError:
            pass
    if status is None:
        os.waitpid(pid, 0)
        return FAILED, "time limit reached\n"
    if os.WIFSIGNALED(status):
        return FAILED, f"killed by signal {os.WTERMSIG(status)}\n"
    with open("report") as report:
        return os.WEXITSTATUS(status), report.read()


def main():
    module = sys.argv[1]
    part, parts = map(int, (sys.argv[2] if len(sys.argv) > 2 else "1/1").split("/"))
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    for test in itertools.islice(tests_of(suite), part - 1, None, parts):
        if os.path.exists("report"):
            os.remove("report")
        try:
            status, said = run(test)
        except OSError as error:
            status, said = FAILED, f"{error}\n"
        word = {PASSED: "PASS", SKIPPED: "SKIPPED"}.get(status, "FAIL")
        print(f"{word}: {test.id()}")
        if word == "FAIL":
            for line in said.rstrip().splitlines()[-TAIL_LINES:]:
                print(f"    {line}")
    sys.stdout.flush()


main()
