# SPDX-License-Identifier: GPL-2.0-or-later
"""tandem-img against qemu-img: listed and random command lines."""

import os
import re
import struct
import subprocess
import sys

from difftool import Excuse, run


def images(top):
    """Small images of all sorts; every name is of one letter and a meaning."""
    def img(*argv):
        subprocess.run(['qemu-img', *argv], cwd=top, check=True, stdout=subprocess.DEVNULL)

    def io(name, fmt, *commands):
        words = [w for c in commands for w in ('-c', c)]
        subprocess.run(['qemu-io', '-f', fmt, *words, name], cwd=top, check=True,
                       stdout=subprocess.DEVNULL)

    img('create', '-q', '-f', 'raw', 'raw', '4M')
    io('raw', 'raw', 'write -P 7 0 1M', 'write -P 8 3M 100k')
    img('create', '-q', '-f', 'raw', 'raw2', '4M')
    io('raw2', 'raw', 'write -P 7 0 1M', 'write -P 9 3M 100k')
    img('create', '-q', '-f', 'raw', 'odd', '0')
    with open(os.path.join(top, 'odd'), 'wb') as f:
        f.write(b'abc' * 1000)
    img('create', '-q', '-f', 'raw', 'empty', '0')
    img('create', '-q', '-f', 'raw', 'short', '1M')
    io('short', 'raw', 'write -P 7 0 1M')
    img('create', '-q', '-f', 'qcow2', 'base', '4M')
    io('base', 'qcow2', 'write -P 1 0 64k', 'write -P 2 2M 100k')
    img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'mid')
    io('mid', 'qcow2', 'write -P 3 1M 100k', 'write -z 2M 32k', 'write -z 3M 64k')
    img('create', '-q', '-f', 'qcow2', '-b', 'mid', '-F', 'qcow2', 'top', '6M')
    io('top', 'qcow2', 'write -P 4 5M 100k', 'write -z 0 4k', 'discard 1M 64k')
    img('create', '-q', '-f', 'qcow2', '-b', 'raw', '-F', 'raw', 'onraw')
    io('onraw', 'qcow2', 'write -P 5 1M 64k')
    img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,cluster_size=4k', 'old', '4M')
    io('old', 'qcow2', 'write -P 1 0 64k')
    img('create', '-q', '-f', 'qcow2', '-o', 'cluster_size=512', 'tiny', '1M')
    io('tiny', 'qcow2', 'write -P 1 100k 64k')
    img('create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', 'pre', '1M')
    img('convert', '-q', '-c', '-O', 'qcow2', 'base', 'compressed')
    img('create', '-q', '-f', 'qcow2', '-u', '-b', 'gone', '-F', 'qcow2', 'orphan', '4M')
    img('create', '-q', '-f', 'qcow2', 'snap', '2M')
    img('snapshot', '-c', 'one', 'snap')
    img('create', '-q', '-f', 'qcow2', 'leaky', '2M')
    io('leaky', 'qcow2', 'write 0 256k')
    img('create', '-q', '-f', 'qcow2', 'broken', '2M')
    io('broken', 'qcow2', 'write 0 256k')
    damage(os.path.join(top, 'leaky'), lambda e: [0] + e[1:])
    damage(os.path.join(top, 'broken'), lambda e: [e[1]] + e[1:])
    img('create', '-q', '-f', 'qcow2', 'high', '2M')
    io('high', 'qcow2', 'write 0 256k')
    with open(os.path.join(top, 'high'), 'r+b') as f:
        f.seek(48)
        f.seek(struct.unpack('>Q', f.read(8))[0])
        f.seek(struct.unpack('>Q', f.read(8))[0] + 2 * 5)
        f.write(struct.pack('>H', 2))
    img('create', '-q', '-f', 'qcow2', 'uncounted', '2M')
    io('uncounted', 'qcow2', 'write 0 256k', 'write -z 64k 64k')
    with open(os.path.join(top, 'uncounted'), 'r+b') as f:
        f.seek(0x20000 + 2 * 5)
        f.write(bytes(2))
    img('create', '-q', '-f', 'qcow2', '-u', '-b', './loop', '-F', 'qcow2', 'loop', '2M')
    img('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b',
        'json:{"driver":"qcow2","file":{"driver":"file","filename":"base"}}', 'onjson')
    with open(os.path.join(top, 'garbage'), 'wb') as f:
        f.write(b'QFI\xfb' + bytes(range(250)) * 20)
    os.mkdir(os.path.join(top, 'dir'))
    img('create', '-q', '-f', 'qcow2', '-b', '../base', '-F', 'qcow2', 'dir/o')


def damage(path, change):
    """Change the first entries of the first L2 table."""
    with open(path, 'r+b') as f:
        f.seek(40)
        f.seek(struct.unpack('>Q', f.read(8))[0])
        at = struct.unpack('>Q', f.read(8))[0] & 0xfffffffffffe00
        f.seek(at)
        entries = list(struct.unpack('>4Q', f.read(32)))
        f.seek(at)
        f.write(struct.pack('>4Q', *change(entries)))


# Written short below: mostly a raw file that fails.
SHORT = {
    '@debug': 'driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=raw',
    '@fail': ',file.inject-error.0.event=none',
    '@sector': ',file.inject-error.0.sector=200',
    '@under': 'backing.file.filename=base',
    '@type': ',file.inject-error.0.iotype',
}

