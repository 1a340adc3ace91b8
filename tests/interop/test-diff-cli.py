# SPDX-License-Identifier: GPL-2.0-or-later
"""The command lines of every program: spellings, precedence, exit status, messages.

What an option does is the business of other tests; here it is what a script sees of how words are
taken. A program that would serve gets 'missing' to open, or a monitor on which it is told to quit.
"""

import os
import re
import shutil
import subprocess
import sys

from difftool import Excuse, run


def images(top):
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'raw', os.path.join(top, 'raw'), '1M'],
                   check=True)
    subprocess.run(['qemu-img', 'create', '-q', '-f', 'qcow2', os.path.join(top, 'base'), '1M'],
                   check=True)
    os.mkdir(os.path.join(top, 'dir'))


IMG = r'''
-
--
-- info raw
-q info raw
-Z info raw
-hV
-Vh
-Vfoo
-V foo
-h foo
--he
--vers
--v
--t
--t foo
--trace
--trace=
--help=x
--version=x
--foo=x
-T
-Tfoo
-T foo info missing
-Tfoo info missing
-T foo -T bar info missing
--trace foo info missing
--trace=foo info missing
--trac=foo info missing
-T foo foo
-h info
-V info
info -V
info --version
info -T foo missing
INFO
inf
in
'''
IMG_COMMANDS = r'''
C
C -Z
C --foo
C --foo=x
C -h
C --help
C --hel
C --help=x
C -hZ
C -Zh
C -Z -h
C missing -h
C missing -Z
C -- -h
C -f
C --form
C --format
C --format= missing
C --f raw missing
C --fo=raw missing
C -fraw missing
C -f raw -f qcow2 missing
C -f=raw missing
C --object
C --obj
C --o
C --object=foo missing
C --image-opts=x missing
C --im missing
C --image-opts -f raw missing
C --image-opts --image-opts missing
C -U missing
C -UU missing
C --force missing
C --force-share=x missing
C --fo missing
C -qU missing
C -q missing
C --quiet missing
C --q missing
C -p missing
C --progress missing
C --output
C --output= missing
C --out=json missing
C --output=xml missing
C --output=human --output=json missing
C --pre
C -o
C -s
C -t
C -T
C -T foo missing
C missing --
C -- missing
C missing -- more
C a b c d
'''

IO = r'''
-
--
-Z
-Z missing
--foo
--foo=x
-rZ missing
-h
-hV
-Vh
-V
--version
--ver
--v
--help
--hel
--h
--help=x
-h missing
missing -h
missing -Z
missing -V
-Z -h
-h -Z
a b
a -- b
-- missing
missing --
-c
--cmd
--cm
--c
--ca
--cac=foo missing
--cache
--cache= missing
--cache=none missing
--cache none missing
-t
-tfoo missing
-t none -t writeback missing
-t foo missing
-t=none missing
-n missing
-n -t writeback missing
-nn missing
--noc missing
--n missing
--na missing
-k missing
-k -i threads missing
-k -n missing
-i
-i foo missing
-i native missing
-i native -t none missing
-i threads -i native missing
--aio=foo missing
--aio
--a=threads missing
-d
-d foo missing
-d unmap -d ignore missing
--dis=foo missing
--discard missing
-f
-f foo missing
-f raw -f qcow2 raw
-fraw missing
--f raw missing
--fo missing
--for missing
--form=raw missing
--image-opts missing
--image-opts=x missing
--im -f raw missing
--image-opts -f raw
-r missing
-rr missing
--read missing
--r missing
-s missing
--snap missing
-C missing
--copy missing
-m missing
-U missing
-rU missing
-rUc quit
-rUcquit raw
-rc quit raw
-c quit -c length raw
-c length -c quit raw
-c length raw -r
raw -c length
-c "" raw
-c foo raw
-c quit
-c length
-T
-T foo missing
-Tfoo missing
--trace
--trace=foo missing
--object
--object foo missing
--object=secret,id=a missing
--object secret,id=a,data=b missing
--object help
'''

