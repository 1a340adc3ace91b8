# SPDX-License-Identifier: GPL-2.0-or-later
"""
Programs that do the same work in turn, and how many times as good one is.

Each round runs every kind once and gives one ratio per figure, so what the
machine does meanwhile hits both. The order changes from round to round.
"""

import collections
import platform
import os
import shutil
import statistics
import tempfile

# Of tandem: the median is at most `most`, the median ratio to QEMU at least `times`,
# and to any other program at least 1.
Figure = collections.namedtuple('Figure', 'name unit better most times', defaults=(None, None))


def less(name, unit, most=None, times=None):
    return Figure(name, unit, 'less', most, times)


def more(name, unit, most=None, times=None):
    return Figure(name, unit, 'more', most, times)


def machine():
    return {'cores': os.cpu_count(), 'kernel': platform.release().split('-')[0],
            'processor': platform.machine()}


class Comparison:
    def __init__(self, rounds, folder, only=()):
        self.rounds, self.folder, self.only = rounds, folder, only
        self.results = {}

    def wanted(self, name):
        return not self.only or any(o in name for o in self.only)

    def compare(self, name, figures, run, kinds=('qemu', 'tandem')):
        """run(kind, work folder) -> {name of a figure: value}"""
        if not self.wanted(name):
            return
        values = {f.name: {k: [] for k in kinds} for f in figures}
        for round_ in range(self.rounds):
            for kind in kinds if round_ % 2 == 0 else kinds[::-1]:
                for figure, value in self._run(run, kind).items():
                    values[figure][kind].append(value)
        for f in figures:
            self._keep(f'{name}: {f.name}' if f.name else name, f, values[f.name])

    def _run(self, run, kind):
        work = tempfile.mkdtemp(prefix='tandem-bench-', dir=self.folder)
        try:
            return run(kind, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _keep(self, name, f, values):
        ratios = {k: [_ratio(f, other, ours) for other, ours in zip(v, values['tandem'])]
                  for k, v in values.items() if k != 'tandem'}
        result = {'unit': f.unit, 'better': f.better, 'most': f.most, 'times': f.times,
                  'values': values, 'ratios': ratios}
        self.results[name] = result
        print('\n'.join([f'{name} [{f.unit}]'] +
                        [f'    {k:7} {spread(v)}' for k, v in values.items()] +
                        [f'    tandem is {spread(r)} times as good as {k}'
                         for k, r in ratios.items()] +
                        [f'    {verdict(result)}']), flush=True)

    def table(self):
        """All results as a table of Markdown."""
        rows = ['| measure | unit | QEMU | tandem | times as good: min / median / max | wanted |',
                '|---|---|---|---|---|---|']
        for name, r in self.results.items():
            ratios = '; '.join(('' if k == 'qemu' else k + ' ') + spread(v)
                               for k, v in r['ratios'].items())
            rows.append(f'| {name} | {r["unit"]} | {_middle(r["values"]["qemu"])} | '
                        f'{_middle(r["values"]["tandem"])} | {ratios} | {verdict(r)} |')
        return '\n'.join(rows) + '\n'


def _ratio(f, other, ours):
    over, under = (other, ours) if f.better == 'less' else (ours, other)
    return over / under if under else float('inf')


def _middle(values):
    return f'{statistics.median(values):.3g}'


def spread(values):
    return f'{min(values):.3g} / {statistics.median(values):.3g} / {max(values):.3g}'


def verdict(r):
    wants = []
    if r['most'] is not None:
        met = statistics.median(r['values']['tandem']) <= r['most']
        wants.append(f'at most {r["most"]:g}: {"yes" if met else "NO"}')
    if r['times'] is not None:
        met = statistics.median(r['ratios']['qemu']) >= r['times']
        wants.append(f'at least {r["times"]:g} times: {"yes" if met else "NO"}')
    for other, ratios in r['ratios'].items():
        if other != 'qemu':
            wants.append(f'at least {other}: {"yes" if statistics.median(ratios) >= 1 else "NO"}')
    return ', '.join(wants) or 'no target'