CREATE = r'''
create
create x
create x 1M
create x 1
create x 0
create x 512
create x 1.5M
create x 0x1000
create x 1k
create x 1K
create x 1b
create x 1B
create x 1m
create x 2T
create x 1Q
create x 1MB
create x 1MiB
create x 1e3
create x M
create x ''
create x ' 1M'
create x '1M '
create x +1M
create x -- -5
create x -5
create x 9E
create x 8E
create x 7E
create x 16E
create x 9223372036854775807
create x 9223372036854775808
create x 99999999999999999999
create x 1M 2M
create '' 1M
create -f
create -f raw x 1M
create -f qcow2 x 1M
create -f qcow2 x 0
create -f qcow2 x 1
create -f qcow2 x 1000
create -f qcow2 x 1T
create -f qcow2 x 64P
create -f qcow2 x 1E
create -f qcow2 x
create -f raw x
create -q -f qcow2 x 1M
create -f foo x 1M
create -f QCOW2 x 1M
create -f nbd x 1M
create -f file x 1M
create -f null-co x 1M
create -f quorum x 1M
create -f blkdebug x 1M
create -f '' x 1M
create -Z x 1M
create --foo x 1M
create -f qcow2 --object secret,id=s,data=x x 1M
create --object foo,id=s x 1M
create --object secret x 1M
create --object secret,id=s x 1M
create --object secret,id=s,data=a,foo=b x 1M
create --object iothread,id=i x 1M
create --object throttle-group,id=i x 1M
create --object secret,id=1s,data=a x 1M
create --object '' x 1M
create --object help x 1M
create -f qcow2 -o cluster_size=4k x 1M
create -f qcow2 -o cluster_size=512 x 1M
create -f qcow2 -o cluster_size=2M x 1M
create -f qcow2 -o cluster_size=4M x 1M
create -f qcow2 -o cluster_size=256 x 1M
create -f qcow2 -o cluster_size=1000 x 1M
create -f qcow2 -o cluster_size=0 x 1M
create -f qcow2 -o cluster_size=-1 x 1M
create -f qcow2 -o cluster_size= x 1M
create -f qcow2 -o cluster_size x 1M
create -f qcow2 -o cluster_size=64K,cluster_size=4K x 1M
create -f qcow2 -o cluster_size=1.5k x 1M
create -f qcow2 -o cluster_size=512 x 1T
create -f qcow2 -o compat=0.10 x 1M
create -f qcow2 -o compat=1.1 x 1M
create -f qcow2 -o compat=v3 x 1M
create -f qcow2 -o compat=v2 x 1M
create -f qcow2 -o compat=xx x 1M
create -f qcow2 -o compat= x 1M
create -f qcow2 -o compat=0.10,lazy_refcounts=on x 1M
create -f qcow2 -o compat=0.10,refcount_bits=8 x 1M
create -f qcow2 -o compat=0.10,extended_l2=on x 1M
create -f qcow2 -o compat=0.10,compression_type=zstd x 1M
create -f qcow2 -o lazy_refcounts=on x 1M
create -f qcow2 -o lazy_refcounts x 1M
create -f qcow2 -o nolazy_refcounts x 1M
create -f qcow2 -o lazy_refcounts=yes x 1M
create -f qcow2 -o lazy_refcounts=true x 1M
create -f qcow2 -o lazy_refcounts=1 x 1M
create -f qcow2 -o lazy_refcounts=ON x 1M
create -f qcow2 -o refcount_bits=1 x 1M
create -f qcow2 -o refcount_bits=64 x 1M
create -f qcow2 -o refcount_bits=7 x 1M
create -f qcow2 -o refcount_bits=128 x 1M
create -f qcow2 -o refcount_bits=0 x 1M
create -f qcow2 -o refcount_bits=-1 x 1M
create -f qcow2 -o refcount_bits=1k x 1M
create -f qcow2 -o compat=0.10,lazy_refcounts=on,refcount_bits=1 x 1M
create -f qcow2 -o compat=0.10,lazy_refcounts=on,backing_fmt=raw x 1M
create -f qcow2 -o refcount_bits=0x10 x 1M
create -f qcow2 -o preallocation=off x 1M
create -f qcow2 -o preallocation=metadata x 1M
create -f qcow2 -o preallocation=falloc x 1M
create -f qcow2 -o preallocation=full x 1M
create -f qcow2 -o preallocation=xx x 1M
create -f qcow2 -o preallocation= x 1M
create -f qcow2 -o preallocation=metadata,cluster_size=512 x 1M
create -f raw -o preallocation=off x 1M
create -f raw -o preallocation=falloc x 1M
create -f raw -o preallocation=full x 1M
create -f raw -o preallocation=metadata x 1M
create -f raw -o preallocation=xx x 1M
create -f raw -o size=1M x
create -f raw -o size=1M x 2M
create -f raw -o nocow=on x 1M
create -f raw -o nocow=off x 1M
create -f raw -o nocow=xx x 1M
create -f raw -o extent_size_hint=1M x 1M
create -f raw -o extent_size_hint=0 x 1M
create -f raw -o extent_size_hint=4294967295 x 1M
create -f raw -o extent_size_hint=4294967296 x 1M
create -f raw -o cluster_size=4k x 1M
create -f raw -o foo=bar x 1M
create -f raw -o foo x 1M
create -f raw -o '' x 1M
create -f raw -o , x 1M
create -f raw -o =x x 1M
create -f raw -o size=1M, x
create -f qcow2 -o size=1M x
create -f qcow2 -o size=1M -o cluster_size=4k x
create -f qcow2 -o size=1M,size=2M x
create -f qcow2 -o compression_type=zlib x 1M
create -f qcow2 -o compression_type=xx x 1M
create -f qcow2 -o extended_l2=off x 1M
create -f qcow2 -o foo=bar,cluster_size=4k x 1M
create -f qcow2 -o cluster_size=4k, x 1M
create -f qcow2 -o encryption=off x 1M
create -f qcow2 -o encryption=xx x 1M
create -f qcow2 -o data_file_raw=off x 1M
create -f qcow2 -o nocow=on x 1M
create -f qcow2 -o extent_size_hint=64k x 1M
create -f qcow2 -b base -F qcow2 x
create -f qcow2 -b base -F qcow2 x 8M
create -f qcow2 -b base -F qcow2 x 1M
create -f qcow2 -b base x
create -f qcow2 -b base -F foo x
create -f qcow2 -b base -F '' x
create -f qcow2 -b base -F raw x
create -f qcow2 -b raw -F raw x
create -f qcow2 -b odd -F raw x
create -f qcow2 -b empty -F raw x
create -f qcow2 -b raw -F qcow2 x
create -f qcow2 -b missing -F qcow2 x
create -f qcow2 -b missing -F qcow2 x 1M
create -f qcow2 -b missing -F raw x
create -f qcow2 -b missing x 1M
create -f qcow2 -b missing -u x 1M
create -f qcow2 -b missing -F raw -u x 1M
create -f qcow2 -b missing -F raw -u x
create -f qcow2 -b base -u -F qcow2 x
create -f qcow2 -b '' x 1M
create -f qcow2 -b '' -F raw x 1M
create -f qcow2 -F raw x 1M
create -f qcow2 -b base -F qcow2 base
create -f qcow2 -b ./base -F qcow2 base
create -f qcow2 -b ../base -F qcow2 dir/x
create -f qcow2 -b base -F qcow2 dir/x
create -f qcow2 -b dir/o -F qcow2 x
create -f qcow2 -b file:base -F qcow2 x
create -f qcow2 -b foo:base -F qcow2 x
create -f qcow2 -b json:{} -F qcow2 x 1M
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"base"}}' -F qcow2 x
create -f qcow2 -b 'json:{"driver":"qcow2","file.filename":"base"}' x
create -f qcow2 -o backing_file=base,backing_fmt=qcow2 x
create -f qcow2 -o backing_file=base x
create -f qcow2 -o backing_file=base -b mid -F qcow2 x
create -f qcow2 -o backing_file=base,backing_fmt=qcow2 x 9M
create -f qcow2 -o backing_fmt=raw x 1M
create -f qcow2 -b orphan -F qcow2 x
create -f qcow2 -b top -F qcow2 -o cluster_size=4k x
create -f qcow2 -b base -F qcow2 -o preallocation=metadata x
create -f qcow2 -b base -F qcow2 -o preallocation=full x
create -f raw -b base x 1M
create -f raw -b base -F qcow2 x 1M
create -f raw -F qcow2 x 1M
create -f raw raw 1M
create -f raw top 1M
create -f qcow2 raw 1M
create -f qcow2 top 1M
create no/dir 1M
create dir 1M
create -f qcow2 dir 1M
create -f qcow2 no/dir 1M
create file:x 1M
create foo:x 1M
create -f qcow2 file:x 1M
create nbd://localhost:1/x 1M
create null-co:// 1M
create 'json:{"driver":"file","filename":"x"}' 1M
create ./a:b 1M
create with,comma 1M
create -f qcow2 with,comma 1M
create -f qcow2 'a b' 1M
create -f qcow2 -b 'a b' -u -F raw x 1M
create -f qcow2 -o backing_file=a,,b -u -o backing_fmt=raw x 1M
create -o help
create -f raw -o help
create -f qcow2 -o help
create -f foo -o help
create -f qcow2 -o help x
create -f qcow2 -o cluster_size=4k,help x 1M
create -f qcow2 -o ? x
create -u x 1M
create -- x 1M
create x -- 1M
create x 1M -f qcow2
create -p x 1M
create -U x 1M
create --image-opts x 1M
create -h
create --help
'''

