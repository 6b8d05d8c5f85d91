// The unmodified `openai` package from npm, given a base URL and a dummy key in its environment.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { connect } from "node:net";
import OpenAI, { APIError, AuthenticationError, NotFoundError, PermissionDeniedError, RateLimitError, toFile } from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { ResponsesWS } from "openai/resources/responses/ws";

const { version } = JSON.parse(readFileSync(new URL("node_modules/openai/package.json", import.meta.url)));
const client = new OpenAI();
const model = "gpt-4o-mini";
const realtimeModel = "gpt-realtime";
const offer = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n";
const text = "Tell me about the sea, please";
const messages = [{ role: "user", content: text }];

/** The emulator's control interface: what the resource has seen, and what it should do wrong. */
async function control(method, path, content) {
  const answer = await fetch(process.env.AOAI_EMULATOR_CONTROL + path, {
    method,
    headers: { "content-type": "application/json" },
    body: content && JSON.stringify(content),
  });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  const body = await answer.text();
  return body ? JSON.parse(body) : undefined;
}

const fault = (route, action, count = 1) => control("POST", "/faults", { route, action, count });

/** Waits until the resource has stopped in the middle of a stream. */
async function untilHeld() {
  for (const deadline = Date.now() + 30_000; (await control("GET", "/state")).streams_held !== 1; await pause(10)) {
    assert.ok(Date.now() < deadline, "the stream is not held");
  }
}

/**
 * This package makes `wss:` of any base URL and takes no other; what `ws` is told to connect with decides what the
 * connection is. Plain HTTP is what a proxy on this machine speaks.
 */
const plainly = {
  createConnection() {
    const { hostname, port } = new URL(client.baseURL);
    return connect(Number(port), hostname);
  },
};

/** The events that come, up to one of this type, after saying `first` once the socket is open. */
function until(socket, last, first = []) {
  return new Promise((resolve, reject) => {
    const events = [];
    socket.on("error", reject);
    socket.on("event", (event) => {
      events.push(event);
      if (event.type === last) resolve(events);
    });
    for (const event of first) socket.send(event);
  });
}

const deltas = (events) =>
  events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta).join("");

