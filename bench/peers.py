"""The servers that bench/run compares, started, watched and ended."""
import os
import re
import shutil
import signal
import socket
import subprocess
import time

TICKS = os.sysconf('SC_CLK_TCK')
BODY = 'x' * 1024
# Newer peers than the machine's own: the tree that ../shared/bench/setup-peers.sh makes, where it was run.
NEWER = os.path.join(os.environ.get('PEERS_HOME', '/var/tmp/portcullis-peers'), 'sid')


class Failure(Exception):
    pass


# ---- What the kernel says of processes -----------------------------------------------------------------

def processes_below(root):
    """pids of a process and all that come from it."""
    parents = {}
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                with open(f'/proc/{entry}/stat', encoding='utf-8', errors='replace') as file:
                    parents[int(entry)] = int(file.read().rpartition(')')[2].split()[1])
            except OSError:
                pass
    found, new = [], [root]
    while new:
        found += new
        new = [pid for pid, parent in parents.items() if parent in new]
    return found


def cpu_s(pid):
    with open(f'/proc/{pid}/stat', encoding='utf-8', errors='replace') as file:
        fields = file.read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def pss_kib(pid):
    try:
        with open(f'/proc/{pid}/smaps_rollup', encoding='utf-8') as file:
            return int(re.search(r'^Pss:\s+(\d+)', file.read(), re.M).group(1))
    except ProcessLookupError:  # a job that is over
        return 0


def role(pid):
    """What a process calls itself: `worker 0`, `nginx: worker process`."""
    with open(f'/proc/{pid}/cmdline', 'rb') as file:
        words = file.read().replace(b'\0', b' ').decode(errors='replace').strip()
    words = re.sub(r'^\S*/', '', words)
    return re.sub(r'^(portcullis|nginx:) ', '', ' '.join(words.split()[:3]))


# ---- A server ------------------------------------------------------------------------------------------

