"""Where it may be started: as PID 1, without standard descriptors, below a root that nobody may write, beside others who
hold its port; and what few descriptors are."""
import contextlib
import glob
import mmap
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

from client import get
from gateway import Gateway, is_alive, processes, run_command, wait_until

SITE = 'listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "one" }'


@pytest.fixture
def namespaces():
    if subprocess.run(['unshare', '--fork', '--pid', '--mount-proc', 'true'], check=False, capture_output=True).returncode:
        pytest.skip('no namespaces of our own here')


# ---- PID 1

def children_of(pid):
    """Also those that have ended and were not reaped: (pid, state)."""
    found = []
    for path in glob.glob('/proc/[0-9]*/stat'):
        try:
            with open(path, encoding='utf-8') as file:
                fields = file.read().rpartition(')')[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append((int(path.split('/')[2]), fields[0]))
    return found


def test_as_pid_1(namespaces):
    """It serves, takes the ends of processes that are none of its own, and SIGTERM ends it with 0."""
    with Gateway(SITE, prefix=['unshare', '--fork', '--pid', '--mount-proc', '--kill-child']) as gateway:
        inner = children_of(gateway.process.pid)[0][0]
        assert get(gateway.port, '/').text == 'one'
        assert [row for row in gateway.status() if row['process'] == 'supervisor'][0]['pid'] == 1
        ours = {pid for pid, _ in children_of(inner)}
        # Strangers whose parents end before them: they become children of PID 1.
        for _ in range(3):
            subprocess.run(['nsenter', '--pid', '--mount', '--target', str(inner), 'sh', '-c', 'sleep 1 & sleep 1 & true'], check=True)
        strangers = {pid for pid, _ in children_of(inner)} - ours
        assert len(strangers) == 6
        # One of its own ends with them.
        worker = [p.pid for p in processes() if p.parent == inner and ' worker 0' in p.command][0]
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not {pid for pid, _ in children_of(inner)} & (strangers | {worker}), 'the strangers to be reaped')
        wait_until(lambda: [p for p in processes() if p.parent == inner and ' worker 0' in p.command], 'a new worker')
        assert get(gateway.port, '/').text == 'one'
        everybody = [pid for pid, _ in children_of(inner)]
        os.kill(inner, signal.SIGTERM)
        assert gateway.wait() == 0
        assert not [pid for pid in [inner, *everybody] if is_alive(pid)]


# ---- Without a terminal, without descriptors, without a place to write

def is_served(gateway):
    try:
        return get(gateway.port, '/').text == 'one'
    except OSError:
        return False


def test_without_standard_descriptors():
    """0, 1 and 2 are closed, and there is no terminal: nothing of ours gets their numbers."""
    with Gateway(SITE, ready=False, prefix=['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh']) as gateway:
        wait_until(lambda: is_served(gateway), 'an answer')
        for pid in [gateway.process.pid, *gateway.roles().values()]:
            assert {os.readlink(f'/proc/{pid}/fd/{number}') for number in (0, 1, 2)} == {'/dev/null'}, pid
            with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
                assert file.read().rpartition(')')[2].split()[4] == '0', 'it has a terminal'
        gateway.reload_well()
        os.kill(gateway.pid('log'), signal.SIGKILL)
        gateway.settle()
        assert is_served(gateway)


READ_ONLY = '''
folder=$1; shift
mount --make-rprivate / && mount --bind "$folder" "$folder" && mount -o remount,bind,ro / || exit 99
touch /tmp/portcullis-may-write 2>/dev/null && exit 98
exec "$@"
'''


def test_a_root_that_nobody_may_write(namespaces, folder):
    """All but the state folder is read-only, /tmp too."""
    with Gateway(SITE, folder=folder, prefix=['unshare', '--mount', 'sh', '-c', READ_ONLY, 'sh', folder]) as gateway:
        assert is_served(gateway)
        gateway.reload_well()
        for kind in ('vault', 'worker', 'log'):
            os.kill(gateway.pid(kind), signal.SIGKILL)
        gateway.settle()
        assert is_served(gateway)
        assert run_command('ca', 'root', '-c', gateway.config, env=gateway.env).returncode == 0