const checks = {
  async chat() {
    const completion = await client.chat.completions.create({ model, messages });
    assert.ok(completion.choices[0].message.content.includes(text));
    assert.ok(completion.usage.total_tokens > 0);
  },

  async chatStreamed() {
    const stream = await client.chat.completions.create({
      model, messages, stream: true, stream_options: { include_usage: true },
    });
    let said = "";
    let usage;
    for await (const chunk of stream) {
      said += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.ok(said.includes(text));
    assert.ok(usage.total_tokens > 0);
  },

  async responses() {
    const response = await client.responses.create({ model, input: text });
    assert.ok(response.output_text.includes(text));
  },

  async responsesStreamed() {
    const types = [];
    let said = "";
    for await (const event of await client.responses.create({ model, input: text, stream: true })) {
      types.push(event.type);
      if (event.type === "response.output_text.delta") said += event.delta;
    }
    assert.equal(types[0], "response.created");
    assert.equal(types.at(-1), "response.completed");
    assert.ok(said.includes(text));
  },

  async responsesOverAWebSocket() {
    const socket = new ResponsesWS(client);
    try {
      const events = await until(socket, "response.completed", [{ type: "response.create", model, input: text }]);
      assert.equal(events[0].type, "response.created");
      assert.ok(deltas(events).includes(text));
      assert.ok(events.at(-1).response.usage.total_tokens > 0);
    } finally {
      socket.close();
    }
  },

  async realtime() {
    const socket = new OpenAIRealtimeWS({ model: realtimeModel, options: plainly }, client);
    try {
      const [created] = await until(socket, "session.created");
      assert.equal(created.session.model, realtimeModel);
      const content = [{ type: "input_text", text }];
      const events = await until(socket, "response.done", [
        { type: "session.update", session: { type: "realtime", instructions: "Be brief" } },
        { type: "input_audio_buffer.append", audio: "AAAA" },
        { type: "conversation.item.create", item: { type: "message", role: "user", content } },
        { type: "response.create" },
      ]);
      assert.equal(events[0].type, "session.updated");
      assert.ok(events.some(({ type }) => type === "conversation.item.added"));
      assert.ok(deltas(events).includes(text));
      assert.ok(events.at(-1).response.usage.total_tokens > 0);
    } finally {
      socket.close();
    }
  },

  async clientSecretOpensACall() {
    const secret = await client.realtime.clientSecrets.create({ session: { type: "realtime", model: realtimeModel } });
    assert.ok(secret.value.startsWith("ek_"));
    // What a web page does with the secret, against the same base URL.
    const answer = await new OpenAI({ apiKey: secret.value }).realtime.calls.create({ sdp: offer });
    assert.equal(answer.status, 201);
    assert.ok(answer.headers.get("location").includes("/realtime/calls/rtc_"));
    assert.ok((await answer.text()).startsWith("v=0"));
  },

  async embeddings() {
    const byDefault = await client.embeddings.create({ model: "text-embedding-3-small", input: "the sea" });
    const asFloats = await client.embeddings.create({
      model: "text-embedding-3-small", input: "the sea", encoding_format: "float",
    });
    assert.equal(byDefault.data[0].embedding.length, 1536);
    byDefault.data[0].embedding.forEach((value, index) => {
      assert.ok(Math.abs(value - asFloats.data[0].embedding[index]) < 1e-6);
    });
  },

  async fileUpAndDown() {
    const content = createHash("shake256", { outputLength: 5 * 1024 * 1024 }).update("a file").digest();
    const uploaded = await client.files.create({ file: await toFile(content, "five-megabytes.bin"), purpose: "assistants" });
    assert.equal(uploaded.bytes, content.length);
    const back = Buffer.from(await (await client.files.content(uploaded.id)).arrayBuffer());
    const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
    assert.equal(hash(back), hash(content));
    assert.ok((await client.files.delete(uploaded.id)).deleted);
  },

  async models() {
    const ids = [];
    for await (const listed of client.models.list()) ids.push(listed.id);
    assert.ok(ids.some((id) => id.includes("gpt-4o")));
  },
};

const withControl = {
  async firstTokenWhileTheResourceStillWrites() {
    await fault("chat", { kind: "hold", after_events: 4 });
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    let released = false;
    let tokens = 0;
    for await (const chunk of stream) {
      if (!chunk.choices[0]?.delta.content) continue;
      tokens += 1;
      if (!released) {
        await untilHeld();
        assert.equal((await control("GET", "/state")).streams_open, 1);
        await control("POST", "/release");
        released = true;
      }
    }
    assert.ok(released && tokens > 1);
  },

  async missingDeploymentIsTheSdksOwnException() {
    await assert.rejects(
      client.chat.completions.create({ model: "no-such-deployment", messages }),
      (error) => error instanceof NotFoundError && error.code === "DeploymentNotFound",
    );
  },

  async missingRoleIsExplained() {
    await control("POST", "/role", { data_plane: false });
    try {
      await assert.rejects(
        client.chat.completions.create({ model, messages }),
        (error) => error instanceof AuthenticationError && error.error.hint.includes("az role assignment create"),
      );
    } finally {
      await control("POST", "/role", { data_plane: true });
    }
  },

  async staleTokenIsRenewedUnnoticed() {
    const before = (await control("GET", "/state")).requests.imds;
    await control("POST", "/revoke", { flush: true });
    assert.ok((await client.chat.completions.create({ model, messages }, { maxRetries: 0 })).choices.length);
    assert.equal((await control("GET", "/state")).requests.imds, before + 1);
  },

  async throttledThenAnsweredByTheSdksOwnRetry() {
    const before = (await control("GET", "/state")).requests.chat ?? 0;
    await fault("chat", { kind: "status", status: 429, headers: { "retry-after-ms": "20" } });
    assert.ok((await client.chat.completions.create({ model, messages })).choices.length);
    assert.equal((await control("GET", "/state")).requests.chat, before + 2);
  },

  async throttledWithoutRetryIsTheSdksOwnException() {
    await fault("chat", { kind: "status", status: 429 });
    await assert.rejects(
      client.chat.completions.create({ model, messages }, { maxRetries: 0 }),
      (error) => error instanceof RateLimitError && error.headers.has("retry-after-ms"),
    );
  },

  async streamThatFailsIsTheSdksOwnException() {
    await fault("chat", { kind: "error_event", after_events: 4 });
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    await assert.rejects(
      async () => { for await (const _ of stream); },
      (error) => error instanceof APIError && error.message.includes("had an error"),
    );
  },

  async missingRoleRefusesTheHandshake() {
    await control("POST", "/role", { data_plane: false });
    try {
      const socket = new OpenAIRealtimeWS({ model: realtimeModel, options: plainly }, client);
      await assert.rejects(until(socket, "session.created"), /401/);
    } finally {
      await control("POST", "/role", { data_plane: true });
    }
  },
};

const shared = {
  chat: checks.chat,

  async anotherKeyIsTheSdksOwnException() {
    const another = new OpenAI({ apiKey: "another" });
    await assert.rejects(another.models.list(), (error) => error instanceof AuthenticationError && error.code === "invalid_key");
  },

  async anotherModelIsTheSdksOwnException() {
    await assert.rejects(
      client.embeddings.create({ model: "text-embedding-3-small", input: "sea" }),
      (error) => error instanceof PermissionDeniedError && error.code === "model_denied",
    );
  },

  // Whatever was left of the minute is used up, and more.
  async overTheLimitTheSdkWaitsByItself() {
    const hurried = new OpenAI({ apiKey: "key-of-the-hurried", maxRetries: 5 });
    let refused = 0;
    const counting = async (...request) => {
      const response = await fetch(...request);
      if (response.status === 429) refused += 1;
      return response;
    };
    const counted = hurried.withOptions({ fetch: counting });
    for (let request = 0; request < 70 && refused === 0; request += 1) {
      assert.ok((await counted.models.list()).data.length);
    }
    assert.ok(refused > 0, "nothing was refused");
  },
};

const { chat, chatStreamed } = checks;
const sets = { demo: { chat, chatStreamed }, shared, all: { ...checks, ...withControl } };
const chosen = sets[process.argv[2] ?? "all"];
for (const [name, check] of Object.entries(chosen)) {
  await check();
  console.log(`ok openai (npm ${version}): ${name}`);
}
