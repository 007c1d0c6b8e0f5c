"""Applications as people run them, with the lines that docs/applications.md says: what the manual has is what is tried."""
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from gateway import ROOT, is_alive, wait_until

PAGE = os.path.join(ROOT, 'docs/applications.md')


def needs(path, name):
    if not (shutil.which(path) or os.path.exists(path)):
        pytest.skip(f'{name} is not installed')


def manual(heading, language='', **changes):
    """The block in that language below that heading. changes: {what the page has: what the test has instead}; the page
    must have each."""
    with open(PAGE, encoding='utf-8') as file:
        section = re.search(rf'^## {heading}.*?\n(.*?)(?=^## |\Z)', file.read(), re.M | re.S)[1]
    return swap(re.search(rf'^```{language}\n(.*?)^```', section, re.M | re.S)[1], changes.pop('changes', changes))


def swap(text, changes):
    for old, new in changes.items():
        assert old in text, f'{PAGE} has no {old}'
        text = text.replace(old, new)
    return text


def ours(heading, changes, listen='listen 127.0.0.1:{port}'):
    """Our configuration from the page, on a port of the test's."""
    first, _, rest = manual(heading, changes=changes).partition('\n')
    assert first == 'portcullis 1'
    return f'{listen}\n{rest}'


def is_listening(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as one:
        return one.connect_ex(address) == 0


class Server:
    """A process in a session of its own, with what it started; `with` waits until it listens at the address: a port of
    127.0.0.1, or the path of a Unix socket."""

    def __init__(self, command, address, folder, **env):
        self.address = address if isinstance(address, str) else ('127.0.0.1', address)
        self.log = os.path.join(folder, os.path.basename(command[0]) + '.log')
        self.command, self.folder, self.env = command, folder, {**os.environ, **env}

    def said(self):
        with open(self.log, encoding='utf-8', errors='replace') as file:
            return file.read()[-4000:]

    def __enter__(self):
        with open(self.log, 'w', encoding='utf-8') as log:
            self.process = subprocess.Popen(self.command, cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until(lambda: is_listening(self.address) or self.process.poll() is not None, f'{self.command[0]} to listen')
            assert self.process.poll() is None, self.said()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert not is_alive(self.process.pid)


NGINX = '/usr/sbin/nginx'


def nginx(folder, servers, address):
    """Debian's nginx with these server blocks."""
    user = 'user www-data;\n' if os.geteuid() == 0 else ''
    with open(folder + '/nginx.conf', 'w', encoding='utf-8') as file:
        file.write(f'''{user}daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/nginx-body; fastcgi_temp_path {folder}/nginx-fastcgi; proxy_temp_path {folder}/nginx-proxy;
    uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
{servers}
}}
''')
    with open('/etc/nginx/fastcgi_params', encoding='utf-8') as file, open(folder + '/fastcgi_params', 'w', encoding='utf-8') as copy:
        copy.write(file.read())
    return Server([NGINX, '-p', folder, '-c', folder + '/nginx.conf', '-e', folder + '/nginx-error.log'], address, folder)


def environment(home, **more):
    """A client's, without what this machine says about proxies, certificates and registries."""
    ours = re.compile(r'git_|npm_|node_|ssl_|curl_|requests_|.*_proxy$', re.I)
    return {**{name: value for name, value in os.environ.items() if not ours.match(name)}, 'HOME': home, **more}


def run(*command, seconds=60, code=0, **options):
    """A client's command, to its end."""
    done = subprocess.run(command, capture_output=True, text=True, errors='replace', timeout=seconds, check=False, **options)
    assert done.returncode == code, f'{command} ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-4000:]}'
    return done.stdout
