import com.standardwebhooks.Webhook;
import com.standardwebhooks.exceptions.WebhookVerificationException;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * A receiver of callbackd's callbacks: verify, de-duplicate, answer fast, work afterwards.
 *
 * <pre>
 * mvn dependency:copy-dependencies -DoutputDirectory=lib
 * WEBHOOK_SECRET=whsec_... PORT=8080 java -cp 'lib/*' Receiver.java
 * </pre>
 *
 * WEBHOOK_SECRET may hold several secrets, separated by spaces: while keys rotate, the old one and the new one.
 */
public final class Receiver {
    private static final int LONGEST_BODY = 16 * 1024 * 1024;
    private static final int REMEMBERED = 100_000;

    private final List<Webhook> webhooks = new ArrayList<>();
    private final ExecutorService work = Executors.newSingleThreadExecutor();
    private final Set<String> seen = Collections.synchronizedSet(Collections.newSetFromMap(new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<String, Boolean> eldest) {
            return size() > REMEMBERED;
        }
    }));

    private Receiver(String secrets) {
        for (String secret : secrets.split(" ")) {
            // With an empty secret anybody could sign.
            if (!secret.isEmpty() && !secret.equals("whsec_")) {
                webhooks.add(new Webhook(secret));
            }
        }
        if (webhooks.isEmpty()) {
            throw new IllegalArgumentException(
                    "WEBHOOK_SECRET is not set: `callbackd verify --key-file KEY --show-secret </dev/null` prints it");
        }
    }

    /** Whether one of our secrets verifies it. The library compares in constant time and allows five minutes for the timestamp. */
    private boolean verified(String body, Map<String, List<String>> headers) {
        for (Webhook webhook : webhooks) {
            try {
                webhook.verify(body, headers);
                return true;
            } catch (WebhookVerificationException | RuntimeException refused) {
                // Malformed headers end in other errors than a wrong signature: all of them mean no.
            }
        }
        return false;
    }

    private void receive(HttpExchange exchange) throws IOException {
        try (exchange) {
            if (!exchange.getRequestMethod().equals("POST")) {
                exchange.sendResponseHeaders(405, -1);
                return;
            }
            byte[] bytes = exchange.getRequestBody().readNBytes(LONGEST_BODY + 1);
            if (bytes.length > LONGEST_BODY) {
                exchange.sendResponseHeaders(413, -1);
                return;
            }
            // The text as it came: a body that is parsed and written anew has another signature.
            String body = new String(bytes, StandardCharsets.UTF_8);
            if (!verified(body, exchange.getRequestHeaders())) {
                System.out.println("refused");
                exchange.sendResponseHeaders(401, -1);
                return;
            }
            String id = exchange.getRequestHeaders().getFirst("webhook-id");
            // In earnest: a unique column, written in one transaction with the event.
            if (seen.add(id)) {
                work.submit(() -> process(id, body));
            } else {
                System.out.println("repeat " + id);
            }
            // A repeat is answered like the first: the sender only wants to know that it arrived.
            byte[] answer = "{\"code\":0}".getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("content-type", "application/json");
            exchange.sendResponseHeaders(200, answer.length);
            exchange.getResponseBody().write(answer);
        }
    }

    /** Whatever takes longer than an answer may; the JSON is for the parser of your choice. */
    private static void process(String id, String body) {
        System.out.println("new " + id + " " + body.length() + " characters");
    }

    public static void main(String[] arguments) throws IOException {
        // Ends requests that do not arrive; in seconds.
        System.setProperty("sun.net.httpserver.maxReqTime", "30");
        Receiver receiver = new Receiver(System.getenv().getOrDefault("WEBHOOK_SECRET", ""));
        int port = Integer.parseInt(System.getenv().getOrDefault("PORT", "8080"));
        HttpServer server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.createContext("/", receiver::receive);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.start();
        System.out.println("listening on 127.0.0.1:" + server.getAddress().getPort());
    }
}
