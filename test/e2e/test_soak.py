"""Mixed load for half an hour, while one process after the other is killed: what is lost is what a killed worker was doing,
and nobody grows."""
import collections
import contextlib
import datetime
import hashlib
import json
import os
import random
import signal
import socket
import threading
import time

import pytest

from client import Client, Closed, Truncated, tls_context
from gateway import SOAK, Gateway, is_sanitized, wait_until
from origin import Origin
from traffic import Application, WebSocket, content, held

SECONDS = 60 * int(os.environ.get('PORTCULLIS_SOAK_MINUTES', 30)) if SOAK else 18
PAUSE = (1, 4) if SOAK else (0.6, 1.4)
KINDS = ('worker', 'keyholder', 'vault', 'files', 'dialer', 'log')
# At rest, from the start to the end. A process may be one that has just been born, or have lived through all of it.
MORE_DESCRIPTORS = 4
MORE_KIB = 64 << 10 if is_sanitized() else 4 << 10
BIG = 24 << 20

SITE = '''
log access {folder}/access.json
listen 127.0.0.1:{port}
listen 127.0.0.1:{port2} plain serve
site localhost {
    certificate internal
    files {folder}/site on /files/*
    proxy 127.0.0.1:ORIGIN on /app/*
    respond 200 "who"
}
'''

Kill = collections.namedtuple('Kill', 'role slot began ended')


class Wrong(Exception):
    """An answer came, and it is not the right one: no death excuses that."""


class Loss:
    def __init__(self, caller, error):
        self.caller, self.error = caller, f'{type(error).__name__} {error}'
        self.is_wrong = isinstance(error, (Wrong, ConnectionRefusedError, AssertionError, TimeoutError))
        # From when it was last seen to work. A connection that is kept may have ended before anything was asked of it.
        self.since, self.until = caller.alive_at, time.monotonic()
        self.connected_at, self.lost_at = caller.connected_at, time.time()  # as the log has it
        self.port, self.workers = caller.port, set()

    def __str__(self):
        return f'{self.caller.name} port {self.port}: {self.error}, {self.until - self.since:.3f} s after it last worked, worker {self.workers}'

    def is_explained_by(self, kill):
        return kill.role == 'worker' and self.workers <= {kill.slot} and self.since <= kill.ended and kill.began <= self.until


class Caller(threading.Thread):
    """One client, which does one thing again and again. Each connection first asks for something small: the line of that
    tells whose it is."""

    def __init__(self, soak, number):
        super().__init__(daemon=True)
        self.soak, self.number, self.name = soak, number, type(self).__name__
        self.random = random.Random(f'{self.name} {number}')
        self.client, self.port, self.alive_at, self.connected_at, self.used = None, 0, 0, 0, 0
        self.done, self.answered, self.losses, self.session = 0, 0, [], None

    per_connection, is_tls, pause = 20, True, 0.02

    def connect(self):
        self.alive_at, self.connected_at, self.port, self.used = time.monotonic(), time.time(), 0, 0
        self.client = Client(self.soak.ports[not self.is_tls], self.soak.tls if self.is_tls else None, session=self.session)
        self.port = self.client.socket.getsockname()[1]
        self.get('/who', b'who')

    def expect(self, got, wanted):
        if got != wanted:
            raise Wrong(f'{len(got)} bytes {got[:60]}, not {len(wanted)} bytes {wanted[:60]}')

    def get(self, target, wanted, **options):
        asked = time.monotonic()
        response = self.client.get(target, **options)
        if response.status != 200:
            raise Wrong(f'{target}: {response.status} {response.body[:80]}')
        self.answered += 1
        self.expect(response.body, wanted)
        # Then its worker lived; when the answer was read it may have been in a buffer for long.
        self.alive_at = asked

    def hang_up(self):
        if self.client:
            self.client.close()
        self.client = None

    def run(self):
        while not self.soak.over.is_set():
            if not self.soak.gate.is_set():
                self.hang_up()
                with self.soak.resting(self):
                    self.soak.gate.wait()
                continue
            try:
                if not self.client or self.used >= self.per_connection:
                    self.hang_up()
                    self.connect()
                self.used += 1
                self.call()
                self.done += 1
            except (OSError, Closed, Truncated, AssertionError, Wrong) as error:
                self.losses.append(Loss(self, error))
                self.hang_up()
            time.sleep(self.pause)
        self.hang_up()

    def call(self):
        raise NotImplementedError


