#!/usr/bin/env python3
"""Makes docs/limits.md, docs/errors.md and docs/metrics.md from the tables in the source.

    docs/make_tables.py           writes them
    docs/make_tables.py --check [DIR]  says which are stale (of another tree: in DIR), writes nothing; exit 1 if any is
"""
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if len(sys.argv) == 3:
    ROOT = os.path.abspath(sys.argv.pop())
TELEMETRY = 'src/telemetry/telemetry.h'
CODEC = 'src/codec/codec.h'
MADE = '<!-- Made by docs/make_tables.py from {}: change it there. -->\n'


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


def fields(row):
    """Splits a row's arguments at the commas outside its strings; adjacent strings are one."""
    parts = re.findall(r'((?:"(?:[^"\\]|\\.)*"|[^",])*)(?:,|$)', row)
    if parts and parts[-1] == '':
        parts.pop()
    values = []
    for part in parts:
        strings = re.findall(r'"((?:[^"\\]|\\.)*)"', part)
        values.append(re.sub(r'\\(.)', r'\1', ''.join(strings)) if strings else part.strip())
    return values


def table(path, name):
    """The rows of `#define NAME(X) X(…) X(…)`."""
    match = re.search(r'^#define ' + name + r'\(X\)((?:.*\\\n)*.*)\n', read(path), re.M)
    if not match:
        sys.exit(f'{path}: no table {name}')
    text = match[1].replace('\\\n', ' ')
    rows = re.findall(r'\bX\(((?:"(?:[^"\\]|\\.)*"|[^")])*)\)', text)
    if not rows:
        sys.exit(f'{path}: {name} has no rows that can be read')
    return [fields(row) for row in rows]


def markdown(head, rows):
    lines = ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)]
    for row in rows:
        lines.append('| ' + ' | '.join(cell.replace('|', '\\|') for cell in row) + ' |')
    return '\n'.join(lines) + '\n'


# What no process counts: where it is told instead.
NOT_COUNTED = {
    'inspection': 'nothing to count yet', 'inspection-response': 'nothing to count yet',
    'table-entries': 'an error of `check`',
}


def limit_rows(name):
    rows = []
    for _, limit, unit, number, suffix, status, help_text in table(TELEMETRY, name):
        status = status if status != '0' else ''
        rows.append([f'`{limit}`', unit.lower(), f'`{number}{suffix}`', status, help_text,
                     NOT_COUNTED.get(limit, f'`portcullis_limits_total{{limit="{limit}"}}`')])
    return rows


def limits():
    head = ['limit', 'unit', 'default', 'status', 'bounds', 'counter']
    return (MADE.format(TELEMETRY) + """
# Limits

Every limit has a name, a default, a counter (or the last column says where it is told) and a reason in the log: an exchange that runs into one
ends with `limit:NAME` in the access log, with `client-timeout:NAME` where a client was too slow, or
with the word for what its origin did ([errors](errors.md)); a handshake or a PROXY header, with
`limit:NAME` in an event. *Status* is what a request over it is answered with while that is possible;
where there is none, the connection ends or nobody's request is at fault.

## Settable

In `limits { NAME VALUE … }`: for all sites, in a site, and `on PATH` (`handshake` and `header-time` are
over before there is a path).

""" + markdown(head, limit_rows('TELEMETRY_LIMITS_SETTABLE')) + """
## Fixed

""" + markdown(head, limit_rows('TELEMETRY_LIMITS_FIXED')))


def errors():
    ends = [[f'`{word}`', status if status != '0' else '', help_text]
            for _, word, status, help_text in table(TELEMETRY, 'TELEMETRY_ENDS')]
    details = [[f'`{word}`', help_text] for word, help_text in table(TELEMETRY, 'TELEMETRY_TLS_DETAILS')]
    text = MADE.format(f'{TELEMETRY} and {CODEC}') + """
# How exchanges end

The last member of each line of the access log, `end`, says in one word who ended the exchange and
why; a detail may follow after a colon (`origin-tls:expired`, `limit:header`). *Status* is what the
client is answered with as long as no head was sent to it. After the head nothing can be said any
more: the client's connection or stream then ends without a clean end of the body, so that a short
body never looks whole.

""" + markdown(['end', 'status', 'what happened'], ends) + """
## Details of `client-tls` and `origin-tls`

""" + markdown(['detail', 'meaning'], details)
    if os.path.exists(os.path.join(ROOT, CODEC)):
        faults = [[f'`{word}`', status] for _, status, word in table(CODEC, 'CODEC_H1_FAULTS')]
        text += """
## Details of `client-malformed` and `origin-malformed`

From an origin all of them are 502. What a client sends over a limit (a line, head, field, extension
or trailer too many or too long) ends with that [limit](limits.md)'s name instead.

""" + markdown(['detail', 'status'], faults)
        headers = [[f'`{word}`', help_text] for _, word, help_text in table(CODEC, 'CODEC_PROXY_FAULTS')]
        text += """
## PROXY headers that are refused

The connection is closed before anything else is read of it, and an event of type `anomaly` has the
word as its `failure` ([behind a CDN or load balancer](behind.md)).

""" + markdown(['failure', 'what was wrong'], headers)
    return text


