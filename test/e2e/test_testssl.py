"""What an outside judge finds: testssl.sh (Debian's), on loopback, under an intermediate profile."""
import json
import os
import shutil
import subprocess

import pytest

from gateway import SOAK, Gateway

SITE = 'listen 127.0.0.1:{port}\nsite localhost 127.0.0.1 { respond 200 "ok" }'

# What it says above INFO and why that is as it should be: id (a start of it): reason.
ACCEPTED = {
    'cert_chain_of_trust': 'the local CA is known to nobody but this machine',
    'cert_trust': 'the certificate is asked for by address',
    'cert_caIssuers': 'a local CA has no address to fetch from',
    'cert_crlDistributionPoints': 'leaves of 30 days that renew themselves; revocation comes with ACME',
    'cert_ocspURL': 'as above',
    'cert_revocation': 'as above',
    'OCSP_stapling': 'as above',
    'DNS_CAArecord': 'localhost has no zone',
    'HSTS': 'a policy of the site, not of the gateway',
    'HTTP_status_code': 'the page is a test\'s',
    'security_headers': 'fields of the application',
    'overall_grade': 'a grade of the untrusted chain',
    'grade_cap_reason': 'of the untrusted chain, and of HSTS',
    'final_score': 'of the untrusted chain',
}
LEVELS = {'LOW', 'MEDIUM', 'HIGH', 'CRITICAL', 'WARN', 'FATAL'}


@pytest.mark.parametrize('what', ['a slice', pytest.param('everything', marks=pytest.mark.soak)])
def test_testssl(what, folder):
    if not shutil.which('testssl'):
        pytest.skip('testssl is not installed')
    if what == 'everything' and not SOAK:
        pytest.skip('soak: runs by `make soak`')
    report = os.path.join(folder, 'report.json')
    # The slice: protocols; it starts an openssl for each question, so all of it takes minutes.
    options = ['-p'] if what == 'a slice' else []
    with Gateway(SITE) as gateway:
        command = ['testssl', '--quiet', '--color', '0', '--warnings', 'off', '--nodns', 'none', '--jsonfile', report, *options,
                   f'https://127.0.0.1:{gateway.port}']
        done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False, stdin=subprocess.DEVNULL)
    with open(report, encoding='utf-8') as file:
        found = json.load(file)
    assert len(found) > 5, done.stdout + done.stderr
    assert any(one['severity'] == 'OK' for one in found)
    bad = [f'{one["severity"]} {one["id"]}: {one["finding"]}' for one in found
           if one['severity'] in LEVELS and not one['id'].startswith(tuple(ACCEPTED))]
    assert not bad, '\n'.join(bad)