INFO = r'''
info
info raw
info odd
info empty
info base
info mid
info top
info onraw
info old
info tiny
info pre
info compressed
info orphan
info leaky
info broken
info garbage
info snap
info dir/o
info dir
info missing
info ''
info raw raw
info -f raw raw
info -f raw base
info -f qcow2 raw
info -f qcow2 base
info -f foo raw
info -f file raw
info -U base
info -u base
info -q base
info -p base
info --force-share base
info --format qcow2 base
info --output=human base
info --output human base
info --output=xx base
info --output= base
info --output
info --outp=human base
info --backing-chain raw
info --backing-chain top
info --backing-chain onraw
info --backing-chain orphan
info --backing-chain -U top
info --backing-chain -f qcow2 top
info --backing-chain -f raw top
info --backing-chain dir/o
info --image-opts driver=qcow2,file.filename=top
info --image-opts driver=qcow2,file.driver=file,file.filename=top
info --image-opts --backing-chain driver=qcow2,file.filename=top
info --image-opts file.filename=top
info --image-opts filename=top
info --image-opts driver=raw,file.filename=raw,offset=1M,size=64k
info --image-opts driver=raw,file.filename=raw,offset=1M,size=8M
info --image-opts driver=raw,file.filename=raw,size=100
info --image-opts driver=file,filename=raw
info --image-opts driver=null-co,size=1M
info --image-opts driver=null-co,size=x
info --image-opts driver=foo
info --image-opts driver=qcow2
info --image-opts driver=qcow2,file.filename=missing
info --image-opts driver=qcow2,file.filename=raw
info --image-opts driver=qcow2,file.filename=top,foo=bar
info --image-opts driver=qcow2,file.filename=top,file.foo=bar
info --image-opts driver=qcow2,file.filename=top,lazy-refcounts=on
info --image-opts driver=qcow2,file.filename=top,lazy-refcounts=xx
info --image-opts driver=qcow2,file.filename=top,backing.driver=raw
info --image-opts driver=qcow2,file.filename=top,backing.file.filename=base
info --image-opts driver=qcow2,file.filename=top,backing=base
info --image-opts driver=qcow2,file=top
info --image-opts driver=qcow2,file.filename=orphan
info --backing-chain loop
info loop
info --backing-chain onjson
info --backing-chain --output=json onjson#json
info --image-opts driver=qcow2
info --image-opts driver=raw,file.driver=raw,file.file.filename=raw
info --image-opts driver=qcow2,file.filename=base,read-only=on
info --image-opts driver=qcow2,file.filename=base,node-name=n
info --image-opts driver=qcow2,file.filename=base,node-name=1n
info --image-opts driver=qcow2,file.filename=base,discard=unmap
info --image-opts driver=qcow2,file.filename=base,discard=foo
info --image-opts driver=qcow2,file.filename=base,detect-zeroes=foo
info --image-opts driver=qcow2,file.filename=base,cache.direct=xx
info --image-opts driver=blkdebug,image.driver=qcow2,image.file.filename=base
info --image-opts ''
info --image-opts top
info --image-opts =
info --image-opts -f qcow2 driver=qcow2,file.filename=top
info file:top
info foo:top
info ./top
info 'json:{"driver":"qcow2","file":{"driver":"file","filename":"base"}}'
info 'json:{"driver":"qcow2","file.filename":"base"}'
info 'json:{"driver":"qcow2","file.driver":"file","file.filename":"base"}'
info 'json:{"file":{"driver":"file","filename":"base"}}'
info 'json:{"driver":"raw","offset":"512","file.filename":"raw"}'
info 'json:{"driver":"raw","offset":512,"file.filename":"raw"}'
info 'json:{"driver":"null-co","size":1048576}'
info 'json:{"driver":"null-co","size":"1M"}'
info 'json:{}'
info 'json:'
info 'json:{'
info 'json:[]'
info 'json:{"driver":"foo"}'
info 'json:{"driver":5}'
info 'json:{"driver":"qcow2","file.filename":"base","foo":1}'
info 'json:{"driver":"qcow2","file":"nonode"}'
info 'json:{"driver":"qcow2"}'
info -f qcow2 'json:{"driver":"raw","file.filename":"base"}'
info nbd://localhost:1/x
info nbd:localhost:1
info nbd+unix:///x?socket=nosock
info nbd+unix:///x
info null-co://
info blkdebug::base
info blkdebug:missing:base
info fat:dir
info http://x
info -h
info --help
info -Z base
info --
info -- base
info --object secret,id=s,data=x base
'''

