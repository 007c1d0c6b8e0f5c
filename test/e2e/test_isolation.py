"""Isolation, shown on the running program: where no key is, and what each process is and holds."""
import contextlib
import ctypes
import glob
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time

import pytest

from client import Client, get, tls_context
from gateway import ROOT, SOAK, Gateway, new_folder, program, wait_until
from origin import Origin
from keyscan import Key, Scan, scanner, write_pieces

# A hundred by `make soak`; making them is what takes time.
KEYS = [('P-256', 50), ('P-384', 10), ('RSA-2048', 40)] if SOAK else [('P-256', 12), ('P-384', 2), ('RSA-2048', 2)]
HIDDEN, LOCKED = 1, 2  # enum os_secret_kind


# ---- (a) No key but in vault and keyholder ------------------------------------------------------------------

@pytest.fixture(scope='module')
def keys():
    scanner()
    folder = new_folder()
    made = [Key(folder, f'{kind.lower()}-{i}.test', kind) for kind, count in KEYS for i in range(count)]
    assert len(made) == (100 if SOAK else 16)
    write_pieces(f'{folder}/pieces', made)
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope='module')
def pieces(keys):
    return os.path.dirname(keys[0].key) + '/pieces'


def sites(keys, handler='respond 200 "here"'):
    text = 'listen 127.0.0.1:{port}\nsite localhost { files {folder} on /files/*; proxy 127.0.0.1:{port4} }\n'
    for key in keys:
        text += f'site {key.name} {{ certificate file {key.certificate} {key.key}; {handler} }}\n'
    return text


def shake_hands(gateway, keys, times=2):
    """With every key, in both versions of TLS."""
    contexts = [tls_context(), tls_context()]
    contexts[1].maximum_version = ssl.TLSVersion.TLSv1_2
    for i in range(times):
        for key in keys:
            with Client(gateway.port, contexts[i % 2], key.name) as client:
                assert client.get('/').status == 200


def secret_memory(gateway):
    return {row['secret_memory'] for row in gateway.status() if row['process'] == 'keyholder'}


def others(gateway):
    """Every process that must hold no key, by name."""
    found = {name: pid for name, pid in gateway.roles().items() if not re.match('vault|keyholder', name)}
    return {'supervisor': gateway.process.pid, **found}


def test_no_key_in_the_memory_of_others(keys, pieces):
    with Gateway(sites(keys)) as gateway:
        shake_hands(gateway, keys)
        assert gateway.counter('signatures') >= 2 * len(keys)
        scanned = {name: Scan(pieces, pid) for name, pid in others(gateway).items()}
        assert {'supervisor', 'worker 0', 'files', 'dialer', 'log'} <= set(scanned)
        for name, scan in scanned.items():
            assert scan.hits == 0, f'{name}: {scan.text}'
            assert scan.read > 1 << 20 and scan.refused == 0, f'{name}: {scan.text}'
            # The heap, the stack and the shared memory are among what was read.
            assert scan.read_of('[stack]') and scan.read_of('memfd:'), f'{name}: {scan.text}'
        # Nothing was looked for in vain: the vault has them in ordinary memory, keyholders where nobody reads.
        vault = Scan(pieces, gateway.pid('vault'))
        assert vault.hits >= len(keys)
        for pid in gateway.pids('keyholder'):
            keyholder = Scan(pieces, pid)
            if secret_memory(gateway) == {HIDDEN}:
                assert keyholder.refused > 64 << 10 and keyholder.read > 1 << 20


def test_no_key_in_the_check(keys, pieces):
    """The job that opens the key files: stopped at some instant of each of its lives, and read."""
    with Gateway(sites(keys)) as gateway:
        seen = 0
        for i in range(5):
            reload = subprocess.Popen([program(), 'reload', '-c', gateway.config], env=gateway.env, stdout=subprocess.DEVNULL)
            job = wait_until(lambda: [p.pid for p in gateway.children() if p.command.startswith('portcullis check')], 'a check', every=0.001)
            time.sleep(i * 0.02)
            with contextlib.suppress(OSError):
                os.kill(job[0], signal.SIGSTOP)
                with contextlib.suppress(AssertionError):  # it was over already
                    scan = Scan(pieces, job[0])
                    assert scan.hits == 0, scan.text
                    seen += 1
                os.kill(job[0], signal.SIGCONT)
            assert reload.wait(60) == 0
        assert seen >= 2