NBD = r'''

-
--
-Z
-Z missing
--foo
--foo=x
-rZ missing
-r=x missing
-rv missing
-h
-hx
-hV
-Vh
-V
--version
--vers
--ver
--v
--help
--hel
--h
--help=x
-V missing -Z
-Z -V
missing -V
missing -h
missing
a b
a -- b
-- missing
missing --
-- -r
--p
--s
--d
--de
--des
--t
--b
--c
--ca
--l
--o
--f
--fo
--port
-p
--port=
-p x -f raw raw
--port=x -f raw raw
-px -f raw raw
-p 0 missing
-p '' missing
-p -1 -f raw raw
-p 1 -p 0 missing
-p 65536 missing
-b 127.0.0.1 -p 0 missing
--bind=127.0.0.1 -p 0 missing
-b
-b '' -p 0 missing
-b foo.invalid -f raw raw
-k
-k rel missing
-k '' missing
-k /nonexistent/x -f raw raw
-k /nonexistent/x -p 3 -f raw raw
-k /nonexistent/x -b 1.1.1.1 -f raw raw
-k /x -k rel missing
--sock /nonexistent/x -f raw raw
-e
-e x missing
-e -1 missing
-e 0 missing
-e 1k missing
-e 1.5 missing
-e '' missing
-e ' 3' missing
-e '3 ' missing
-e 0x10 missing
-e 010 missing
-e +3 missing
-e 2147483647 missing
-e 2147483648 missing
-e 99999999999 missing
--shared=x missing
--sha x missing
-e 3 -e x missing
-t missing
-tt missing
--pers missing
--persistent=x missing
-x
-x '' missing
-x a -x b missing
--export-name=a missing
--exp=a missing
-D
-D a missing
-D '' missing
--description=x missing
-r missing
-rr missing
--read missing
-A missing
--alloc missing
-f
-f raw missing
-fraw missing
-f foo missing
-f '' missing
-f raw -f qcow2 missing
--format=foo missing
--form foo missing
--image-opts missing
--im missing
--image-opts=x missing
--image-opts -f raw missing
-f raw --image-opts missing
-n missing
-nn missing
--nocache missing
--noc missing
--cache
--cache= missing
--cache=foo missing
--cache foo missing
--cache=none missing
--cach=none missing
--cache=none -n missing
-n --cache=none missing
--cache=none --cache=none missing
--cache=writeback --cache=foo missing
--cache=foo --cache=none missing
--aio
--aio=foo missing
--aio=native missing
--aio=native -n missing
--aio=threads missing
--aio=threads --aio=threads missing
--aio= missing
--discard
--discard=x missing
--discard=on missing
--discard=ignore missing
--discard=on --discard=on missing
--discard= missing
--detect-zeroes
--detect-zeroes=x missing
--detect-zeroes= missing
--detect-zeroes=on missing
--detect-zeroes=unmap missing
--detect-zeroes=unmap --discard=unmap missing
--discard=unmap --detect-zeroes=unmap missing
--detect-zeroes=on --detect-zeroes=on missing
--det=x missing
--fork missing
--fork=x missing
--fo missing
--fork
--fork a b
--pid-file
--pid-file=p missing
--pid missing
--pid-file missing
--fork --pid-file=no/p -k @here/s -f raw raw
--fork --pid-file=no/p missing
--pid-file=no/p -k @here/s -f raw raw
-v missing
--verbose missing
--verb missing
-T
-T foo missing
-Tfoo missing
--trace
--trace=foo missing
-T foo
-T a -T b missing
-L missing
-L -k /nonexistent
-L -k rel
-L -p 1
-L -p x
-L -b 127.0.0.1 -p 1
-L -b 127.0.0.1 -p x
-L -x a -k /nonexistent
-L -x '' -k /nonexistent
-L -D a -k /nonexistent
-L -o 1 -k /nonexistent
-L -r -k /nonexistent
-L -t -k /nonexistent
-L -e 2 -k /nonexistent
-L -A -k /nonexistent
-L -B a -k /nonexistent
-L -f raw -k /nonexistent
-L -n -k /nonexistent
-L --cache=none -k /nonexistent
-L --aio=threads -k /nonexistent
-L --discard=unmap -k /nonexistent
-L --detect-zeroes=on -k /nonexistent
-L --image-opts -k /nonexistent
-L --fork -k /nonexistent
-L --pid-file=p -k /nonexistent
-L -v -k /nonexistent
-L -s -k /nonexistent
-L -l a -k /nonexistent
-L -c /dev/x -k /nonexistent
-L -d -k /nonexistent
-L -LL -k /nonexistent
--list -k /nonexistent
--lis -k /nonexistent
-d
-d a b
-d /nonexistent
-c
-c /nonexistent missing
-o
-o x missing
-o 0 missing
-o 1k missing
-o -1 missing
-s missing
-l
-l a missing
-B
-B a missing
--tls-creds
--tls-creds x missing
--tls-authz x missing
--tls-hostname x missing
--tls
--selinux-label
--selinux-label=x missing
--object
--object foo missing
--object secret,id=a missing
--object secret,id=a,data=b missing
--object help
--handshake-limit=3 missing
--fork --pid-file=pid -k @here/s -f raw raw
--fork --pid-file pid -k @here/s -tf raw raw
--fork --pid-file=pid -k @here/s -p 3 -b 1.1.1.1 -f raw raw
--fork --pid-file=pid -k @here/s --image-opts driver=raw,file.filename=raw
'''

