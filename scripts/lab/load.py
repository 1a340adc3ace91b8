# SPDX-License-Identifier: GPL-2.0-or-later
"""Load on an NBD export with fio, and what it measured."""

import json
import os
import subprocess
import tempfile


def fio(uri, rw, bs, depth, size=None, io_size=None, seconds=None, seed=1, extra=()):
    """Returns {'iops', 'bytes_s', 'lat_us', 'max_us', 'bytes'} of reads or writes."""
    with tempfile.NamedTemporaryFile(suffix='.json') as out:
        args = ['fio', '--name=x', '--ioengine=nbd', f'--uri={uri}', f'--rw={rw}', f'--bs={bs}',
                f'--iodepth={depth}', f'--randseed={seed}', '--allrandrepeat=1', '--refill_buffers',
                '--output-format=json', f'--output={out.name}']
        if size:
            args.append(f'--size={size}')
        if io_size:
            args.append(f'--io_size={io_size}')
        if seconds:
            args += ['--time_based', f'--runtime={seconds}']
        args += extra
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              cwd=os.path.dirname(out.name), check=False)
        text = open(out.name, encoding='utf-8').read()
    if done.returncode != 0 or '{' not in text:
        raise RuntimeError(f'fio failed: {done.stdout.decode()} {text[:500]}')
    job = json.loads(text[text.index('{'):])['jobs'][0]
    r = job['read' if 'read' in rw else 'write']
    return {'iops': r['iops'], 'bytes_s': r['bw_bytes'], 'lat_us': r['lat_ns']['mean'] / 1000,
            'max_us': r['lat_ns']['max'] / 1000, 'bytes': r['io_bytes']}