def test_a_key_in_a_worker_would_be_found(keys, pieces):
    """The control of the scan: a client sends a key as a body, and the origin does not take it."""
    held = []

    def behave(exchange):
        held.append(exchange)
        time.sleep(60)
        return False

    with Origin(behave) as origin, Gateway('listen 127.0.0.1:{port}\nsite localhost { proxy 127.0.0.1:%d }\n' % origin.port) as gateway:
        with Client(gateway.port, tls_context()) as client:
            client.send(b'POST /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n')
            body = b''.join(key.der for key in keys)
            client.socket.settimeout(0.5)
            with contextlib.suppress(OSError):
                for _ in range(3000000 // len(body)):
                    client.socket.sendall(body)
            assert any(Scan(pieces, pid).hits for pid in gateway.pids('worker'))
            held[0].connection.close()


WITHOUT_HIDDEN_MEMORY = '''
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def code(op, jt, jf, k): return struct.pack('=HBBI', op, jt, jf, k)
program = code(0x20, 0, 0, 0) + code(0x15, 0, 1, 447) + code(6, 0, 0, 0x00050000 | 38) + code(6, 0, 0, 0x7fff0000)
memory = ctypes.create_string_buffer(program)
filter = ctypes.create_string_buffer(struct.pack('=HxxxxxxQ', 4, ctypes.addressof(memory)))
assert libc.prctl(22, 2, filter, 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
'''


def test_a_key_in_locked_memory_would_be_found(keys, pieces):
    """The other control: a kernel without memfd_secret (a filter says so), where keyholders fall back to mlock."""
    few = keys[:4] + keys[-2:]
    with Gateway(sites(few), prefix=[sys.executable, '-c', WITHOUT_HIDDEN_MEMORY]) as gateway:
        shake_hands(gateway, few, times=6)
        scans = [Scan(pieces, pid) for pid in gateway.pids('keyholder')]
        assert secret_memory(gateway) == {LOCKED}
        assert sum(scan.hits for scan in scans) >= 1 and not any(scan.refused for scan in scans)
        for name, pid in others(gateway).items():
            assert Scan(pieces, pid).hits == 0, name


def has_core(folder):
    return [name for name in os.listdir(folder) if name.startswith('core')]


def test_no_core_is_written(keys):
    """Not even where somebody raises the limit: it is not dumpable."""
    folder = new_folder()
    control = subprocess.run([sys.executable, '-c', 'import os; os.abort()'], cwd=folder, check=False, capture_output=True,
                             preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2))
    wrote = has_core(folder)
    shutil.rmtree(folder)
    assert control.returncode == -signal.SIGABRT
    if not wrote:
        pytest.skip('this machine writes no core into the current folder')
    with Gateway(sites(keys[:2])) as gateway:
        shake_hands(gateway, keys[:2])
        for kind in ('worker', 'keyholder', 'vault', 'files', 'log'):
            pid = gateway.pids(kind)[0]
            with contextlib.suppress(PermissionError):
                resource.prlimit(pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
            os.kill(pid, signal.SIGABRT)
            wait_until(lambda k=kind, p=pid: gateway.pids(k) and p not in gateway.pids(k), f'{kind} to be replaced')
            assert not has_core(gateway.folder) and not has_core(f'/proc/{gateway.process.pid}/cwd/')


# ---- What each process is and holds -----------------------------------------------------------------------------

def as_root():
    return os.geteuid() == 0


def status_of(pid):
    with open(f'/proc/{pid}/status', encoding='utf-8') as file:
        return dict(line.rstrip('\n').split(':\t', 1) for line in file if ':\t' in line)


def sockets(pid):
    """{inode: what it is} of the process's network namespace."""
    found = {}
    with open(f'/proc/{pid}/net/unix', encoding='utf-8') as file:
        for line in list(file)[1:]:
            words = line.split()
            found[words[6]] = {'0005': 'channel'}.get(words[4], 'unix') + (' STATE/rescue.sock' if words[-1].endswith('/rescue.sock') else '')
    for table in ('tcp', 'tcp6'):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/net/{table}', encoding='utf-8') as file:
            for line in list(file)[1:]:
                words = line.split()
                found[words[9]] = 'listener' if words[3] == '0A' else 'connection'
    return found


def what(pid, gateway):
    """What the process holds: a sorted list of words. Descriptor 2 is the starter's standard error."""
    inodes, found = sockets(pid), []
    for path in glob.glob(f'/proc/{pid}/fd/*'):
        number = os.path.basename(path)
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(path)
            if number == '2':
                continue
            inode = re.match(r'socket:\[(\d+)\]', name)
            if inode:
                found.append(inodes.get(inode[1], 'socket of an unknown kind'))
            elif name == os.readlink(f'/proc/{gateway.process.pid}/fd/1'):
                found.append('write standard output')
            else:
                flags = int(re.search(r'flags:\s+(\d+)', open(f'/proc/{pid}/fdinfo/{number}', encoding='utf-8').read())[1], 8)
                mode = 'handle ' if flags & os.O_PATH else {os.O_RDONLY: 'read ', os.O_WRONLY: 'write ', os.O_RDWR: ''}[flags & os.O_ACCMODE]
                found.append(mode + re.sub(r'^/(memfd:.*) \(deleted\)$', r'\1', name).replace(gateway.state, 'STATE').replace(gateway.folder, 'FOLDER'))
    return sorted(found)


COMMON = {'/dev/null', 'anon_inode:[eventpoll]', 'channel', 'read STATE/lock'}
# What a row may hold beside: nothing else, and of a folder or a file only what is named here.
HOLDS = {
    'worker': {'anon_inode:[eventfd]', 'listener', 'connection'},
    'keyholder': set(),
    # For the next supervisor, should this one be killed: listeners, ticket keys, counters.
    'vault': {'listener', 'handle STATE/keys', 'channel STATE/rescue.sock', 'memfd:tickets', 'read memfd:range'},
    'files': {'handle FOLDER/root'},
    'dialer': set(),
    'log': {'anon_inode:[eventfd]', 'read FOLDER', 'write FOLDER/access.log', 'write standard output'},
}
TEXT = """listen 127.0.0.1:{port}
log access {folder}/access.log
site localhost {
    files {folder}/root on /files/*
    proxy 127.0.0.1:%d
}
"""


def check_processes(gateway, uid_of):
    """{name: what it holds}"""
    found = {}
    for name, pid in gateway.roles().items():
        kind, status = name.split(' ')[0], status_of(pid)
        assert status['Seccomp'] == '2' and status['NoNewPrivs'] == '1', name
        for which in ['CapEff', 'CapPrm', 'CapInh', 'CapAmb'] + ['CapBnd'] * (uid_of is row_uid):
            assert int(status[which], 16) == 0, f'{name}: {which} {status[which]}'
        uid = str(uid_of(kind))
        assert set(status['Uid'].split()) == {uid} and set(status['Gid'].split()) == {uid}, f'{name}: {status["Uid"]}, {status["Gid"]}'
        assert status['Groups'].strip() == '' and status['Threads'] == '1', name
        # What is not dumpable belongs to root, whoever's it is.
        assert os.stat(f'/proc/{pid}/fd').st_uid == 0, f'{name} is dumpable'
        with open(f'/proc/{pid}/limits', encoding='utf-8') as file:
            limits = file.read()
        assert re.search(r'Max core file size +0 +0 ', limits) and re.search(r'Max processes +0 +0 ', limits), limits
        found[name] = what(pid, gateway)
        assert set(found[name]) <= COMMON | HOLDS[kind], f'{name} holds {set(found[name]) - COMMON - HOLDS[kind]}'
    return found


def row_uid(kind):
    with contextlib.suppress(KeyError):
        return pwd.getpwnam('portcullis-' + kind).pw_uid
    return 61600 + ['supervisor', 'worker', 'keyholder', 'vault', 'files', 'dialer', 'log', 'check'].index(kind)


def nobody(_kind):
    return pwd.getpwnam('nobody').pw_uid


@pytest.mark.parametrize('uid_of', [row_uid, nobody])
def test_what_each_process_is_and_holds(folder, uid_of):
    if not as_root():
        pytest.skip('needs root to become somebody else')
    options = {}
    os.mkdir(folder + '/root')
    with open(folder + '/root/big', 'wb') as file:
        file.write(b'x' * 100000)
    if uid_of is nobody:
        options['executable'] = shutil.copy(program(), folder)
        options['prefix'] = ['setpriv', '--reuid', str(nobody('')), '--regid', str(nobody('')), '--clear-groups']
        os.chown(folder, nobody(''), nobody(''))
    with Origin() as origin, Gateway(TEXT % origin.port, folder=folder, **options) as gateway:
        before = check_processes(gateway, uid_of)
        assert set(before) >= {'worker 0', 'keyholder 0', 'vault', 'files', 'dialer', 'log'}
        for _ in range(20):
            assert get(gateway.port, '/', tls=tls_context()).status == 200
            assert get(gateway.port, '/files/big', tls=tls_context()).status in (200, 404)
        gateway.reload_well(TEXT % origin.port + '\nsite other.localhost { respond 200 "x" }\n')
        gateway.reload_well(TEXT % origin.port)
        gateway.settle()
        after = check_processes(gateway, uid_of)
        # Connections (kept to the origin) come and go; of all else there is as much as before.
        for name, held in before.items():
            assert [h for h in after[name] if h != 'connection'] == [h for h in held if h != 'connection'], name


def test_the_check_is_nobody_once_it_parses(keys):
    """Its second sandbox: no user, no capability, no file. It is caught where it parses certificates."""
    if not as_root():
        pytest.skip('needs root to become somebody else')
    with Gateway(sites(keys)) as gateway:
        stop = time.monotonic() + 20
        uids = set()
        while str(row_uid('check')) not in uids and time.monotonic() < stop:
            reload = subprocess.Popen([program(), 'reload', '-c', gateway.config], env=gateway.env, stdout=subprocess.DEVNULL)
            while reload.poll() is None:
                for job in [p.pid for p in gateway.children() if p.command.startswith('portcullis check')]:
                    with contextlib.suppress(OSError, KeyError):
                        status = status_of(job)
                        uids |= set(status['Uid'].split())
                        if status['Uid'].split()[0] == str(row_uid('check')):
                            assert status['Seccomp'] == '2' and int(status['CapEff'], 16) == int(status['CapPrm'], 16) == 0
        assert str(row_uid('check')) in uids


# ---- A worker that was taken over ---------------------------------------------------------------------------------

HOSTILE_TEXT = """listen 127.0.0.1:{port}
log access off
site localhost {
    files {folder}/root on /files/*
    proxy 127.0.0.1:%d
}
"""
COUNTS = {'flood': 100000000 if SOAK else 1000000, 'break': 2000 if SOAK else 300, 'accuse': 100 if SOAK else 8, 'news': 2}


def hostile_program(folder, mode, count):
    built = os.path.join(ROOT, 'build-asan', 'test', 'isolation', 'isolation-hostile')
    if not os.access(built, os.X_OK):
        pytest.skip('the hostile worker is not built: run `make asan`')
    os.mkdir(folder + '/bin')
    shutil.copy(built, folder + '/bin/portcullis')
    with open(folder + '/bin/hostile', 'w', encoding='utf-8') as file:
        file.write(f'{mode} {count}\n')
    return folder + '/bin/portcullis'


def build_root(folder):
    """Documents, and what a document must never be."""
    root = folder + '/root'
    os.makedirs(root + '/files/a')
    for name, text in (('secret.txt', 'SECRET'), ('root/document', 'here'), ('root/files/document', 'here'), ('root/.hidden', 'SECRET'), ('root/a', 'x')):
        with open(f'{folder}/{name}', 'w', encoding='utf-8') as file:
            file.write(text)
    os.symlink('/etc/passwd', root + '/out')
    os.symlink('/etc', root + '/outside')
    os.mkfifo(root + '/fifo')


class Taken(Gateway):
    """A service whose worker 0 is hostile, and an origin that is not in its plan."""

    def __init__(self, folder, mode, origin, count=None):
        super().__init__(HOSTILE_TEXT % origin.port, folder=folder, executable=hostile_program(folder, mode, count or COUNTS[mode]))

    def said(self, pattern):
        return [line for line in list(self.stderr) if re.search(pattern, line)]

    def others(self):
        return {name: pid for name, pid in self.roles().items() if re.match('worker [1-9]|keyholder|vault|files|dialer|log', name)}

    def serves(self):
        """The other worker, for clients that it gets; a worker that dies takes its own with it."""
        def answered():
            with contextlib.suppress(OSError, Exception):
                with Client(self.port, tls_context(), timeout=5) as client:
                    return client.get('/').status == 200
            return False
        wait_until(answered, 'an answer')


@pytest.fixture
def origin():
    def behave(exchange):
        exchange.reply(200, b'here')
        return True
    with Origin(behave) as origin:
        yield origin


def lingering(gateway):
    """The supervisor's listening sockets of which connections would inherit that they end by a reset."""
    libc, found = ctypes.CDLL(None, use_errno=True), 0
    process = os.pidfd_open(gateway.process.pid)
    listening = {inode for inode, kind in sockets(gateway.process.pid).items() if kind == 'listener'}
    for path in glob.glob(f'/proc/{gateway.process.pid}/fd/*'):
        inode = re.match(r'socket:\[(\d+)\]', os.readlink(path))
        if inode and inode[1] in listening:
            number = libc.syscall(438, process, int(os.path.basename(path)), 0)  # pidfd_getfd
            assert number >= 0, os.strerror(ctypes.get_errno())
            with socket.socket(fileno=number) as listener:
                found += struct.unpack('ii', listener.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] != 0
    os.close(process)
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to read other processes')
def test_what_a_hostile_worker_set_ends_with_it(folder, origin):
    """It shares the listening sockets with all others."""
    build_root(folder)
    with Taken(folder, 'flood', origin, 1) as gateway:
        wait_until(lambda: lingering(gateway), 'its option on a listening socket')
        with open(folder + '/bin/hostile', 'w', encoding='utf-8') as file:
            file.write('flood 0\n')
        pid = gateway.pids('worker 0')[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: gateway.pids('worker 0') not in ([], [pid]), 'the next life')
        wait_until(lambda: not lingering(gateway), 'the option to be gone')
        gateway.serves()


def test_a_hostile_worker_floods(folder, origin):
    """Well-formed messages with hostile fields, answers that nobody asked for, garbage in the ring: nobody dies of it."""
    build_root(folder)
    with Taken(folder, 'flood', origin) as gateway:
        before = gateway.others()
        gateway.serves()
        wait_until(lambda: gateway.said('hostile: sent'), 'its messages to be sent', 3600 if SOAK else 120)
        assert int(re.search(r'sent (\d+)', gateway.said('hostile: sent')[0])[1]) >= COUNTS['flood']
        gateway.serves()
        assert gateway.others() == before, gateway.stderr
        assert not gateway.said('GOT|is ended|was ended'), gateway.stderr
        gateway.reload_well()
        gateway.serves()


def test_a_hostile_worker_breaks_the_form(folder, origin):
    """What has no form ends who sent it: reported by whom it was sent to, killed by the supervisor."""
    build_root(folder)
    with Taken(folder, 'break', origin) as gateway:
        before = gateway.others()
        wait_until(lambda: len(gateway.said(r'worker 0 \(pid \d+\) is ended: ')) >= (50 if SOAK else 5), lambda: f'it to be ended {gateway.stderr}', 300)
        gateway.serves()
        assert gateway.others() == before, gateway.stderr
        assert not gateway.said('GOT'), gateway.stderr


def test_a_hostile_worker_accuses_others(folder, origin):
    """`broken` ends who broke the rules, so it is what a liar would send: vault, keyholders and the other worker live on."""
    build_root(folder)
    with Taken(folder, 'accuse', origin) as gateway:
        before = gateway.others()
        wait_until(lambda: len(gateway.said('accuses')) >= 16, lambda: f'it to be heard: {gateway.stderr}')
        gateway.serves()
        assert gateway.others() == before, gateway.stderr
        # What it says is one line of the operator's terminal, and no more.
        assert not gateway.said('^portcullis: all is well'), gateway.stderr
        assert not any('\033' in line for line in gateway.stderr)


def test_what_a_hostile_files_tells_is_one_line(folder, origin):
    """`files` reads strangers' paths, and what it tells of a root goes to the operator's terminal."""
    build_root(folder)
    with Taken(folder, 'news', origin) as gateway:
        wait_until(lambda: len(gateway.said('it was')) >= 2, lambda: f'it to be heard: {gateway.stderr}')
        gateway.serves()
        assert not gateway.said('^portcullis: all is well'), gateway.stderr
        assert not any(c in line for line in gateway.stderr for c in '\033\u009b\u202e'), gateway.stderr
