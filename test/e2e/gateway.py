"""Starts the real program for a test, watches it, and ends it.

What is left over is found by what it holds, and ended by pid. Waits are for events, never for
durations: SAFETY_SECONDS only ends a test that would hang."""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SAFETY_SECONDS = int(os.environ.get('PORTCULLIS_TEST_SECONDS', 30))
SOAK = bool(os.environ.get('PORTCULLIS_SOAK'))
CLOCK_MOVE = 200  # src/ipc/messages.h, builds for tests only


def program():
    named = os.environ.get('PORTCULLIS')
    for path in [named] if named else [os.path.join(ROOT, b, 'portcullis') for b in ('build-asan', 'build')]:
        if os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise FileNotFoundError('no portcullis: run `make asan`')


def is_test_build():
    """Whether its clocks can be moved by message."""
    with open(program(), 'rb') as file:
        return b'clock_move' in file.read()


def is_sanitized():
    with open(program(), 'rb') as file:
        return b'__asan_init' in file.read()


def wait_until(condition, what, seconds=SAFETY_SECONDS, every=0.02):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f'waited {seconds} s for {what() if callable(what) else what}'
        time.sleep(every)


def free_ports(count):
    """Ports that are free on both loopback addresses."""
    held, ports = [], []
    while len(ports) < count:
        four, six = socket.socket(), socket.socket(socket.AF_INET6)
        held += [four, six]
        four.bind(('127.0.0.1', 0))
        with contextlib.suppress(OSError):
            six.bind(('::1', four.getsockname()[1]))
            ports.append(four.getsockname()[1])
    for one in held:
        one.close()
    return ports


def free_port():
    return free_ports(1)[0]


def new_folder():
    """One that processes of other users may enter."""
    folder = tempfile.mkdtemp(prefix='portcullis-e2e-', dir='/tmp')
    os.chmod(folder, 0o755)
    return folder


def run_command(*arguments, seconds=60, **options):
    """One command of the program, to its end."""
    environment = {**os.environ, **options.pop('env', {})}
    return subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=seconds, check=False,
                          env=environment, **options)


class Process:
    def __init__(self, pid):
        self.pid = pid
        with open(f'/proc/{pid}/stat', encoding='utf-8') as file:
            fields = file.read().rpartition(')')[2].split()
        self.state, self.parent = fields[0], int(fields[1])
        with open(f'/proc/{pid}/cmdline', encoding='utf-8') as file:
            self.command = file.read().replace('\0', ' ').strip()

    def holds(self, folder):
        """Whether it has a file below that folder open (all but the supervisor are sessions of their own)."""
        for path in glob.glob(f'/proc/{self.pid}/fd/*'):
            with contextlib.suppress(OSError):
                if os.readlink(path).startswith(folder):
                    return True
        return False

    def memory_bytes(self):
        with open(f'/proc/{self.pid}/status', encoding='utf-8') as file:
            return int(re.search(r'VmRSS:\s+(\d+) kB', file.read())[1]) * 1024


def processes():
    for path in glob.glob('/proc/[0-9]*'):
        with contextlib.suppress(OSError, ValueError, IndexError):
            one = Process(int(os.path.basename(path)))
            if one.state not in 'ZX':
                yield one


def is_alive(pid):
    try:
        return Process(pid).state not in 'ZX'
    except OSError:
        return False


