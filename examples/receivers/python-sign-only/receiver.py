"""A receiver that checks only `t` and `sign` in the body, with Python's standard library.

    CALLBACK_KEY=... PORT=8080 python3 receiver.py

For receivers that have this check already. It proves that whoever built the body's `t` and `sign` knew the key not long ago, and nothing
else: **anyone who sees one callback can put its `t` and `sign` into another body, under another webhook-id, until `t` has passed.** Use
https, and check webhook-signature instead as soon as you can (../python).

CALLBACK_KEY may hold several keys, separated by spaces: `sign` changes from the old key to the new one at a moment that the sender chooses.
"""

import hashlib
import hmac
import json
import os
import queue
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONGEST_BODY = 16 * 1024 * 1024
REMEMBERED = 100_000
# `t` is ten minutes after the sending; five more for clocks that differ.
FARTHEST_AHEAD = 600 + 300

KEYS = os.environ.get("CALLBACK_KEY", "").split()
work = queue.Queue()
seen = {}
lock = threading.Lock()


class Object(dict):
    """An object that knows how often `t` and `sign` are in it: of two, this parser might believe one and the next parser the other."""

    def __init__(self, members):
        super().__init__(members)
        names = [name for name, _ in members]
        self.is_sealed = names.count("t") == names.count("sign") == 1


def integer(digits):
    """A number, or its digits where it is longer than any of ours: Python refuses to read thousands of them."""
    return int(digits) if len(digits) <= 20 else digits


def read(body):
    """The event in the body if its `sign` is right and its `t` is not over; else None."""
    try:
        event = json.loads(body, object_pairs_hook=Object, parse_int=integer)
    except (ValueError, RecursionError):
        return None
    # Of what is in the event besides, any name may be there twice: it is not ours to judge.
    if type(event) is not Object or not event.is_sealed:
        return None
    t, sign = event["t"], event["sign"]
    # `True` is an int in Python.
    if type(t) is not int or type(sign) is not str or not re.fullmatch("[0-9a-f]{32}", sign):
        return None
    if not time.time() < t <= time.time() + FARTHEST_AHEAD:
        return None
    for key in KEYS:
        expected = hashlib.md5(f"{key}{t}".encode()).hexdigest()
        if hmac.compare_digest(expected, sign):
            return event
    return None


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
        event = read(self.rfile.read(int(length)))
        event_id = self.headers.get("webhook-id")
        if event is None or not event_id:
            print("refused", flush=True)
            return self.answer(401)
        # The id is not signed here, and repeats of one event all have it.
        if is_new(event_id):
            work.put((event_id, event))
        else:
            print("repeat", ascii(event_id), flush=True)
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
        event_id, event = work.get()
        try:
            print("new", ascii(event_id), event.get("event_type", 100), ascii(event.get("video_url", "")), flush=True)
        except Exception as error:  # one that cannot be worked on must not stop those behind it: keep it for a person
            print("failed", ascii(event_id), ascii(error), file=sys.stderr, flush=True)


def main():
    if not KEYS:
        sys.exit("CALLBACK_KEY is not set: it is the key of the callback template")
    threading.Thread(target=process, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Receiver)
    server.daemon_threads = True
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


main()
