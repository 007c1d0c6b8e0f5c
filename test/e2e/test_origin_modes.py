"""The table of test/origin/modes.txt, row by row: what each misbehaviour of an origin comes to.

Each row is tried with GET and POST, with Content-Length and chunks, by clients of HTTP/1.1 and 1.0, to an origin with
and without TLS; then the next request shows which connections go on."""
import itertools
import shutil

import pytest

import misbehaving
from client import Client, Truncated
from gateway import Gateway, new_folder, wait_until
from test_certificates import EC, openssl

MODES = misbehaving.modes()
SIZE, BODY = 5000, 3000
# Over TLS another thing is wrong first. (A reset that comes before the dialer looks is a refusal here too.)
TLS = {
    'reset-on-accept': {'end': 'origin-tls|origin-refused'},
    'silent-on-accept': {'end': 'origin-connect-timeout'},
    # A reset, or an end without close_notify, is no end of a body.
    'early-and-closes': {}, 'early-413': {},
}
VARIANTS = ['get', 'get-1.0', 'post-length', 'post-chunks', 'post-1.0']
count = itertools.count()


@pytest.fixture(scope='module')
def certificates():
    folder = new_folder()
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', 'key.pem', '-out', 'cert.pem', '-subj', '/CN=localhost', '-days', '30',
            '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1')
    yield folder + '/cert.pem', folder + '/key.pem'
    shutil.rmtree(folder)


@pytest.fixture(scope='module', params=['plain', 'tls'])
def gateway(request, certificates):
    """One worker, so that there is one pool: what may be reused is then seen."""
    is_tls = request.param == 'tls'
    verify = f'verify ca {certificates[0]}' if is_tls else ''
    with misbehaving.MisbehavingOrigin(certificates if is_tls else None) as origin:
        with Gateway(f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{\n{origin.routes(verify)}\n}}',
                     prefix=['taskset', '-c', '0']) as gateway:
            gateway.origin, gateway.is_tls = origin, is_tls
            assert len(gateway.pids('worker')) == 1
            yield gateway
    assert not origin.foreign and origin.process.returncode == 0, origin.foreign


def send(client, variant, method, path, token):
    version = 'HTTP/1.0' if variant.endswith('1.0') else 'HTTP/1.1'
    fields = ['Connection: keep-alive'] if version == 'HTTP/1.0' else []
    body = misbehaving.body_of(token, BODY) if method == 'POST' else None
    if variant == 'post-chunks':
        fields.append('Transfer-Encoding: chunked')
        half = BODY // 2
        body = b'%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n' % (half, body[:half], BODY - half, body[half:])
    client.request(method, path, *fields, body=body, version=version)


def expected(mode, gateway):
    row = mode._asdict()
    if gateway.is_tls:
        row.update(TLS.get(mode.name, {}))
    return row


def check_body(row, response, token, method):
    want = misbehaving.body_of(token, SIZE)
    if row['body'] == 'page':
        assert response.get('X-Token') is None and token.encode() not in response.body
    else:
        assert response.get('X-Token') == token
        assert response.body == (b'' if method == 'HEAD' or row['body'] == 'none' else want)
        if not row['name'].startswith('early-'):
            assert response.get('X-Got') == str(BODY if method == 'POST' else 0)
    assert all(i.get('X-Interim') in (token, None) for i in response.interim)


def check_cut(client, method, token):
    """Its beginning, as far as it came, and no clean end."""
    with pytest.raises(Truncated) as caught:
        client.response(method)
    assert caught.value.status in (200, None)
    got = caught.value.got
    assert misbehaving.body_of(token, SIZE + 20000).startswith(got) or not caught.value.status, got[:80]


def next_request(client, gateway, pool):
    """On the same connection where it goes on, else on a new one: its answer, and the token."""
    token = f'next-{next(count)}'
    path = {'main': 'length', 'spoiled': 'bytes-when-idle'}.get(pool, 'length')
    if client.is_over:
        client.close()
        client = Client(gateway.port)
    with client:
        response = client.get(f'/{path}/{token}/10')
        assert response.status == 200 and response.body == misbehaving.body_of(token, 10)
    return gateway.origin.connection_of(token)