def test_a_state_folder_that_may_not_be_written(namespaces, folder):
    with Gateway(SITE, folder=folder, ready=False,
                 prefix=['unshare', '--mount', 'sh', '-c', READ_ONLY.replace('mount --bind "$folder" "$folder" && ', ''), 'sh', folder]) as gateway:
        assert gateway.wait() == 1
        assert any(f'state folder {gateway.state}: Read-only file system: mount there' in line for line in gateway.stderr), gateway.stderr


def test_root_without_its_capabilities(folder):
    """As in a container that has none left: what to do is said. Another user needs none."""
    if os.geteuid() != 0:
        pytest.skip('needs root to become somebody else')
    bare = ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs']
    with Gateway(SITE, ready=False, prefix=bare) as gateway:
        assert gateway.wait() == 1
        assert any('keys: Operation not permitted: root without root\'s capabilities cannot' in line for line in gateway.stderr), gateway.stderr
    os.makedirs(folder + '/own/state')
    os.chown(folder + '/own', 65534, 65534)
    os.chown(folder + '/own/state', 65534, 65534)
    with Gateway(SITE, folder=folder + '/own', prefix=[*bare, '--reuid=65534', '--regid=65534', '--clear-groups']) as gateway:
        assert is_served(gateway)


# ---- A port that somebody else has

OTHER = '''
import os, socket, sys, time
held = socket.socket()
if sys.argv[2] == "shared":
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
held.bind(("127.0.0.1", int(sys.argv[1])))
held.listen()
print("ready", flush=True)
time.sleep(600)
'''


@pytest.mark.parametrize('how', ['alone', 'shared'])
def test_a_port_that_somebody_else_holds(how):
    """Whether or not he would share it: address, program, pid and uid are named, at a start and at a reload, and what
    runs goes on."""
    with Gateway(SITE) as gateway:
        port = gateway.ports[1]
        with subprocess.Popen(['python3', '-c', OTHER, str(port), how], stdout=subprocess.PIPE, text=True) as other:
            try:
                assert other.stdout.readline() == 'ready\n'
                with open(f'/proc/{other.pid}/comm', encoding='utf-8') as file:
                    comm = file.read().strip()
                said = f'127.0.0.1:{port} is in use by {comm} (pid {other.pid}, uid {os.getuid()})'
                done = gateway.reload(SITE + '\nlisten 127.0.0.1:{port2} plain serve')
                assert done.returncode == 1 and said in done.stderr, done.stderr
                assert is_served(gateway)
                with Gateway(SITE, ready=False, ports=[port, 0, 0, 0]) as second:
                    assert second.wait() == 1
                    assert any(said in line for line in second.stderr), second.stderr
            finally:
                other.kill()
        gateway.reload_well(SITE + '\nlisten 127.0.0.1:{port2} plain serve')
        assert get(port, '/').text == 'one'


def test_a_second_start_on_the_same_state(folder):
    """Also one with another text on another port: the state folder is one gateway's."""
    with Gateway(SITE, folder=folder) as gateway:
        text = f'portcullis 1\nstate {gateway.state}\nlisten 127.0.0.1:{gateway.ports[1]} plain serve\nsite localhost {{ respond 200 }}\n'
        path = folder + '/second.conf'
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)
        roles = gateway.roles()
        for _ in range(2):
            done = run_command('run', '-c', path, env=gateway.env)
            assert done.returncode == 1 and f'already running as pid {gateway.process.pid}' in done.stderr, done.stderr
        assert gateway.roles() == roles and is_served(gateway)
        with pytest.raises(OSError):
            get(gateway.ports[1], '/')


# ---- Births that hang