CHECK = r'''
check
check raw
check -f raw raw
check base
check -q base
check top
check mid
check old
check tiny
check pre
check compressed
check orphan
check leaky
check -q leaky
check -f qcow2 leaky
check broken
check -q broken
check high
check uncounted
check --output=json uncounted#json
check -r leaks uncounted
check -r all uncounted
check -r leaks high
check -r all high
check garbage
check missing
check dir
check empty
check snap
check -r leaks leaky
check -r all leaky
check -r foo leaky
check -r
check -r leaks broken
check -r all broken
check -q -r all broken
check -r all base
check -r leaks base
check -r all raw
check -r all snap
check --repair=all leaky
check -U base
check -U leaky
check -U -r all leaky
check -T none base
check -T writeback base
check -T unsafe -r all leaky
check -T xx base
check -t none base
check --output=human base
check --output=xx base
check -f foo base
check base base
check -p base
check -F qcow2 base
check --image-opts driver=qcow2,file.filename=base
check --image-opts driver=qcow2,file.filename=leaky -r all
check --image-opts driver=raw,file.filename=base
check 'json:{"driver":"qcow2","file.filename":"leaky"}'
check -h
'''

COMPARE = r'''
compare
compare raw
compare raw raw raw
compare -f raw -F raw raw raw
compare -f raw -F raw raw raw2
compare -q -f raw -F raw raw raw2
compare -s -f raw -F raw raw raw2
compare -p -f raw -F raw raw raw
compare -p -f raw -F raw raw raw2
compare -f raw -F raw raw short
compare -f raw -F raw short raw
compare -s -f raw -F raw short raw
compare -s -f raw -F raw raw short
compare -f raw -F raw odd odd
compare -f raw -F raw odd raw
compare -f raw -F raw empty empty
compare -f raw -F raw empty raw
compare -f raw -F raw empty odd
compare -s -f raw -F raw empty odd
compare raw raw
compare base base
compare base mid
compare mid top
compare top mid
compare -s top top
compare -s base compressed
compare base compressed
compare -s base pre
compare pre raw
compare -f qcow2 base base
compare -f qcow2 -F raw base raw
compare -F qcow2 -f raw raw onraw
compare -s -F qcow2 -f raw raw onraw
compare orphan base
compare base orphan
compare missing base
compare base missing
compare missing missing
compare -f foo base base
compare -F foo base base
compare -f raw base base
compare -f qcow2 raw base
compare -T none base base
compare -T xx base base
compare -T none -f raw -F raw raw raw
compare -U base base
compare -U -s old old
compare -s old base
compare tiny tiny
compare -s tiny pre
compare --image-opts driver=qcow2,file.filename=base driver=qcow2,file.filename=mid
compare --image-opts driver=qcow2,file.filename=base driver=qcow2,file.filename=base
compare --image-opts driver=null-co,size=4M,read-zeroes=on driver=qcow2,file.filename=base
compare --image-opts driver=null-co,size=4M,read-zeroes=on driver=null-co,size=4M,read-zeroes=on
compare --image-opts driver=null-co,size=4M,read-zeroes=on driver=null-co,size=5M,read-zeroes=on
compare --image-opts -f qcow2 driver=qcow2,file.filename=base driver=qcow2,file.filename=mid
compare --image-opts base base
compare --image-opts driver=foo base
compare -Z base base
compare -h
compare dir base
compare --image-opts @debug@fail driver=raw,file.filename=raw
compare --image-opts driver=raw,file.filename=raw @debug@fail@type=read
compare --image-opts @debug@fail@sector@type=read driver=raw,file.filename=raw
compare --image-opts @debug@fail@type=block-status driver=raw,file.filename=raw
'''

