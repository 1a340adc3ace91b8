# SPDX-License-Identifier: GPL-2.0-or-later
"""run-tests counts cases as they were, and is green only if something passed."""

import importlib.machinery
import importlib.util
import json
import os
import stat
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts",
                      "run-tests")


def load():
    loader = importlib.machinery.SourceFileLoader("run_tests", SCRIPT)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("run_tests", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


run_tests = load()


def tap(result, *lines):
    return {"name": "t", "command": ["t", "--tap"], "result": result, "stdout": "\n".join(lines)}


class Count(unittest.TestCase):
    def assert_counts(self, test, line):
        self.assertEqual(run_tests.count_test(test).line(), line)

    def test_each_case_of_a_tap_program_counts(self):
        self.assert_counts(tap("OK", "TAP version 13", "# random seed: R02S", "1..3", "ok 1 /a",
                               "ok 2 /b", "ok 3 /c # SKIP no ring"),
                           "2 passed, 0 failed, 1 skipped")
        self.assert_counts(tap("FAIL", "1..2", "ok 1 /a", "not ok 2 /b"), "1 passed, 1 failed")

    def test_a_crash_between_cases_is_a_failure(self):
        self.assert_counts(tap("ERROR", "1..2", "ok 1 /a"), "1 passed, 1 failed")
        self.assert_counts(tap("TIMEOUT", "1..2", "ok 1 /a"), "1 passed, 1 failed")
        self.assert_counts(tap("ERROR"), "0 passed, 1 failed")

    def test_each_case_of_a_unittest_program_counts(self):
        def ran(result, *lines):
            return {"name": "t", "command": ["t.py"], "result": result, "stdout": "\n".join(lines)}

        self.assert_counts(ran("OK", "Ran 3 tests in 0.1s", "", "OK (skipped=1)"),
                           "2 passed, 0 failed, 1 skipped")
        self.assert_counts(ran("FAIL", "Ran 4 tests in 0.1s", "", "FAILED (failures=1, errors=1)"),
                           "2 passed, 2 failed")
        self.assert_counts(ran("FAIL", "Ran 2 tests in 0.1s", "", "FAILED (errors=9)"),
                           "0 passed, 2 failed")
        self.assert_counts(ran("FAIL", "Ran 0 tests in 0.0s", "", "OK"), "0 passed, 1 failed")

    def test_other_programs_count_as_one(self):
        for result, line in {"OK": "1 passed, 0 failed", "FAIL": "0 passed, 1 failed",
                             "SKIP": "0 passed, 0 failed, 1 skipped",
                             "UNEXPECTEDPASS": "0 passed, 1 failed",
                             "TIMEOUT": "0 passed, 1 failed"}.items():
            self.assert_counts({"name": "t", "command": ["t"], "result": result}, line)


class Run(unittest.TestCase):
    """With a meson of our own that writes the log we want."""

    def run_with(self, tests, status):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "meson-logs"))
            log = "".join(json.dumps(t) + "\n" for t in tests)
            meson = os.path.join(folder, "meson")
            with open(meson, "w", encoding="utf-8") as f:
                f.write(f"#!/bin/sh\ncat >{folder}/meson-logs/testlog.json <<'END'\n{log}END\n"
                        f"exit {status}\n")
            os.chmod(meson, os.stat(meson).st_mode | stat.S_IXUSR)
            env = dict(os.environ, PATH=folder + ":" + os.environ["PATH"])
            done = subprocess.run(["/usr/bin/python3", SCRIPT, folder], env=env, check=False,
                                  capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines()[-1]

    def test_green_is_status_0_and_a_last_line(self):
        self.assertEqual(self.run_with([tap("OK", "ok 1 /a")], 0), (0, "1 passed, 0 failed"))

    def test_a_failure_is_status_1(self):
        self.assertEqual(self.run_with([tap("FAIL", "not ok 1 /a")], 1), (1, "0 passed, 1 failed"))

    def test_no_test_is_a_failure(self):
        self.assertEqual(self.run_with([], 0), (1, "0 passed, 1 failed"))

    def test_skipped_only_is_a_failure(self):
        self.assertEqual(self.run_with([tap("SKIP", "1..0 # SKIP", "ok 1 /a # SKIP")], 0)[0], 1)

    def test_meson_failing_by_itself_is_a_failure(self):
        self.assertEqual(self.run_with([tap("OK", "ok 1 /a")], 125), (1, "1 passed, 1 failed"))


if __name__ == "__main__":
    unittest.main()