# A daemon takes its options from left to right; then it would live.
DAEMON = r'''
--foo
--foo=x
-Z
-
---
---foo
--=x
-h
-hV
-Vh
-VZ
-ZV
-Vfoo
-h foo
foo -h
foo -V
--foo -h
-h --foo
--hel
--h
--help=x
-V
--version
--vers
--v
--version=x
foo
foo bar
--
-- foo
-- --foo
--daemonize=x
--daemonize foo
--daemonize --daemonize foo
--daem foo
--d foo
--b
--b x
--blockdev
--blockdev=
--blockdev ''
--blockdev help
--blockdev ?
--blockdev x
--blockdev=x
--block=x
--blockdev null-co
--blockdev foo,node-name=a
--blockdev driver=raw
--blockdev driver=raw,node-name=a
--blockdev driver=raw,node-name=a,file=b
--blockdev null-co,node-name=a
--blockdev null-co,node-name=a,
--blockdev ,null-co,node-name=a
--blockdev null-co,node-name=a,foo=b
--blockdev null-co,node-name=a,size=1M
--blockdev null-co,node-name=a,size=x
--blockdev null-co,node-name=a,read-only=1
--blockdev null-co,node-name=a,read-only
--blockdev null-co,node-name=1a
--blockdev null-co,node-name=a --blockdev null-co,node-name=a
--blockdev '{"driver":"null-co","node-name":"a"}'
--blockdev '{"driver":"null-co"}'
--blockdev '{"driver":"null-co","node-name":"a","size":"1"}'
--blockdev '{"driver":5}'
--blockdev '{}'
--blockdev '[]'
--blockdev '{'
--blockdev node-name=a
--blockdev driver=file,node-name=a,filename=missing
--blockdev driver=file,node-name=a,filename=raw
--blockdev driver=file,node-name=a,filename=dir
--chardev
--chardev ''
--chardev help
--chardev x
--chardev null
--chardev foo,id=a
--chardev null,id=a
--chardev null,id=a --chardev null,id=a
--chardev id=a
--chardev backend=null,id=a
--chardev null,id=1a
--chardev null,id=
--chardev null,id=a,foo=b
--chardev null,id=a,foo
--chardev null,id=a,logfile=l
--chardev socket,id=a
--chardev socket,id=a,path=missing
--chardev socket,id=a,path=s,server=on,wait=off
--chardev socket,id=a,path=s,server,nowait
--chardev socket,id=a,path=s,server=foo
--chardev socket,id=a,path=s,wait=off
--chardev socket,id=a,path=s,host=x,server=on
--chardev socket,id=a,host=localhost
--chardev socket,id=a,host=localhost,port=x
--chardev socket,id=a,path=no/s,server=on,wait=off
--chardev socket,id=a,path=s,server=on,wait=off,foo=b
--chardev stdio,id=a
--chardev file,id=a
--chardev file,id=a,path=f
--chardev file,id=a,path=no/f
--chardev '{"backend":"null"}'
--monitor
--monitor ''
--monitor help
--monitor x
--monitor=x
--mon x
--m x
--chardev null,id=a --monitor a
--chardev null,id=a --monitor chardev=a
--chardev null,id=a --monitor chardev=a,mode=control
--chardev null,id=a --monitor chardev=a,mode=readline
--chardev null,id=a --monitor chardev=a,mode=foo
--chardev null,id=a --monitor chardev=a,pretty=on
--chardev null,id=a --monitor chardev=a,pretty=x
--chardev null,id=a --monitor chardev=a,foo=x
--chardev null,id=a --monitor chardev=a,id=m
--chardev null,id=a --monitor a --monitor a
--chardev null,id=a --chardev null,id=b --monitor a,id=m --monitor b,id=m
--chardev null,id=a --monitor '{"chardev":"a"}'
--monitor id=m
--nbd-server
--nbd-server ''
--nbd-server help
--nbd-server x
--nbd=x
--n x
--nbd-server addr.type=unix
@server
@servero/n
@server @server2
--nbd-server addr.type=inet,addr.host=127.0.0.1,addr.port=0
--nbd-server addr.type=inet,addr.host=127.0.0.1
--nbd-server addr.type=inet,addr.port=0
--nbd-server addr.type=inet,addr.host=127.0.0.1,addr.port=x
--nbd-server addr.type=foo
@server,foo=x
@server,max-connections=x
@server,max-connections=-1
@server,max-connections=3
@server,tls-creds=t
@server,tls-authz=t
--nbd-server type=unix,path=n
--nbd-server '{"addr":{"type":"unix","path":"n"}}'
--export
--e
--exp x
--export ''
--export help
--export x
--export nbd
--export foo,id=a,node-name=b
--export nbd,id=a,node-name=b
--export type=nbd,id=a
--export nbd,node-name=a
--blockdev null-co,node-name=a --export nbd,id=e,node-name=a
@export
@server --export nbd,id=e,node-name=a --blockdev null-co,node-name=a
@export,foo=b
@export,writable=x
@export,writable=on
@export --export nbd,id=e,node-name=a
@export --export nbd,id=f,node-name=a
@server --blockdev null-co,node-name=a --export nbd,id=1e,node-name=a
--object
--obj foo
--o foo
--object ''
--object help
--object ?
--object secret,help
--object foo
--object foo,help
--object foo,id=x
--object qom-type=foo,id=x
--object secret
--object secret,id=a
--object secret,id=a,data=b
--object secret,id=a,data=b,
--object secret,id=a,data=b,foo=c
--object secret,id=a,data=b,format=xx
--object secret,id=a,data=b --object secret,id=a,data=b
--object secret,id=1a,data=b
--object secret,id=,data=b
--object secret,data=b
--object secret,id=a,file=missing
--object secret,id=a,file=raw,data=b
--object iothread,id=a
--object iothread,id=a,poll-max-ns=x
--object throttle-group,id=a
--object id=a
--object '{"qom-type":"secret","id":"a","data":"b"}'
--object '{"qom-type":"secret","id":"a"}'
--pidfile
--pid
--p p
--pidfile=p
--pidfile p
--pidf p
--pidfile no/p
--pidfile dir
--pidfile ''
--pidfile a --pidfile b
--daemonize --pidfile=pid --daemonize
--daem --pid pid
-T
-T foo
-Tfoo
-T foo -T bar
--trace
--trace foo
--trace=foo
--tr foo
--t foo
-T ''
-T file=
-T foo,bar=baz
-T enable=foo
-T events=missing
'''