CONVERT = r'''
convert
convert raw
convert raw x
convert -f raw raw x
convert -f raw -O raw raw x
convert -f raw -O qcow2 raw x
convert -f raw odd x
convert -f raw -O qcow2 odd x
convert -f raw empty x
convert -f raw -O qcow2 empty x
convert base x
convert top x
convert mid x
convert -O qcow2 top x
convert -O qcow2 compressed x
convert compressed x
convert orphan x
convert leaky x
convert pre x
convert -O qcow2 pre x
convert snap x
convert -l one snap x
convert -l two snap x
convert -l snapshot.name=one snap x
convert -s one snap x
convert missing x
convert missing raw x
convert raw missing x
convert -f foo raw x
convert -f raw -O foo raw x
convert -f raw -O file raw x
convert -f raw -O '' raw x
convert -f raw raw raw
convert -f raw raw2 raw
convert -f raw raw ./raw
convert -f raw raw raw2 x
convert -f raw raw odd x
convert -f raw odd raw x
convert -f raw -O qcow2 odd raw x
convert -f raw raw no/dir
convert -f raw raw dir
convert -f raw raw dir/x
convert -f raw raw file:x
convert -f raw raw foo:x
convert -f raw -n raw x
convert -f raw -n -O raw raw raw2
convert -f raw -n raw raw2
convert -f raw -n raw short
convert -f raw -n short raw2
convert -f raw -n -O qcow2 raw pre
convert -f raw -n -O qcow2 raw base
convert -f raw -n -O qcow2 short top
convert -n -O qcow2 base mid
convert -n -O qcow2 top base
convert -n --target-is-zero -f raw -O qcow2 raw old
convert --target-is-zero -f raw raw x
convert -n --target-is-zero -f raw raw raw2
convert -n --target-is-zero -B base -O qcow2 raw old
convert -n -o size=1M -f raw raw raw2
convert -n -B base -O qcow2 base mid
convert -n -c -O qcow2 base mid
convert -n -l one snap raw
convert -n -f raw raw missing/x
convert -f raw -S 0 raw x
convert -f raw -S 0 -O qcow2 raw x
convert -f raw -S 4k raw x
convert -f raw -S 64k -O qcow2 raw x
convert -f raw -S 1M raw x
convert -f raw -S 100 raw x
convert -f raw -S 512 raw x
convert -f raw -S 513 raw x
convert -f raw -S x raw x
convert -f raw -S -1 raw x
convert -f raw -S 4G raw x
convert -f raw -S '' raw x
convert -f raw -m 1 raw x
convert -f raw -m 16 raw x
convert -f raw -m 17 raw x
convert -f raw -m 0 raw x
convert -f raw -m x raw x
convert -f raw -m -1 raw x
convert -f raw -m '' raw x
convert -f raw -m 1x raw x
convert -f raw -W raw x
convert -f raw -W -m 16 -O qcow2 raw x
convert -f raw -W -m 1 -O qcow2 raw x
convert -f raw -W -c -O qcow2 raw x
convert -f raw -C raw x
convert -f raw -C -S 4k raw x
convert -f raw -C -c -O qcow2 raw x
convert -C -O qcow2 top x
convert -f raw --salvage raw x
convert -f raw --salvage -C raw x
convert -f raw -c raw x
convert -f raw -c -O qcow2 raw x
convert -c -O qcow2 base x
convert -c -O qcow2 -o cluster_size=4k base x
convert -f raw -r 100M raw x
convert -f raw -r 0 raw x
convert -f raw -r x raw x
convert -f raw -r -1 raw x
convert -f raw -t none raw x
convert -f raw -t writeback raw x
convert -f raw -t writethrough raw x
convert -f raw -t directsync -O qcow2 raw x
convert -f raw -t unsafe raw x
convert -f raw -t off raw x
convert -f raw -t xx raw x
convert -f raw -T none raw x
convert -f raw -T xx raw x
convert -f raw -T unsafe raw x
convert -f raw -p raw x
convert -f raw -p -O qcow2 raw x
convert -q -p -f raw raw x
convert -p -f raw empty x
convert -q -f raw raw x
convert -U base x
convert -f raw -B base raw x
convert -f raw -O qcow2 -B base raw x
convert -O qcow2 -B base -F qcow2 mid x
convert -O qcow2 -b base -F qcow2 mid x
convert -O qcow2 -B base mid x
convert -O qcow2 -F qcow2 mid x
convert -O qcow2 -B base -F foo mid x
convert -O qcow2 -B mid -F qcow2 top x
convert -O qcow2 -B base -F qcow2 top x
convert -O qcow2 -B missing -F qcow2 top x
convert -O qcow2 -B short -F raw top x
convert -O raw -B base -F qcow2 mid x
convert -O qcow2 -o backing_file=base,backing_fmt=qcow2 mid x
convert -O qcow2 -o backing_file=base mid x
convert -O qcow2 -o backing_file=base -B base mid x
convert -O qcow2 -B base -F qcow2 -f raw raw raw2 x
convert -O qcow2 -o cluster_size=4k top x
convert -O qcow2 -o compat=0.10 top x
convert -O qcow2 -o lazy_refcounts=on,refcount_bits=8 top x
convert -O qcow2 -o preallocation=metadata top x
convert -O qcow2 -o preallocation=full top x
convert -O qcow2 -o preallocation=xx top x
convert -f raw -o preallocation=full raw x
convert -f raw -o preallocation=falloc raw x
convert -f raw -o size=8M raw x
convert -f raw -o size=1M raw x
convert -f raw -O qcow2 -o size=8M raw x
convert -f raw -o foo=bar raw x
convert -f raw -o cluster_size=4k raw x
convert -O qcow2 -o help
convert -O qcow2 -o help base x
convert -O foo -o help
convert -o help
convert --image-opts driver=qcow2,file.filename=top x
convert --image-opts driver=raw,file.filename=raw,offset=512k x
convert --image-opts driver=raw,offset=512,size=4k,file.filename=raw -O qcow2 x
convert --image-opts -f qcow2 driver=qcow2,file.filename=top x
convert --image-opts top x
convert --target-image-opts -n -f raw raw driver=raw,file.filename=raw2
convert --target-image-opts -f raw raw driver=raw,file.filename=raw2
convert --target-image-opts -n -O raw -f raw raw driver=raw,file.filename=raw2
convert --target-image-opts -n -f raw raw driver=qcow2,file.filename=base
convert --target-image-opts -n -f raw raw driver=null-co,size=4M
convert --target-image-opts -n -f raw raw driver=foo
convert --target-image-opts -n -f raw raw driver=qcow2,file.filename=missing
convert --bitmaps -O qcow2 base x
convert --bitmaps -O raw base x
convert --skip-broken-bitmaps -O qcow2 base x
convert --bitmaps -f raw -O qcow2 raw x
convert 'json:{"driver":"qcow2","file.filename":"top"}' x
convert --image-opts @debug@fail@sector@type=read x
convert --salvage --image-opts @debug@fail@sector@type=read x
convert -q --salvage --image-opts @debug@fail@sector@type=read x
convert -n --target-image-opts -f raw raw @debug2@fail@type=write
convert -f raw -Z raw x
convert -h
'''

