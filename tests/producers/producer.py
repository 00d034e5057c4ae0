"""Produces with confluent-kafka: `producer.py BOOTSTRAP TOPIC`, what to produce on standard input (see upstream_variety.rs)."""

import collections
import sys

from confluent_kafka import Producer


def fail(error, _):
    if error is not None:
        sys.exit(f"refused: {error}")


def produce(bootstrap, topic, codec, mode, batch):
    settings = {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 20}
    if mode != "plain":
        settings["transactional.id"] = f"{topic}-python-{codec}-{mode}"
    producer = Producer(settings)
    if mode != "plain":
        producer.init_transactions()
        producer.begin_transaction()
    for source, identifier, value in batch:
        headers = [("ce_specversion", b"1.0"), ("ce_source", source), ("ce_id", identifier)] if source else None
        producer.produce(topic, value=value, headers=headers, on_delivery=fail)
    if producer.flush(30) != 0:
        sys.exit("not acknowledged in time")
    if mode == "aborted":
        producer.abort_transaction()
    elif mode != "plain":
        producer.commit_transaction()


def main():
    bootstrap, topic = sys.argv[1:]
    batches = collections.defaultdict(list)
    for line in sys.stdin.buffer.read().split(b"\n"):
        if line:
            codec, mode, source, identifier, value = line.split(b"\t", 4)
            batches[codec.decode(), mode.decode()].append((source, identifier, value))
    for (codec, mode), batch in batches.items():
        produce(bootstrap, topic, codec, mode, batch)


main()
