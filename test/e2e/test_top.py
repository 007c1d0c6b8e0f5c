"""What `portcullis top` shows: on a terminal, where there is none, and while the service goes and comes."""
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading

from client import get
from gateway import Gateway, program, run_command, wait_until
from origin import Origin
from test_orphans import kill_supervisor

SITES = ('listen 127.0.0.1:{port} plain serve\nsite localhost { respond 404 on /no; respond 200 "ok" }\n'
         'site app.test { proxy 127.0.0.1:{port3} }\n')


class Terminal:
    """The program on a terminal of its own; `screen` is what stands there, by line."""

    def __init__(self, gateway, rows=24, columns=80):
        self.main, self.side = pty.openpty()
        self.resize(rows, columns, None)
        self.before = termios.tcgetattr(self.side)
        self.all, self.read = b'', threading.Thread(target=self.reader, daemon=True)
        self.process = subprocess.Popen([program(), 'top', '-c', gateway.config], stdin=self.side, stdout=self.side,
                                        stderr=self.side, start_new_session=True, env=gateway.env)
        self.read.start()

    def reader(self):
        with contextlib.suppress(OSError):
            while data := os.read(self.main, 65536):
                self.all += data

    def resize(self, rows, columns, process):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        if process:
            process.send_signal(signal.SIGWINCH)

    def screens(self):
        """Each one that was drawn to its end."""
        return [re.sub(r'\x1b\[[0-9?]*[A-Za-z]|\r', '', one) for one in
                re.findall(r'\x1b\[H(.*?)\x1b\[J', self.all.decode('ascii'), flags=re.S)]

    def shows(self, pattern, since=0):
        wait_until(lambda: any(re.search(pattern, one, flags=re.M) for one in self.screens()[since:]),
                   lambda: f'{pattern!r} in {self.screens()[-1:]}')

    def press(self, key):
        count = len(self.screens())
        os.write(self.main, key)
        return count

    def ended(self, code):
        assert self.process.wait(30) == code
        assert termios.tcgetattr(self.side) == self.before
        wait_until(lambda: self.all.rstrip().endswith(b'\x1b[?25h\x1b[?1049l'), lambda: f'the screen before: {self.all[-60:]}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.side)
        self.read.join(5)
        os.close(self.main)


def test_a_terminal():
    """It draws, each key does what it says, a new size holds at once, and `q` leaves the terminal as it was."""
    with Origin() as origin, Gateway(SITES.replace('{port3}', str(origin.port))) as gateway:
        with Terminal(gateway) as terminal:
            terminal.shows(r'^portcullis .* configuration 1 ')
            for _ in range(5):
                get(gateway.port, '/no')
                assert get(gateway.port, '/', host='app.test').status == 200
            terminal.shows(r'^localhost ')
            terminal.shows(r'^worker 0 ')
            terminal.shows(r'^codes/s .* 4xx [1-9]')
            terminal.shows(r'order: requests')
            terminal.shows('order: errors', terminal.press(b'o'))
            since = terminal.press(b'p')
            terminal.shows('^supervisor ', since)
            assert all('SITE' not in one for one in terminal.screens()[since + 1:])
            terminal.shows(r'^  up    .*' + str(origin.port), terminal.press(b'u'))
            terminal.shows(r'^app.test ', terminal.press(b's'))
            terminal.press(b'\x1b[A')  # an arrow: not `A`
            since = len(terminal.screens())
            terminal.resize(9, 40, terminal.process)
            wait_until(lambda: [one for one in terminal.screens()[since:] if one.count('\n') < 9 and max(
                map(len, one.split('\n'))) == 40], 'a small screen')
            os.write(terminal.main, b'q')
            terminal.ended(0)


def test_signals():
    """Whatever ends it, the terminal is as it was."""
    with Gateway(SITES) as gateway:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with Terminal(gateway) as terminal:
                terminal.shows('^portcullis ')
                terminal.process.send_signal(number)
                terminal.ended(128 + number)


def test_the_service_goes_and_returns():
    with Gateway(SITES) as gateway, Terminal(gateway) as terminal:
        terminal.shows('order: requests')
        kill_supervisor(gateway)
        terminal.shows('trying again each second')
        since = len(terminal.screens())
        gateway.start()
        terminal.shows('order: requests', since)
        assert terminal.process.poll() is None
        os.write(terminal.main, b'q')
        terminal.ended(0)


def test_plain_text():
    """Where no terminal is: no byte that one would obey, and as often as was asked for."""
    with Gateway(SITES) as gateway:
        get(gateway.port, '/')
        done = run_command('top', '--once', '-c', gateway.config, env=gateway.env)
        assert done.returncode == 0 and not done.stderr
        assert re.match(r'portcullis \d\d:\d\d:\d\d UTC  up .*\nrequests/s ', done.stdout) and done.stdout.isascii()
        assert '\x1b' not in done.stdout and re.search('^supervisor|^worker 0 ', done.stdout, flags=re.M)
        done = run_command('top', '-n', '2', '-c', gateway.config, env=gateway.env)
        assert done.returncode == 0 and len(re.findall('^portcullis ', done.stdout, flags=re.M)) == 2
        for wrong in ('0', 'x', '-1'):
            assert run_command('top', '-n', wrong, '-c', gateway.config, env=gateway.env).returncode == 2
        # Who reads no more ends it.
        with subprocess.Popen([program(), 'top', '-c', gateway.config], stdout=subprocess.PIPE, env=gateway.env) as process:
            process.stdout.readline()
            process.stdout.close()
            assert process.wait(30) == 0
    done = run_command('top', '--once', '-c', gateway.config, env=gateway.env)
    assert (done.returncode, done.stdout) == (1, '') and 'not running' in done.stderr
