# SPDX-License-Identifier: GPL-2.0-or-later
"""setup-packages and setup-build, with a dpkg, an apt-get and a meson of our own."""

import json
import os
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "scripts")
TREE = os.path.realpath(os.path.join(SCRIPTS, ".."))
LOG = 'printf "%s %s\n" "$(basename "$0")" "$*" >>"$FAKE_LOG"\n'


class Fakes(unittest.TestCase):
    """Programs that write down how they are called, first on PATH."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.log = os.path.join(self.folder, "log")

    def fake(self, name, body=""):
        os.makedirs(os.path.join(self.folder, "bin"), exist_ok=True)
        path = os.path.join(self.folder, "bin", name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n" + LOG + body)
        os.chmod(path, 0o755)

    def run_script(self, name, *args):
        env = dict(os.environ, FAKE_LOG=self.log,
                   PATH=os.path.join(self.folder, "bin") + ":/usr/bin:/bin")
        env.pop("CC", None)
        return subprocess.run([os.path.join(SCRIPTS, name), *args], env=env, text=True,
                              check=False, capture_output=True, stdin=subprocess.DEVNULL)

    def calls(self):
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="utf-8") as f:
            return f.read().splitlines()


class Packages(Fakes):
    def dpkg(self, without=(), removed=()):
        """A dpkg that has each package asked for but those named."""
        skip = "|".join(without) or "none"
        gone = "|".join(removed) or "none"
        self.fake("dpkg-query", 'shift 3\nfor p in "$@"; do case $p in\n'
                  f'{skip}) echo "no packages found matching $p" >&2; status=1;;\n'
                  f'{gone}) echo "rc  $p";;\n*) echo "ii  $p";;\nesac; done\nexit ${{status:-0}}\n')

    def test_nothing_missing_is_silent(self):
        self.dpkg()
        self.fake("apt-get")
        done = self.run_script("setup-packages")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual(len(self.calls()), 1)

    def test_what_is_missing_is_installed_after_one_update(self):
        self.dpkg(without=["libjansson-dev", "fio"], removed=["nbdkit"])
        self.fake("id", "echo 0\n")
        self.fake("apt-get", 'echo "$DEBIAN_FRONTEND" >>"$FAKE_LOG"\n')
        done = self.run_script("setup-packages")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, "setup-packages: installing libjansson-dev nbdkit fio\n")
        self.assertEqual([c for c in self.calls() if not c.startswith(("dpkg", "id"))],
                         ["apt-get update -q", "noninteractive",
                          "apt-get install -q -y --no-install-recommends "
                          "libjansson-dev nbdkit fio", "noninteractive"])

    def test_the_guest_needs_a_part_of_what_the_tests_need(self):
        self.dpkg(without=["cpio", "fio", "libjansson-dev"])
        self.fake("id", "echo 0\n")
        self.fake("apt-get")
        done = self.run_script("setup-packages", "guest")
        self.assertEqual((done.returncode, done.stdout),
                         (0, "setup-packages: installing cpio\n"))

    def test_sudo_is_used_by_others_than_root(self):
        self.dpkg(without=["fio"])
        self.fake("id", "echo 1000\n")
        self.fake("apt-get")
        self.fake("sudo", '"$@"\n')
        self.assertEqual(self.run_script("setup-packages", "test").returncode, 0)
        self.assertEqual(len([c for c in self.calls() if c.startswith("sudo ")]), 2)

    def test_the_build_set_leaves_out_the_test_set(self):
        self.dpkg(without=["fio"])
        self.fake("apt-get", "exit 1\n")
        self.assertEqual(self.run_script("setup-packages", "build").returncode, 0)

    def test_a_failed_installation_fails(self):
        self.dpkg(without=["fio"])
        self.fake("id", "echo 0\n")
        self.fake("apt-get", "exit 100\n")
        self.assertNotEqual(self.run_script("setup-packages").returncode, 0)


class Build(Fakes):
    """meson is ours: it writes what the real one leaves in a build folder."""

    def setUp(self):
        super().setUp()
        self.fake("ccache")
        self.fake("meson", 'echo "CC=$CC" >>"$FAKE_LOG"\n'
                  'case $1 in setup) [ "$2" = --wipe ] && shift\n'
                  'mkdir -p "$2/meson-private" && [ -z "$FAKE_FAILS" ] ;;\n'
                  'configure) ! grep -q broken "$2/meson-private/coredata.dat" ;; esac\n')
        self.build = os.path.join(self.folder, "build")

    def existing(self, tree, data="", **options):
        for path, text in {
                "build.ninja": "",
                "meson-private/coredata.dat": data,
                "meson-info/meson-info.json":
                    json.dumps({"directories": {"source": tree, "build": self.build}}),
                "meson-info/intro-buildoptions.json":
                    json.dumps([{"name": n, "value": v} for n, v in options.items()])}.items():
            path = os.path.join(self.build, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)

    def meson_calls(self, *options):
        done = self.run_script("setup-build", self.build, *options)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [c for c in self.calls() if c.startswith("meson")]

    def test_a_new_folder_is_set_up(self):
        self.assertEqual(self.meson_calls("-Dwerror=true"),
                         [f"meson setup {self.build} {TREE} -Dwerror=true"])

    def test_a_folder_with_the_options_is_left_alone(self):
        self.existing(TREE, werror=True)
        self.assertEqual(self.meson_calls("-Dwerror=true"), [])

    def test_other_options_are_set(self):
        self.existing(TREE, werror=False)
        self.assertEqual(self.meson_calls("-Dwerror=true"),
                         [f"meson configure {self.build} -Dwerror=true"])

    def test_a_folder_that_meson_cannot_read_is_wiped(self):
        self.existing(TREE, data="broken", werror=False)
        self.assertEqual(self.meson_calls("-Dwerror=true")[-1],
                         f"meson setup --wipe {self.build} {TREE} -Dwerror=true")

    def test_the_folder_of_another_tree_is_made_anew(self):
        self.existing(os.path.join(self.folder, "elsewhere"), werror=True)
        self.assertEqual(self.meson_calls("-Dwerror=true"),
                         [f"meson setup {self.build} {TREE} -Dwerror=true"])
        self.assertFalse(os.path.exists(os.path.join(self.build, "build.ninja")))

    def test_a_folder_that_is_no_build_folder_is_kept(self):
        os.mkdir(self.build)
        kept = os.path.join(self.build, "precious")
        with open(kept, "w", encoding="utf-8"):
            pass
        done = self.run_script("setup-build", self.build)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is in the way", done.stderr)
        self.assertTrue(os.path.exists(kept))


if __name__ == "__main__":
    unittest.main()
