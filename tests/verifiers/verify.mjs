// Judges signatures with the public Standard Webhooks library for Node.
// Standard input and output as verify.py: one JSON object a line, one verdict a line in the same order.
// The argument is the directory that holds node_modules.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Webhook } = createRequire(`${process.argv[2]}/`)("standardwebhooks");

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  let why = "";
  try {
    const request = JSON.parse(line);
    const body = Buffer.from(request.body, "base64").toString("utf8");
    const headers = {
      "webhook-id": request.id,
      "webhook-timestamp": request.timestamp,
      "webhook-signature": request.signature ?? "",
    };
    for (const secret of request.secrets) new Webhook(secret).verify(body, headers);
  } catch (error) {
    why = `${error.name}: ${error.message}`;
  }
  process.stdout.write(`${JSON.stringify({ ok: why === "", why })}\n`);
}