class SmallFile(Caller):
    def call(self):
        number = self.random.randrange(8)
        self.get(f'/files/small-{number}', self.soak.small[number])


class Proxied(Caller):
    is_tls, pause = False, 0.01

    def call(self):
        token = f'{self.number}-{self.done}-{self.random.randrange(1 << 30)}'
        self.get(f'/app/echo/{token}', f'app {token}'.encode())


class Upload(Caller):
    per_connection, pause = 4, 0.1

    def call(self):
        body = content(f'{self.number} {self.done}', self.random.randrange(1 << 22))
        self.get('/app/upload', hashlib.sha256(body).hexdigest().encode(), method='POST', body=body)


class Socket(Caller):
    per_connection = 1

    def call(self):
        tunnel = WebSocket(self.client)
        for _ in range(30):
            asked = time.monotonic()
            if not tunnel.say(self.random.randrange(1, 20000)):
                raise Wrong('an echo of something else')
            self.alive_at = asked
            time.sleep(0.05)


class Events(Caller):
    per_connection = 3

    def call(self):
        self.get('/app/events/20/0.05', b''.join(f'data: {i}\n\n'.encode() for i in range(20)))


class BigFile(Caller):
    per_connection, pause = 2, 0.3

    def call(self):
        self.get('/files/big', self.soak.big)


class BigProxied(Caller):
    is_tls, per_connection, pause = False, 2, 0.3

    def call(self):
        name, size = f'big-{self.done}', self.random.randrange(BIG)
        self.get(f'/app/body/{name}/{size}', content(name, size))


class Handshake(Caller):
    per_connection, pause = 1, 0.05

    def call(self):
        self.get('/', b'who')


class Resumed(Handshake):
    """The next connection begins with the ticket of this one."""

    def call(self):
        self.get('/', b'who')
        if self.session:
            self.soak.resumed[self.client.socket.session_reused] += 1
        self.session = self.client.socket.session


class Slow(Caller):
    is_tls, per_connection = False, 1

    def call(self):
        for byte in f'GET /files/slow HTTP/1.1\r\nHost: localhost\r\nX-{"a" * 20}: 1\r\n\r\n'.encode():
            self.client.send(bytes([byte]))
            time.sleep(0.01)
        self.client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
        head = self.client.head()
        got, left = b'', int(head.get('Content-Length'))
        while left:
            part = self.client.exactly(min(left, 1 << 15))
            got, left = got + part, left - len(part)
            time.sleep(0.02)
        self.expect(got, self.soak.slow)


CALLERS = (SmallFile, SmallFile, Proxied, Proxied, Upload, Socket, Events, BigFile, BigProxied, Handshake, Resumed, Slow)


