"""A name server of the tests: answers as its table says, by UDP and TCP, and counts what it is asked."""
import socket
import struct
import threading

A, CNAME, AAAA = 1, 5, 28


def packed(name):
    return b''.join(bytes([len(label)]) + label.encode() for label in name.split('.')) + b'\0'


class NameServer:
    """table: name → what is answered: a list of addresses, 'nxdomain', 'servfail', 'silent', 'garbage' or
    ('cname', NAME). Names that are not there do not exist."""

    def __init__(self, table, ttl=1):
        self.table, self.ttl, self.asked = dict(table), ttl, []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self.udp.bind(('127.0.0.1', 0))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket()
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.tcp.bind(('127.0.0.1', self.port))
                break
            except OSError:
                self.udp.close()
                self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp.listen(16)

    def __enter__(self):
        for run in (self.serve_udp, self.serve_tcp):
            threading.Thread(target=run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.udp.close()
        self.tcp.close()

    def answer(self, query):
        end, labels = 12, []
        while query[end]:
            labels.append(query[end + 1:end + 1 + query[end]].decode())
            end += 1 + query[end]
        name, kind = '.'.join(labels).lower(), struct.unpack('>H', query[end + 1:end + 3])[0]
        self.asked.append((name, kind))
        found, records, code = self.table.get(name, 'nxdomain'), [], 0
        if found == 'silent':
            return None
        if found == 'garbage':
            return query[:2] + b'\xa5' * 40
        if isinstance(found, tuple):
            records.append(struct.pack('>HHHIH', 0xc00c, CNAME, 1, self.ttl, len(packed(found[1]))) + packed(found[1]))
        elif isinstance(found, list):
            family, wanted = (socket.AF_INET, '.') if kind == A else (socket.AF_INET6, ':')
            data = [socket.inet_pton(family, one) for one in found if wanted in one and kind in (A, AAAA)]
            records += [struct.pack('>HHHIH', 0xc00c, kind, 1, self.ttl, len(one)) + one for one in data]
        else:
            code = {'nxdomain': 3, 'servfail': 2}[found]
        return query[:2] + struct.pack('>HHHHH', 0x8180 | code, 1, len(records), 0, 0) + query[12:end + 5] + b''.join(records)

    def serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
                answer = self.answer(query)
                if answer and len(answer) > 512:
                    answer = query[:2] + b'\x83\x80' + query[4:]
                if answer:
                    self.udp.sendto(answer, peer)
            except OSError:
                return

    def serve_tcp(self):
        while True:
            try:
                connection, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_one, args=(connection,), daemon=True).start()

    def serve_one(self, connection):
        with connection, connection.makefile('rb') as stream:
            while len(head := stream.read(2)) == 2:
                answer = self.answer(stream.read(struct.unpack('>H', head)[0]))
                if answer:
                    connection.sendall(struct.pack('>H', len(answer)) + answer)
