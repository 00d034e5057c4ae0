// Produces with Apache Kafka's own client: `java Producer.java BOOTSTRAP TOPIC`, what to produce on standard input (see upstream_variety.rs).

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Producer {
    public static void main(String[] arguments) throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Map<String, List<String[]>> batches = new HashMap<>();
        for (String line; (line = input.readLine()) != null; ) {
            String[] fields = line.split("\t", 5);
            batches.computeIfAbsent(fields[0] + "\t" + fields[1], key -> new ArrayList<>()).add(fields);
        }
        for (Map.Entry<String, List<String[]>> batch : batches.entrySet()) {
            String[] how = batch.getKey().split("\t");
            produce(arguments[0], arguments[1], how[0], how[1], batch.getValue());
        }
    }

    private static void produce(String bootstrap, String topic, String codec, String mode, List<String[]> batch) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("compression.type", codec);
        settings.put("linger.ms", 20);
        boolean transactional = !mode.equals("plain");
        if (transactional) {
            settings.put("transactional.id", topic + "-java-" + codec + "-" + mode);
        }
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transactional) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String[] fields : batch) {
                ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, fields[4].getBytes(StandardCharsets.UTF_8));
                if (!fields[2].isEmpty()) {
                    record.headers().add("ce_specversion", "1.0".getBytes(StandardCharsets.UTF_8));
                    record.headers().add("ce_source", fields[2].getBytes(StandardCharsets.UTF_8));
                    record.headers().add("ce_id", fields[3].getBytes(StandardCharsets.UTF_8));
                }
                sent.add(producer.send(record));
            }
            producer.flush();
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
            if (mode.equals("aborted")) {
                producer.abortTransaction();
            } else if (transactional) {
                producer.commitTransaction();
            }
        }
    }
}
