# SPDX-License-Identifier: GPL-2.0-or-later
"""Load on an NBD export with fio, and what it measured."""

import json
import os
import subprocess
import tempfile


def fio(uri, rw, bs, depth, size=None, io_size=None, seconds=None, seed=1, extra=()):
    """
    Returns {'iops', 'bytes_s', 'bytes'} of reads or writes and 'median_us', their median time
    from submission to completion. A load of so many seconds is warmed up before it counts.
    """
    with tempfile.NamedTemporaryFile(suffix='.json') as out:
        args = ['fio', '--name=x', '--ioengine=nbd', f'--uri={uri}', f'--rw={rw}', f'--bs={bs}',
                f'--iodepth={depth}', f'--randseed={seed}', '--allrandrepeat=1',
                '--lat_percentiles=1', '--output-format=json', f'--output={out.name}']
        if size:
            args.append(f'--size={size}')
        if io_size:
            args.append(f'--io_size={io_size}')
        if seconds:
            args += ['--time_based', '--ramp_time=200ms', f'--runtime={int(seconds * 1000)}ms']
        args += extra
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              cwd=os.path.dirname(out.name), check=False)
        with open(out.name, encoding='utf-8') as f:
            text = f.read()
    if done.returncode != 0 or '{' not in text:
        raise RuntimeError(f'fio failed: {done.stdout.decode()} {text[:500]}')
    job = json.loads(text[text.index('{'):])['jobs'][0]
    r = job['read' if 'read' in rw else 'write']
    return {'iops': r['iops'], 'bytes_s': r['bw_bytes'], 'bytes': r['io_bytes'],
            'median_us': r['lat_ns']['percentile']['50.000000'] / 1000}


def fio_verify(uri, rw, bs, depth, size):
    """Write and read back; raises if anything comes back as something else."""
    fio(uri, rw, bs, depth, size=size, seed=7,
        extra=('--verify=crc32c', '--verify_fatal=1', '--do_verify=1'))