# What comes before, so that it ends: the monitor says quit.
DAEMON_LIVES = '--chardev stdio,id=quit --monitor quit '
QUIT = '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'

MACHINE = r'''

-foo
--foo
-Z
--
-
-ver
-version
--version
-h
-help
--help
-h foo
-foo -h
-drive
--drive
-drive x
-drive ''
-drive help
-drive=x
-drive -h
--drive if=none,id=a
-drive if=none,id=a
-drive if=none,id=a,file=missing
-drive if=none,id=a,file=missing,format=raw
-drive if=none,id=a,file=raw
@raw
-drive if=none,id=a,file=raw,format=foo
@raw,driver=raw
-drive if=none,id=a,file=raw,driver=raw
@raw @raw
@raw,foo=bar
-drive if=foo,id=a,file=raw,format=raw
-drive if=none,id=1a,file=raw,format=raw
-drive if=none,id=,file=raw,format=raw
@raw,cache=foo
@raw,cache=none
@raw,cache=writethrough
@raw,aio=foo
@raw,aio=native
@raw,aio=native,cache=none
@raw,aio=threads
@raw,discard=foo
@raw,discard=unmap
@raw,discard=on
@raw,detect-zeroes=foo
@raw,detect-zeroes=on
@raw,detect-zeroes=unmap
@raw,werror=foo
@raw,werror=stop
@raw,rerror=foo
@raw,rerror=report
@raw,media=foo
@raw,media=disk
@raw,media=cdrom
@raw,index=0
@raw,index=x
@raw,bus=0,unit=1
@raw,index=0,unit=1
@raw,readonly=on
@raw,read-only=on
@raw,readonly=on,read-only=on
@raw,read-only
@raw,read-only=foo
@raw,snapshot=on
@raw,snapshot=off
@raw,copy-on-read=off
@raw,copy-on-read=on
@raw,bps=1
@raw,throttling.bps-total=1
@raw,stats-account-failed=on
@raw,stats-account-failed=foo
@raw,node-name=n
@raw,node-name=a
@raw,node-name=1n
@drive=raw,file.driver=file,file.filename=raw
@drive=raw,file.filename=raw
@drive=raw,file.filename=missing
@drive=raw,file.driver=foo
@drive=raw
@drive=foo
@drive=null-co
@drive=null-co,size=1M
@drive=null-co,size=x
@drive=quorum,vote-threshold=1
@drive=quorum,vote-threshold=1,children.0=b
-drive if=none,id=b,file=raw,format=raw @drive=quorum,vote-threshold=1,children.0=b
@drive=quorum,read-pattern=fifo,vote-threshold=1,@child
@drive=quorum,read-pattern=foo,vote-threshold=1,@child
@drive=quorum,vote-threshold=2,@child
@drive=quorum,vote-threshold=x,@child
@drive=replication,mode=primary,file.driver=nbd,file.host=127.0.0.1,file.port=1,file.export=a
@drive=replication,mode=foo,file.driver=raw,file.file.filename=raw
@drive=replication,file.driver=raw,file.file.filename=raw
@drive=replication,mode=secondary,file.driver=raw,file.file.filename=raw
@drive=replication,mode=primary,top-id=x,file.driver=raw,file.file.filename=raw
-drive if=none,file=raw,format=raw
-drive file=raw,format=raw,if=none,id=a,
-drive file=a,,b,format=raw,if=none,id=a
-drive file=file:raw,format=raw,if=none,id=a
-drive file=foo:raw,format=raw,if=none,id=a
-drive 'file=json:{"driver":"raw","file":{"driver":"file","filename":"raw"}},if=none,id=a'
-drive 'file=json:{"driver":"raw",,"file":{"driver":"file",,"filename":"raw"}},if=none,id=a'
-drive file=nbd:localhost,if=none,id=a,format=raw
-drive file=nbd:127.0.0.1:1,if=none,id=a,format=raw
-drive file=nbd://127.0.0.1:1/x,if=none,id=a,format=raw
-drive file=nbd:unix:missing,if=none,id=a,format=raw
-drive file=base,if=none,id=a,backing=foo
-drive file=base,if=none,id=a,l2-cache-size=1M
-drive file=base,if=none,id=a,l2-cache-size=x
-drive file=base,if=none,id=a,lazy-refcounts=foo
-drive file=dir,if=none,id=a
-drive file=,if=none,id=a
-drive file=raw,file=base,if=none,id=a
-drive format=raw,if=none,id=a
-name
-name a
-name a,b
-name ''
-name guest=a
-name guest=a,process=b
-name a,process=b,debug-threads=on
-name a,debug-threads=foo
-name a,foo=b
-name process=b
-name=a
-name a -name b
-qmp
-qmp stdio
-qmp foo
-qmp ''
-qmp unix:missing
-qmp unix:s,server,nowait
-qmp unix:s,server=on,wait=off
-qmp unix:s,server=on,nowait
-qmp unix:s,server=foo
-qmp unix:no/s,server=on,wait=off
-qmp unix:s,server=on,wait=off,foo=bar
-qmp unix:
-qmp unix
-qmp tcp:localhost
-qmp tcp:localhost:0,server=on,wait=off
-qmp tcp:127.0.0.1:0,server,nowait
-qmp tcp::0,server,nowait
-qmp tcp:127.0.0.1:1
-qmp tcp:127.0.0.1:x,server=on,wait=off
-qmp null
-qmp none
-qmp null,foo=bar
-qmp null -qmp null
-qmp chardev:x
-chardev null,id=a -qmp chardev:a
-qmp-pretty
-qmp-pretty null
-mon
-mon x
-mon chardev=x
-mon chardev=x,mode=control
-mon chardev=x,mode=foo
-mon mode=control
-chardev null,id=a -mon a,mode=control
-chardev null,id=a -mon a,mode=control,pretty=on
-chardev null,id=a -mon a,mode=control,foo=bar
-chardev null,id=a -mon chardev=a,mode=control,id=m
-monitor none
-monitor null
-monitor foo
-serial none
-parallel none
-vnc none
-display none
-display foo
-display
-machine none
-machine foo
-machine type=none
-machine none,accel=tcg
-machine accel=tcg,type=none
-M none
-M none -machine none
-nographic
-no-user-config
-nodefaults
-nodefaults=x
-S
-S=x
-Sfoo
-daemonize=x
-pidfile
-pidfile p
-pidfile no/p
-pidfile dir
-pidfile a -pidfile b
-trace
-trace foo
-trace enable=foo
-trace foo,file=t
-trace ''
-object
-object foo
-object secret,id=a,data=b
-object secret,id=a
-object help
-chardev
-chardev null
-chardev null,id=a
-chardev foo,id=a
-chardev help
-blockdev
-blockdev x
-blockdev null-co,node-name=a
-blockdev null-co
-blockdev foo,node-name=a
-blockdev null-co,node-name=a -drive if=none,id=b,driver=raw,file=a
-drive if=none,id=b,driver=raw,file=a -blockdev null-co,node-name=a
-accel tcg
-enable-kvm
-m 64
-smp 1
-no-shutdown
-no-reboot
-msg timestamp=on
-incoming defer
-uuid 0
-device foo
-export x
-nbd-server x
'''
MACHINE_LIVES = '-machine none -display none -nodefaults -S -qmp stdio '

