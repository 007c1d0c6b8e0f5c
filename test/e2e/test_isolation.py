"""Isolation, shown on the running program: where no key is, and what each process is and holds."""
import contextlib
import ctypes
import errno
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

from client import Client, Closed, get, tls_context
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


@pytest.mark.soak
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
        print(f'figures: {len(keys)} keys, {len(scanned)} processes, {sum(scan.read for scan in scanned.values()) >> 20} MiB read, 0 hits')
        # Nothing was looked for in vain: the vault has them in ordinary memory, keyholders where nobody reads.
        vault = Scan(pieces, gateway.pid('vault'))
        assert vault.hits >= len(keys)
        for pid in gateway.pids('keyholder'):
            keyholder = Scan(pieces, pid)
            if secret_memory(gateway) == {HIDDEN}:
                assert keyholder.refused > 64 << 10 and keyholder.read > 1 << 20


@pytest.mark.soak
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
    'vault': {'listener', 'handle STATE/keys', 'channel STATE/rescue.sock', 'memfd:tickets', 'memfd:rates', 'read memfd:range'},
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


def test_nobody_reads_what_the_operator_types():
    """Started in a terminal, its standard error can be read, and is everybody's."""
    master, slave = os.openpty()
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 "x" }\n',
                 prefix=['sh', '-c', f'exec "$@" 2<>{os.ttyname(slave)}', 'sh']) as gateway:
        def mode(pid):
            assert os.readlink(f'/proc/{pid}/fd/2').startswith('/dev/pts/')
            with open(f'/proc/{pid}/fdinfo/2', encoding='utf-8') as file:
                return int(re.search(r'flags:\s+(\d+)', file.read())[1], 8) & os.O_ACCMODE
        assert mode(gateway.process.pid) == os.O_RDWR
        assert {name: mode(pid) for name, pid in gateway.roles().items()} == {name: os.O_WRONLY for name in gateway.roles()}
    os.close(slave)
    os.close(master)


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
COUNTS = {'flood': 100000000 if SOAK else 1000000, 'break': 2000 if SOAK else 300, 'accuse': 100 if SOAK else 8, 'dial': 20000, 'news': 2,
          'stale': 1}


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
    """A service whose worker 0 is hostile."""

    def __init__(self, folder, mode, origin, count=None, text='', **options):
        super().__init__(HOSTILE_TEXT % origin.port + text, folder=folder, executable=hostile_program(folder, mode, COUNTS[mode] if count is None else count), **options)
        self.clients = 0  # connections that the test made

    def order(self, mode, count):
        """For lives to come."""
        with open(self.folder + '/bin/hostile', 'w', encoding='utf-8') as file:
            file.write(f'{mode} {count}\n')

    def end_worker(self, slot):
        """By a signal that is no crash's."""
        pid = self.pids(f'worker {slot}')[0]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.pids(f'worker {slot}') not in ([], [pid]), 'the next life')

    def said(self, pattern):
        return [line for line in list(self.stderr) if re.search(pattern, line)]

    def others(self):
        return {name: pid for name, pid in self.roles().items() if re.match('worker [1-9]|keyholder|vault|files|dialer|log', name)}

    def serves(self):
        """The other worker, for clients that it gets; a worker that dies takes its own with it."""
        def answered():
            with contextlib.suppress(OSError, Exception):
                self.clients += 1
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


def lingering(gateway, pid, kind):
    """How many sockets of that kind the process has, and how many of them have SO_LINGER set."""
    libc, found = ctypes.CDLL(None, use_errno=True), []
    process = os.pidfd_open(pid)
    wanted = {inode for inode, what_it_is in sockets(pid).items() if what_it_is == kind}
    for path in glob.glob(f'/proc/{pid}/fd/*'):
        with contextlib.suppress(FileNotFoundError):
            inode = re.match(r'socket:\[(\d+)\]', os.readlink(path))
            if inode and inode[1] in wanted:
                number = libc.syscall(438, process, int(os.path.basename(path)), 0)  # pidfd_getfd
                assert number >= 0, os.strerror(ctypes.get_errno())
                with socket.socket(fileno=number) as one:
                    found.append(struct.unpack('ii', one.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] != 0)
    os.close(process)
    return len(found), sum(found)


