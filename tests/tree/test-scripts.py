# SPDX-License-Identifier: GPL-2.0-or-later
"""The checks of the tree find what they are for: each is shown a bad example."""

import os
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts")
SPDX_C = "/* SPDX-License-Identifier: GPL-2.0-or-later */\n"


class Tree(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = folder.name

    def write(self, path, text):
        path = os.path.join(self.tree, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def run_script(self, name, *args):
        done = subprocess.run([os.path.join(SCRIPTS, name), *args], capture_output=True,
                              text=True, check=False, stdin=subprocess.DEVNULL)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout

    def assert_clean(self, name, *args):
        self.assertEqual(self.run_script(name, *args), (0, ""))

    def assert_finds(self, text, name, *args):
        status, output = self.run_script(name, *args)
        self.assertEqual(status, 1)
        self.assertIn(text, output)


class Layers(Tree):
    def include(self, path, *headers):
        self.write(path, SPDX_C + "".join(f'#include "{h}"\n' for h in headers))

    def test_down_and_own_folder_are_allowed(self):
        self.include("include/util/iov.h")
        self.include("include/block/node.h", "util/iov.h")
        self.include("block/qcow2/qcow2.h", "block/node.h")
        self.include("block/qcow2/cache.c", "qcow2.h", "config.h")
        self.include("block/replication/secondary.c", "block/job.h")
        self.include("block/export/nbd.c", "block/nbd.h")
        self.assert_clean("check-layers", self.tree)

    def test_up_is_refused(self):
        self.include("include/block/node.h")
        self.include("util/iov.c", "block/node.h")
        self.assert_finds('util/iov.c:2: "block/node.h": block/core is above util',
                          "check-layers", self.tree)

    def test_a_header_may_not_point_up_either(self):
        self.include("include/block/job.h")
        self.include("include/block/node.h", "block/job.h")
        self.assert_finds("block/jobs is above block/core", "check-layers", self.tree)

    def test_siblings_are_refused(self):
        self.include("include/block/nbd.h")
        self.include("block/qcow2/open.c", "block/nbd.h")
        self.assert_finds("block/qcow2 and block/nbd are siblings", "check-layers", self.tree)

    def test_replication_stands_on_jobs_but_not_the_reverse(self):
        self.include("include/block/replication.h")
        self.include("block/jobs/backup.c", "block/replication.h")
        self.assert_finds("are siblings", "check-layers", self.tree)

    def test_private_headers_are_private(self):
        self.include("block/core/request.h")
        self.include("block/jobs/job.c", "block/core/request.h")
        self.assert_finds("private header", "check-layers", self.tree)

    def test_climbing_is_refused(self):
        self.include("block/core/request.h")
        self.include("block/jobs/job.c", "../core/request.h")
        self.assert_finds("climbs out", "check-layers", self.tree)

    def test_a_new_folder_needs_a_layer(self):
        self.include("block/sidecar/x.c")
        self.assert_finds("belongs to no layer", "check-layers", self.tree)


class Headers(Tree):
    def setUp(self):
        super().setUp()
        self.write("build/compile_commands.json",
                   '[{"directory": "%s/build", "command": "cc -I../include -c x.c"}]' % self.tree)

    def check(self):
        return "check-headers", self.tree, os.path.join(self.tree, "build")

    def test_a_complete_header_passes(self):
        self.write("include/util/a.h", "#ifndef A_H\n#define A_H\n#include <stddef.h>\n"
                   "typedef size_t A;\nenum { ONE };\n#endif\n")
        self.write("include/util/b.h", '#ifndef B_H\n#define B_H\n#include "util/a.h"\n'
                   "A b(void);\n#endif\n")
        self.assert_clean(*self.check())

    def test_a_header_that_needs_another_first_is_found(self):
        self.write("include/util/a.h", "#ifndef A_H\n#define A_H\nsize_t a(void);\n#endif\n")
        self.assert_finds("include/util/a.h does not compile alone", *self.check())

    def test_a_header_without_guard_is_found(self):
        self.write("include/util/a.h", "enum { ONE };\n")
        self.assert_finds("include/util/a.h does not compile alone", *self.check())


class Form(Tree):
    def test_a_good_source_passes(self):
        self.write("util/a.c", SPDX_C + "int a;\n")
        self.write("scripts/b", "#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0-or-later\n")
        self.assert_clean("check-tree", self.tree)

    def test_each_fault_is_found(self):
        faults = {
            "int a;\n": "does not open with",
            SPDX_C + "\tint a;\n": "a tab",
            SPDX_C + "int a; \n": "space at the end",
            SPDX_C + "int a;": "no newline at the end",
            SPDX_C + "/* " + "a" * 100 + " */\n": "106 columns",
            SPDX_C + "/* TO" "DO: all */\n": "finish it",
            SPDX_C + '#include "/ho' 'me/me/a.h"\n': "a path of one machine",
            SPDX_C + "/* see iss" "ue #12 */\n": "say what the matter is",
        }
        for text, problem in faults.items():
            with self.subTest(problem):
                self.write("util/a.c", text)
                self.assert_finds(problem, "check-tree", self.tree)

    def test_a_script_without_suffix_is_a_source(self):
        self.write("scripts/b", "#!/bin/sh\ntrue\n")
        self.assert_finds("scripts/b:1: does not open with", "check-tree", self.tree)

    def test_an_empty_tree_is_no_success(self):
        self.assert_finds("no file found", "check-tree", self.tree)


if __name__ == "__main__":
    unittest.main()