# Written short above.
SHORT = {
    '@export': '@server --blockdev null-co,node-name=a --export nbd,id=e,node-name=a',
    '@server': '--nbd-server addr.type=unix,addr.path=n',
    '@raw': '-drive if=none,id=a,file=raw,format=raw',
    '@drive': '-drive if=none,id=a,driver',
    '@child': 'children.0.file.filename=raw,children.0.driver=raw',
}


def lines_of(group):
    for short, text in SHORT.items():
        group = group.replace(short, text)
    return group[1:].rstrip('\n').split('\n')


def mask(text):
    """Of a help text that there is one; of a version its form; of lists any order; no monitor."""
    if re.search('(?m)^ ?[Uu]sage', text):
        return 'HELP'
    text = re.sub(r'(?s)^(TOOL-\w+|DAEMON|QEMU emulator)( version)? \d[^ \n]*.*', r'\1\2 N', text)
    text = re.sub(r"(?<=possibilities:)( '--[\w-]+')+",
                  lambda m: ' '.join(sorted(m.group(0).split())), text)
    return re.sub(r'(?m)^\{.*\n?', '', text)


def listed():
    for line in lines_of(IMG):
        yield f'img {line}', None, mask
    for line in lines_of(IMG_COMMANDS):
        for command in ('info', 'check', 'map', 'compare', 'create', 'convert', 'resize', 'bench',
                        'dd'):
            yield f'img {line.replace("C", command, 1)}', None, mask
    for line in lines_of(IO):
        yield f'io {line}', '', mask
    for line in lines_of(NBD):
        yield f'nbd {line}', None, mask
    for line in lines_of(DAEMON):
        lives = '' if 'daem' in line else DAEMON_LIVES
        yield f'daemon {lives}{line}', QUIT, mask
    for line in lines_of(MACHINE):
        yield f'machine {MACHINE_LIVES}{line}', QUIT, mask


