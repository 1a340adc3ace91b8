# SPDX-License-Identifier: GPL-2.0-or-later
"""The same command line through QEMU's tool and through ours; every difference is told.

A world is two directories, 'q' and 't', that hold equal images before each case. A case is
one command line. Compared are standard output, messages (program names and times masked), exit
status and every file that the case made or changed: raw files byte for byte, qcow2 by content,
and ours also by qemu-img check. Differences that are meant are listed with their reason as
Excuse; one that no case needs any more is an error, so the list stays true.
"""

import argparse
import contextlib
import glob
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from imgpair import TOOLS, have_qemu, normal

TOOLS = os.path.abspath(TOOLS)
SIDES = 'qt'
PARTS = ('out', 'err', 'status', 'files')
# The first word of a case: theirs and ours.
PROGRAMS = {
    'img': ('qemu-img', 'tandem-img'),
    'io': ('qemu-io', 'tandem-io'),
    'nbd': ('qemu-nbd', 'tandem-nbd'),
    'daemon': ('qemu-storage-daemon', 'tandemd'),
    'machine': ('qemu-system-x86_64', 'tandemd'),
}


class Excuse:
    """Cases whose command line matches @pattern may differ in @parts, because of @reason.

    With @ours or @theirs, only if the messages of that side are what the expression finds.
    """

    def __init__(self, pattern, parts, reason, ours='', theirs=''):
        self.pattern, self.parts, self.reason = re.compile(pattern), parts.split(), reason
        self.ours, self.theirs = re.compile(ours), re.compile(theirs)
        self.used = False

    def covers(self, line, part, theirs, ours):
        if part not in self.parts or not self.pattern.search(line):
            return False
        if not self.ours.search(ours.err) or not self.theirs.search(theirs.err):
            return False
        self.used = True
        return True


class Outcome:
    def __init__(self, done, files):
        self.out, self.err = normal(done.stdout).rstrip(), normal(done.stderr).rstrip()
        self.status = done.returncode
        self.files = files


class World:
    def __init__(self, build_images):
        self.top = tempfile.mkdtemp(prefix='tandem-diff-')
        self.template = os.path.join(self.top, 'template')
        os.mkdir(self.template)
        build_images(self.template)
        for side in SIDES:
            subprocess.run(['cp', '-a', '--sparse=always', self.template, self.dir(side)],
                           check=True)
        self.state = {side: self.look(side) for side in SIDES}

    def dir(self, side):
        return os.path.join(self.top, side)

    def close(self):
        shutil.rmtree(self.top, ignore_errors=True)

    def look(self, side):
        """Name to what tells a changed file from an unchanged one."""
        seen = {}
        for path in glob.glob(os.path.join(self.dir(side), '**'), recursive=True):
            st = os.lstat(path)
            if not os.path.isdir(path):
                name = os.path.relpath(path, self.dir(side))
                seen[name] = (st.st_mtime_ns, st.st_size, st.st_ino, st.st_mode)
        return seen

    def restore(self, side):
        now = self.look(side)
        for name in now.keys() - self.state[side].keys():
            os.remove(os.path.join(self.dir(side), name))
        for name, was in self.state[side].items():
            if now.get(name) != was:
                subprocess.run(['cp', '-p', '--sparse=always', '--remove-destination',
                                os.path.join(self.template, name),
                                os.path.join(self.dir(side), name)], check=True)
        self.state[side] = self.look(side)

    def changed(self, side):
        now = self.look(side)
        return {n for n in now.keys() | self.state[side].keys()
                if now.get(n) != self.state[side].get(n)}

    def stop_background(self, side):
        """End the program that left its number in 'pid', and wait until it has gone."""
        try:
            with open(os.path.join(self.dir(side), 'pid'), encoding='ascii') as f:
                pid = int(f.read())
        except FileNotFoundError:
            return
        end = time.monotonic() + 30
        while is_running(pid):
            assert time.monotonic() < end, f'{pid} does not end'
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)    # qemu-nbd forgets one that comes early
            time.sleep(.02)

    def run(self, side, argv, text):
        return subprocess.run([os.path.basename(argv[0]), *argv[1:]], executable=argv[0],
                              cwd=self.dir(side), input=text, capture_output=True,
                              encoding='utf-8', errors='replace', timeout=120, check=False)


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat', encoding='ascii', errors='replace') as f:
            return f.read().rpartition(')')[2].split()[0] not in 'ZX'
    except FileNotFoundError:
        return False


def read(path, limit=64 << 20):
    """What is in a file; of a huge one, which is all holes here, how long it is."""
    size = os.path.getsize(path)
    with open(path, 'rb') as f:
        return f.read(limit) + (str(size).encode() if size > limit else b'')