class Gateway:
    """`with Gateway(text) as gateway:` runs it until it serves, and stops it.

    text: the configuration without its first line and `state`; {port} and {port2}… are replaced by free
    ports, {folder} by the test's folder. command: instead of `run -c FILE`, e.g. ['proxy', '3000', …]."""

    def __init__(self, text='', command=None, folder=None, ports=None, env=None, prefix=(), ready=True,
                 executable=None):
        self.folder = folder or new_folder()
        self.ports = ports or free_ports(4)
        self.is_folder_ours = folder is None
        self.state = os.path.join(self.folder, 'state')
        self.config = os.path.join(self.folder, 'portcullis.conf')
        self.command, self.prefix, self.wants_ready = command, list(prefix), ready
        self.executable = executable or program()
        self.env = {**os.environ, 'PORTCULLIS_STATE': self.state, **(env or {})}
        self.records, self.events, self.ready, self.stdout, self.stderr = [], [], [], [], []
        self.process, self.started, self.is_over, self.readers = None, [], False, []
        self.write(text)

    # ---- configuration

    def fill(self, text):
        text = text.replace('{folder}', self.folder)
        for i, port in enumerate(self.ports):
            text = text.replace('{port%s}' % ('' if i == 0 else i + 1), str(port))
        return text

    def write(self, text):
        with open(self.config + '.new', 'w', encoding='utf-8') as file:
            file.write(f'portcullis 1\nstate {self.state}\n{self.fill(text)}\n')
        os.chmod(self.config + '.new', 0o644)
        os.rename(self.config + '.new', self.config)

    @property
    def port(self):
        return self.ports[0]

    # ---- life

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.end_all()
            raise

    def __exit__(self, kind, error, traceback):
        try:
            if self.process and self.process.poll() is None and kind is None and not self.is_over:
                self.stop()
        finally:
            self.end_all()
        if kind is None:
            self.check_sanitizers()
            if self.is_folder_ours:
                shutil.rmtree(self.folder, ignore_errors=True)
        else:
            print(f'gateway in {self.folder}', *[line[:300] for line in self.stdout[-5:]], *self.stderr[-60:], sep='\n')

    def start(self):
        command = [self.executable, 'run', '-c', self.config]
        if self.command:
            command = [self.executable] + [self.fill(word) for word in self.command]
        self.ready.clear()
        self.is_over = False
        self.process = subprocess.Popen(self.prefix + command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        errors='replace', start_new_session=True, env=self.env, cwd=self.folder,
                                        stdin=subprocess.DEVNULL)
        self.started.append(self.process.pid)
        for stream, reader in ((self.process.stdout, self.read_stdout), (self.process.stderr, self.read_stderr)):
            thread = threading.Thread(target=reader, args=(stream,), daemon=True)
            thread.start()
            self.readers.append(thread)
        if self.wants_ready:
            wait_until(lambda: self.ready or self.process.poll() is not None, lambda: f'ready ({self.stderr})')
            assert self.ready, f'ended with {self.process.poll()}: {self.stderr}'
        return self

    def read_stdout(self, stream):
        for line in stream:
            line = line.rstrip('\n')
            self.stdout.append(line)
            if line.startswith('ready '):
                self.ready.append(line[6:])
            elif line.startswith('{'):
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    (self.records if 'end' in record and 'method' in record else self.events).append(record)

    def read_stderr(self, stream):
        for line in stream:
            self.stderr.append(line.rstrip('\n'))

    def signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self, seconds=45):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'did not end within {seconds} s') from None
        self.is_over = True
        return code

    def stop(self):
        """SIGTERM; it exits 0 and leaves no process behind."""
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f'exit code {code}'
        wait_until(lambda: not self.left(), lambda: f'these to end: {[p.command for p in self.left()]}', 5)

    def left(self):
        """Every process of this gateway: the started ones, and who holds something in its state folder."""
        return [p for p in processes() if p.pid in self.started or (
            re.match(r'portcullis [a-z]', p.command) and p.holds(self.state + '/'))]

    def end_all(self):
        for one in self.left():
            with contextlib.suppress(OSError):
                os.kill(one.pid, signal.SIGKILL)
        if self.process:
            self.process.wait()
        for thread in self.readers:
            thread.join(5)

    def check_sanitizers(self):
        said = '\n'.join(self.stderr)
        assert not re.search(r'AddressSanitizer|LeakSanitizer|runtime error:|MUST failed', said), said

    # ---- what runs

    def children(self):
        return [p for p in processes() if p.parent == self.process.pid]

    def pids(self, role):
        """Of the processes whose command line is `portcullis ROLE…`, by command line."""
        found = [p for p in self.children() if re.match(rf'(\S*/)?portcullis {role}( |$)', p.command)]
        return [p.pid for p in sorted(found, key=lambda p: p.command)]

    def pid(self, role):
        return wait_until(lambda: self.pids(role), f'a process {role} ({[p.command for p in self.children()]})')[0]

    def roles(self):
        """{command line without the program: pid}"""
        return {p.command.partition(' ')[2]: p.pid for p in self.children() if ' check' not in p.command}

    def status(self):
        done = run_command('status', '--json', '-c', self.config, env=self.env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def settle(self):
        """Waits until every process runs (one that is stopped while it starts has 30 s, not 2)."""
        wait_until(lambda: all(row['state'] == 'running' for row in self.status()), lambda: f'{self.status()} to run')

    def counter(self, name, role=None, group='counters'):
        """One counter of `status --json`, summed over all processes, or those of one kind. group: or 'ends', 'limits'."""
        return sum(row.get(group, {}).get(name, 0) for row in self.status() if role in (None, row['process']))

    def limit(self, name):
        """How often a limit was run into, in all processes."""
        return sum(row.get('limits', {}).get(name, 0) for row in self.status())

    def event(self, failure, count=1):
        """The events of TLS that name this failure, once there are `count`."""
        def found():
            return [e for e in list(self.events) if e.get('tls', {}).get('failure') == failure]
        wait_until(lambda: len(found()) >= count, lambda: f'{count} events {failure}: {self.events[-3:]}')
        return found()

    def reload(self, text=None):
        if text is not None:
            self.write(text)
        return run_command('reload', '-c', self.config, env=self.env)

    def reload_well(self, text=None):
        done = self.reload(text)
        assert done.returncode == 0, done.stderr

    def record(self, path, count=1):
        """The access records of requests for this path, once there are `count`."""
        def found():
            return [r for r in list(self.records) if r.get('path') == path]
        wait_until(lambda: len(found()) >= count, lambda: f'{count} access records of {path}: {self.stdout[-5:]}')
        return found()[-1] if count == 1 else found()

    def send_clock_move(self, monotonic, wall):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.connect(os.path.join(self.state, 'control.sock'))
            control.send(struct.pack('=IIqq', CLOCK_MOVE, 0, int(monotonic * 1e9), int(wall * 1e9)))
            control.settimeout(SAFETY_SECONDS)
            control.recv(100)  # its answer: the supervisor has told everybody

    def move_wall_clock(self, seconds):
        """As somebody who sets the clock: timers go by the other one."""
        self.send_clock_move(0, seconds)

    def move_clock(self, seconds, step=None):
        """Moves the clocks of every process (a build for tests). In steps where there is load: a jump over
        a whole time limit would end what is under way."""
        left = seconds
        while left > 0:
            now = min(step or left, left)
            left -= now
            self.send_clock_move(now, now)
            time.sleep(0.1 if left else 0)

    def root(self):
        """The path of a file with the local CA's root."""
        path = os.path.join(self.folder, 'root.pem')
        done = run_command('ca', 'root', '-c', self.config, env=self.env)
        assert done.returncode == 0, done.stderr
        with open(path, 'w', encoding='utf-8') as file:
            file.write(done.stdout)
        return path