@pytest.mark.skipif(os.geteuid() != 0, reason='needs root to read other processes')
def test_what_a_hostile_worker_set_ends_with_it(folder, origin):
    """It shares the listening sockets with all others: a close of theirs must not wait for a peer that is silent."""
    build_root(folder)
    with Taken(folder, 'flood', origin, 1) as gateway:
        def spoiled():
            return lingering(gateway, gateway.process.pid, 'listener')[1]
        wait_until(spoiled, 'its option on a listening socket')
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(Client(gateway.port, tls_context()))
            connections = [lingering(gateway, pid, 'connection') for pid in gateway.pids('worker')]
            assert sum(count for count, _ in connections) >= 20 and connections[1][0], connections
            assert not any(set_ for _, set_ in connections), connections
        gateway.order('flood', 0)
        gateway.end_worker(0)
        wait_until(lambda: not spoiled(), 'the option to be gone')
        gateway.serves()


@pytest.fixture
def network():
    """Root's: a network of this thread and of what it starts, in which every address is there. So what is sent anywhere is
    counted. False for others, who run in that of the machine."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
    if libc.unshare(0x40000000):  # CLONE_NEWNET
        os.close(before)
        yield False
        return
    try:
        subprocess.run(['sh', '-ec', 'ip link set lo up; ip route add local 0.0.0.0/0 dev lo; ip -6 route add local ::/0 dev lo'], check=True)
        yield True
    finally:
        libc.setns(before, 0)
        os.close(before)


def sent():
    """What this network has seen begin: connections of TCP, datagrams of UDP, both over IPv4 and IPv6."""
    with open('/proc/thread-self/net/snmp', encoding='utf-8') as file:
        lines = [line.split() for line in file]
    found = {(names[0], name): int(value) for names, values in zip(lines[::2], lines[1::2]) for name, value in zip(names[1:], values[1:])}
    with open('/proc/thread-self/net/snmp6', encoding='utf-8') as file:
        six = dict(line.split() for line in file)
    return found['Tcp:', 'ActiveOpens'], found['Udp:', 'OutDatagrams'] + int(six['Udp6OutDatagrams'])


def test_what_is_sent_anywhere_is_counted(network):
    """The control of what follows."""
    if not network:
        pytest.skip('needs root to make a network')
    before = sent()
    for family, address in ((socket.AF_INET, '192.0.2.7'), (socket.AF_INET6, '2001:db8::7')):
        with socket.socket(family) as connection:
            assert connection.connect_ex((address, 9)) == errno.ECONNREFUSED
        with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            datagrams.sendto(b'x', (address, 9))
    assert sent() == (before[0] + 2, before[1] + 2)


@pytest.mark.soak
def test_a_hostile_worker_floods(network, folder, origin):
    """Well-formed messages with hostile fields, answers that nobody asked for, garbage in the ring: nobody dies of it,
    and the dialer connects to nothing but the plan's origin, as often as that sees it."""
    build_root(folder)
    opened, datagrams = sent()
    with Taken(folder, 'flood', origin) as gateway:
        before = gateway.others()
        gateway.serves()
        started = time.monotonic()
        wait_until(lambda: gateway.said('hostile: sent'), 'its messages to be sent', 24 * 3600 if SOAK else 120)
        seconds = time.monotonic() - started
        assert int(re.search(r'sent (\d+)', gateway.said('hostile: sent')[0])[1]) >= COUNTS['flood']
        gateway.serves()
        assert gateway.others() == before, gateway.stderr
        assert not gateway.said('GOT|is ended|was ended'), gateway.stderr
        gateway.reload_well()
        gateway.serves()

        def all_connections_are_of_the_plan():
            return sent() == (opened + gateway.clients + origin.connection_count, datagrams)
        if network:
            wait_until(all_connections_are_of_the_plan, lambda: f'{sent()} to be {opened} and {gateway.clients} of clients and '
                       f'{origin.connection_count} of the origin; {datagrams}')
        assert origin.connection_count > COUNTS['flood'] // 10000
        print(f"figures: {gateway.said('hostile: sent')[0]} in {seconds:.0f} s; {origin.connection_count} connections, all of the plan")