def tool(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def file_differs(theirs, ours):
    """'' or in what way two files are not the same image."""
    if os.path.exists(theirs) != os.path.exists(ours):
        return 'is there in one only'
    if not os.path.exists(theirs):
        return ''
    a, b = read(theirs), read(ours)
    if a == b:
        return ''
    if a[:4] != b'QFI\xfb' or b[:4] != b'QFI\xfb':
        return f'differs, {len(a)} and {len(b)} bytes'
    layers = ['json:' + json.dumps({'driver': 'qcow2', 'backing': None, 'file.filename': p})
              for p in (theirs, ours)]
    done = tool('qemu-img', 'compare', '-s', '-U', *layers)
    if done.returncode and 'block status' not in done.stdout:
        return done.stdout + done.stderr
    done = tool('qemu-img', 'compare', '-U', *layers)
    if done.returncode:
        return done.stdout + done.stderr
    check = tool('qemu-img', 'check', '-U', '-f', 'qcow2', ours)
    theirs_check = tool('qemu-img', 'check', '-U', '-f', 'qcow2', theirs)
    return '' if check.returncode == theirs_check.returncode else check.stdout + check.stderr


class Differ:
    """Runs cases, collects differences, knows which are meant."""

    def __init__(self, name, world, excuses, args):
        self.name, self.world, self.excuses, self.args = name, world, excuses, args
        self.cases, self.failures, self.excused = 0, [], 0
        self.both = ThreadPoolExecutor(2)

    def argv(self, side, words):
        theirs, ours = PROGRAMS[words[0]]
        if side == 'q':
            return [shutil.which(theirs), *words[1:]]
        return [os.path.join(TOOLS, ours), *words[1:]]

    def case(self, line, text=None, mask=None):
        """@line is a command line; its first word is a key of PROGRAMS.

        '#json' at its end compares parsed output. '@here' is the directory that it runs in. A
        program that goes to the background leaves its number in the file 'pid', and is ended.
        """
        parse = line.endswith('#json')
        words = shlex.split(line.removesuffix('#json'))
        argv = {side: [w.replace('@here', self.world.dir(side)) for w in self.argv(side, words)]
                for side in SIDES}
        runs = {side: self.both.submit(self.world.run, side, argv[side], text)
                for side in SIDES}
        done = {side: run.result() for side, run in runs.items()}
        for side in SIDES:
            self.world.stop_background(side)
        changed = {side: self.world.changed(side) for side in SIDES}
        results = {side: Outcome(done[side], changed[side]) for side in SIDES}
        q, t = results['q'], results['t']
        for side, r in results.items():
            r.out, r.err = (t.replace(self.world.dir(side), '@here') for t in (r.out, r.err))
            if mask:
                r.out, r.err = mask(r.out), mask(r.err)
            if parse:
                r.out = as_json(r.out)
        bad = [p for p in ('out', 'err', 'status') if getattr(q, p) != getattr(t, p)]
        files = [f'{n}: {why}' for n in sorted(q.files | t.files)
                 if (why := file_differs(*(os.path.join(self.world.dir(s), n) for s in SIDES)))]
        bad += ['files'] if files else []
        self.cases += 1
        self.judge(line, text, bad, q, t, files)
        for side in SIDES:
            if changed[side]:
                self.world.restore(side)

    def judge(self, line, text, bad, q, t, files):
        left = []
        for part in bad:
            if not any([e.covers(line, part, q, t) for e in self.excuses]):
                left.append(part)
        self.excused += len(bad) - len(left)
        if not left:
            return
        said = [f'--- {line}'] + ([f'    stdin {text!r}'] if text else [])
        for part in left:
            if part == 'files':
                said += ['    ' + f for f in files]
            else:
                said += [f'    {part} theirs: {getattr(q, part)!r}',
                         f'    {part} ours:   {getattr(t, part)!r}']
        self.failures.append('\n'.join(said))
        print('\n'.join(said), flush=True)

    def finish(self, whole):
        """0 if all agreed but for what is excused; each excuse must have been needed."""
        stale = [e for e in self.excuses if whole and not e.used]
        for e in stale:
            print(f'--- no case needs the exception {e.pattern.pattern!r} ({e.reason})')
        print(f'{self.name}: seed {self.args.seed}, {self.cases} cases, '
              f'{len(self.failures)} differ, {self.excused} differences as listed')
        return 1 if self.failures or stale or not self.cases else 0


def as_json(text):
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def soak_seconds():
    """Random cases are for the long tests: what they find is seldom new, and never the change's."""
    return float(os.environ.get('TANDEM_SOAK_SECONDS', 0))


def arguments(description):
    p = argparse.ArgumentParser(description=description)
    p.add_argument('--seed', type=int, default=random.SystemRandom().randrange(1 << 32))
    p.add_argument('--seconds', type=float, default=soak_seconds(), help='for random cases')
    p.add_argument('--only', default='', help='expression that listed cases match')
    return p.parse_args()


def run(name, description, build_images, listed, random_case, excuses):
    """Listed cases, then random ones for a while. @listed gives (line, input, mask)."""
    if not have_qemu():
        sys.exit(77)
    args = arguments(description)
    rng = random.Random(args.seed)
    world = World(build_images)
    print(f'{name}: seed {args.seed}', flush=True)
    try:
        differ = Differ(name, world, excuses, args)
        for line, text, mask in listed:
            if re.search(args.only, line):
                differ.case(line, text, mask)
        end = time.monotonic() + args.seconds
        while random_case and not args.only and time.monotonic() < end:
            differ.case(*random_case(rng))
        return differ.finish(whole=not args.only)
    finally:
        world.close()