class Server:
    def __init__(self, name, port, arguments, core, folder):
        self.name, self.port = name, port
        self.log = os.path.join(folder, name + '.out')
        with open(self.log, 'wb') as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=folder, preexec_fn=lambda: os.sched_setaffinity(0, {core}))

    def wait(self):
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            try:
                socket.create_connection(('127.0.0.1', self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Failure(f'{self.name} does not serve on port {self.port}: {self.said()}')

    def said(self):
        with open(self.log, encoding='utf-8', errors='replace') as file:
            return file.read()[-2000:].strip() or '(it said nothing)'

    def pids(self):
        return processes_below(self.process.pid)

    def cpu(self):
        return {pid: (role(pid), cpu_s(pid)) for pid in self.pids()}

    def pss_kib(self):
        return sum(map(pss_kib, self.pids()))

    def stop(self):
        pids = self.pids() if self.process.poll() is None else []
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def make_files(folder):
    os.chmod(folder, 0o755)  # nginx's worker has another user than root
    os.mkdir(os.path.join(folder, 'root'))
    with open(os.path.join(folder, 'root', 'file.txt'), 'w', encoding='ascii') as file:
        file.write(BODY)
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes',
                    '-keyout', 'key.pem', '-out', 'cert.pem', '-days', '30', '-subj', '/CN=localhost',
                    '-addext', 'subjectAltName=DNS:localhost'], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    with open(os.path.join(folder, 'both.pem'), 'wb') as both:
        for part in ('cert.pem', 'key.pem'):
            with open(os.path.join(folder, part), 'rb') as file:
                both.write(file.read())


# ---- Their configurations: TLS 1.3, tickets, keep-alive without an end, one worker -----------------------

def nginx_head(folder, log):
    return f'''{'user root;' if os.geteuid() == 0 else ''}
daemon off; worker_processes 1; error_log stderr crit;
events {{ worker_connections 20000; multi_accept on; }}
http {{
    access_log {folder + '/nginx.log' if log else 'off'}; server_tokens off;
    keepalive_requests 1000000000; keepalive_timeout 600s; types {{ text/plain txt; }}
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
'''


def nginx_text(folder, port, origin, log):
    return f'''pid {folder}/nginx.pid; {nginx_head(folder, log)}
    sendfile on; tcp_nopush on; open_file_cache max=100 inactive=600s; open_file_cache_valid 60s;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096; server_name localhost; root {folder}/root;
        ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
        ssl_protocols TLSv1.3; ssl_session_tickets on; ssl_buffer_size 4k;
        location = / {{ return 200 "{BODY}"; }}
        location /p/ {{
            proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Forwarded-Host $host;
        }}
    }}
}}
'''


def haproxy_text(folder, port, origin, log):
    logging = 'log stdout format raw local0\n  option httplog\n' if log else ''
    return f'''global
  nbthread 1
  maxconn 9000
  ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 60s
  timeout http-keep-alive 600s
  option http-keep-alive
  option forwardfor
  http-reuse safe
  {logging}
frontend f
  bind 127.0.0.1:{port} ssl crt {folder}/both.pem alpn http/1.1 backlog 4096
  http-request return status 200 content-type text/plain string {BODY} if {{ path / }}
  default_backend origin
backend origin
  http-request set-header X-Forwarded-Proto https
  server one 127.0.0.1:{origin}
'''


def portcullis_text(folder, port, origin, log):
    return f'''portcullis 1
state {folder}/state
log access {folder + '/portcullis.log' if log else 'off'}
listen 127.0.0.1:{port}
site localhost {{
    certificate file {folder}/cert.pem {folder}/key.pem
    tls min 1.3
    respond 200 "{BODY}" on /
    proxy 127.0.0.1:{origin} on /p/*
    files {folder}/root
}}
'''


def origin_text(folder, port):
    """What all of them pass requests on to: plain HTTP, on the load's core."""
    return f'''pid {folder}/origin.pid; {nginx_head(folder, False)}
    server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 "{BODY}"; }} }}
}}
'''


def debian_program(name):
    return shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin')


def command(name, build, folder, port):
    """How a server of the table is started; folder is as the server sees it. None: it is not here."""
    kind = name.removesuffix('-new')
    if kind == 'floor':
        return [f'{build}/bench/floor', str(port), 'cert.pem', 'key.pem']
    if kind == 'portcullis':
        return [f'{build}/portcullis', 'run', '-c', f'{folder}/portcullis.conf']
    program = ['chroot', NEWER, f'/usr/sbin/{kind}'] if kind != name else [debian_program(kind)]
    if not program[0] or (kind != name and not os.access(NEWER + program[2], os.X_OK)):
        return None
    return program + (['-p', folder, '-c', f'{folder}/nginx.conf'] if kind == 'nginx'
                      else ['-db', '-f', f'{folder}/haproxy.cfg'])


class Field:
    """All servers of one run, and the origin behind them."""

    def __init__(self, names, build, cores, folder, log):
        self.folder, self.servers = folder, {}
        self.cores = cores
        self.origin = None
        self.origin_port = free_port()
        try:
            self.start_origin()
            for name in names:
                self.start(name, build, log)
        except BaseException:
            self.stop()
            raise

    def start_origin(self):
        with open(os.path.join(self.folder, 'origin.conf'), 'w', encoding='utf-8') as file:
            file.write(origin_text(self.folder, self.origin_port))
        self.origin = Server('origin', self.origin_port, [debian_program('nginx'), '-p', self.folder, '-c',
                                                          f'{self.folder}/origin.conf'], self.cores[1], self.folder)
        self.origin.wait()

    def start(self, name, build, log):
        port = free_port()
        place = os.path.join(self.folder, name)
        if name.endswith('-new'):
            place = os.path.join(NEWER, 'var/tmp', os.path.basename(self.folder) + '-' + name)
        os.mkdir(place)
        make_files(place)
        seen = place.removeprefix(NEWER) if name.endswith('-new') else place
        texts = {'nginx': ('nginx.conf', nginx_text), 'haproxy': ('haproxy.cfg', haproxy_text),
                 'portcullis': ('portcullis.conf', portcullis_text)}
        if name.removesuffix('-new') in texts:
            file_name, text = texts[name.removesuffix('-new')]
            with open(os.path.join(place, file_name), 'w', encoding='utf-8') as file:
                file.write(text(seen, port, self.origin_port, log))
        self.servers[name] = Server(name, port, command(name, build, seen, port), self.cores[0], place)
        self.servers[name].place = place
        self.servers[name].wait()

    def stop(self):
        for server in [*self.servers.values(), self.origin]:
            if server:
                server.stop()
            if server and server is not self.origin:
                shutil.rmtree(server.place, ignore_errors=True)
