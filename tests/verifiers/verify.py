"""Judges what receivers got, with nothing of callbackd's own code.

Standard input: one JSON object a line. Standard output: one verdict a line, `{"ok": bool, "why": text}`, in the same order.

    original  base64 of the record value that was produced
    body      base64 of the request body that a receiver got
    id, timestamp, signature   the request's webhook-* headers; signature is null without a key
    secrets   every active Standard Webhooks secret as `whsec_…`, newest first; empty without a key
    sign_key  the vendor key of `sign`, or null without a key
    now       Unix seconds of the arrival

Checked: each secret verifies by the public library; the signature header has one entry a key; `sign` is MD5(key + t) and `t` is
ten minutes away; the body is the original without its top-level `t` and `sign`, to the byte; member by member, duplicates included,
two JSON parsers' views agree.
"""

import base64
import hashlib
import json
import re
import sys

from standardwebhooks.webhooks import Webhook

APPENDED = re.compile(rb',?"t":(\d+),"sign":"([0-9a-f]{32})"')
SPACE = b" \t\n\r"


def members(text):
    """Top-level members of a JSON object as (name, start, end) in code points, found with the standard library's scanner."""
    decoder = json.JSONDecoder(strict=True)
    at = skip(text, 0)
    assert text[at] == "{", "not an object"
    at = skip(text, at + 1)
    found = []
    if text[at] == "}":
        return found
    while True:
        start = at
        name, at = decoder.raw_decode(text, at)
        at = skip(text, at)
        assert text[at] == ":"
        _, at = decoder.raw_decode(text, skip(text, at + 1))
        found.append((name, start, at))
        at = skip(text, at)
        if text[at] == "}":
            return found
        assert text[at] == ","
        at = skip(text, at + 1)


def skip(text, at):
    while at < len(text) and text[at] in " \t\n\r":
        at += 1
    return at


def without_signature(original):
    """The naive cut: one member after the other, with the white space that touches it and one comma."""
    text = original.decode("utf-8")
    while True:
        doomed = [m for m in members(text) if m[0] in ("t", "sign")]
        if not doomed:
            return text.encode("utf-8")
        _, start, end = doomed[0]
        while text[start - 1] in " \t\n\r":
            start -= 1
        end = skip(text, end)
        if text[end] == ",":
            end += 1
        elif text[start - 1] == ",":
            start -= 1
        text = text[:start] + text[end:]


def pairs(raw):
    """Everything in order, duplicates kept, numbers as they were spelled."""
    tree = json.loads(raw.decode("utf-8"), object_pairs_hook=tuple, parse_int=str, parse_float=str)
    return [m for m in tree if m[0] not in ("t", "sign")]


def judge(case):
    original = base64.b64decode(case["original"])
    body = base64.b64decode(case["body"])
    now = case["now"]
    cut = without_signature(original)
    if case["sign_key"] is None:
        if body != cut:
            return "body differs from the original without t and sign (unkeyed)"
    else:
        last = None
        for last in APPENDED.finditer(body):
            pass
        if last is None:
            return "no t and sign at the end of the body"
        rest = body[last.end():]
        if rest.strip(SPACE) != b"}":
            return "t and sign are not the last members"
        if body[: last.start()] + rest != cut:
            return "body differs from the original without t and sign"
        parsed = json.loads(body.decode("utf-8"), object_pairs_hook=list, parse_float=str)
        if [n for n, _ in parsed if n in ("t", "sign")] != ["t", "sign"]:
            return "a parser sees other t and sign members"
        t, sign = last.group(1).decode(), last.group(2).decode()
        if hashlib.md5((case["sign_key"] + t).encode()).hexdigest() != sign:
            return "sign is not MD5(key + t)"
        if not now + 600 - 60 <= int(t) <= now + 600 + 5:
            return f"t is {int(t) - now} s from the arrival"
    if pairs(original) != pairs(body):
        return "members other than t and sign differ"
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", case["id"] or ""):
        return "webhook-id is malformed"
    if not re.fullmatch(r"[0-9]+", case["timestamp"] or ""):
        return "webhook-timestamp is malformed"
    if not case["secrets"]:
        return "signed without a key" if case["signature"] is not None else ""
    headers = {
        "webhook-id": case["id"],
        "webhook-timestamp": case["timestamp"],
        "webhook-signature": case["signature"] or "",
    }
    if len(headers["webhook-signature"].split(" ")) != len(case["secrets"]):
        return "not one signature for each active key"
    for place, secret in enumerate(case["secrets"]):
        Webhook(secret).verify(body, headers)
        alone = dict(headers, **{"webhook-signature": headers["webhook-signature"].split(" ")[place]})
        Webhook(secret).verify(body, alone)
    return ""


def main():
    for line in sys.stdin:
        try:
            why = judge(json.loads(line))
        except Exception as error:  # any refusal of the library or a parser is a verdict
            why = f"{type(error).__name__}: {error}"
        print(json.dumps({"ok": why == "", "why": why}), flush=False)


main()
