"""What an operator sees of single requests: traces, slow requests, and the live view."""
import json
import re

import pytest

from client import get
from gateway import Gateway
from origin import Origin

SITE = 'listen 127.0.0.1:{port} plain serve\nlog access stdout\n'
TRACE, SPAN = '0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'
VALID = f'00-{TRACE}-{SPAN}-01'


def sent(gateway, path, *fields, host='localhost'):
    """The trace fields that the origin was sent: their values by name, and the access record."""
    answer = get(gateway.port, path, *fields, host=host)
    assert answer.status == 200, answer.text
    found = {'traceparent': [], 'tracestate': []}
    for name, value in json.loads(answer.text)['fields']:
        if name.lower() in found:
            found[name.lower()].append(value)
    return found['traceparent'], found['tracestate'], gateway.record(path)


@pytest.fixture(scope='module')
def traced():
    with Origin() as origin:
        text = SITE + ''.join(f'site {name} {{ {statement}proxy {origin.port} }}\n' for name, statement in (
            ('localhost', ''), ('pass.test', 'traceparent pass; '), ('off.test', 'traceparent off; ')))
        with Gateway(text) as gateway:
            yield gateway


def test_a_trace_is_passed_on(traced):
    parents, states, record = sent(traced, '/valid', f'traceparent: {VALID}', 'tracestate: a=1', 'tracestate: b=2')
    assert len(parents) == 1
    version, trace, span, flags = parents[0].split('-')
    assert (version, trace, flags) == ('00', TRACE, '01') and span != SPAN and re.fullmatch('[0-9a-f]{16}', span)
    assert states == ['a=1', 'b=2']
    assert (record['trace_id'], record['span_id']) == (trace, span)
    # Not sampled stays not sampled.
    parents, _, _ = sent(traced, '/unsampled', f'traceparent: 00-{TRACE}-{SPAN}-00')
    assert parents[0].startswith(f'00-{TRACE}-') and parents[0].endswith('-00')


def test_a_trace_is_begun(traced):
    seen = set()
    for i, fields in enumerate(((), (f'traceparent: ff-{TRACE}-{SPAN}-01',), (f'traceparent: {VALID}-x',), ('traceparent: ',),
                                (f'traceparent: {VALID}', f'traceparent: {VALID}'), (f'traceparent: {VALID.upper()}',),
                                (f'traceparent: {VALID}', 'Connection: traceparent'))):
        parents, states, record = sent(traced, f'/begun{i}', *fields, 'tracestate: a=1')
        assert len(parents) == 1 and not states, fields
        found = re.fullmatch('00-([0-9a-f]{32})-([0-9a-f]{16})-03', parents[0])
        assert found and found[1] not in (TRACE, '0' * 32) and found[2] not in (SPAN, '0' * 16), parents
        assert (record['trace_id'], record['span_id']) == found.groups()
        seen.add(found[1])
    assert len(seen) == 7


def test_traces_by_site(traced):
    parents, states, record = sent(traced, '/none', 'tracestate: a=1', host='pass.test')
    assert not parents and not states and 'trace_id' not in record
    parents, _, record = sent(traced, '/passed', f'traceparent: {VALID}', host='pass.test')
    assert parents[0].startswith(f'00-{TRACE}-') and record['trace_id'] == TRACE
    parents, states, record = sent(traced, '/off', f'traceparent: {VALID}', 'tracestate: a=1', host='off.test')
    assert parents == [VALID] and states == ['a=1'] and 'trace_id' not in record
    assert sent(traced, '/off2', host='off.test')[0] == []