@contextlib.contextmanager
def full_origin():
    """One that lets nobody in: each connection waits for as long as it may."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(('127.0.0.1', 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_hostile_worker_dials_without_end(folder):
    """Connections that never come to be: it uses up its own share of the dialer's descriptors, and not the others'."""
    def behave(exchange):
        exchange.reply(200, b'here', 'Connection: close')
        return False

    build_root(folder)
    with full_origin() as full, Origin(behave) as origin, Taken(folder, 'dial', origin, text=f'site full.localhost {{ proxy 127.0.0.1:{full} }}\n',
                                                                prefix=['prlimit', '--nofile=400']) as gateway:
        before = gateway.others()
        wait_until(lambda: gateway.said('hostile: sent'), 'its messages to be sent')
        for _ in range(20):
            gateway.serves()
        assert gateway.others() == before and not gateway.said('is ended|was ended'), gateway.stderr
        held = len(glob.glob(f"/proc/{gateway.pid('dialer')}/fd/*"))
        assert 40 < held < 300, held


def shake_hands_with(gateway, context, session=None):
    """Whether it was resumed, and the ticket that came."""
    def answered():
        with contextlib.suppress(OSError, ssl.SSLError, Closed):
            with Client(gateway.port, context, session=session, timeout=5) as client:
                client.get('/')
                return client.socket.session_reused, client.socket.session
        return None
    return wait_until(answered, 'a handshake')


def test_what_a_hostile_worker_knew_of_tickets_ends_with_it(folder, origin):
    """Who breaks the rules was taken over, and had the ticket keys."""
    build_root(folder)
    context = tls_context()
    with Taken(folder, 'break', origin, 0) as gateway:
        def resumes(ticket):
            return shake_hands_with(gateway, context, ticket)[0]
        ticket = shake_hands_with(gateway, context)[1]
        assert resumes(ticket)
        gateway.end_worker(0)  # the control: an operator's kill costs nobody a ticket
        gateway.serves()
        assert resumes(ticket)
        gateway.order('break', 50)
        gateway.end_worker(0)
        wait_until(lambda: gateway.said(r'worker 0 \(pid \d+\) is ended: (?!closed its channel)'), lambda: f'it to be ended: {gateway.stderr}')
        gateway.order('break', 0)
        wait_until(lambda: not resumes(ticket), 'new ticket keys')
        assert resumes(shake_hands_with(gateway, context)[1])


def test_a_late_report_ends_no_successor(folder, origin):
    """`files` tells of a worker that is gone; the next one of that slot broke nothing."""
    build_root(folder)
    with Taken(folder, 'stale', origin) as gateway:
        gateway.end_worker(1)
        before = gateway.roles()
        wait_until(lambda: gateway.said('files 0 reports that the rules were broken by worker 1'), lambda: f'it to be heard: {gateway.stderr}')
        gateway.serves()
        assert gateway.roles() == before, gateway.stderr
        # That one's own end may be told as the end of its channel first.
        assert not [line for line in gateway.said('is ended') if 'closed its channel' not in line], gateway.stderr


@pytest.mark.soak
def test_a_hostile_worker_breaks_the_form(folder, origin):
    """What has no form ends who sent it: reported by whom it was sent to, killed by the supervisor."""
    build_root(folder)
    with Taken(folder, 'break', origin) as gateway:
        before = gateway.others()
        wait_until(lambda: len(gateway.said(r'worker 0 \(pid \d+\) is ended: ')) >= (50 if SOAK else 5), lambda: f'it to be ended {gateway.stderr}', 1200 if SOAK else 300)
        gateway.serves()
        assert gateway.others() == before, gateway.stderr
        assert not gateway.said('GOT'), gateway.stderr


@pytest.mark.soak
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


def test_a_hostile_files_that_tells_without_end_is_ended(folder, origin):
    build_root(folder)
    with Taken(folder, 'news', origin, 100000) as gateway:
        wait_until(lambda: gateway.said(r'files \(pid \d+\) is ended: too many messages a second'), lambda: f'it to be ended: {gateway.stderr[-5:]}')
        gateway.order('news', 0)
        gateway.serves()
        assert len(gateway.said('it was')) < 2000, len(gateway.stderr)
