# SPDX-License-Identifier: GPL-2.0-or-later
"""tandem-io against qemu-io: listed commands and options, and random chains of commands."""

import re
import shlex
import subprocess
import sys

from difftool import Excuse, run


def images(top):
    def img(*argv):
        subprocess.run(['qemu-img', *argv], cwd=top, check=True, stdout=subprocess.DEVNULL)

    def io(name, fmt, *commands):
        words = [w for c in commands for w in ('-c', c)]
        subprocess.run(['qemu-io', '-f', fmt, *words, name], cwd=top, check=True,
                       stdout=subprocess.DEVNULL)

    img('create', '-q', '-f', 'raw', 'raw', '4M')
    io('raw', 'raw', 'write -P 7 0 1M', 'write -P 8 3M 100k')
    img('create', '-q', '-f', 'qcow2', 'base', '4M')
    io('base', 'qcow2', 'write -P 1 0 64k', 'write -P 2 2M 100k')
    img('create', '-q', '-f', 'qcow2', '-b', 'base', '-F', 'qcow2', 'top', '6M')
    io('top', 'qcow2', 'write -P 4 5M 100k', 'write -z 0 4k')
    img('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10,cluster_size=4k', 'old', '4M')
    img('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'lazy', '4M')
    img('create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'dirty', '4M')
    killed = subprocess.run(['qemu-io', '-c', 'write -P 5 0 256k', '-c', 'sigraise 9', 'dirty'],
                            cwd=top, check=False, stdout=subprocess.DEVNULL)
    assert killed.returncode == -9
    with open(f'{top}/rules', 'w', encoding='ascii') as f:
        f.write('[inject-error]\nevent = "read_aio"\nerrno = "28"\nonce = "on"\n')
    with open(f'{top}/odd', 'wb') as f:
        f.write(b'abc' * 1000)
    with open(f'{top}/empty', 'wb') as f:
        pass
    with open(f'{top}/pattern', 'wb') as f:
        f.write(b'hello\n')


# One command each, on raw and on qcow2.
COMMANDS = r'''
read
read 0
read 0 512
read 0 64k
read 0 0
read 1 1
read 1000 1000
read 0 1 2
read a b
read 0 b
read -Z 0 1
read 0 -5
read -5 1
read 0 3G
read 0 2147483136
read 0 4M
read 0 5M
read 4M 0
read 4M 1
read 100M 1
read 9e 1
read 0 9e
read 7e 1
read 0 99999999999999999999
read 0x200 0x200
read 1k 1K
read 1.5k 512
read 1M 64k
read 0 1b
read -P 7 0 1k
read -P 8 0 1k
read -P 0x7 0 1k
read -P 300 0 1k
read -P -1 0 1k
read -P x 0 1k
read -P
read -P 7 -s 10 -l 20 0 1k
read -P 7 -s 10 0 1k
read -P 7 -l 20 0 1k
read -P 7 -s 1k 0 1k
read -P 7 -s 2k 0 1k
read -P 7 -l 2k 0 1k
read -P 7 -s x 0 1k
read -P 7 -l x 0 1k
read -P 7 -s -1 0 1k
read -P 0 3145720 16
read -s 10 0 1k
read -l 10 0 1k
read -v 0 16
read -v 0 40
read -v 100 3
read -vq 0 16
read -q 0 512
read -q -P 9 0 512
read -C 0 512
read -Cq 0 512
read -p 0 512
read -b 0 512
read -b 512 512
read -r 0 512
read -r -v 0 16
r 0 512
readv 0 512
readv 0 512 1k 3
readv 0
readv
readv x 512
readv 0 x
readv 0 512 x
readv -P 7 0 512 512
readv -P 9 0 512 512
readv -P x 0 512
readv -v 0 8 8
readv -C 0 512
readv -q 0 512
readv -Z 0 512
readv 0 0
readv 0 0 512
readv 3M 2M
readv -r 0 512
write
write 0
write 0 512
write 0 0
write 1 1
write 1000 1000
write 0 b
write a 512
write 0 -5
write -5 1
write 0 3G
write 4M 1
write 4M 512
write 100M 512
write 4095k 2k
write -P 5 0 512
write -P 300 0 512
write -P -1 0 512
write -P x 0 512
write -z 0 64k
write -z 0 4M
write -z 1 1
write -z 0 0
write -z 0 3G
write -z 100M 512
write -z -u 0 64k
write -zu 0 64k
write -u 0 64k
write -z -n 0 64k
write -n 0 64k
write -z -u -n 0 64k
write -z -P 1 0 512
write -f 0 512
write -z -f 0 512
write -f -b 0 512
write -f -c 0 64k
write -b 0 512
write -b -z 0 512
write -b -c 0 512
write -c 0 512
write -c -z 0 64k
write -c -P 3 64k 64k
write -s pattern 0 1k
write -s missing 0 1k
write -s empty 0 1k
write -s pattern -P 3 0 1k
write -s pattern -z 0 1k
write -s . 0 1k
write -q 0 512
write -C 0 512
write -Z 0 512
write -r 0 512
write -p 0 512
w 0 512
writev
writev 0
writev 0 512
writev 0 512 1k 3
writev 0 512 x
writev -P 5 0 512 512
writev -P x 0 512
writev -f 0 512
writev -q 0 512
writev -C 0 512
writev -Q 0 512
writev 4M 512
writev -z 0 512
writev -r 0 512
aio_read 0 512
aio_read 0
aio_read
aio_read x 512
aio_read 0 x
aio_read -P 7 0 512
aio_read -P 9 0 512
aio_read -P x 0 512
aio_read -v 0 16
aio_read -q 0 512
aio_read -C 0 512
aio_read -i 0 512
aio_read -Z 0 512
aio_read 100M 512
aio_read 0 512 512
aio_write 0 512
aio_write 0
aio_write
aio_write -P 5 0 512
aio_write -P x 0 512
aio_write -z 0 64k
aio_write -z -u 0 64k
aio_write -z 0 512 512
aio_write -z -P 5 0 512
aio_write -u 0 512
aio_write -f 0 512
aio_write -i 0 512
aio_write -q 0 512
aio_write -C 0 512
aio_write -Z 0 512
aio_write -z -n 0 512
aio_write 100M 512
aio_flush
aio_flush x
multiwrite 0 512
flush
flush x
f
discard 0 64k
discard 0 4M
discard 0 1
discard 1 1
discard 0 0
discard
discard 0
discard x 512
discard 0 x
discard 0 3G
discard 100M 512
discard -q 0 64k
discard -C 0 64k
discard -Z 0 64k
discard 0 512 512
d 0 64k
length
length 3
l
info
info x
i
alloc
alloc 0
alloc 0 1
alloc 1000 1000
alloc 0 4M
alloc 1M 1M
alloc 4M
alloc 4M 1
alloc 100M
alloc 100M 512
alloc -5
alloc x
alloc 0 x
alloc 0 512 1
map
map x
truncate
truncate 8M
truncate 1M
truncate 5000
truncate x
truncate -m off 8M
truncate -m full 8M
truncate -m falloc 8M
truncate -m metadata 8M
truncate -m xx 8M
truncate -m full 1M
truncate -Z 8M
truncate 8M 9M
truncate -5
truncate 9E
t 8M
reopen
reopen -r
reopen -w
reopen -r -w
reopen -c none
reopen -c writeback
reopen -c writethrough
reopen -c unsafe
reopen -c directsync
reopen -c xx
reopen -c
reopen x
reopen -Z
reopen -o read-only=on
reopen -o read-only=xx
reopen -o foo=bar
reopen -o discard=unmap
reopen -o discard=xx
reopen -o cache.direct=on
reopen -o cache.direct=on -c none
reopen -o driver=foo
reopen -o driver=raw
reopen -o detect-zeroes=on
reopen -o detect-zeroes=xx
reopen -o
reopen -r -o read-only=off
reopen -w -o read-only=off
reopen -o lazy-refcounts=on
reopen -o node-name=x
reopen -o file=x
reopen -o read-only
reopen -r -r
reopen -c none -c unsafe
close
c
open
open raw
open -r
open -Z raw
open missing
quit
q
quit x
sleep
sleep 1
sleep x
sleep 1 2
sleep -1
sigraise
sigraise xx
sigraise 0
sigraise 99999
sigraise 1 2
abort 1
help
help read
help foo
help read write
?
? read
foo
foo bar
Read 0 512
#read 0 512
""
" "
"  read   0   512  "
wait_break
break
break A
break write_aio A
break foo A
resume A
resume
remove_break A
remove_break
zone_report 0 1
'''

HELPS = ['read', 'readv', 'write', 'writev', 'aio_read', 'aio_write', 'aio_flush', 'flush',
         'discard', 'length', 'info', 'alloc', 'map', 'truncate', 'reopen', 'open', 'close', 'quit',
         'sleep', 'sigraise', 'abort', 'help', 'break', 'remove_break', 'resume', 'wait_break']

CHAINS = r'''
io
io missing
io dir/missing
io .
io raw -c length
io -c length
io -c quit
io -c length -c length raw
io -c length raw base
io -f raw -c length raw
io -f raw -c length odd
io -f raw -c map odd
io -f raw -c 'read -v 2990 20' odd
io -f raw -c 'write 2990 20' odd
io -f raw -c 'write 3000 72' odd
io -f raw -c 'write 3072 1' odd
io -f raw -c length empty
io -f raw -c map empty
io -f raw -c 'alloc 0 0' empty
io -f raw -c 'read 0 1' empty
io -f foo -c length raw
io -f qcow2 -c length raw
io -f qcow2 -c length base
io --format=qcow2 -c length base
io -f qcow2 -r -c length base
io -f qcow2 -r -c 'write 0 512' base
io -f qcow2 -r -c 'discard 0 64k' base
io -f qcow2 -r -c 'truncate 8M' base
io -f qcow2 -r -c flush base
io -f qcow2 -r -c 'aio_write 0 512' -c aio_flush base
io -f qcow2 -r -c 'reopen -w' -c 'write 0 512' base
io -f qcow2 -c 'reopen -r' -c 'write 0 512' -c 'reopen -w' -c 'write 0 512' base
io -f raw -r -c 'write 0 512' raw
io -f raw -r -c 'write -z 0 512' raw
io -f raw -r -c 'read 0 512' raw
io -f raw -n -c 'write 0 512' -c 'read -P 205 0 512' raw
io -f raw -n -c 'write 100 100' -c 'read -P 205 100 100' raw
io -f raw -t none -c 'write 100 100' raw
io -f raw -t writeback -c length raw
io -f raw -t writethrough -c 'write 0 512' raw
io -f raw -t directsync -c 'write 0 512' raw
io -f raw -t unsafe -c 'write 0 512' -c flush raw
io -f raw -t off -c length raw
io -f raw -t xx -c length raw
io -f raw --cache=xx -c length raw
io -f raw -d unmap -c 'discard 0 64k' -c 'map' raw
io -f raw -d ignore -c 'discard 0 64k' -c 'map' raw
io -f raw -d on -c 'discard 0 64k' -c 'map' raw
io -f raw -d off -c 'discard 0 64k' -c 'map' raw
io -f raw -d xx -c length raw
io -f qcow2 -d ignore -c 'discard 0 64k' -c 'map' -c 'read -P 1 0 64k' base
io -f qcow2 -d unmap -c 'discard 0 64k' -c 'map' -c 'read -P 0 0 64k' base
io -f qcow2 -c 'discard 0 64k' -c map -c 'read 0 64k' top
io -f qcow2 -c 'discard 2M 64k' -c map -c 'read -P 0 2M 64k' top
io -f raw -C -c length raw
io -f qcow2 -C -c 'read 0 512' -c map top
io -f raw -k -c length raw
io -f raw -k -n -c 'read 0 512' raw
io -f raw -i native -c length raw
io -f raw -i native -t none -c 'read 0 512' raw
io -f raw -i threads -c 'read 0 512' raw
io -f raw -i io_uring -c 'read 0 512' raw
io -f raw -i xx -c length raw
io -f raw --aio=threads -c 'read 0 512' raw
io -f raw -m -c 'read 0 512' raw
io -f raw -U -c 'read 0 512' raw
io -f raw -U -r -c 'read 0 512' raw
io -f raw -rU -c 'read 0 512' raw
io -f raw -s -c 'write 0 512' -c 'read -P 205 0 512' raw
io -f qcow2 -s -c 'write 0 512' -c 'read -P 205 0 512' base
io --image-opts -c length driver=qcow2,file.filename=base
io --image-opts -c length base
io --image-opts -f qcow2 -c length driver=qcow2,file.filename=base
io --image-opts -c length driver=null-co,size=1M
io --image-opts -c 'read 0 512' driver=null-co,size=1M,read-zeroes=on
io --image-opts -c length driver=foo
io --image-opts -c 'read 0 512' driver=raw,offset=1M,size=64k,file.filename=raw
io --image-opts -c map driver=raw,offset=1M,size=64k,file.filename=raw
io --image-opts -c 'write 0 128k' driver=raw,offset=1M,size=64k,file.filename=raw
io --image-opts -c length driver=qcow2,file.filename=base,read-only=on
io --image-opts -c 'write 0 512' driver=qcow2,file.filename=base,read-only=on
io -r --image-opts -c 'write 0 512' driver=qcow2,file.filename=base,read-only=off
io --image-opts -c length ''
io -c length 'json:{"driver":"qcow2","file.filename":"base"}'
io -c length 'json:{}'
io -c length file:raw
io -c length foo:raw
io -c length null-co://
io -c length nbd://localhost:1
io --object secret,id=s,data=x -c length base
io --object foo -c length base
io -Z
io --foo raw
io -c
io -f
io -V
io --version
io -h
io --help
io -T foo -c length base
io -f raw -c close -c length raw
io -f raw -c close -c 'open -r raw' -c length -c 'write 0 512' raw
io -f raw -c close -c 'open raw' -c length raw
io -f raw -c 'open raw' raw
io -f raw -c close -c 'open missing' -c length raw
io -f raw -c close -c 'open -o driver=raw,file.filename=raw' -c length raw
io -f raw -c close -c 'open -o driver=qcow2 base' -c length raw
io -f raw -c close -c 'open -o driver=foo base' -c length raw
io -f raw -c close -c 'open -o foo=bar base' -c length raw
io -f raw -c close -c 'open -t xx raw' raw
io -f raw -c close -c 'open -t none raw' -c 'read 0 512' raw
io -f raw -c close -c 'open -n raw' -c 'read 0 512' raw
io -f raw -c close -c 'open -d xx raw' raw
io -f raw -c close -c 'open -i xx raw' raw
io -f raw -c close -c 'open -s raw' -c 'write 0 512' raw
io -f raw -c close -c 'open -U raw' -c 'read 0 512' raw
io -f raw -c close -c 'open -rU raw' -c 'read 0 512' raw
io -f raw -c close -c 'open -k raw' -c 'read 0 512' raw
io -f raw -c close -c 'open -C raw' -c 'read 0 512' raw
io -f raw -c close -c 'open a b' raw
io -f raw -c close -c 'open' raw
io -f raw -c close -c close raw
io -f raw -c close -c flush -c 'read 0 1' -c map -c 'alloc 0' -c info -c 'truncate 1' raw
io -f raw -c quit -c length raw
io -f raw -c foo -c length raw
io -f raw -c 'read 100M 1' -c length raw
io -f raw -c length -c 'read -P 3 0 1' raw
io -f raw -c 'aio_read -P 3 0 512' -c aio_flush raw
io -f raw -c 'aio_read 100M 512' -c aio_flush raw
io -f raw -c 'aio_write -P 3 0 512' -c aio_flush -c 'aio_read -P 3 0 512' -c aio_flush raw
io -f raw -c 'aio_write -P 3 0 512' raw
io -f raw -c 'aio_write -z -u 0 512k' -c aio_flush -c map raw
io -f raw -c 'aio_write -f 0 512' -c aio_flush raw
io -f raw -c 'aio_read -v 0 32' -c aio_flush raw
io -f raw -c 'aio_read -C 0 512' -c aio_flush raw
io -f qcow2 -c 'write -c -P 9 64k 64k' -c 'read -P 9 64k 64k' -c map base
io -f qcow2 -c 'write -b -P 9 0 512' -c 'read -b -P 9 0 512' base
io -f qcow2 -c 'write 0 512' -c 'truncate 2M' -c length -c 'truncate 8M' -c map base
io -f raw -c 'truncate 2M' -c length -c 'read 0 4M' -c 'truncate 8M' -c map raw
io -f raw -c 'truncate -m full 5M' -c map -c 'truncate -m falloc 6M' -c map raw
io -f raw -c 'truncate 1' -c length -c 'write -z 511 1' -c 'write 512 1' -c length raw
io -f raw -c 'truncate 65535' -c 'write 511 512' -c length -c 'read 65535 1' odd
io -f raw -c 'reopen -c none' -c 'reopen -w' -c 'read 0 512' odd
io -f raw -c 'reopen -c none' -c 'write 0 512' odd
io -f raw -c 'truncate 0' -c 'truncate 1' -c length raw
io -f qcow2 -c 'truncate 512' -c 'truncate 1M' -c 'read -v 504 16' base
io -f qcow2 -c 'truncate -m metadata 8M' -c map base
io -f qcow2 -c 'truncate -m full 8M' -c map base
io -f qcow2 -c 'alloc 0 6M' -c 'alloc 5M 1M' -c 'alloc 2M 1M' -c map top
io -f qcow2 -c 'alloc 3M 3M' -c 'alloc 64k 4M' top
io -f qcow2 -c 'alloc 0 8M' top
io -f qcow2 -c 'write -z -u 0 128k' -c map -c 'read -P 0 0 128k' base
io -f qcow2 -c 'write -z 100 64k' -c map base
io -f qcow2 -c 'write -z 0 64k' -c map old
io -f qcow2 -c 'discard 0 4M' -c map old
io -f raw -c 'write -z -u 0 1M' -c map raw
io -f raw -c 'write -z -n 0 1M' -c map raw
io -f raw -c 'discard 512 512' -c 'read -P 0 512 512' -c map raw
io -f qcow2 -c 'write -z 3M 1k' -c 'write -z 3100k 64k' -c map base
io -f qcow2 -c 'write -z 3M 64k' -c 'write -z 3M 1k' -c 'write -z -u 3170k 1k' -c map base
io -f qcow2 -c 'write -z 2050k 1k' -c 'write -z 2200k 1k' -c 'write -z 5500k 1k' -c map top
io -f qcow2 -c 'write -z -u 1M 200k' -c 'discard 3M 64k' -c map base
io -f qcow2 -c 'write -P 9 0 64k' -c 'sigraise 9' base
io -f qcow2 -c 'write -P 9 0 64k' -c 'sigraise 9' lazy
io -f qcow2 -c 'close' -c 'open lazy' -c 'write -P 9 0 64k' -c 'sigraise 9' lazy
io -f qcow2 -c 'read -P 5 0 256k' dirty
io -f qcow2 -r -c 'read -P 5 0 256k' dirty
io -c 'read 0 64k' -c 'read 0 64k' blkdebug:rules:base
io -c 'break read_aio A' -c 'aio_read 0 4k' -c 'wait_break A' -c 'resume A' blkdebug::base
io -c length blkdebug:missing:base
io -c length blkdebug:base
'''

DEBUG = 'driver=raw,file.driver=blkdebug,file.image.driver=file,file.image.filename=raw'
DEBUG_CHAINS = r'''
-c 'break pwritev A' -c 'aio_write 0 512' -c 'wait_break A' -c 'resume A' -c aio_flush
-c 'break write_aio A' -c 'remove_break A' -c 'write 0 512'
-c 'remove_break A'
-c 'resume A'
-c 'break foo A'
-c 'break write_aio'
-c 'break'
-c 'wait_break'
-c map
-c info
-c 'discard 0 64k'
-c 'write -z 0 64k'
'''
NO_FLUSH = 'driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename=base,' \
           'file.inject-error.0.event=none,file.inject-error.0.iotype=flush'

STDIN = ['length\n', 'length', '\n\n', 'quit\n', 'quit\nlength\n', 'foo\nlength\n', '',
         'read 0 512\nread -P 3 0 512\n', 'close\nlength\n', '  length  \n',
         'read -v 0 16\n', 'help foo\n', '# comment\n', 'write 0 512\nread -P 205 0 512\nq\n',
         'length\nlength\nlength\n',
         'length;length\n', 'read 0 "512"\n', "read '0' 512\n"]


def mask(text):
    return re.sub(r'(\[ *0\.\d+\]|in \d+\.\d+ seconds)', 'T', text)


def help_mask(text):
    return 'HELP' if re.search('usage|Usage|extended help', text) else text


def listed():
    for line in COMMANDS.strip('\n').split('\n'):
        words = [line[1:-1] if line.startswith('"') else line]
        background = line.startswith('aio_') and line != 'aio_flush'
        words += ['aio_flush'] if background else []
        chain = ' '.join('-c ' + shlex.quote(w) for w in words)
        m = help_mask if line in ('help', '?') else mask
        yield f'io -f raw {chain} raw', None, m
        yield f'io -f qcow2 {chain} base', None, m
    for line in CHAINS.strip('\n').split('\n'):
        yield line, '', help_mask if re.search(r' (-h|--help)$', line) else mask
    for line in DEBUG_CHAINS.strip('\n').split('\n'):
        yield f'io --image-opts {line} {DEBUG}', '', mask
    for mode in '', '-n', '-t writeback', '-t writethrough', '-t unsafe':
        yield f'io {mode} --image-opts -c "write 0 512" {NO_FLUSH}', '', mask
    for text in STDIN:
        yield 'io -f raw raw', text, mask
    for name in HELPS:
        yield f'io -c "help {name}"', None, lambda text: text.split('\n', maxsplit=1)[0]


ALL = 'out err status files'
EXCUSES = [
    Excuse('iotype=flush', 'err', 'no second word of what has failed already, when it is closed'),
    Excuse(r"'?(read|write) (-b|-c)", ALL,
           'no machine state and no compressed clusters are stored'),
    Excuse('-C -c|open -C', ALL, 'no copy-on-read', 'copy-on-read'),
    Excuse(' -s -c|open -s', ALL, 'no temporary overlays', 'snapshot'),
    Excuse('help read|. read|-V|--version', 'out', 'the words of the long help are ours'),
    Excuse('-Z|--foo|^io (-c|-f)$|length raw base', 'out', 'the words of the usage are ours'),
    Excuse('read-only=on', 'err', 'the node and who wants to write to it are named',
           'Block node is read-only: .*wants to write to'),
    Excuse('reopen -o (discard|detect-zeroes)=xx', 'err', 'the parameter is named', "'xx'"),
    Excuse('reopen -o file=x', 'err status',
           'a child that was opened by the image stays: it has no name to be exchanged by'),
    Excuse("image-opts -c length (base|driver=foo)|reopen -o read-only' ", 'err',
           'no warning that a key without value is old'),
    Excuse('reopen -c none', ALL, 'a file that ends inside a page: once it is opened anew for '
           'direct access, QEMU refuses who wants to write to it, or aborts at the write',
           theirs="'write' permission without 'resize'|Assertion .* failed"),
    Excuse("-f raw .*truncate 0'.*truncate (1|511)'", 'files',
           'QEMU writes a sector to a file that was empty'),
    Excuse("-f qcow2 .*truncate (512|4096|4193792)'.*truncate [1-9]", 'out files',
           'what was cut off inside a cluster reads as zeroes when the image grows again; in '
           'QEMU it is back'),
]


class Random:
    """Chains of commands on one image."""

    def __init__(self, rng):
        self.rng = rng

    def offset(self):
        return self.rng.choice([0, 1, 511, 512, 4096, 65535, 65536, 1 << 20, (2 << 20) + 100,
                                (4 << 20) - 512, 4 << 20, self.rng.randrange(5 << 20)])

    def length(self):
        return self.rng.choice([0, 1, 511, 512, 513, 4096, 65536, 65537, 1 << 20, 5 << 20])

    def command(self):
        r, off, n, p = self.rng, self.offset(), self.length(), self.rng.randrange(256)
        return r.choice([
            f'read {off} {n}', f'read -P {p} {off} {n}', f'read -v {off} {min(n, 64)}',
            f'write -P {p} {off} {n}', f'write -P {p} {off} {n}', f'write -f {off} {n}',
            f'write -z {off} {n}', f'write -z -u {off} {n}', f'writev -P {p} {off} {n} {n}',
            f'readv {off} {n} {n}', f'discard {off} {n}', f'truncate {r.choice([off, n])}',
            'length', 'flush', f'write -q {off} {n}', f'read -C {off} {n}',
            f'write -s pattern {off} {n}', 'reopen -r', 'reopen -w',
            f'reopen -c {r.choice(["none", "writeback", "writethrough"])}'])

    def case(self):
        fmt, name = self.rng.choice([('raw', 'raw'), ('raw', 'odd'), ('qcow2', 'base'),
                                     ('qcow2', 'top'), ('qcow2', 'old')])
        chain = ' '.join(f'-c {shlex.quote(self.command())}'
                         for _ in range(self.rng.randrange(1, 9)))
        return f'io -f {fmt} {chain} {name}', None, mask


if __name__ == '__main__':
    sys.exit(run('test-diff-io', __doc__, images, listed(),
                 lambda rng: Random(rng).case(), EXCUSES))