def try_one(gateway, mode, variant):
    row = expected(mode, gateway)
    method = 'POST' if variant.startswith('post') else mode.methods if mode.methods == 'HEAD' else 'GET'
    token = f'{mode.name}-{variant}-{next(count)}'
    client = Client(gateway.port)
    send(client, variant, method, f'/{mode.name}/{token}/{SIZE}', token)
    if row['body'] == 'cut':
        check_cut(client, method, token)
        client.is_over, is_kept = True, False
    else:
        response = client.response(method)
        assert response.status == int(row['status'].partition('|')[0]), response.status
        check_body(row, response, token, method)
        is_kept = not response.is_last
        if not is_kept:
            client.expect_end()
    # HTTP/1.0 has no other way to end a body without a length than with its connection.
    if row['client'] != '-' and not (variant.endswith('1.0') and row['body'] == 'whole'):
        assert is_kept == (row['client'] == 'yes')
    before = mode.pool in ('main', 'spoiled') and gateway.origin.requests_of(token)
    if mode.name == 'bytes-when-idle':
        wait_until(lambda: before[-1][0] in gateway.origin.ended, 'the end of a connection that said something unasked')
    after = next_request(client, gateway, mode.pool)
    if row['origin'] == 'yes':
        assert after == before[-1][0], 'a sound connection was not used again'
    elif row['origin'] == 'no' and before:
        assert after != before[-1][0], 'a spoiled connection was used again'
    if before and row['end'] != 'ok':
        # That it was closed without a word is also what a stale connection looks like.
        is_stale = method == 'GET' and before[0][1] > 1 and mode.name.endswith('-after-request')
        assert len(before) == (2 if is_stale else 1), 'asked again of an origin that had answered'
    return token


def check_record(gateway, mode, token):
    row, record = expected(mode, gateway), gateway.record(f'/{mode.name}/{token}/{SIZE}')
    end = record['end'] if ':' in row['end'] else record['end'].partition(':')[0]
    assert end in row['end'].split('|') and record['status'] == int(row['status'].partition('|')[0]), record['end']


@pytest.mark.parametrize('mode', [mode for mode in MODES if not mode.name.endswith('-when-reused')], ids=lambda mode: mode.name)
def test_modes(gateway, mode):
    posts = {'*': (True, False), 'POST': (True,), 'HEAD': (False,)}[mode.methods]
    tokens, variant = [], None
    try:
        for variant in VARIANTS:
            if variant.startswith('post') in posts:
                tokens.append(try_one(gateway, mode, variant))
        for token in tokens:
            variant = token
            check_record(gateway, mode, token)
    except Exception as error:
        raise AssertionError(f'{mode.name}, {variant}: {error!r}') from error


@pytest.mark.parametrize('method', ['GET', 'POST'])
@pytest.mark.parametrize('mode', ['closes-when-reused', 'resets-when-reused'])
def test_when_reused(gateway, mode, method):
    """A GET is sent again on a fresh connection; a POST is sent once, whatever comes of it."""
    first, second = f'first-{next(count)}', f'second-{next(count)}'
    with Client(gateway.port) as client:
        assert client.get(f'/{mode}/{first}/10').body == misbehaving.body_of(first, 10)
        body = misbehaving.body_of(second, BODY) if method == 'POST' else None
        response = client.get(f'/{mode}/{second}/10', method=method, body=body)
    record = gateway.record(f'/{mode}/{second}/10')
    seen = wait_until(lambda: gateway.origin.requests[second], 'what the origin has seen')
    assert seen[0] == (gateway.origin.requests[first][-1][0], 2)
    if method == 'GET':
        assert response.body == misbehaving.body_of(second, 10) and len(seen) == 2 and record['end'] == 'ok'
    else:
        assert (response.status, record['end'], len(seen)) == (502, 'origin-closed', 1)