class Soak(Gateway):
    def __init__(self, origin):
        super().__init__(SITE.replace('ORIGIN', str(origin.port)), env={
            'ASAN_OPTIONS': os.environ.get('ASAN_OPTIONS', '') + ':quarantine_size_mb=1'})
        self.origin, self.tls = origin, tls_context()
        self.gate, self.over, self.lock = threading.Event(), threading.Event(), threading.Lock()
        self.rests, self.kills, self.resumed = set(), [], {True: 0, False: 0}
        self.small = [content(f'small {i}', 40 << i) for i in range(8)]
        self.big, self.slow = content('big', BIG), content('slow', 1 << 18)
        os.makedirs(self.folder + '/site/files')
        for name, body in (*((f'small-{i}', body) for i, body in enumerate(self.small)), ('big', self.big), ('slow', self.slow)):
            with open(f'{self.folder}/site/files/{name}', 'wb') as file:
                file.write(body)
        self.callers = [kind(self, i) for i, kind in enumerate(CALLERS)]

    @contextlib.contextmanager
    def resting(self, caller):
        with self.lock:
            self.rests.add(caller)
        yield
        with self.lock:
            self.rests.discard(caller)

    def kill_one(self, kind):
        role = random.choice([role for role in self.roles() if role.split()[0] == kind] or [''])
        pid = self.roles().get(role)
        if not pid:
            return
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        # Its sockets end with it, and that may take the kernel a moment.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not os.path.exists(f'/proc/{pid}/fd/0') and self.roles().get(role) != pid, 'its end', 5)
        slot = int(role.split()[1]) if len(role.split()) > 1 else 0
        self.kills.append(Kill(kind, slot, began, time.monotonic()))

    def work(self, seconds, kills=True):
        self.gate.set()
        end, turn = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            time.sleep(random.uniform(*PAUSE))
            if kills:
                # Each kind in turn, workers and keyholders twice as often: there is one for each core.
                self.kill_one((*KINDS, 'worker', 'keyholder')[turn % (len(KINDS) + 2)])
                turn += 1

    def at_rest(self):
        """What everybody holds when nobody asks for anything."""
        self.gate.clear()
        wait_until(lambda: len(self.rests) == len(self.callers), lambda: f'{self.callers} to rest, but for {self.rests}', 120)
        self.settle()
        wait_until(lambda: sum(row['connections'] for row in self.status()) == 0 and not self.origin.connections, 'connections to end')
        return held(self)

    def say_whose(self, losses):
        """By the lines of the connections that were lost. How many lines say that all is well."""
        ports = {loss.port: [] for loss in losses if loss.port}
        count = 0
        with open(self.folder + '/access.json', encoding='utf-8') as file:
            for line in file:
                record = json.loads(line)
                count += record['status'] == 200 and record['end'] == 'ok' and record['path'] != '/files/slow'
                if record.get('client_port') in ports:
                    at = datetime.datetime.fromisoformat(record['time'].replace('Z', '+00:00')).timestamp()
                    ports[record['client_port']].append((at, record['worker']))
        for loss in losses:
            # A port may have been another connection's before.
            loss.workers = {worker for at, worker in ports.get(loss.port, []) if loss.connected_at <= at <= loss.lost_at}
        return count


def check_losses(soak):
    losses = [loss for caller in soak.callers for loss in caller.losses]
    lines = soak.say_whose(losses)
    bad = [str(loss) for loss in losses if loss.is_wrong or not any(loss.is_explained_by(kill) for kill in soak.kills)]
    killed = collections.Counter(kill.role for kill in soak.kills)
    assert not bad, f'{len(bad)} of {len(losses)}: ' + '\n'.join(bad[:20])
    assert not any(len(loss.workers) > 1 for loss in losses)
    assert not soak.resumed[False], soak.resumed
    answers = sum(caller.answered for caller in soak.callers)
    # A worker may die between an answer and its line, or between a line and what the client has read of its answer.
    assert abs(answers - lines) <= len(soak.kills), (answers, lines)
    return (f'{sum(caller.done for caller in soak.callers)} done, {len(losses)} lost, all by the death of their worker '
            f'({sum(bool(loss.workers) for loss in losses)} as the log says, {sum(not loss.workers for loss in losses)} before their '
            f'first line); {answers} answers, {lines} lines; killed: {", ".join(f"{kind} {count}" for kind, count in killed.items())}; '
            f'{soak.resumed[True]} handshakes resumed, {soak.resumed[False]} not')


def say_growth(points):
    print('figures: descriptors and PSS in KiB at rest, at the start, in the middle, at the end: ' + '; '.join(
        f'{role} ' + ', '.join(f'{point[role][0]} {point[role][1]}' for point in points if role in point) for role in sorted(points[0])))


def check_growth(points):
    start, *_, end = points
    assert set(start) == set(end), (set(start), set(end))
    grown = {role: (start[role], end[role]) for role in start
             if end[role][0] > start[role][0] + MORE_DESCRIPTORS or end[role][1] > start[role][1] + MORE_KIB}
    assert not grown, grown


@pytest.mark.soak
def test_soak():
    with Origin(Application()) as origin, Soak(origin) as soak:
        origin.requests = collections.deque(maxlen=100)
        for caller in soak.callers:
            caller.start()
        soak.work(SECONDS / 30, kills=False)
        points = [soak.at_rest()]
        # Without a death nothing is lost.
        assert not [str(loss) for caller in soak.callers for loss in caller.losses]
        for _ in range(2):
            soak.work(SECONDS / 2)
            points.append(soak.at_rest())
        soak.over.set()
        soak.gate.set()
        for caller in soak.callers:
            caller.join(60)
            assert caller.done > 2, caller.name
        say_growth(points)
        print('figures: ' + check_losses(soak))
        check_growth(points)