def metrics():
    def rows(name, suffix, kind, label=''):
        return [[f'`portcullis_{metric}{suffix}`', kind, label, help_text] for _, metric, help_text in table(TELEMETRY, name)]

    labels = [[f'`portcullis_{metric}_total`', 'counter', ', '.join(f'`{label.strip()}`' for label in names.split(',')), help_text]
              for _, metric, names, help_text in table(TELEMETRY, 'TELEMETRY_LABELLED')]
    head = ['name', 'type', 'labels', 'what']
    limit = {name: number for _, name, _, number, *_ in table(TELEMETRY, 'TELEMETRY_LIMITS_FIXED')}
    text = MADE.format(TELEMETRY) + """
# Metrics

In Prometheus' text format 0.0.4, all processes together: by [`portcullis metrics`](commands.md#metrics), and by the
handler `metrics` of a site. A listener of its own keeps them among you and your collector:

```
portcullis 1
listen *:443
listen 127.0.0.1:9180 plain serve
table collectors { 127.0.0.0/8 ::1 }

site www.example.com {
    certificate file /etc/portcullis/www.crt /etc/portcullis/www.key
    proxy 127.0.0.1:3000
}

site 127.0.0.1 {
    metrics on /metrics from <collectors>
    ready   on /ready
    live    on /live
}
```

```
scrape_configs:
  - job_name: portcullis
    static_configs: [{ targets: ["127.0.0.1:9180"] }]
```

The metrics name every site and upstream. Every listener serves every site: here who asks port 443 for `127.0.0.1` finds
that site too. `from` says whose addresses may read; for all others the line is not there. `portcullis check` warns of
`metrics` that nothing keeps among you, unless every listener that serves sites is on loopback.

Counters never go back while the service runs: not by a reload, not when a process dies and is started again, not even
when the supervisor is killed and its successor takes over. A stop and a start begin at 0.

`ready` answers 200 while every worker's sockets are accepted from, by the worker itself or, while it is started again, by
its neighbour; 503 before that, and from a worker that drains. `live` answers 200 as long as a worker answers at all.

""" + markdown(head, rows('TELEMETRY_GAUGES', '', 'gauge') + rows('TELEMETRY_COUNTERS', '_total', 'counter') + labels +
               rows('TELEMETRY_HISTOGRAMS', '_seconds', 'histogram'))
    return text + f"""
## By site and upstream

`site` is a site's first name, `upstream` the name of an `upstream` block or, without one, the origins of the `proxy` line.
Requests for a name that no site has count as the site `other`: strangers make no series. There are series of their own
for the first {limit['metrics-sites']} sites (limit `metrics-sites`) and {limit['metrics-upstreams']} upstreams
(`metrics-upstreams`) since the start; whatever comes later counts as `other`, and as often as it met the limit in
`portcullis_limits_total`. The series of a site that a reload took away stay until the service stops: what was counted
is not lost, and is still there when the site comes back.

`origin` is an origin as the configuration writes it. The state of the first {limit['metrics-origins']} of them (limit
`metrics-origins`) is told, anew each second, and only of those that an upstream of the running configuration has; why an
origin gets no requests, [`portcullis upstreams`](commands.md#upstreams) says.

The histograms of sites and upstreams have fewer buckets than those of the whole service.

""" + markdown(head, rows('TELEMETRY_SITE_COUNTERS', '_total', 'counter', '`site`') +
               rows('TELEMETRY_SITE_HISTOGRAMS', '_seconds', 'histogram', '`site`') +
               rows('TELEMETRY_UPSTREAM_COUNTERS', '_total', 'counter', '`upstream`') +
               rows('TELEMETRY_UPSTREAM_GAUGES', '', 'gauge', '`upstream`') +
               rows('TELEMETRY_UPSTREAM_HISTOGRAMS', '_seconds', 'histogram', '`upstream`') +
               rows('TELEMETRY_ORIGIN_GAUGES', '', 'gauge', '`upstream`, `origin`'))


def main():
    check = sys.argv[1:] == ['--check']
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    stale = []
    for path, text in (('docs/limits.md', limits()), ('docs/errors.md', errors()), ('docs/metrics.md', metrics())):
        if os.path.exists(os.path.join(ROOT, path)) and read(path) == text:
            continue
        stale.append(path)
        if not check:
            with open(os.path.join(ROOT, path), 'w', encoding='utf-8') as file:
                file.write(text)
    if check and stale:
        print('stale: ' + ', '.join(stale) + '; run docs/make_tables.py')
        sys.exit(1)


if __name__ == '__main__':
    main()