MAP = r'''
map
map raw
map -f raw raw
map -f raw odd
map -f raw empty
map base
map mid
map top
map onraw
map old
map tiny
map pre
map compressed
map orphan
map snap
map leaky
map missing
map dir
map raw raw
map -s 1M top
map -l 1M top
map -s 1M -l 2M top
map -s 3M -l 100M top
map -s 100M top
map -s 6M top
map -s 0 -l 0 top
map -s x top
map -l x top
map -s -1 top
map -l -1 top
map -s 1000 -l 1000 top
map -s 64k -l 100 base
map --start-offset=1M --max-length=1M top
map -U top
map -f foo top
map -f raw top
map --output=human top
map --output=json base
map --output=json mid
map --output=json top
map --output=json onraw
map --output=json -f raw raw
map --output=json -f raw odd
map --output=json -f raw empty
map --output=json old
map --output=json tiny
map --output=json pre
map --output=json compressed
map --output=json -s 1M -l 2M top
map --output=json -s 1000 -l 1000 top
map --output=json -s 100M top
map --output=json -s 6M top
map --output=json missing
map --output=json -f raw top
map --output=xx top
map --output=json --image-opts driver=qcow2,file.filename=top
map --output=json --image-opts driver=qcow2,file.filename=mid,backing.driver=qcow2,@under
map --output=json --image-opts driver=null-co,size=1M
map --output=json --image-opts driver=null-co,size=1M,read-zeroes=on
map --output=json --image-opts driver=raw,offset=512k,file.filename=raw
map --output=json --image-opts driver=raw,offset=512k,size=1M,file.filename=raw
map --output=json --image-opts driver=raw,offset=64k,file.driver=qcow2,file.file.filename=base
map --output=json --image-opts @debug
map --image-opts driver=raw,offset=512k,size=1M,file.filename=raw
map --image-opts driver=null-co,size=1M
map -q top
map -h
'''

RESIZE = r'''
resize
resize raw
resize -f raw raw 8M
resize -f raw raw +1M
resize -f raw raw -1M
resize -f raw raw 1M
resize -f raw --shrink raw 1M
resize -f raw --shrink raw -1M
resize --shrink -f raw raw -20M
resize --shrink -f raw raw 0
resize --shrink -f raw raw -4M
resize -f raw raw 4M
resize -f raw raw +0
resize -f raw raw x
resize -f raw raw +x
resize -f raw raw ''
resize -f raw raw +
resize -f raw raw 1.5
resize -f raw raw 4097k
resize -f raw raw +1
resize -f raw raw +1000
resize -f raw raw 9E
resize -f raw raw +9E
resize -f raw raw 7E
resize -f raw odd +1k
resize -f raw odd 3001
resize -f raw empty 1M
resize raw 8M
resize raw +1M
resize base 8M
resize base +1M
resize base +1
resize base 4M
resize base 1M
resize --shrink base 1M
resize --shrink base -1M
resize --shrink top 1M
resize top +1M
resize top 1E
resize tiny 1T
resize old +1M
resize pre +1M
resize snap +1M
resize snap 4M
resize --shrink snap 1M
resize orphan 8M
resize broken 8M
resize missing 8M
resize dir 8M
resize -q base 8M
resize -q -f raw raw 8M
resize -q base 1M
resize -f foo raw 8M
resize -f qcow2 raw 8M
resize --preallocation=off -f raw raw 8M
resize --preallocation=full -f raw raw 8M
resize --preallocation=falloc -f raw raw 8M
resize --preallocation=metadata -f raw raw 8M
resize --preallocation=foo -f raw raw 8M
resize --preallocation=full -f raw --shrink raw 1M
resize --preallocation=off -f raw --shrink raw 1M
resize --preallocation=metadata base 8M
resize --preallocation=full base 8M
resize --preallocation=falloc base 8M
resize --preallocation=metadata top 8M
resize --preallocation= base 8M
resize --preallocation
resize raw --shrink
resize --shrink raw
resize --image-opts driver=raw,file.filename=raw 8M
resize --image-opts driver=raw,file.filename=raw,size=1M 8M
resize --image-opts driver=qcow2,file.filename=base 8M
resize --image-opts driver=null-co 8M
resize --image-opts base 8M
resize raw 8M 9M
resize 8M raw
resize -U raw 8M
resize -p raw 8M
resize -h
'''

