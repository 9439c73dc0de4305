"""`helm test`: is a collector ready, and is an event that is sent there found again? Needs Python alone."""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

URL = os.environ["PULSESTREAM_URL"].rstrip("/")
KEY = os.environ.get("PULSESTREAM_API_KEY", "")
CA_FILE = os.environ.get("PULSESTREAM_CA_FILE", "")
DEADLINE_S = float(os.environ.get("DEADLINE_S", "60"))


def asked(path, body=None, **query):
    """What the collector answers, as JSON; it is asked again while it is away, until the deadline."""
    target = URL + path + ("?" + urllib.parse.urlencode(query) if query else "")
    data = None if body is None else json.dumps(body).encode()
    trusted = ssl.create_default_context(cafile=CA_FILE if os.path.exists(CA_FILE) else None)
    end = time.monotonic() + DEADLINE_S
    while True:
        request = urllib.request.Request(target, data, {"X-API-Key": KEY, "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            said = f"{error.code}: {error.read(500).decode('utf-8', 'replace')}"
            again = error.code in (429, 503)
        except (OSError, ValueError) as error:
            said, again = str(error), True
        if not again or time.monotonic() > end:
            sys.exit(f"{target} answered {said}")
        time.sleep(1)


def main():
    print(f"{URL} is {asked('/readyz')['status']}")
    if not KEY:
        print("no event was sent: name a Secret with an API key in test.existingSecret")
        return
    event_id = f"helm-test-{uuid.uuid4()}"
    source = {"service": "helm-test", "endpoint": "/helm/test", "method": "POST"}
    event = {"event_id": event_id, "event_type": "system_event", "title": "helm test", "source": source}
    sent = asked("/api/v1/ingestion/events", event)
    print(f"sent {event_id}: {sent.get('outcome') or sent.get('status') or 'taken'}")
    found = asked("/api/v1/ingestion/events/search", event_id=event_id)
    if [event["event_id"] for event in found["events"]] != [event_id]:
        sys.exit(f"{event_id} was taken and is not found: {found}")
    print(f"found {event_id}, once")


main()