def newborn(gateway, role, old):
    """The pid of the next life as soon as there is one."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for pid, _ in children_of(gateway.process.pid):
            if pid == old:
                continue
            try:
                with open(f'/proc/{pid}/cmdline', encoding='utf-8') as file:
                    if file.read().replace('\0', ' ').strip().endswith(f'portcullis {role}'):
                        return pid
            except OSError:
                continue
    raise AssertionError(f'no new {role}')


@pytest.mark.parametrize('role', ['worker 0', 'vault'])
def test_a_process_that_is_stopped_while_it_is_born(role):
    """It has no heartbeat to stand still yet, and is ended for hanging all the same, not for being slow."""
    with Gateway(SITE) as gateway:
        caught = False
        for _ in range(10):
            gateway.settle()
            old = gateway.roles()[role]
            os.kill(old, signal.SIGKILL)
            pid = newborn(gateway, role, old)
            os.kill(pid, signal.SIGSTOP)
            states = {row['state'] for row in gateway.status() if row['pid'] == pid}
            wait_until(lambda p=pid: not is_alive(p), 'its end')
            wait_until(lambda p=pid: any(f'{role} (pid {p}) is ended: no heartbeat for 2 seconds' in line for line in gateway.stderr),
                       lambda: f'the reason in {gateway.stderr[-5:]}')
            caught = 'starting' in states
            if caught:
                break
        assert caught, 'it was always ready before it could be stopped'
        assert is_served(gateway)
        gateway.settle()


# ---- Few descriptors

IPC_SUPERVISOR, IPC_VAULT = 0, 3  # src/ipc/messages.h


class Range:
    """What one process says of itself in shared memory (struct ipc_range), through a descriptor of the supervisor."""

    def __init__(self, path):
        fd = os.open(path, os.O_RDONLY)
        self.memory = mmap.mmap(fd, 4096, prot=mmap.PROT_READ)
        os.close(fd)
        self.format, self.kind = struct.unpack_from('=II', self.memory)

    @property
    def heartbeat(self):
        return struct.unpack_from('=Q', self.memory, 8)[0]


def ranges(pid):
    found = []
    for path in glob.glob(f'/proc/{pid}/fd/*'):
        if os.readlink(path).startswith('/memfd:range'):
            found.append(Range(path))
    return found


def turns_in_a_second(count):
    before = count()
    time.sleep(1)
    return count() - before


FEW = 240
FEW_FILES = ['prlimit', f'--nofile={FEW}:{FEW}', '--']


def take_all(gateway, name, pid):
    """Connections to a socket of the state folder until the process that accepts there has no descriptor left."""
    held, path = [], os.path.join(gateway.state, name)

    def is_full():
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # then as many wait as the kernel lets
            one.connect(path)
        held.append(one)
        return len(os.listdir(f'/proc/{pid}/fd')) >= FEW
    wait_until(is_full, 'every descriptor to be taken', every=0.002)
    return held


def test_commands_take_every_descriptor_of_the_supervisor():
    """Nobody else can connect to control.sock meanwhile, the rest goes on, no loop turns for nothing; and it recovers."""
    with Gateway(SITE, prefix=FEW_FILES) as gateway:
        pid = gateway.process.pid
        supervisor = [r for r in ranges(pid) if r.kind == IPC_SUPERVISOR and r.format][0]
        held = take_all(gateway, 'control.sock', pid)
        try:
            counted = [turns_in_a_second(lambda: supervisor.heartbeat) for _ in range(3)]
            assert max(counted) < 100, counted
            assert is_served(gateway)
            # A child that ends now cannot be started again; that too is tried again and again, and not all the time.
            os.kill(gateway.pid('log'), signal.SIGKILL)
            wait_until(lambda: any('log could not be started' in line for line in gateway.stderr), 'a start that failed')
            counted = [turns_in_a_second(lambda: supervisor.heartbeat) for _ in range(3)]
            assert max(counted) < 100, counted
            assert is_served(gateway)
        finally:
            for one in held:
                one.close()
        gateway.settle()
        gateway.reload_well()
        assert is_served(gateway)


def test_the_old_vault_rests_without_descriptors():
    """Its rescue socket is asked by more than it has descriptors for: it does not turn, and serves the next start."""
    with Gateway(SITE, prefix=FEW_FILES) as gateway:
        vault = gateway.pid('vault')
        beat = [r for r in ranges(gateway.process.pid) if r.kind == IPC_VAULT][0]
        orphans = list(gateway.roles().values())
        gateway.signal(signal.SIGKILL)
        gateway.process.wait()
        held = take_all(gateway, 'rescue.sock', vault)
        try:
            counted = [turns_in_a_second(lambda: beat.heartbeat) for _ in range(3)]
            assert max(counted) < 100, counted
            assert is_alive(vault) and is_served(gateway)
        finally:
            for one in held:
                one.close()
        gateway.start()
        assert any('taking over' in line for line in gateway.stderr), gateway.stderr
        wait_until(lambda: not [pid for pid in orphans if is_alive(pid)], 'the orphans to end')
        assert is_served(gateway)