DD = r'''
dd
dd if=raw
dd of=x
dd if=raw of=x
dd -f raw if=raw of=x
dd -f raw -O raw if=raw of=x
dd -f raw -O qcow2 if=raw of=x
dd -f raw -O qcow2 bs=1M if=raw of=x
dd -f raw bs=1M count=1 if=raw of=x
dd -f raw bs=1M count=0 if=raw of=x
dd -f raw bs=1M skip=1 if=raw of=x
dd -f raw bs=1M skip=3 if=raw of=x
dd -f raw bs=1M skip=4 if=raw of=x
dd -f raw bs=1M skip=5 if=raw of=x
dd -f raw bs=1M skip=1 count=2 if=raw of=x
dd -f raw bs=1M count=100 if=raw of=x
dd -f raw bs=64k skip=3 count=5 if=raw of=x
dd -f raw bs=1000 count=7 if=raw of=x
dd -f raw bs=0 if=raw of=x
dd -f raw bs=x if=raw of=x
dd -f raw bs=-1 if=raw of=x
dd -f raw bs=4G if=raw of=x
dd -f raw bs= if=raw of=x
dd -f raw bs if=raw of=x
dd -f raw count=x if=raw of=x
dd -f raw count=-1 if=raw of=x
dd -f raw skip=x if=raw of=x
dd -f raw skip=-1 if=raw of=x
dd -f raw foo=1 if=raw of=x
dd -f raw conv=notrunc if=raw of=x
dd -f raw seek=1 if=raw of=x
dd -f raw obs=1 if=raw of=x
dd -f raw if=missing of=x
dd -f raw if=raw of=no/dir
dd -f foo if=raw of=x
dd -f raw -O foo if=raw of=x
dd if=top of=x bs=64k
dd -O qcow2 if=top of=x bs=64k
dd -U if=base of=x bs=1M
dd -f raw if=odd of=x bs=1k
dd -f raw if=empty of=x bs=1k
dd -f raw raw x
dd -f raw if=raw if=raw2 of=x bs=1M
dd -f raw if= of=x
dd -f raw if=raw of=
dd --image-opts if=driver=raw,file.filename=raw of=x bs=1M
dd --image-opts -f raw if=driver=raw,file.filename=raw of=x bs=1M
dd --image-opts if=raw of=x bs=1M
dd -f raw if=raw of=raw2 bs=1M count=1
dd -n -f raw if=raw of=x
dd -h
'''

BENCH = r'''
bench
bench -f raw raw
bench -c 100 -f raw raw
bench -c 100 -d 1 -f raw raw
bench -c 100 -d 2 -s 8k -S 16k -w -f raw raw
bench -c 100 -w --pattern 3 -d 4 --flush-interval 10 -f raw raw
bench -c 100 -w --pattern 3 -d 4 --flush-interval=3 -f raw raw
bench -c 100 -w -d 8 --flush-interval 10 --no-drain -f raw raw
bench -c 100 --flush-interval 10 -f raw raw
bench -c 100 -w --flush-interval 3 -d 4 -f raw raw
bench -c 100 --no-drain -f raw raw
bench -c 100 -o 4k -f raw raw
bench -c 100 -o 1 -f raw raw
bench -c 100 -o 100M -f raw raw
bench -c 100 -i threads -f raw raw
bench -c 100 -i io_uring -f raw raw
bench -c 100 -i native -f raw raw
bench -c 100 -i native -n -f raw raw
bench -c 100 -i foo -f raw raw
bench -c 100 -t foo -f raw raw
bench -c 100 -t none -f raw raw
bench -c 100 -t unsafe -w -f raw raw
bench -c 100 -n -f raw raw
bench -c 100 -w --pattern 300 -f raw raw
bench -c 100 -w --pattern x -f raw raw
bench -c 100 -w --pattern -1 -f raw raw
bench -c 100 --pattern 5 -f raw raw
bench -c 100 -s 20M -f raw raw
bench -c 100 -s 4M -f raw raw
bench -c 100 -s 0 -f raw raw
bench -c 100 -s x -f raw raw
bench -c 100 -S x -f raw raw
bench -c 100 -S 0 -f raw raw
bench -c 100 -d x -f raw raw
bench -c x -f raw raw
bench -c 0 -f raw raw
bench -c -1 -f raw raw
bench -c 1k -f raw raw
bench -c 100 -q -f raw raw
bench -c 100 -q -w -f raw raw
bench -c 100 -U base
bench -c 100 base
bench -c 100 -w base
bench -c 500 -w -s 3000 base
bench -c 100 -w top
bench -c 100 missing
bench -c 100 -f foo raw
bench -c 100 raw raw
bench -c 100 empty
bench -c 100 -f raw empty
bench -c 100 --image-opts driver=qcow2,file.filename=base
bench -c 100 --image-opts driver=null-co,size=1G
bench -c 100 -w --image-opts driver=null-co,size=1G
bench -c 100 -w --image-opts @debug@fail@type=write
bench -c 10 -w --flush-interval 5 --image-opts @debug@fail@type=flush
bench -h
'''

OTHER = r'''

foo
foo bar
-Z
--foo
-h
--help
-V
--version
help
-T
-T foo
--trace
-q
'''


def lines_of(group):
    for short, text in SHORT.items():
        group = group.replace(short, text)
    return group.strip('\n').split('\n')


def mask(text):
    """What is told about the program itself."""
    text = re.sub(r'disk size: .*', 'disk size: N', text)
    # How often progress is told hangs on the size of the pieces and on time.
    return re.sub(r'(    \([\d.]+/100%\)[\r\n]*)+', 'STEPS ', text).rstrip()


def help_mask(text):
    """Help texts are each program's own; that there is one is what counts."""
    return 'HELP' if re.search('usage|Usage', text) else text


def listed():
    for group in (CREATE, INFO, CHECK, COMPARE, CONVERT, MAP, RESIZE, DD, BENCH, OTHER):
        for line in lines_of(group):
            chosen = help_mask if re.search(r'(^| )(-h|--help)$', line) else mask
            yield f'img {line}', None, chosen
    for group, word in ((INFO, 'info'), (CHECK, 'check')):
        for line in lines_of(group):
            if '--output' not in line and not re.search(r' (-h|--help)$', line):
                yield f'img {line.replace(word, word + " --output=json", 1)}#json', None, None


