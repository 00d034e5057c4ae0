// Produces with franz-go: `producer BOOTSTRAP TOPIC`, what to produce on standard input (see upstream_variety.rs).
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type how struct{ codec, mode string }

var codecs = map[string]kgo.CompressionCodec{
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	bootstrap, topic := os.Args[1], os.Args[2]
	batches := map[how][]*kgo.Record{}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 4<<20)
	for input.Scan() {
		fields := bytes.SplitN(bytes.Clone(input.Bytes()), []byte("\t"), 5)
		record := &kgo.Record{Value: fields[4]}
		if len(fields[2]) > 0 {
			record.Headers = []kgo.RecordHeader{
				{Key: "ce_specversion", Value: []byte("1.0")},
				{Key: "ce_source", Value: fields[2]},
				{Key: "ce_id", Value: fields[3]},
			}
		}
		key := how{string(fields[0]), string(fields[1])}
		batches[key] = append(batches[key], record)
	}
	if err := input.Err(); err != nil {
		log.Fatal(err)
	}
	for how, batch := range batches {
		if err := produce(bootstrap, topic, how, batch); err != nil {
			log.Fatalf("%v: %v", how, err)
		}
	}
}

func produce(bootstrap, topic string, how how, batch []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	codec, known := codecs[how.codec]
	if !known {
		return fmt.Errorf("no codec %s", how.codec)
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(20 * time.Millisecond),
	}
	if how.mode != "plain" {
		options = append(options, kgo.TransactionalID(fmt.Sprintf("%s-go-%s-%s", topic, how.codec, how.mode)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	defer client.Close()
	if how.mode != "plain" {
		if err := client.BeginTransaction(); err != nil {
			return err
		}
	}
	if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		return err
	}
	switch how.mode {
	case "plain":
		return nil
	case "aborted":
		return client.EndTransaction(ctx, kgo.TryAbort)
	default:
		return client.EndTransaction(ctx, kgo.TryCommit)
	}
}