ALL = 'out err status files'
ABBREVIATED = r'^img (compare|create|convert|resize|bench|dd) --(f|fo|form|format|o|ou?t?\w*)\b'
EXCUSES = [
    # What is not there is refused by its name.
    Excuse(r'^nbd .*(-[oBslcd]\b|--(tls-\w+|selinux-label)\b)', 'err',
           'serving at an offset, snapshots, bitmaps, kernel devices, TLS',
           r"Option '-.*' is not supported"),
    Excuse(r'^io (-s|--snap|-C|--copy) ', 'err', 'no temporary overlays, no copy-on-read',
           'is not supported'),
    Excuse('(object|chardev) (help|.$|secret,help|foo,help)', 'out', 'what there is is listed'),
    Excuse('throttle-group|tls-(creds|authz)=|logfile=|snapshot=on|copy-on-read=on|bps', ALL,
           'no throttling, TLS, log files, temporary overlays',
           "not supported|Parameter 'logfile' is unexpected"),
    Excuse(r'-qmp stdio -(accel|enable-kvm|m|smp|msg|incoming|uuid|device|machine|display)\b',
           'err status', 'there is no machine', "invalid option|only 'none' is possible"),
    Excuse('-monitor foo', 'err', 'no monitor for people'),
    # Two programs in one: the storage daemon's words where both have some.
    Excuse(r'-qmp stdio (--foo|-Z|-|--|-export x|-nbd-server x)$', 'err status',
           'options of the storage daemon, in its syntax'),
    Excuse('^daemon .* -ZV$', 'err', "a word that is no cluster is told whole, as QEMU's"),
    Excuse(r'^machine .*--?version', 'out', 'the name of the program'),
    # As in later versions.
    Excuse('(img|nbd) .*--(q|quiet|progress|handshake-limit=3|h)( |$)', ALL, 'long options'),
    Excuse(ABBREVIATED, ALL, 'long options that make abbreviations ambiguous'),
    # Where ours is right.
    Excuse(r'^img (--|--t foo|--trace=|-Tfoo)$', 'err status', 'no command is an error'),
    Excuse(r'^img resize -\S+$', 'out err status', 'help, and what is wrong with the only word'),
    Excuse('create a b c d', 'err', 'what is too many is named'),
    Excuse('^daemon .* -- ', 'err status', 'words behind -- are not ignored'),
    Excuse('-k (rel|\'\')', 'err', 'a relative path is as good as any'),
    Excuse('-L -p', 'err', 'who asks for exports means this host, not any address'),
    Excuse('detect-zeroes=unmap --discard', 'err', 'in any order'),
    Excuse('--pid-file=?.?(pid|no/p)|(addr.|")path"?[=:]"?n', 'files',
           'sockets and process files are removed at the end'),
    Excuse('--pid-file=no/p', 'err', 'a process file comes into being whole'),
    Excuse('monitor b,id=m', 'err status', 'an id names one thing'),
    Excuse("size=x", 'err status', 'QEMU aborts', "expects integer"),
    Excuse('(nativ.*|-k|--na) missing', 'err', 'what contradicts itself is told without the file'),
    Excuse('--export nbd,id=a,node-name=b', 'err', 'the server is looked at first'),
    # The same said otherwise.
    Excuse('(--im|--image-opts) missing', 'err', 'a bare word is no node'),
    Excuse('server,nowait|null,id=a,foo$|read-only$|-name a,b|-drive (x|-h)', 'err',
           'no warning that a key without value is old'),
    Excuse("'\\{'|file=json:", 'err', 'words of another JSON parser', 'JSON'),
    Excuse("id=(1a|,|$)", 'err', 'no list of what an identifier may consist of',
           'identifier|Invalid device id'),
    Excuse('foo=(b|bar)$', 'err', 'of a parameter', "Parameter 'foo' is unexpected"),
    Excuse('-drive if=none,id=a,file=raw$', 'err', 'warnings begin alike'),
    Excuse('-qmp stdio -qmp ', 'err', 'the reason only, not that this was a parse error',
           "is not a valid char driver|expects 'on' or 'off'|is unexpected|is empty"),
    Excuse('--chardev (null,id=a --chardev|socket,id=a$|.*host=x|file,id=a)', 'err',
           'character devices as QMP has them'),
    Excuse('mode=readline', 'err', 'one mode', 'does not accept'),
    Excuse('addr.type=foo', 'err', 'the whole name of the parameter', 'addr.type'),
    Excuse('secret,id=a,file=missing|-T (file=|foo,bar|events)', 'err', 'words'),
    Excuse('^machine .*-object secret,id=a$', 'err', 'the option is named'),
    Excuse('driver=(quorum|replication)|l2-cache-size=x|file=dir|nbd:localhost', 'err',
           'words of the options of drivers'),
]


if __name__ == '__main__':
    sys.exit(run('test-diff-cli', __doc__, images, listed(), None, EXCUSES))
