// A receiver of callbackd's callbacks: verify, de-duplicate, answer fast, work afterwards.
//
//     npm ci
//     WEBHOOK_SECRET=whsec_... PORT=8080 node receiver.mjs
//
// WEBHOOK_SECRET may hold several secrets, separated by spaces: while keys rotate, the old one and the new one.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const LONGEST_BODY = 16 * 1024 * 1024;
const REMEMBERED = 100_000;

const secrets = (process.env.WEBHOOK_SECRET ?? "").split(" ").filter(Boolean);
if (secrets.length === 0) {
  console.error("WEBHOOK_SECRET is not set: `callbackd verify --key-file KEY --show-secret </dev/null` prints it");
  process.exit(1);
}
// An empty secret would accept anybody's signature: the library refuses it.
const webhooks = secrets.map((secret) => new Webhook(secret));
const seen = new Set();

// Whether one of our secrets verifies it. The library compares in constant time and allows five minutes for the timestamp.
function verified(body, headers) {
  return webhooks.some((webhook) => {
    try {
      webhook.verify(body, headers, { jsonParse: false });
      return true;
    } catch {
      return false;
    }
  });
}

// Whether this id comes for the first time. In earnest: a unique column, written in one transaction with the event.
function isNew(id) {
  if (seen.has(id)) return false;
  seen.add(id);
  if (seen.size > REMEMBERED) seen.delete(seen.values().next().value);
  return true;
}

// Whatever takes longer than an answer may.
function work(id, body) {
  const event = JSON.parse(body);
  console.log("new", id, event.event_type ?? 100, event.video_url ?? "");
}

// The bytes as they came: a body that is parsed and written anew has another signature.
async function read(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LONGEST_BODY) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function receive(request, answer) {
  if (request.method !== "POST") return answer(405);
  const body = await read(request);
  if (body === undefined) return answer(413);
  if (!verified(body, request.headers)) {
    console.log("refused");
    return answer(401);
  }
  const id = request.headers["webhook-id"];
  if (isNew(id)) setImmediate(work, id, body);
  else console.log("repeat", id);
  // A repeat is answered like the first: the sender only wants to know that it arrived.
  answer(200);
}

const server = createServer((request, response) => {
  const answer = (status) => {
    response.writeHead(status, { "content-type": "application/json" }).end(status === 200 ? '{"code":0}' : "");
  };
  receive(request, answer).catch(() => response.destroy()); // the sender hung up
});
server.requestTimeout = 30_000;
server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