ALL = 'out err status files'
NO_OPTION = r"Option '-.*' (\(.*\) )?is not supported"
EXCUSES = [
    # What is not there yet, refused by name.
    Excuse(' -c ', ALL, 'qcow2 does not write compressed clusters', NO_OPTION),
    Excuse(' -l ', ALL, 'no internal snapshots', NO_OPTION),
    Excuse('bitmaps', ALL, 'no persistent bitmaps', NO_OPTION),
    Excuse(r'^img (info|check|resize|convert).* snap\b', ALL,
           'internal snapshots are not listed, checked or resized with'),
    Excuse('extended_l2=on|compression_type=zstd', 'err', 'neither is supported, whatever compat'),
    Excuse('-o (help|.*,help|.?$|.? x)', 'out', 'options that are not supported are not listed'),
    Excuse('throttle-group|--object help', ALL, 'a tool takes no objects but secrets'),
    Excuse('info --output=json blkdebug:', 'out', 'the size on disk is that of the file below'),
    Excuse('fat:|http:', ALL, 'protocols that are not there', "Unknown protocol"),
    Excuse(r'-f nbd x', 'out err', 'nbd is no format of images'),
    Excuse('-V|--version', 'out', 'who wrote the program'),
    Excuse(r'^img (-T|--trace)', 'err status', 'no trace options before the command'),
    # Where ours is right.
    Excuse('offset=1M,size=8M', 'err', 'one blank between two words'),
    Excuse('size=x', 'err status', 'QEMU aborts', "Parameter 'size'"),
    Excuse('bench.* empty', 'out err status', 'QEMU divides by zero', 'Failed request'),
    Excuse('bench -c 100 -s 0 ', 'out err status', 'requests of no bytes measure nothing'),
    Excuse('skip=(1 count=2|3 count=5)', 'files', 'count is of blocks to copy, as in POSIX dd'),
    Excuse('--target-is-zero -B', 'status files', 'QEMU reports the error and exits with 0'),
    Excuse('-O file', ALL, 'file is no format', "Could not open 'x'"),
    Excuse('convert -O qcow2 -b base', ALL, '-b as in later versions'),
    Excuse('resize -(h|-preallocation)$', 'out err status', 'help, and what the only word lacks'),
    Excuse('9223372036854775807', 'err files', 'no file is left when the size is refused'),
    Excuse("create '' 1M", 'err', 'one colon without a name before it'),
    Excuse("-f qcow2 'json:.\"driver\":\"raw\"", ALL, 'two formats are a contradiction',
           'Driver specified twice'),
    # The same said otherwise.
    Excuse('backing.(driver|file)|backing=base', 'err', 'backing options are options of qcow2'),
    Excuse('dd -f raw -O foo', 'err', 'the format is named'),
    Excuse('--image-opts (if=raw|filename=top|top|base|=)', 'out err status',
           'a file name among the options of no driver is probed; a bare word is no node'),
    Excuse("json:'|json:{'|json:\\[|\"driver\":5", 'err', 'words of another JSON parser'),
    Excuse('nbd.unix:///x$|nbd.unix:///x#json', 'err', 'what is missing is named'),
    Excuse(r'^img info .*(offset|driver=null-co|driver":"(null-co|raw))', 'out',
           'order and types of the members of a json: name'),
    Excuse('driver=raw,file.driver=raw', 'out', 'a raw node on a raw node adds nothing to a name'),
    Excuse('info .*driver=blkdebug,', 'out', 'info looks through filters'),
    Excuse('compare -s base compressed', 'out status',
           'where data are stored is no part of what is compared'),
    # To be had.
    Excuse('map --output=json compressed', 'out', '"compressed" as in 8.2'),
    Excuse('id=1s', ALL, 'the id of a secret is not looked at'),
]


RAW = ['raw', 'raw2', 'odd', 'short']
QCOW2 = ['base', 'mid', 'top', 'onraw', 'old', 'tiny', 'pre']


class Random:
    """Options in combinations that nobody has listed."""

    def __init__(self, rng):
        self.rng = rng

    def some(self, *options):
        """Each with a chance of its own."""
        return [o for o in options if self.rng.random() < .3]

    def image(self):
        name = self.rng.choice(RAW + QCOW2)
        return name, 'raw' if name in RAW else 'qcow2'

    def size(self):
        return self.rng.choice(['1', '512', '1000', '64k', '1M', '3M', '8M', '1.5M', '0', 'x'])

    def creating(self):
        r = self.rng
        return ','.join(self.some(
            'cluster_size=' + r.choice(['512', '4k', '64k', '2M', '3k']),
            'compat=' + r.choice(['0.10', '1.1']), 'lazy_refcounts=' + r.choice(['on', 'off']),
            'refcount_bits=' + r.choice(['1', '16', '64']),
            'preallocation=' + r.choice(['off', 'metadata', 'falloc', 'full'])))

    def create(self):
        fmt, options = self.rng.choice(['raw', 'qcow2']), self.creating()
        words = ['create', '-f', fmt] + (['-o', options] if options and fmt == 'qcow2' else [])
        if fmt == 'qcow2' and self.rng.random() < .4:
            name, backing = self.image()
            words += ['-b', name] + self.some('-F ' + backing)
        return words + ['x'] + self.some(self.size())

    def convert(self):
        name, fmt = self.image()
        target, options = self.rng.choice(['raw', 'qcow2']), self.creating()
        return (['convert', '-f', fmt, '-O', target] +
                (['-o', options] if options and target == 'qcow2' else []) +
                self.some('-S ' + self.rng.choice(['0', '4k', '64k']), '-W', '-q',
                          '-m ' + self.rng.choice(['1', '3', '16']), '-t writeback', '-T none') +
                [name, 'x'])

    def resize(self):
        name, fmt = self.image()
        return (['resize', '-f', fmt] + self.some('--shrink', '-q', '--preallocation=falloc') +
                [name, self.rng.choice(['', '+', '-']) + self.size()])

    def compare(self):
        (a, fmt_a), (b, fmt_b) = self.image(), self.image()
        return ['compare', '-f', fmt_a, '-F', fmt_b] + self.some('-q', '-p') + [a, b]

    def check(self):
        return ['check'] + self.some('-r all', '-r leaks', '-q') + [self.rng.choice(
            QCOW2 + ['leaky', 'broken', 'high'])]

    def case(self):
        kind = self.rng.choice([self.create, self.convert, self.resize, self.compare, self.check])
        return 'img ' + ' '.join(kind()), None, mask


if __name__ == '__main__':
    sys.exit(run('test-diff-img', __doc__, images, listed(), lambda rng: Random(rng).case(),
                 EXCUSES))
