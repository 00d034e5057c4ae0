"""A receiver of callbackd's callbacks: verify, de-duplicate, answer fast, work afterwards.

    pip install -r requirements.txt
    WEBHOOK_SECRET=whsec_... PORT=8080 python3 receiver.py

WEBHOOK_SECRET may hold several secrets, separated by spaces: while keys rotate, the old one and the new one.
"""

import json
import os
import queue
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook

LONGEST_BODY = 16 * 1024 * 1024
REMEMBERED = 100_000

# An empty secret would accept anybody's signature: the library refuses it.
WEBHOOKS = [Webhook(secret) for secret in os.environ.get("WEBHOOK_SECRET", "").split()]
work = queue.Queue()
seen = {}
lock = threading.Lock()


def verified(body, headers):
    """Whether one of our secrets verifies it. The library compares in constant time and allows five minutes for the timestamp."""
    for webhook in WEBHOOKS:
        try:
            webhook.verify(body, headers, json_parse=False)
            return True
        except Exception:  # malformed headers end in other errors than a wrong signature: all of them mean no
            continue
    return False


def is_new(event_id):
    """Whether this id comes for the first time. In earnest: a unique column, written in one transaction with the event."""
    with lock:
        if event_id in seen:
            return False
        seen[event_id] = None
        if len(seen) > REMEMBERED:
            del seen[next(iter(seen))]
        return True


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            self.close_connection = True
            return self.answer(413)
        # The bytes as they came: a body that is parsed and written anew has another signature.
        body = self.rfile.read(int(length))
        if not verified(body, dict(self.headers)):
            print("refused", flush=True)
            return self.answer(401)
        event_id = self.headers["webhook-id"]
        if is_new(event_id):
            work.put((event_id, body))
        else:
            print("repeat", event_id, flush=True)
        # A repeat is answered like the first: the sender only wants to know that it arrived.
        self.answer(200)

    def answer(self, status):
        text = b'{"code":0}' if status == 200 else b""
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def process():
    """Whatever takes longer than an answer may."""
    while True:
        event_id, body = work.get()
        try:
            event = json.loads(body)
            url = event.get("video_url", "")
            # A text of JSON may hold what no terminal can show.
            print("new", event_id, event.get("event_type", 100), ascii(url)[1:-1] if isinstance(url, str) else url, flush=True)
        except Exception as error:  # one that cannot be worked on must not stop those behind it: keep it for a person
            print("failed", event_id, ascii(error), file=sys.stderr, flush=True)


def main():
    if not WEBHOOKS:
        sys.exit("WEBHOOK_SECRET is not set: `callbackd verify --key-file KEY --show-secret </dev/null` prints it")
    threading.Thread(target=process, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver)
    server.daemon_threads = True
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


main()
